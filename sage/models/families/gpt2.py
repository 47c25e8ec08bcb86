"""GPT-2 (Radford et al. 2019): layer norms, learned positions, sequential blocks.

Linear layers are transposed; those of q, k and v are fused.
"""

from __future__ import annotations

from typing import Any

from einops import rearrange

from sage.models.anatomy import Anatomy, Layer
from sage.models.families.family import Family, Location, layer_norm
from sage.models.network import MLP, Network, activation_function


def _anatomy(hf: Any) -> Anatomy:
    config = hf.config
    width, heads = config.n_embd, config.n_head
    d_head = width // heads
    scale = d_head**-0.5 if config.scale_attn_weights else 1.0
    return Anatomy(
        family="gpt2",
        blocks=[_layer(block, heads) for block in hf.transformer.h],
        heads=heads,
        kv_heads=heads,
        d_model=width,
        d_head=d_head,
        d_mlp=config.n_inner or 4 * width,
        d_vocab=config.vocab_size,
        parallel=False,
        attention_scale=scale,
    )


def _layer(block: Any, heads: int) -> Layer:
    attention = block.attn
    W_Q, W_K, W_V = rearrange(
        attention.c_attn.weight,
        "d_model (qkv head d_head) -> qkv head d_head d_model",
        qkv=3,
        head=heads,
    )
    b_Q, b_K, b_V = rearrange(
        attention.c_attn.bias, "(qkv head d_head) -> qkv head d_head", qkv=3, head=heads
    )
    return Layer(
        attention_norm=layer_norm(block.ln_1),
        mlp_norm=layer_norm(block.ln_2),
        W_Q=W_Q,
        b_Q=b_Q,
        W_K=W_K,
        b_K=b_K,
        W_V=W_V,
        b_V=b_V,
        W_O=rearrange(
            attention.c_proj.weight, "(head d_head) d_model -> head d_model d_head", head=heads
        ),
        b_O=attention.c_proj.bias,
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    act = activation_function(hf.config.activation_function)
    mlps = [
        MLP(
            W_in=mlp.c_fc.weight.T,
            b_in=mlp.c_fc.bias,
            W_out=mlp.c_proj.weight.T,
            b_out=mlp.c_proj.bias,
            act=act,
        )
        for mlp in (block.mlp for block in hf.transformer.h)
    ]
    return Network(
        anatomy,
        mlps,
        W_E=hf.transformer.wte.weight,
        W_pos=hf.transformer.wpe.weight,
        final_norm=layer_norm(hf.transformer.ln_f),
        W_U=hf.get_output_embeddings().weight,
    )


family = Family(
    model_type="gpt2",
    example="GPT-2",
    bos=True,
    only={"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    blocks="transformer.h",
    locations={
        "resid_pre": Location("", "input"),
        "q": Location("attn.c_attn", "output", "qkv heads"),
        "k": Location("attn.c_attn", "output", "qkv heads"),
        "v": Location("attn.c_attn", "output", "qkv heads"),
        "z": Location("attn.c_proj", "input", "heads"),
        "pattern": Location("attn", "output", element=1),
        "attn_out": Location("attn", "output", element=0),
        "resid_mid": Location("ln_2", "input"),
        "mlp_in": Location("ln_2", "output"),
        "mlp_out": Location("mlp", "output"),
        "resid_post": Location("", "output"),
    },
    anatomy=_anatomy,
    network=_network,
)
