"""Mistral: Llama's blocks; early ones see a window of the last positions only.

Jiang et al. 2023, arXiv 2310.06825.
"""

from __future__ import annotations

from typing import Any

from sage.models.anatomy import Anatomy
from sage.models.families.family import Family
from sage.models.families.llama import LOCATIONS, ROPE_TYPES, describe, network


def _anatomy(hf: Any) -> Anatomy:
    return describe(hf, family="mistral")


family = Family(
    model_type="mistral",
    example="Mistral",
    bos=False,
    only={"rope_parameters.rope_type": ROPE_TYPES},
    blocks="model.layers",
    locations=LOCATIONS,
    anatomy=_anatomy,
    network=network,
)
