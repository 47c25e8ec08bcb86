"""Contrasts worked by hand: what nodes hold on prompts, which of them are fitted and tested on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from linear import D, activations, model
from sage.dictionaries.activations import Activations, moments
from sage.dictionaries.supervised import fit_features
from sage.models.base import Model
from sage.nodes import Node, Section
from sage.scores.data import Answers, ContrastData, FittedFeatures, PairRuns, SharedData
from sage.scores.isolation import Decoder
from sage.scores.node_set import Contender, NodeSet, Settings
from sage.task.metric import logit_difference

Rows = Sequence[int]
Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which prompts are what: those of fit, pairs of fit to decide on, pairs to test on, pairs of
    fit in which only an irrelevant attribute changes, prompts to detect on."""

    fit: Rows
    decide: Pairs
    test: Pairs
    irrelevant: Pairs = ()
    detect: Rows = ()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a task says of its attributes; those of `irrelevant` are nuisances too."""

    attributes: tuple[str, ...]
    changed: tuple[str, ...]
    irrelevant: tuple[str, ...] = ()
    within: Mapping[str, str] = field(default_factory=dict)
    ordinal: tuple[str, ...] = ()


class World(NamedTuple):
    """A model that has `every` activation, and what its contrast is scored on."""

    every: Activations
    model: Model
    data: ContrastData

    def node_set(self, **settings: object) -> NodeSet:
        """All of the contrast's nodes."""
        return NodeSet(self.model, self.data, Settings(**settings))  # type: ignore[arg-type]


def make_world(
    every: Activations,
    roles: Roles,
    facts: Facts,
    *,
    read: Mapping[str, Sequence[float]],
    statistic: Mapping[Node, float] | None = None,
    batch_size: int | None = None,
) -> World:
    """The contrast `a` of a model whose metric is these dot products."""
    fit = every.select(roles.fit)
    supervised = fit_features(
        fit, attributes=facts.attributes, within=facts.within, nuisance=facts.irrelevant
    )
    read_off = {
        name: fit_features(fit, attributes=(name,), how="mean", coupled=False)
        for name in facts.irrelevant
    }
    decoder = Decoder(supervised, read_off, (*facts.attributes, *facts.irrelevant))
    shared = SharedData(
        fit=fit,
        irrelevant=pairs(every, roles.irrelevant) if roles.irrelevant else None,
        detect=every.select(roles.detect) if roles.detect else None,
        fitted=FittedFeatures(supervised, decoder, moments(fit)),
        answers=Answers(logit_difference, (0, 1)),
        within=facts.within,
        ordinal=facts.ordinal,
        nuisance=facts.irrelevant,
        attributes=facts.attributes,
    )
    section = Section("a", statistic or dict.fromkeys(every.nodes, 1.0))
    decide, test = pairs(every, roles.decide), pairs(every, roles.test)
    data = ContrastData(section, shared, decide, test, facts.changed)
    return World(every, model(every, batch_size=batch_size, **read), data)


def pairs(every: Activations, rows: Pairs) -> PairRuns:
    """The prompts in these rows and their counterfactuals."""
    return PairRuns(*(every.select(side) for side in zip(*rows, strict=True)))


def hopeless(node_set: NodeSet, name: str = "mean only") -> Contender:
    """A contender with nothing to edit with."""
    features = node_set.data.supervised
    return Contender(name, features, None, features, node_set.fit)


def in_turn(first: int, last: int) -> list[tuple[int, int]]:
    """Rows first and first + 1, first + 2 and first + 3, ..."""
    return [(row, row + 1) for row in range(first, last, 2)]


# The metric is the mean of twice the first four coordinates: .5 of each.
HALVES = {"mlp": [0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0]}


def split_world(*, b: float = 0.0, count: int = 24) -> World:
    """Value 0 of `a` lies at .6 on four coordinates, value 1 at -.4: m = 1.2 and -.8.

    Prompts are alternately of value 0 and 1, so that pairs go from 0 to 1. `b` changes every two
    prompts; it lies at -b and +b on coordinate 6. The first `count` prompts are those of fit, half
    as many are tested on.
    """
    labels = [{"a": n % 2, "b": n // 2 % 2} for n in range(count + count // 2)]
    values = torch.zeros(len(labels), D)
    values[:, :4] = torch.tensor([0.6 - label["a"] for label in labels])[:, None]
    values[:, 6] = torch.tensor([b * (2 * label["b"] - 1) for label in labels])
    every = activations(labels, flips="a", mlp=values)
    roles = Roles(
        fit=range(count), decide=in_turn(0, count), test=in_turn(count, count + count // 2)
    )
    attributes = ("a", "b") if b else ("a",)
    return make_world(every, roles, Facts(attributes=attributes, changed=("a",)), read=HALVES)


def value_one(every: Activations) -> torch.Tensor:
    """1 where `a` is 1, [prompt, 1]."""
    return torch.tensor([[float(label == 1)] for label in every.labels("a")])
