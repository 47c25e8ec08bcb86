"""Gemma 2: RMS norms before and after both sublayers, grouped queries, caps, sliding windows.

Gemma Team 2024, arXiv 2408.00118.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sage.models.anatomy import Anatomy, Layer, Norm, Rotary
from sage.models.families.family import Family, Location
from sage.models.network import MLP, Network, activation_function


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
    zero = torch.zeros((), device=attention.q_proj.weight.device)
    return Layer(
        attention_norm=_rms(block.input_layernorm),
        mlp_norm=_rms(block.pre_feedforward_layernorm),
        W_Q=_by_head(attention.q_proj.weight, heads),
        b_Q=zero.expand(heads, config.head_dim),
        W_K=_by_head(attention.k_proj.weight, kv_heads),
        b_K=zero.expand(kv_heads, config.head_dim),
        W_V=_by_head(attention.v_proj.weight, kv_heads),
        b_V=zero.expand(kv_heads, config.head_dim),
        W_O=rearrange(
            attention.o_proj.weight, "d_model (head d_head) -> head d_model d_head", head=heads
        ),
        b_O=zero.expand(config.hidden_size),
        attention_post=_rms(block.post_attention_layernorm),
        mlp_post=_rms(block.post_feedforward_layernorm),
        window=config.sliding_window if config.layer_types[index] == "sliding_attention" else None,
    )


def _by_head(
    weight: Float[Tensor, "rows d_model"], heads: int
) -> Float[Tensor, "head d_head d_model"]:
    return rearrange(weight, "(head d_head) d_model -> head d_head d_model", head=heads)


def _network(hf: Any, anatomy: Anatomy) -> Network:
    act = activation_function(hf.config.hidden_activation)
    mlps = [
        MLP(
            W_in=mlp.up_proj.weight,
            b_in=None,
            W_out=mlp.down_proj.weight,
            b_out=None,
            act=act,
            W_gate=mlp.gate_proj.weight,
        )
        for mlp in (block.mlp for block in hf.model.layers)
    ]
    return Network(
        anatomy,
        mlps,
        W_E=hf.model.embed_tokens.weight,
        W_pos=None,
        final_norm=_rms(hf.model.norm),
        W_U=hf.get_output_embeddings().weight,
    )


def _rms(module: Any) -> Norm:
    """An RMS norm of Gemma, which multiplies by 1 + w."""
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
    locations={
        "resid_pre": Location("", "input"),
        "q": Location("self_attn.q_proj", "output", "heads"),
        "k": Location("self_attn.k_proj", "output", "heads"),
        "v": Location("self_attn.v_proj", "output", "heads"),
        "z": Location("self_attn.o_proj", "input", "heads"),
        "pattern": Location("self_attn", "output", element=1),
        "attn_out": Location("post_attention_layernorm", "output"),
        "resid_mid": Location("pre_feedforward_layernorm", "input"),
        "mlp_in": Location("pre_feedforward_layernorm", "output"),
        "mlp_out": Location("post_feedforward_layernorm", "output"),
        "resid_post": Location("", "output"),
    },
    anatomy=_anatomy,
    network=_network,
)
