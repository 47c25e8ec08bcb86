"""Lookup tables: k-means centres, one active entry per token: a memory, not a decomposition.

Method, section 6. The text lookup is one of ordinary text (that on which the SAE was trained, where
it is known), the task lookup one of the task's own fit tokens. There are min(width, tokens / 8,
4096) centres. Where a node's value is one attribute's, or a token's own, a memory is the truth and
may score; what counts there is an SAE's gain over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.controls.setting import EVERY_SCORE, Setting, generator
from sage.dictionaries.projected import ProjectedSuite
from sage.memory import LOOKUP_DISTANCES_AT_ONCE
from sage.nodes import Node
from sage.saes.sae import SAE

TEXT, TASK = "text lookup", "task lookup"
NAMES = (TEXT, TASK)
RIVAL = EVERY_SCORE

MOST_CENTRES = 4096
TOKENS_PER_CENTRE = 8
ITERATIONS = 30


@dataclass(frozen=True, eq=False)
class NearestCentre:
    """An encoder with a code of 1 for the centre nearest to an input, and 0 for all others."""

    centres: Float[Tensor, "centre d_model"]
    name: ClassVar[str] = "lookup"

    @property
    def W_enc(self) -> Float[Tensor, "d_model centre"]:
        return self.centres.T

    def encode(self, x_in: Float[Tensor, "*token d_model"]) -> Float[Tensor, "*token centre"]:
        """One-hot codes."""
        closeness = x_in @ self.centres.T - self.centres.square().sum(-1) / 2
        nearest = closeness.argmax(-1, keepdim=True)
        return torch.zeros_like(closeness).scatter(-1, nearest, 1.0)

    def scaled(self, scale: Float[Tensor, " centre"]) -> NearestCentre:
        """Codes of 1 have no scale of their own."""
        del scale
        raise AssertionError("a lookup table is never rescaled")

    def tensors(self) -> dict[str, Tensor]:
        """The centres."""
        return {"centres": self.centres}

    def settings(self) -> dict[str, object]:
        """None."""
        return {}


def k_means(
    tokens: Float[Tensor, "token d_model"], *, centres: int, stream: str
) -> Float[Tensor, "centre d_model"]:
    """Lloyd's algorithm from random tokens, none taken twice; a centre that loses all its tokens is
    put on the token that is farthest from its own."""
    order = torch.randperm(len(tokens), generator=generator(stream)).to(tokens.device)
    start = tokens[order[:centres]].clone()
    current = start.double()
    exact = tokens.double()
    for _ in range(ITERATIONS):
        nearest, distance = _nearest(tokens, current.to(tokens))
        counts = torch.bincount(nearest, minlength=centres)
        sums = torch.zeros_like(current).index_add_(0, nearest, exact)
        moved = sums / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        moved[empty] = exact[distance.argsort(descending=True, stable=True)[: len(empty)]]
        if torch.equal(moved, current):
            break
        current = moved
    return current.to(tokens)


def _nearest(
    tokens: Float[Tensor, "token d_model"], centres: Float[Tensor, "centre d_model"]
) -> tuple[Int[Tensor, "token"], Float[Tensor, "token"]]:
    """Every token's nearest centre, and the squared distance to it."""
    lengths = centres.square().sum(-1)
    indices: list[Tensor] = []
    distances: list[Tensor] = []
    for chunk in tokens.split(max(1, LOOKUP_DISTANCES_AT_ONCE // len(centres))):
        least = (lengths - 2 * chunk @ centres.T).min(-1)
        indices.append(least.indices)
        distances.append(least.values + chunk.square().sum(-1))
    return torch.cat(indices), torch.cat(distances)


def lookup_table(
    sae: SAE, mean: Float[Tensor, "d_model"], table: Float[Tensor, "centre d_model"]
) -> SAE:
    """A table of centres about a mean in the place of a judged SAE: x_hat is the nearest centre."""
    return SAE(
        f"lookup {sae.id}", NearestCentre(table), table, mean, sae.hook,
        subtract_b_dec=True, reads_bos=False,
    )  # fmt: skip


def make(name: str, setting: Setting) -> ProjectedSuite | None:
    """The table at every hook; no text lookup where no text is known."""
    saes: dict[Node, SAE] = {}
    for hook in setting.sparsity:
        tokens = _tokens(name, setting, hook)
        if tokens is None:
            return None
        saes[hook] = _table_at(name, setting, hook, tokens)
    return setting.projected(name, saes)


def _tokens(name: str, setting: Setting, hook: Node) -> Float[Tensor, "token d_model"] | None:
    if name == TASK:
        return setting.tokens(hook)
    return None if setting.text is None else setting.text.get(hook)


def _table_at(
    name: str, setting: Setting, hook: Node, tokens: Float[Tensor, "token d_model"]
) -> SAE:
    """The table of as many tokens as its centres need; made once for all suites of one width."""
    sae = setting.sae(hook)
    centres = max(1, min(sae.width, len(tokens) // TOKENS_PER_CENTRE, MOST_CENTRES))
    tokens = tokens.to(sae.W_dec)
    if name == TEXT:
        tokens = tokens[: TOKENS_PER_CENTRE * centres]
    mean = tokens.double().mean(0).to(sae.W_dec)
    key = f"{name}/{setting.seed}/{hook}/{centres}"
    if key not in setting.tables:
        setting.tables[key] = k_means(tokens - mean, centres=centres, stream=key)
    return lookup_table(sae, mean, setting.tables[key].to(sae.W_dec))


def depends(name: str, setting: Setting) -> tuple[object, ...]:
    """On the number of centres."""
    del name
    return tuple(sorted((str(hook), setting.sae(hook).width) for hook in setting.sparsity))
