"""Gemma 2 (Gemma Team 2024, arXiv 2408.00118): RMS norms before and after both sublayers, grouped
queries, soft caps, sliding windows."""

from __future__ import annotations

from typing import Any

import torch

from sage.models.anatomy import Anatomy, Layer, Norm, Rotary
from sage.models.families.family import Family, Place, split_heads
from sage.models.network import MLP, Network, activation


def _anatomy(hf: Any) -> Anatomy:
    config = hf.config
    return Anatomy(
        family="gemma2",
        blocks=[_layer(block, config, index) for index, block in enumerate(hf.model.layers)],
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        d_model=config.hidden_size,
        d_head=config.head_dim,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        parallel=False,
        attention_scale=config.query_pre_attn_scalar**-0.5,
        attention_cap=config.attn_logit_softcapping,
        logit_cap=config.final_logit_softcapping,
        embedding_scale=config.hidden_size**0.5,
        rotary=Rotary(config.head_dim, float(config.rope_parameters["rope_theta"])),
    )


def _layer(block: Any, config: Any, index: int) -> Layer:
    attention, heads, kv_heads = (
        block.self_attn,
        config.num_attention_heads,
        config.num_key_value_heads,
    )
    none = torch.zeros((), device=attention.q_proj.weight.device)
    return Layer(
        attention_norm=_rms(block.input_layernorm),
        mlp_norm=_rms(block.pre_feedforward_layernorm),
        W_Q=split_heads(attention.q_proj.weight, heads),
        b_Q=none.expand(heads, config.head_dim),
        W_K=split_heads(attention.k_proj.weight, kv_heads),
        b_K=none.expand(kv_heads, config.head_dim),
        W_V=split_heads(attention.v_proj.weight, kv_heads),
        b_V=none.expand(kv_heads, config.head_dim),
        W_O=attention.o_proj.weight.unflatten(1, (heads, -1)).transpose(0, 1),
        b_O=none.expand(config.hidden_size),
        attention_post=_rms(block.post_attention_layernorm),
        mlp_post=_rms(block.post_feedforward_layernorm),
        window=config.sliding_window if config.layer_types[index] == "sliding_attention" else None,
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    act = activation(hf.config.hidden_activation)
    mlps = [
        MLP(own.up_proj.weight, None, own.down_proj.weight, None, act, own.gate_proj.weight)
        for own in (block.mlp for block in hf.model.layers)
    ]
    return Network(
        anatomy,
        mlps,
        hf.model.embed_tokens.weight,
        None,
        _rms(hf.model.norm),
        hf.get_output_embeddings().weight,
    )


def _rms(module: Any) -> Norm:
    """Gemma multiplies by 1 + w."""
    return Norm(
        "rms",
        1 + module.weight.float(),
        torch.zeros_like(module.weight, dtype=torch.float32),
        float(module.eps),
    )


family = Family(
    model_type="gemma2",
    example="Gemma 2",
    bos=True,
    only={
        "attention_bias": False,
        "use_bidirectional_attention": False,
        "rope_parameters.rope_type": "default",
    },
    blocks="model.layers",
    places={
        "resid_pre": Place("", "input"),
        "q": Place("self_attn.q_proj", "output", "heads"),
        "k": Place("self_attn.k_proj", "output", "heads"),
        "v": Place("self_attn.v_proj", "output", "heads"),
        "z": Place("self_attn.o_proj", "input", "heads"),
        "pattern": Place("self_attn", "output", part=1),
        "attn_out": Place("post_attention_layernorm", "output"),
        "resid_mid": Place("pre_feedforward_layernorm", "input"),
        "mlp_in": Place("pre_feedforward_layernorm", "output"),
        "mlp_out": Place("post_feedforward_layernorm", "output"),
        "resid_post": Place("", "output"),
    },
    anatomy=_anatomy,
    network=_network,
)
