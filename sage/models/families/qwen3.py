"""Qwen 3, dense: Llama's blocks, with an RMS norm of every head's query and key.

Yang et al. 2025, arXiv 2505.09388.
"""

from __future__ import annotations

from typing import Any

from sage.models.anatomy import Anatomy
from sage.models.families.family import Family
from sage.models.families.llama import LOCATIONS, ROPE_TYPES, describe, network


def _anatomy(hf: Any) -> Anatomy:
    return describe(hf, family="qwen3")


family = Family(
    model_type="qwen3",
    example="Qwen 3",
    bos=False,
    only={"rope_parameters.rope_type": ROPE_TYPES},
    blocks="model.layers",
    locations=LOCATIONS,
    anatomy=_anatomy,
    network=network,
)
