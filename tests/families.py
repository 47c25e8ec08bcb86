"""The model families, one entry each: all that tests know of a family.

The next one is an entry here, and a file in sage/models/families. Sizes are the smallest that show
a mistake: NeoX rotates half of each head and runs its blocks in parallel; queries of all but the
first two are grouped; Gemma 2 has both soft caps well inside the range of its logits, heads *
d_head != d_model, and a window of three tokens in every other layer; Gemma 3, Qwen 3 and Mistral
have windows too, Gemma 3 two rotary bases, one of them slowed; Llama stretches its wavelengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sage.models.base import Model
from sage.nodes import Node


class Where(NamedTuple):
    """A module's input or output (an element of it, for tuples), and one head's columns there."""

    module: Any
    side: str
    element: int | None = None
    columns: slice = slice(None)


class Facts(NamedTuple):
    """What the random model of a family is like."""

    layers: int
    heads: int
    kv_heads: int
    d_head: int
    parallel: bool
    rotary: tuple[float, ...]
    attention_cap: float | None
    logit_cap: float | None
    embedding_scale: float
    bos: bool
    windows: tuple[int | None, ...]
    normed: bool = False


def facts_of(model: Model) -> Facts:
    """The same of a loaded model, as its anatomy says; `normed` where every query and key is."""
    a = model.anatomy
    norms = [norm is not None for block in a.blocks for norm in (block.q_norm, block.k_norm)]
    assert all(norms) == any(norms)
    return Facts(
        a.layers,
        a.heads,
        a.kv_heads,
        a.d_head,
        a.parallel,
        tuple(block.rotary.base for block in a.blocks if block.rotary),
        a.attention_cap,
        a.logit_cap,
        a.embedding_scale,
        model.bos,
        tuple(block.window for block in a.blocks),
        all(norms),
    )


@dataclass(frozen=True)
class TestFamily:
    """A family: its classes in transformers, a small configuration, what that is like, and where
    the modules of a node are.

    `centred`: norm weights stand for 1 + w, so that random ones lie about 0.
    """

    __test__ = False

    config: str
    model: str
    module: str
    sizes: dict[str, Any]
    facts: Facts
    where: Callable[[Any, Node], Where]
    centred: bool = False


def _gpt2(hf: Any, node: Node) -> Where:
    block, head = hf.transformer.h[node.layer], node.head or 0
    width = hf.config.n_embd // hf.config.n_head
    if node.kind in ("q", "k", "v"):
        start = "qkv".index(node.kind) * hf.config.n_embd + head * width
        return Where(block.attn.c_attn, "output", None, slice(start, start + width))
    return {
        "resid_pre": Where(block, "input"),
        "z": Where(block.attn.c_proj, "input", None, slice(head * width, (head + 1) * width)),
        "attn_out": Where(block.attn, "output", 0),
        "resid_mid": Where(block.ln_2, "input"),
        "mlp_in": Where(block.mlp, "input"),
        "mlp_out": Where(block.mlp, "output"),
        "resid_post": Where(block, "output"),
    }[node.kind]


def _neox(hf: Any, node: Node) -> Where:
    block, head = hf.gpt_neox.layers[node.layer], node.head or 0
    width = hf.config.hidden_size // hf.config.num_attention_heads
    if node.kind in ("q", "k", "v"):
        start = (3 * head + "qkv".index(node.kind)) * width
        return Where(block.attention.query_key_value, "output", None, slice(start, start + width))
    return {
        "resid_pre": Where(block, "input"),
        "z": Where(block.attention.dense, "input", None, slice(head * width, (head + 1) * width)),
        "attn_out": Where(block.attention, "output", 0),
        "mlp_in": Where(block.mlp, "input"),
        "mlp_out": Where(block.mlp, "output"),
        "resid_post": Where(block, "output"),
    }[node.kind]


def _gemma(hf: Any, node: Node) -> Where:
    block, head, width = hf.model.layers[node.layer], node.head or 0, hf.config.head_dim
    columns = slice(head * width, (head + 1) * width)
    return {
        "resid_pre": Where(block, "input"),
        "q": Where(block.self_attn.q_proj, "output", None, columns),
        "k": Where(block.self_attn.k_proj, "output", None, columns),
        "v": Where(block.self_attn.v_proj, "output", None, columns),
        "z": Where(block.self_attn.o_proj, "input", None, columns),
        "attn_out": Where(block.post_attention_layernorm, "output"),
        "resid_mid": Where(block.pre_feedforward_layernorm, "input"),
        "mlp_in": Where(block.mlp, "input"),
        "mlp_out": Where(block.post_feedforward_layernorm, "output"),
        "resid_post": Where(block, "output"),
    }[node.kind]


def _llama(hf: Any, node: Node) -> Where:
    block, head = hf.model.layers[node.layer], node.head or 0
    width = hf.config.head_dim
    columns = slice(head * width, (head + 1) * width)
    return {
        "resid_pre": Where(block, "input"),
        "q": Where(block.self_attn.q_proj, "output", None, columns),
        "k": Where(block.self_attn.k_proj, "output", None, columns),
        "v": Where(block.self_attn.v_proj, "output", None, columns),
        "z": Where(block.self_attn.o_proj, "input", None, columns),
        "attn_out": Where(block.self_attn, "output", 0),
        "resid_mid": Where(block.post_attention_layernorm, "input"),
        "mlp_in": Where(block.mlp, "input"),
        "mlp_out": Where(block.mlp, "output"),
        "resid_post": Where(block, "output"),
    }[node.kind]


_LLAMA_SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
_GEMMA_SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "query_pre_attn_scalar": 7,
    "sliding_window": 3,
}

TABLE = {
    "gpt2": TestFamily(
        "GPT2Config",
        "GPT2LMHeadModel",
        "gpt2.modeling_gpt2",
        {"n_embd": 24, "n_layer": 3, "n_head": 3, "n_inner": 40, "n_positions": 64},
        Facts(3, 3, 3, 8, False, (), None, None, 1.0, True, (None,) * 3),
        _gpt2,
    ),
    "neox": TestFamily(
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        "gpt_neox.modeling_gpt_neox",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "max_position_embeddings": 64,
            "rotary_pct": 0.5,
            "use_parallel_residual": True,
        },
        Facts(3, 4, 4, 8, True, (10_000.0,) * 3, None, None, 1.0, False, (None,) * 3),
        _neox,
    ),
    "gemma2": TestFamily(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        "gemma2.modeling_gemma2",
        {**_GEMMA_SIZES, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 6.0},
        Facts(4, 4, 2, 10, False, (10_000.0,) * 4, 3.0, 6.0, 24**0.5, True, (3, None, 3, None)),
        _gemma,
        centred=True,
    ),
}
# Built of the same parts, norms of queries and keys aside: the tests of families compare each with
# transformers at every seam, and the other tests do without them.
MORE = {
    "gemma3": TestFamily(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        "gemma3.modeling_gemma3",
        {
            **_GEMMA_SIZES,
            "num_hidden_layers": 2,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
            },
        },
        Facts(2, 4, 2, 10, False, (100.0, 1e4), None, None, 24**0.5, True, (3, None), normed=True),
        _gemma,
        centred=True,
    ),
    "llama": TestFamily(
        "LlamaConfig",
        "LlamaForCausalLM",
        "llama.modeling_llama",
        {
            **_LLAMA_SIZES,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 100.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
        Facts(2, 4, 2, 8, False, (100.0, 100.0), None, None, 1.0, False, (None, None)),
        _llama,
    ),
    "qwen3": TestFamily(
        "Qwen3Config",
        "Qwen3ForCausalLM",
        "qwen3.modeling_qwen3",
        {
            **_LLAMA_SIZES,
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 1,
        },
        Facts(2, 4, 2, 8, False, (1e4, 1e4), None, None, 1.0, False, (None, 3), normed=True),
        _llama,
    ),
    "mistral": TestFamily(
        "MistralConfig",
        "MistralForCausalLM",
        "mistral.modeling_mistral",
        {**_LLAMA_SIZES, "sliding_window": 3},
        Facts(2, 4, 2, 8, False, (1e4, 1e4), None, None, 1.0, False, (3, 3)),
        _llama,
    ),
}
FAMILIES = tuple(TABLE)
EVERY = TABLE | MORE
