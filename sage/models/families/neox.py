"""GPT-NeoX and Pythia (Black et al. 2022, arXiv 2204.06745; Biderman et al. 2023, arXiv
2304.01373): partial rotary, parallel blocks."""

from __future__ import annotations

from typing import Any

from sage.models.anatomy import Anatomy, Layer, Rotary
from sage.models.families.family import Family, Place, layer_norm
from sage.models.network import MLP, Network, activation


def _anatomy(hf: Any) -> Anatomy:
    config = hf.config
    heads = config.num_attention_heads
    d_head = config.hidden_size // heads
    rope = config.rope_parameters
    return Anatomy(
        family="neox",
        blocks=[_layer(block, heads) for block in hf.gpt_neox.layers],
        heads=heads,
        kv_heads=heads,
        d_model=config.hidden_size,
        d_head=d_head,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        parallel=bool(config.use_parallel_residual),
        attention_scale=d_head**-0.5,
        rotary=Rotary(
            int(d_head * rope.get("partial_rotary_factor", 1.0)), float(rope["rope_theta"])
        ),
    )


def _layer(block: Any, heads: int) -> Layer:
    fused = block.attention.query_key_value
    W_Q, W_K, W_V = fused.weight.unflatten(0, (heads, 3, -1)).unbind(1)
    b_Q, b_K, b_V = fused.bias.unflatten(0, (heads, 3, -1)).unbind(1)
    W_O = block.attention.dense.weight.unflatten(1, (heads, -1)).transpose(0, 1)
    return Layer(
        layer_norm(block.input_layernorm),
        layer_norm(block.post_attention_layernorm),
        W_Q,
        b_Q,
        W_K,
        b_K,
        W_V,
        b_V,
        W_O,
        block.attention.dense.bias,
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    act = activation(hf.config.hidden_act)
    parts = [(block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h) for block in hf.gpt_neox.layers]
    mlps = [
        MLP(first.weight, first.bias, second.weight, second.bias, act) for first, second in parts
    ]
    return Network(
        anatomy,
        mlps,
        hf.gpt_neox.embed_in.weight,
        None,
        layer_norm(hf.gpt_neox.final_layer_norm),
        hf.get_output_embeddings().weight,
    )


family = Family(
    model_type="gpt_neox",
    example="Pythia",
    bos=False,
    only={"attention_bias": True, "rope_parameters.rope_type": "default"},
    blocks="gpt_neox.layers",
    places={
        "resid_pre": Place("", "input"),
        "q": Place("attention.query_key_value", "output", "heads qkv"),
        "k": Place("attention.query_key_value", "output", "heads qkv"),
        "v": Place("attention.query_key_value", "output", "heads qkv"),
        "z": Place("attention.dense", "input", "heads"),
        "pattern": Place("attention", "output", part=1),
        "attn_out": Place("attention", "output", part=0),
        "resid_mid": Place("post_attention_layernorm", "input"),
        "mlp_in": Place("post_attention_layernorm", "output"),
        "mlp_out": Place("mlp", "output"),
        "resid_post": Place("", "output"),
    },
    anatomy=_anatomy,
    network=_network,
)
