"""Attention sinks: tokens that heads attend to when they have nothing to say, and their norms.

BOS is one. A model that reads no BOS may make one of whatever token stands first: its stream is
then a hundred times as long as any other's, all but the whole variance of a hook, and no SAE could
learn anything beside it. Sun et al. 2024, arXiv 2402.17762; Xiao et al. 2023, arXiv 2309.17453.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sage.nodes import Node

# A token whose norm is more than so many times the typical one is massive. Of ordinary tokens the
# longest is 16 times as long as the middle one, of sinks the shortest some hundred times.
FACTOR = 20.0

# Three beginnings and no topic in common: what stands first is a sink whatever it is.
PASSAGES = (
    "The road along the river was closed for repairs until the end of the month.",
    "Most of the bread in this shop is baked before six in the morning, and sold by noon.",
    "When it rains for a week the old bridge cannot be crossed, so people walk around the lake.",
)


class NormsAt(NamedTuple):
    """Norms at a hook: the middle one of tokens that do not stand first, and how many times longer
    the first token is, and the longest of the others."""

    hook: Node
    typical: float
    first: float
    longest: float


def norms_of(streams: Mapping[Node, Float[Tensor, "position d_model"]]) -> list[NormsAt]:
    """Norms at every hook, in one prompt."""
    rows: list[NormsAt] = []
    for hook, stream in sorted(streams.items()):
        norms = stream.float().norm(dim=-1)
        typical = norms[1:].median().item()
        unit = max(typical, torch.finfo(torch.float32).tiny)
        rows.append(NormsAt(hook, typical, norms[0].item() / unit, norms[1:].max().item() / unit))
    return rows


def middle(prompts: list[list[NormsAt]]) -> list[NormsAt]:
    """The middle of several prompts' norms, hook by hook."""
    rows: list[NormsAt] = []
    for at_hook in zip(*prompts, strict=True):
        numbers = torch.tensor([norms[1:] for norms in at_hook]).median(0).values
        rows.append(NormsAt(at_hook[0].hook, *numbers.tolist()))
    return rows


def first_is_massive(norms: list[NormsAt]) -> bool:
    """Whether the first token is massive at some hook."""
    return any(at.first > FACTOR for at in norms)


def massive(tokens: Float[Tensor, "token d_model"]) -> Bool[Tensor, "token"]:
    """Which of many tokens are: none where there are too few to say what is typical."""
    norms = tokens.float().norm(dim=-1)
    return norms > FACTOR * norms.median() if len(norms) > 2 else torch.zeros_like(norms).bool()
