"""GPT-NeoX and Pythia: partial rotary embeddings, parallel blocks, fused q, k, v.

Black et al. 2022, arXiv 2204.06745; Biderman et al. 2023, arXiv 2304.01373.
"""

from __future__ import annotations

from typing import Any

from einops import rearrange

from sage.models.anatomy import Anatomy, Layer, Rotary
from sage.models.families.family import Family, Location, layer_norm
from sage.models.network import MLP, Network, activation_function


def _anatomy(hf: Any) -> Anatomy:
    config = hf.config
    heads = config.num_attention_heads
    d_head = config.hidden_size // heads
    rope = config.rope_parameters
    rotary = Rotary(int(d_head * rope.get("partial_rotary_factor", 1.0)), float(rope["rope_theta"]))
    return Anatomy(
        family="neox",
        blocks=[_layer(block, heads, rotary) for block in hf.gpt_neox.layers],
        heads=heads,
        kv_heads=heads,
        d_model=config.hidden_size,
        d_head=d_head,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        parallel=bool(config.use_parallel_residual),
        attention_scale=d_head**-0.5,
    )


def _layer(block: Any, heads: int, rotary: Rotary) -> Layer:
    attention = block.attention
    W_Q, W_K, W_V = rearrange(
        attention.query_key_value.weight,
        "(head qkv d_head) d_model -> qkv head d_head d_model",
        qkv=3,
        head=heads,
    )
    b_Q, b_K, b_V = rearrange(
        attention.query_key_value.bias, "(head qkv d_head) -> qkv head d_head", qkv=3, head=heads
    )
    return Layer(
        attention_norm=layer_norm(block.input_layernorm),
        mlp_norm=layer_norm(block.post_attention_layernorm),
        W_Q=W_Q,
        b_Q=b_Q,
        W_K=W_K,
        b_K=b_K,
        W_V=W_V,
        b_V=b_V,
        W_O=rearrange(
            attention.dense.weight, "d_model (head d_head) -> head d_model d_head", head=heads
        ),
        b_O=attention.dense.bias,
        rotary=rotary,
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    act = activation_function(hf.config.hidden_act)
    mlps = [
        MLP(
            W_in=mlp.dense_h_to_4h.weight,
            b_in=mlp.dense_h_to_4h.bias,
            W_out=mlp.dense_4h_to_h.weight,
            b_out=mlp.dense_4h_to_h.bias,
            act=act,
        )
        for mlp in (block.mlp for block in hf.gpt_neox.layers)
    ]
    return Network(
        anatomy,
        mlps,
        W_E=hf.gpt_neox.embed_in.weight,
        W_pos=None,
        final_norm=layer_norm(hf.gpt_neox.final_layer_norm),
        W_U=hf.get_output_embeddings().weight,
    )


family = Family(
    model_type="gpt_neox",
    example="Pythia",
    bos=False,
    only={"attention_bias": True, "rope_parameters.rope_type": "default"},
    blocks="gpt_neox.layers",
    locations={
        "resid_pre": Location("", "input"),
        "q": Location("attention.query_key_value", "output", "heads qkv"),
        "k": Location("attention.query_key_value", "output", "heads qkv"),
        "v": Location("attention.query_key_value", "output", "heads qkv"),
        "z": Location("attention.dense", "input", "heads"),
        "pattern": Location("attention", "output", element=1),
        "attn_out": Location("attention", "output", element=0),
        "resid_mid": Location("post_attention_layernorm", "input"),
        "mlp_in": Location("post_attention_layernorm", "output"),
        "mlp_out": Location("mlp", "output"),
        "resid_post": Location("", "output"),
    },
    anatomy=_anatomy,
    network=_network,
)
