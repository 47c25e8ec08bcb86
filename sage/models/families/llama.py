"""Llama: RMS norms, rotary positions, grouped queries, gated MLPs; SmolLM2 too.

Touvron et al. 2023, arXiv 2302.13971; Grattafiori et al. 2024, arXiv 2407.21783.
"""

from __future__ import annotations

from functools import partial
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

LOCATIONS = {
    "resid_pre": Location("", "input"),
    "q": Location("self_attn.q_proj", "output", "heads"),
    "k": Location("self_attn.k_proj", "output", "heads"),
    "v": Location("self_attn.v_proj", "output", "heads"),
    "z": Location("self_attn.o_proj", "input", "heads"),
    "pattern": Location("self_attn", "output", element=1),
    "attn_out": Location("self_attn", "output", element=0),
    "resid_mid": Location("post_attention_layernorm", "input"),
    "mlp_in": Location("post_attention_layernorm", "output"),
    "mlp_out": Location("mlp", "output"),
    "resid_post": Location("", "output"),
}
ROPE_TYPES = ("default", "linear", "llama3")


def llama_like(model_type: str, example: str) -> Family:
    """A family of modules built like Llama's: with norms of queries and keys where it has them, and
    a window in every layer that slides."""
    return Family(
        model_type=model_type,
        example=example,
        bos=False,
        only={"rope_parameters.rope_type": ROPE_TYPES},
        blocks="model.layers",
        locations=LOCATIONS,
        anatomy=partial(_anatomy, model_type),
        network=_network,
    )


def _anatomy(family: str, hf: Any) -> Anatomy:
    config = hf.config
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Anatomy(
        family=family,
        blocks=[
            _layer(block, config, index, d_head) for index, block in enumerate(hf.model.layers)
        ],
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        d_model=config.hidden_size,
        d_head=d_head,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        parallel=False,
        attention_scale=d_head**-0.5,
    )


def _network(hf: Any, anatomy: Anatomy) -> Network:
    norm = rms_norm(hf.model.norm)
    return gated_network(hf, anatomy, act=hf.config.hidden_act, final_norm=norm)


def _layer(block: Any, config: Any, index: int, d_head: int) -> Layer:
    attention = block.self_attn
    window = getattr(config, "sliding_window", None)
    types = getattr(config, "layer_types", None)
    slides = types is None or types[index] == "sliding_attention"
    return Layer(
        attention_norm=rms_norm(block.input_layernorm),
        mlp_norm=rms_norm(block.post_attention_layernorm),
        **projections(
            attention, heads=config.num_attention_heads, kv_heads=config.num_key_value_heads
        ),
        window=window if slides else None,
        rotary=rotary(config.rope_parameters, d_head),
        q_norm=rms_norm(attention.q_norm) if hasattr(attention, "q_norm") else None,
        k_norm=rms_norm(attention.k_norm) if hasattr(attention, "k_norm") else None,
    )


family = llama_like("llama", "Llama, SmolLM2")
