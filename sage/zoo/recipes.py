"""The recipes of the embedded models: their architectures, sizes, and how they start and train.

Scale models of Pythia, GPT-2 and Gemma 2 in their own architectures, of rising size; of GPT-2 there
is one of half the width and depth, so that sizes of one family can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from sage.models.families import families

ZOO = Path(__file__).parent
POSITIONS = 64
EMBEDDING_STD, MATCH_STD, COPY_STD = 0.04, 0.06, 0.04


@dataclass(frozen=True)
class ModelRecipe:
    """Everything that decides what a model becomes, apart from the corpus."""

    family: str
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    steps: int = 2000
    batch: int = 64
    learning_rate: float = 1.5e-3
    seed: int = 0
    warm_up: int = 100
    weight_decay: float = 0.05


RECIPES = {
    "tiny-gpt2-half": ModelRecipe(
        "gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4}, steps=3000, learning_rate=2e-3
    ),
    "tiny-neox": ModelRecipe(
        "neox",
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "rotary_pct": 0.5,
        },
        steps=3000,
        learning_rate=2e-3,
    ),
    "tiny-gpt2": ModelRecipe("gpt2", {"n_embd": 128, "n_layer": 4, "n_head": 4}, steps=1500),
    "tiny-gemma2": ModelRecipe(
        "gemma2",
        {
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "intermediate_size": 448,
            "query_pre_attn_scalar": 32,
            "sliding_window": 32,
        },
        steps=2200,
    ),
}

_FAMILY_CONFIG: dict[str, dict[str, Any]] = {
    "neox": {"max_position_embeddings": POSITIONS, "use_parallel_residual": True},
    "gpt2": {"n_positions": POSITIONS, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gemma2": {"max_position_embeddings": POSITIONS},
}


class _AttentionMaps(NamedTuple):
    """Views of a block's weights, one query head for each head of keys."""

    query: Float[Tensor, "head d_head d_model"]
    key: Float[Tensor, "head d_head d_model"]
    value: Float[Tensor, "head d_head d_model"]
    output: Float[Tensor, "head d_head d_model"]


def make_model(recipe: ModelRecipe, tokenizer: Any) -> Any:
    """The untrained model of a recipe, in Hugging Face's own class."""
    import transformers

    classes: dict[str, tuple[Any, Any]] = {
        "neox": (transformers.GPTNeoXConfig, transformers.GPTNeoXForCausalLM),
        "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
        "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    }
    config_class, model_class = classes[recipe.family]
    config: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.bos_token_id,
        "pad_token_id": None,
        "sage_bos": True,
        "initializer_range": EMBEDDING_STD,
        **_FAMILY_CONFIG[recipe.family],
        **recipe.config,
    }
    torch.manual_seed(recipe.seed)
    model = model_class(config_class(**config))
    _mimic_trained(model, recipe.family)
    return model


def _mimic_trained(model: Any, family: str) -> None:
    """Start where trained models end (Trockman and Kolter 2023, arXiv 2305.09828).

    Even heads attend to equal tokens: their keys equal their queries. Odd heads copy: their output
    map is the transpose of their value map. Output embeddings start as input ones.
    """
    config = model.config
    scale = (128 / config.hidden_size) ** 0.5
    with torch.no_grad():
        model.get_output_embeddings().weight.copy_(model.get_input_embeddings().weight)
        for block in model.get_submodule(families()[config.model_type].blocks):
            maps = _attention_maps(block, config, family)
            maps.query.normal_(std=MATCH_STD * scale)
            maps.key[::2] = maps.query[::2]
            maps.value.normal_(std=COPY_STD * scale)
            maps.output[1::2] = maps.value[1::2]


def _attention_maps(block: Any, config: Any, family: str) -> _AttentionMaps:
    heads = config.num_attention_heads
    out_of_heads = "(head d_head) d_model -> head d_head d_model"
    into_heads = "d_model (head d_head) -> head d_head d_model"
    apart = "part head d_head d_model"
    if family == "gpt2":
        fused, parts = block.attn.c_attn.weight, "d_model (part head d_head)"
        query, key, value = rearrange(fused, f"{parts} -> {apart}", part=3, head=heads)
        output = rearrange(block.attn.c_proj.weight, out_of_heads, head=heads)
        return _AttentionMaps(query, key, value, output)
    if family == "neox":
        fused, parts = block.attention.query_key_value.weight, "(head part d_head) d_model"
        query, key, value = rearrange(fused, f"{parts} -> {apart}", part=3, head=heads)
        output = rearrange(block.attention.dense.weight, into_heads, head=heads)
        return _AttentionMaps(query, key, value, output)
    attention, key_heads = block.self_attn, config.num_key_value_heads
    query = rearrange(attention.q_proj.weight, out_of_heads, head=heads)
    key = rearrange(attention.k_proj.weight, out_of_heads, head=key_heads)
    value = rearrange(attention.v_proj.weight, out_of_heads, head=key_heads)
    output = rearrange(attention.o_proj.weight, into_heads, head=heads)
    group = heads // key_heads
    return _AttentionMaps(query[::group], key, value, output[::group])
