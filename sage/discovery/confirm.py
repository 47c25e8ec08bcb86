"""Confirming a ranking: the top of it is patched exactly, judged by the statistic and held against
irrelevant pairs.

Section 2 of the method, points 2 and 3. What is judged is a `Trial`, one contrast's pairs with
their directions; irrelevant pairs are patched at the same nodes, once for all contrasts of a
discovery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.discovery.patching import patch
from sage.discovery.stage import Stage
from sage.discovery.statistic import null_level, passes, statistic
from sage.models.base import Model
from sage.nodes import Node
from sage.task.metric import Metric
from sage.task.splits import in_turn
from sage.task.tokens import TokenizedPair


@dataclass(frozen=True)
class Trial:
    """One contrast put to the test: its pairs, the direction of each as a class, the clean metric
    and the threshold."""

    contrast: str
    pairs: tuple[TokenizedPair, ...]
    classes: Int[Tensor, "pair"]
    clean: Float[Tensor, "pair"]
    tau: float

    @property
    def baseline(self) -> float:
        """E|m(p)|."""
        return float(self.clean.abs().mean())

    @property
    def changes_answer(self) -> bool:
        """Whether most pairs have different right answers."""
        return 2 * sum(
            pair.clean.answers != pair.counterfactual.answers for pair in self.pairs
        ) > len(self.pairs)


@dataclass(frozen=True)
class Irrelevant:
    """Pairs in which nothing a task asks about changes, attributes in turn, and what patching them
    does, kept node by node."""

    pairs: tuple[TokenizedPair, ...]
    metric: Metric
    known: dict[Node, Float[Tensor, "pair"]]

    def effects(
        self, model: Model, nodes: Sequence[Node], stage: Stage | None = None
    ) -> Float[Tensor, "node pair"]:
        """dm of every node on every pair; nodes asked for before are not patched again."""
        new = [node for node in nodes if node not in self.known]
        if new:
            runs = patch(
                model, [(), *((node,) for node in new)], self.pairs, self.metric, stage=stage
            )
            self.known.update(zip(new, runs[1:] - runs[0], strict=True))
        return torch.stack([self.known[node] for node in nodes])


class Confirmed(NamedTuple):
    """Nodes patched exactly, in the order of their ranking; `level` and `null_classes` are None
    where there are no irrelevant pairs."""

    nodes: tuple[Node, ...]
    effects: Float[Tensor, "node pair"]
    nulls: Float[Tensor, "node null"] | None
    null_classes: Int[Tensor, "null"] | None
    level: float | None
    kept: Bool[Tensor, "node"]


def irrelevant(
    null: Mapping[str, Sequence[TokenizedPair]], metric: Metric, *, most: int
) -> Irrelevant:
    """At most `most` irrelevant pairs, one of each attribute in turn."""
    return Irrelevant(in_turn(null, most=most), metric, {})


def confirm(
    model: Model,
    trial: Trial,
    ranks: Mapping[Node, int],
    unlike: Irrelevant,
    *,
    top: int,
    seed: int,
    stage: Stage | None = None,
) -> Confirmed:
    """Patch the nodes ranked before `top`, and twice as many while any of the last quarter passes.

    `ranks` is each node's better place in the two rankings, so up to twice `top` nodes are patched:
    the union of both tops.
    """
    ordered = sorted(ranks, key=lambda node: (ranks[node], node))
    classes = shuffled(trial.classes, len(unlike.pairs), seed=seed)
    nodes: list[Node] = []
    effects = torch.empty(0, len(trial.pairs), dtype=torch.float64)
    while True:
        new = [node for node in ordered if ranks[node] < top][len(nodes) :]
        effects = torch.cat(
            [
                effects,
                patch(model, [(node,) for node in new], trial.pairs, unlike.metric, stage=stage)
                - trial.clean,
            ]
        )
        nodes += new
        nulls = unlike.effects(model, nodes, stage)[:, : len(classes)] if len(classes) else None
        level = None if nulls is None else null_level(nulls, classes)
        kept = passes(
            statistic(effects, trial.classes), baseline=trial.baseline, tau=trial.tau, null=level
        )
        last = torch.tensor([4 * ranks[node] >= 3 * top for node in nodes])
        if len(nodes) == len(ordered) or not (kept & last).any():
            return Confirmed(
                tuple(nodes), effects, nulls, None if nulls is None else classes, level, kept
            )
        top *= 2


def shuffled(classes: Int[Tensor, "pair"], count: int, *, seed: int) -> Int[Tensor, "null"]:
    """The classes of a contrast's pairs dealt at random to the irrelevant ones: as many pairs (or
    all there are), classes as large."""
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    return classes[order][:count]
