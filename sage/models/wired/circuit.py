"""The wired circuit: its heads and MLPs, where a seed puts them, and which inputs carry what.

previous   a token attends to the one before it: nouns learn their owner (my, your), commas and
           semicolons the quality named before
clause     the comma or semicolon learns whose clause it ends, from the owner four tokens before
ask        an MLP turns an animal into a question for that animal
duplicate  the animal asked about attends to its first mention and learns its owner
mover      the last token takes that owner from the animal before it
lookup     two heads attend from the last token to the end of the clause with that owner and take
           the quality held there
say        an MLP turns the quality looked up into what the unembedding reads

Sections (method, section 2) follow from CARRIED alone: an activation at a named position of the
task is listed where its value differs between a prompt and its counterfactual and the metric
depends on it. Where a named position reads nothing that differs, or is read by nobody, nothing is
listed: the other animal's owner is not asked for, and the ends of clauses have no names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from sage.nodes import Node

N_LAYERS = 6
N_HEADS = 4
LOOKUPS = ("lookup1", "lookup2")
HEADS = ("previous", "clause", "duplicate", "mover", *LOOKUPS)
MLPS = ("ask", "say")

_WRITES = {
    "looked up": LOOKUPS[0],
    "asked": "ask",
    "found": "duplicate",
    "wanted": "mover",
    "said": "say",
}


class Head(NamedTuple):
    """A head by its place, written 3.1."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


class Carried(NamedTuple):
    """What one input or output of a part carries at a named position: features of these attributes,
    as a stage of the circuit wrote them."""

    part: str
    kind: str
    position: str
    stage: str
    attributes: tuple[str, ...]


_QUALITY = ("quality", "kind")
CARRIED = (
    Carried("previous", "v", "quality", "token", _QUALITY),
    *(Carried(lookup, "z", "END", "previous", _QUALITY) for lookup in LOOKUPS),
    Carried("say", "mlp_in", "END", "looked up", _QUALITY),
    Carried("duplicate", "k", "animal1", "token", ("animal",)),
    Carried("ask", "mlp_in", "animal2", "token", ("animal",)),
    Carried("duplicate", "q", "animal2", "asked", ("animal",)),
    Carried("previous", "z", "animal1", "token", ("owner",)),
    Carried("duplicate", "v", "animal1", "previous", ("owner",)),
    Carried("duplicate", "z", "animal2", "previous", ("owner",)),
    Carried("mover", "v", "animal2", "found", ("owner",)),
    Carried("mover", "z", "END", "found", ("owner",)),
    *(Carried(lookup, "q", "END", "wanted", ("owner",)) for lookup in LOOKUPS),
)
VARIABLES = {
    "quality": ("colour", "size"),
    "kind": ("kind",),
    "animal": ("animal",),
    "owner": ("owner",),
}


@dataclass(frozen=True)
class Placement:
    """Where every part stands; at least two heads of each layer, and most MLPs, have no part in the
    circuit."""

    heads: Mapping[str, Head]
    mlps: Mapping[str, int]

    @property
    def unused(self) -> tuple[Head, ...]:
        """Heads without a part."""
        heads = (Head(*place) for place in product(range(N_LAYERS), range(N_HEADS)))
        used = set(self.heads.values())
        return tuple(head for head in heads if head not in used)

    def node(self, carried: Carried) -> Node:
        """The node of an input or output."""
        if carried.part in self.mlps:
            return Node(carried.kind, self.mlps[carried.part], None, carried.position)
        return Node(carried.kind, *self.heads[carried.part], carried.position)

    def written(self, stage: str) -> int:
        """The first site where the residual stream can hold a stage: 2 l is the site of
        l.resid_pre, 2 l + 1 of l.resid_mid."""
        if stage == "token":
            return 0
        part = _WRITES.get(stage, stage)
        return 2 * self.mlps[part] + 2 if part in self.mlps else 2 * self.heads[part].layer + 1


def draw_placement(rng: np.random.Generator) -> Placement:
    """A random placement in which every part stands above those whose output it reads."""
    previous, duplicate, mover, lookup = (
        int(layer) for layer in np.sort(rng.choice(N_LAYERS - 1, 4, replace=False))
    )
    last_lookup = int(rng.integers(lookup, N_LAYERS))
    clause = int(rng.integers(lookup))
    layers = (previous, clause, duplicate, mover, lookup, last_lookup)
    order = rng.permuted(np.tile(np.arange(N_HEADS), (N_LAYERS, 1)), axis=1)
    taken_before = [layers[:index].count(layer) for index, layer in enumerate(layers)]
    heads = {
        name: Head(layer, int(order[layer, taken]))
        for name, layer, taken in zip(HEADS, layers, taken_before, strict=True)
    }
    mlps = {"ask": int(rng.integers(duplicate)), "say": int(rng.integers(last_lookup, N_LAYERS))}
    return Placement(heads, mlps)


def sections(placement: Placement) -> dict[str, frozenset[Node]]:
    """Every contrast of the task `wired` with the nodes where it lives."""
    return {
        attribute: frozenset(
            placement.node(carried) for carried in CARRIED if attribute in carried.attributes
        )
        for attribute in VARIABLES
    }
