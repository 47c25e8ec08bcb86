"""Gemma 3, text: the norms of Gemma 2, those of queries and keys, two rotary bases.

Five of six layers see a window and turn fast; the sixth sees all and turns slowly, in the larger
models more slowly still. There are no soft caps. Gemma Team 2025, arXiv 2503.19786.
"""

from __future__ import annotations

from typing import Any

from sage.models.anatomy import Anatomy, Layer
from sage.models.families import gemma2
from sage.models.families.family import Family, gated_network, projections, rms_norm, rotary
from sage.models.network import Network

_ROPE_TYPES = ("default", "linear")


def _anatomy(hf: Any) -> Anatomy:
    config = hf.config
    return Anatomy(
        family="gemma3",
        blocks=[_layer(block, config, index) for index, block in enumerate(hf.model.layers)],
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        d_model=config.hidden_size,
        d_head=config.head_dim,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        parallel=False,
        attention_scale=config.query_pre_attn_scalar**-0.5,
        logit_cap=config.final_logit_softcapping,
        embedding_scale=config.hidden_size**0.5,
    )


def _layer(block: Any, config: Any, index: int) -> Layer:
    attention, kind = block.self_attn, config.layer_types[index]
    return Layer(
        attention_norm=rms_norm(block.input_layernorm, offset=1.0),
        mlp_norm=rms_norm(block.pre_feedforward_layernorm, offset=1.0),
        **projections(
            attention, heads=config.num_attention_heads, kv_heads=config.num_key_value_heads
        ),
        attention_post=rms_norm(block.post_attention_layernorm, offset=1.0),
        mlp_post=rms_norm(block.post_feedforward_layernorm, offset=1.0),
        window=config.sliding_window if kind == "sliding_attention" else None,
        rotary=rotary(config.rope_parameters[kind], config.head_dim),
        q_norm=rms_norm(attention.q_norm, offset=1.0),
        k_norm=rms_norm(attention.k_norm, offset=1.0),
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    norm = rms_norm(hf.model.norm, offset=1.0)
    return gated_network(hf, anatomy, act=hf.config.hidden_activation, final_norm=norm)


family = Family(
    model_type="gemma3_text",
    example="Gemma 3",
    bos=True,
    only={
        "use_bidirectional_attention": False,
        "attn_logit_softcapping": None,
        "rope_parameters.full_attention.rope_type": _ROPE_TYPES,
        "rope_parameters.sliding_attention.rope_type": _ROPE_TYPES,
    },
    blocks="model.layers",
    locations=gemma2.family.locations,
    anatomy=_anatomy,
    network=_network,
)
