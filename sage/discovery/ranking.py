"""Every contrast's candidates with their attribution, made together.

Section 2 of the method, point 1. Contrasts share their clean prompts, and so the passes that
differentiate the metric there; irrelevant pairs share them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from sage.discovery.attribution import (
    GRAD_DROP,
    INTEGRATED_GRADIENTS,
    Attribution,
    WantedNodes,
    attribute_all,
)
from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable
from sage.discovery.discovery import Cost
from sage.discovery.pairs import PatchedPairs
from sage.errors import BadTask
from sage.models.base import Model
from sage.task.metric import Metric, find_metric
from sage.task.task import Task
from sage.task.tokens import TokenizedPair

Pairs = tuple[TokenizedPair, ...]


@dataclass(frozen=True, eq=False)
class RankedContrast:
    """The pairs of one contrast, the positions they reach, and I of every node there.

    `dropped` counts pairs that the method could not take. `seconds` and `tokens` are the contrast's
    share of what attribution took.
    """

    contrast: str
    pairs: Pairs
    dropped: int
    positions: tuple[str, ...]
    attribution: Attribution
    seconds: float
    tokens: float

    def cost(self, seconds: float, tokens: float) -> Cost:
        """What the contrast cost, with so much after attribution."""
        clean = sum(len(pair.clean.ids) for pair in self.pairs)
        return Cost(self.seconds + seconds, (self.tokens + tokens) / clean)


class RankedTask(NamedTuple):
    """Every contrast with its attribution, and irrelevant pairs with theirs."""

    rankings: tuple[RankedContrast, ...]
    irrelevant: PatchedPairs


@dataclass(frozen=True)
class How:
    """How nodes are attributed, and of which kinds, beside candidates, some are shown."""

    method: str
    qk_fix: bool
    show: tuple[str, ...]


def rank(
    model: Model,
    task: Task,
    drawn: Mapping[str, Sequence[TokenizedPair]],
    irrelevant: Sequence[TokenizedPair],
    how: How,
) -> RankedTask:
    """Attribution of all contrasts at once, on the pairs drawn that the method can take.

    That of irrelevant pairs ranks nothing: it says how much their effects may vary.
    """
    started, tokens_before = perf_counter(), model.counter.tokens
    pairs = {name: _usable(task, name, of, how) for name, of in drawn.items()}
    positions = {name: reachable(of, task) for name, of in pairs.items()}
    kinds = (*SECTION_KINDS, *how.show)
    wanted = [
        WantedNodes(nodes_at(positions[name], kinds, model.anatomy), pairs[name]) for name in pairs
    ]
    reached = {name for names in positions.values() for name in names}
    at_null = [name for name in task.position_names if name in reached & _in_all(irrelevant)]
    wanted_of_null = WantedNodes(nodes_at(at_null, SECTION_KINDS, model.anatomy), tuple(irrelevant))
    *made, made_of_null = _attribute(
        model, [*wanted, wanted_of_null], find_metric(task.metric), how
    )
    took = (perf_counter() - started, model.counter.tokens - tokens_before)
    seconds, tokens = (amount / max(1, len(pairs)) for amount in took)
    rankings = [
        RankedContrast(
            name, of, len(drawn[name]) - len(of), positions[name], attribution, seconds, tokens
        )
        for (name, of), attribution in zip(pairs.items(), made, strict=True)
    ]
    null = PatchedPairs(model, tuple(irrelevant), find_metric(task.metric), made_of_null.by_node)
    return RankedTask(tuple(rankings), null)


def _attribute(
    model: Model, wanted: Sequence[WantedNodes], metric: Metric, how: How
) -> list[Attribution]:
    """Attribution of contrasts and, the last of them, of irrelevant pairs.

    Where a method takes gradients for every pair or every layer, irrelevant pairs have to do with
    attribution patching.
    """
    if how.method not in (INTEGRATED_GRADIENTS, GRAD_DROP):
        return attribute_all(model, wanted, metric, qk_fix=how.qk_fix)
    made = attribute_all(model, wanted[:-1], metric, method=how.method, qk_fix=how.qk_fix)
    return made + attribute_all(model, wanted[-1:], metric, qk_fix=how.qk_fix)


def _in_all(pairs: Sequence[TokenizedPair]) -> set[str]:
    """The positions that all of these pairs have."""
    names = [set(side.index) for pair in pairs for side in (pair.clean, pair.counterfactual)]
    return set.intersection(*names) if names else set()


def _usable(task: Task, contrast: str, drawn: Sequence[TokenizedPair], how: How) -> Pairs:
    """The pairs drawn that the method can take.

    Integrated gradients need both prompts of a pair to be equally long. BadTask where no pair is.
    """
    pairs = tuple(
        pair
        for pair in drawn
        if how.method != INTEGRATED_GRADIENTS or len(pair.clean.ids) == len(pair.counterfactual.ids)
    )
    if not pairs:
        remedy = " Use attribution patching: its pairs may differ in length." if drawn else ""
        raise BadTask(
            f"Task {task.name}: {how.method} can use none of the {len(drawn)} pairs drawn for "
            f"contrast '{contrast}'.{remedy}"
        )
    return pairs
