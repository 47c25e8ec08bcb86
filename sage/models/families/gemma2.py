"""Gemma 2: RMS norms before and after both sublayers, grouped queries, caps, sliding windows.

Gemma Team 2024, arXiv 2408.00118.
"""

from __future__ import annotations

from typing import Any

from sage.models.anatomy import Anatomy, Layer
from sage.models.families.family import (
    Family,
    Location,
    gated_network,
    projections,
    rms_norm,
    rotary,
)
from sage.models.network import Network


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
    )


def _layer(block: Any, config: Any, index: int) -> Layer:
    return Layer(
        attention_norm=rms_norm(block.input_layernorm, offset=1.0),
        mlp_norm=rms_norm(block.pre_feedforward_layernorm, offset=1.0),
        **projections(
            block.self_attn, heads=config.num_attention_heads, kv_heads=config.num_key_value_heads
        ),
        attention_post=rms_norm(block.post_attention_layernorm, offset=1.0),
        mlp_post=rms_norm(block.post_feedforward_layernorm, offset=1.0),
        window=config.sliding_window if config.layer_types[index] == "sliding_attention" else None,
        rotary=rotary(config.rope_parameters, config.head_dim),
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    norm = rms_norm(hf.model.norm, offset=1.0)
    return gated_network(hf, anatomy, act=hf.config.hidden_activation, final_norm=norm)


family = Family(
    model_type="gemma2",
    example="Gemma 2",
    bos=True,
    only={
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
