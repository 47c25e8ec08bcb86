"""Every dictionary of one suite measured on one node set, and the best control of every score.

The best control is the one that scores best on pairs of fit, contrast by contrast and score by
score (method, section 5.9). By the quick plan controls have T2 alone, and the other scores only the
lookup tables and the control that is best at T2.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sage.dictionaries.controls import rivals
from sage.dictionaries.controls.lookup import TASK, TEXT
from sage.progress import expect, stage
from sage.scores.decide import decide
from sage.scores.levels import ANY, EVERY_LEVEL, Decisions, Split
from sage.scores.meaning import Meaning
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
    that has one; `meaning` is what the latents of the first, the suite itself, mean."""

    decisions: Decisions
    measured: Mapping[str, Measured]
    best: Mapping[str, str]
    meaning: Meaning | None = None

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
        contenders = _scouting(contenders, {*controls} - {*LOOKUPS})
    expect(len(measurements()) * (len(contenders) + len(compared)))
    on_fit = _measure(node_set, _named(contenders, compared), split="decide")
    if not thorough:
        best_scout = _best(scores()[SCOUT], on_fit, rivals_at[SCOUT], decisions) or ""
        chosen = {best_scout} - {*LOOKUPS}
        contenders = _in_full(contenders, chosen)
        on_fit |= _measure(node_set, _named(contenders, chosen), split="decide")
    measured = _measure(node_set, contenders, split="test", before=on_fit)
    best: dict[str, str] = {}
    for score in headlines():
        name = _best(score, on_fit, rivals_at[score.name], decisions)
        if name is not None:
            best[score.name] = name
    first = contenders[0]
    meaning = None if first.candidates is None else node_set.meaning(first)
    node_set.forget_contenders()
    return Contest(decisions, measured, best, meaning)


def _named(contenders: Sequence[Contender], names: Collection[str]) -> list[Contender]:
    return [contender for contender in contenders if contender.name in names]


def _scouting(contenders: Sequence[Contender], names: Collection[str]) -> list[Contender]:
    """The contenders, those of these names that have latents with the scout's measurement alone."""
    alone = (scores()[SCOUT].measurement,)
    return [
        replace(contender, levels=(ANY,), measurements=alone)
        if contender.name in names and contender.candidates is not None
        else contender
        for contender in contenders
    ]


def _in_full(contenders: Sequence[Contender], names: Collection[str]) -> list[Contender]:
    """The contenders, those of these names with every measurement after all."""
    return [
        replace(contender, levels=EVERY_LEVEL, measurements=None)
        if contender.name in names
        else contender
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
    node_set: NodeSet,
    contenders: Sequence[Contender],
    *,
    split: Split,
    before: Mapping[str, Measured] | None = None,
) -> dict[str, dict[str, Any]]:
    """Every measurement wanted of every contender: of those of one content once, and what is of fit
    alone not again where it was measured `before`."""
    measured: dict[str, dict[str, Any]] = {contender.name: {} for contender in contenders}
    of_fit = {score.measurement for score in scores().values() if score.of_fit}
    for measurement, measure in measurements().items():
        wanted = [entry for entry in contenders if entry.has(measurement)]
        keys = {entry.name: _key(measurement, split, entry) for entry in wanted}
        parts: dict[str, Any] = {}
        if before is not None and measurement in of_fit:
            parts = {
                entry.name: before[entry.name][measurement]
                for entry in wanted
                if measurement in before.get(entry.name, {})
            }
        fresh = [
            entry
            for entry in wanted
            if entry.name not in parts
            and ((key := keys[entry.name]) is None or key not in node_set.memo)
        ]
        with stage(f"{measurement} on {split}", work=len(contenders)):
            parts |= measure(node_set, fresh, split=split) if fresh else {}
        for entry in wanted:
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
