"""One planted world as the audit sees it: every metric of any dictionary there, and its quality.

What depends on no dictionary (features, probes, clean runs) is made once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from sage.audit.peers import probing, scr, tpp
from sage.audit.peers.arrays import LabelledNode, NodeCodes, codes_at, label_node
from sage.audit.plan import AuditPlan
from sage.dictionaries.activations import Activations
from sage.dictionaries.dictionary import Dictionary
from sage.scores.node_set import NodeSet
from sage.toy.planted import NODE, World
from sage.toy.scoring import APART, every_score, node_sets, one_score

# Of the draws of a world: prompts for SCR, and how many per pair of attributes.
BIASED_TRAIN, BIASED_TEST = 4, 5
BIASED_PROMPTS = 7_000
COPIED = 4


@dataclass(frozen=True)
class WorldBench:
    """A world, drawn from one seed."""

    world: World
    plan: AuditPlan
    seed: int = 0

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Coarse ones first where there are any, evenly over all attributes."""
        every = self.world.attributes
        step = len(every) / self.plan.contrasts
        return tuple(every[int(n * step)] for n in range(min(self.plan.contrasts, len(every))))

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes with features that the contrasts change: of coarse ones the fine ones."""
        fine = {coarse: fine for fine, coarse in self.world.within.items()}
        return tuple(dict.fromkeys(fine.get(name, name) for name in self.contrasts))

    @cached_property
    def node_sets(self) -> list[NodeSet]:
        """What our own metrics are measured on."""
        plan = self.plan
        return node_sets(
            self.world, self.contrasts,
            prompts=plan.prompts, pairs=plan.pairs, detect=plan.detect, copying=(COPIED,),
            seed=self.seed,
        )  # fmt: skip

    @cached_property
    def labelled(self) -> list[tuple[LabelledNode, tpp.ClassProbes]]:
        """What probing and TPP are measured on: the same prompts, by the same attributes."""
        first = self.node_sets[0]
        assert first.detect is not None
        nodes = [label_node(NODE, first.fit, first.detect, name) for name in self.contrasts]
        return [(node, tpp.class_probes(node, seed=self.seed)) for node in nodes if node]

    @cached_property
    def two_ways(self) -> list[scr.BiasedProbes]:
        """What SCR is measured on: the first two values of A1 and A2, of A3 and A4, ..."""
        names = list(self.world.blocks)[: 2 * self.plan.biased]
        drawn = [
            self.world.draw(BIASED_PROMPTS, APART * self.seed + use, independent=True)
            for use in (BIASED_TRAIN, BIASED_TEST)
        ]
        pairs = list(zip(names[::2], names[1::2], strict=True))
        ways = [[_two_way(given, *pair) for given in drawn] for pair in pairs]
        return [scr.biased_probes(*way, seed=self.seed) for way in ways]

    def measure(self, dictionaries: Sequence[Dictionary]) -> dict[str, dict[str, float]]:
        """Dictionary -> metric -> value."""
        measured = every_score(self.node_sets, dictionaries)
        for dictionary in dictionaries if self.plan.peers else ():
            measured[dictionary.name] |= self.peers(dictionary)
        return measured

    def one(self, dictionary: Dictionary, metric: str) -> float:
        """One metric of one dictionary: a score of ours, or TPP."""
        if metric != tpp.NAME:
            return one_score(self.node_sets, dictionary, metric)
        tables = [tpp.tpp(given, codes_at(dictionary, given), fitted)
                  for given, fitted in self.labelled]  # fmt: skip
        return _at(tables, tpp.CANONICAL)

    def peers(self, dictionary: Dictionary) -> dict[str, float]:
        """What other benchmarks' metrics say of a dictionary."""
        areas: list[float] = []
        targeted: list[Mapping[int, float]] = []
        for given, fitted in self.labelled:
            codes = codes_at(dictionary, given)
            by_k = probing.probing(given, codes, ks=self.plan.probe_ks, most=self.plan.probed)
            areas.append(sum(by_k.values()) / len(by_k))
            targeted.append(tpp.tpp(given, codes, fitted))
        removed: list[Mapping[int, float]] = []
        for fitted in self.two_ways:
            removed.append(scr.scr(fitted, _codes(dictionary, fitted.train, fitted.test)))
        return {
            probing.NAME: sum(areas) / len(areas) if areas else math.nan,
            tpp.NAME: _at(targeted, tpp.CANONICAL),
            scr.NAME: _at(removed, scr.CANONICAL),
            **{f"{tpp.NAME} {n}": _at(targeted, n) for n in tpp.COUNTS},
            **{f"{scr.NAME} {n}": _at(removed, n) for n in scr.COUNTS},
        }


def _at(tables: Sequence[Mapping[int, float]], count: int) -> float:
    return sum(table[count] for table in tables) / len(tables) if tables else math.nan


def _codes(dictionary: Dictionary, train: scr.TwoWay, test: scr.TwoWay) -> NodeCodes:
    """The codes of the prompts of SCR."""
    first, second = (dictionary.codes(way.given)[NODE] for way in (train, test))
    return NodeCodes(first, second, dictionary.directions(NODE))


def _two_way(given: Activations, first: str, second: str) -> scr.TwoWay:
    """Those prompts on which both attributes have one of their first two values."""
    one, two = (torch.tensor(given.labels(name)) for name in (first, second))
    rows = ((one < 2) & (two < 2)).nonzero().flatten()
    kept = given.select(rows.tolist())
    sides: tuple[Bool[Tensor, "prompt"], ...] = (one[rows] == 1, two[rows] == 1)
    return scr.TwoWay(kept, NODE, *sides)
