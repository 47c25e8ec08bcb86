"""Every dictionary of one suite measured on one node set, and the best control of every score.

The best control is the one that scores best on pairs of fit, contrast by contrast and score by
score (method, section 5.9). By the quick plan controls have T2 alone, and T3 only the lookup tables
and the control that is best at T2.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sage.dictionaries.controls import rivals
from sage.dictionaries.controls.lookup import TASK, TEXT
from sage.scores.decide import decide
from sage.scores.levels import ANY, EVERY_LEVEL, Decisions, Split
from sage.scores.node_set import Contender, NodeSet
from sage.scores.score import Score, at_means, headlines, measurements, scores

LOOKUPS = (TEXT, TASK)
# The score by which the quick plan chooses the control that is measured in full.
SCOUT = "control"

Measured = Mapping[str, Any]
"""What was measured of one dictionary, by measurement."""


@dataclass(frozen=True)
class Contest:
    """What was measured of every dictionary on test, and which control is the best at every score
    that has one."""

    decisions: Decisions
    measured: Mapping[str, Measured]
    best: Mapping[str, str]

    def evidence(self, score: Score, name: str) -> Any:
        """What a score of a dictionary is made from; None where it was not measured."""
        return _evidence(score, self.measured[name], self.decisions)


def hold(
    node_set: NodeSet,
    contenders: Sequence[Contender],
    *,
    controls: Collection[str],
    thorough: bool,
) -> Contest:
    """Measure every contender; those named in `controls` are the suite's controls, and the best of
    them at every score is found on fit. `thorough` measures every score of every control."""
    decisions = decide(node_set)
    rivals_at = {score.name: rivals(score.name, controls) for score in headlines()}
    compared = {name for names in rivals_at.values() for name in names}
    if not thorough:
        contenders = _at_levels(contenders, compared, (ANY,))
    on_fit = _measure(node_set, _named(contenders, compared), split="decide")
    if not thorough:
        scout = scores()[SCOUT]
        best_scout = _best(scout, on_fit, rivals_at[SCOUT], decisions) or ""
        chosen = {best_scout, *LOOKUPS} & compared
        contenders = _at_levels(contenders, chosen, EVERY_LEVEL)
        on_fit |= _measure(node_set, _named(contenders, chosen), split="decide")
    measured = _measure(node_set, contenders, split="test")
    best: dict[str, str] = {}
    for score in headlines():
        name = _best(score, on_fit, rivals_at[score.name], decisions)
        if name is not None:
            best[score.name] = name
    node_set.meanings.clear()
    return Contest(decisions, measured, best)


def _named(contenders: Sequence[Contender], names: Collection[str]) -> list[Contender]:
    return [contender for contender in contenders if contender.name in names]


def _at_levels(
    contenders: Sequence[Contender], names: Collection[str], levels: tuple[float, ...]
) -> list[Contender]:
    """The contenders, those of these names to be edited at these levels."""
    return [
        replace(contender, levels=levels) if contender.name in names else contender
        for contender in contenders
    ]


def _evidence(score: Score, measured: Measured, decisions: Decisions) -> Any:
    part = measured.get(score.measurement)
    return None if part is None else score.columns(part, decisions)


def _best(
    score: Score, measured: Mapping[str, Measured], names: Iterable[str], decisions: Decisions
) -> str | None:
    """The control with the highest score, the first of equals; None where none has one."""
    best: str | None = None
    highest = -math.inf
    for name in names:
        evidence = _evidence(score, measured.get(name, {}), decisions)
        value = math.nan if evidence is None else at_means(evidence, score.statistic)
        if value > highest:
            best, highest = name, value
    return best


def _measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, dict[str, Any]]:
    """Every measurement of every contender; of those of one content once."""
    measured: dict[str, dict[str, Any]] = {contender.name: {} for contender in contenders}
    for measurement, measure in measurements().items():
        keys = {entry.name: _key(measurement, split, entry) for entry in contenders}
        fresh = [
            entry
            for entry in contenders
            if (key := keys[entry.name]) is None or key not in node_set.memo
        ]
        parts = measure(node_set, fresh, split=split) if fresh else {}
        for entry in contenders:
            key = keys[entry.name]
            if entry.name in parts:
                measured[entry.name][measurement] = parts[entry.name]
                if key is not None:
                    node_set.memo[key] = parts[entry.name]
            # As a later run will find it, so that cold and warm runs are one.
            if key is not None and key in node_set.memo:
                measured[entry.name][measurement] = node_set.memo[key]
    return measured


def _key(measurement: str, split: Split, contender: Contender) -> str | None:
    """Under which a measurement is shared; None for a contender that is its suite's alone."""
    if contender.content is None:
        return None
    wanted = (contender.levels, contender.copied, contender.detected, contender.choice)
    return f"{measurement} | {split} | {contender.content} | {wanted}"
