"""GPT-2 (Radford et al. 2019): layer norms, learned positions, sequential blocks, fused q, k, v in
transposed linear layers."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from sage.models.anatomy import Anatomy, Layer
from sage.models.families.family import Family, Place, layer_norm, split_heads
from sage.models.network import MLP, Network, activation


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
    weights = block.attn.c_attn.weight.T.chunk(3, 0)
    biases = block.attn.c_attn.bias.chunk(3, 0)
    (W_Q, W_K, W_V), (b_Q, b_K, b_V) = (
        [split_heads(part, heads) for part in weights],
        [part.unflatten(0, (heads, -1)) for part in biases],
    )
    W_O: Float[Tensor, "head d_model d_head"] = block.attn.c_proj.weight.unflatten(
        0, (heads, -1)
    ).mT
    return Layer(
        layer_norm(block.ln_1),
        layer_norm(block.ln_2),
        W_Q,
        b_Q,
        W_K,
        b_K,
        W_V,
        b_V,
        W_O,
        block.attn.c_proj.bias,
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    act = activation(hf.config.activation_function)
    mlps = [
        MLP(own.c_fc.weight.T, own.c_fc.bias, own.c_proj.weight.T, own.c_proj.bias, act)
        for own in (block.mlp for block in hf.transformer.h)
    ]
    whole = hf.transformer
    return Network(
        anatomy,
        mlps,
        whole.wte.weight,
        whole.wpe.weight,
        layer_norm(whole.ln_f),
        hf.get_output_embeddings().weight,
    )


family = Family(
    model_type="gpt2",
    example="GPT-2",
    bos=True,
    only={"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    blocks="transformer.h",
    places={
        "resid_pre": Place("", "input"),
        "q": Place("attn.c_attn", "output", "qkv heads"),
        "k": Place("attn.c_attn", "output", "qkv heads"),
        "v": Place("attn.c_attn", "output", "qkv heads"),
        "z": Place("attn.c_proj", "input", "heads"),
        "pattern": Place("attn", "output", part=1),
        "attn_out": Place("attn", "output", part=0),
        "resid_mid": Place("ln_2", "input"),
        "mlp_in": Place("ln_2", "output"),
        "mlp_out": Place("mlp", "output"),
        "resid_post": Place("", "output"),
    },
    anatomy=_anatomy,
    network=_network,
)
