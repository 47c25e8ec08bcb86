"""Every dictionary of one suite measured on one node set, and the best control of every score.

The best control is the one that scores best on pairs of fit, contrast by contrast and score by
score (method, section 5.9). By the quick plan controls have T2 alone, and T3 only the lookup tables
and the control that is best at T2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sage.dictionaries.controls import rivals
from sage.dictionaries.controls.lookup import TASK, TEXT
from sage.scores.decide import decide
from sage.scores.levels import ANY, EVERY_LEVEL, Decisions, Split
from sage.scores.node_set import Contender, NodeSet
from sage.scores.score import Score, at_means, headlines, measurements

LOOKUPS = (TEXT, TASK)

Parts = Mapping[str, Any]


@dataclass(frozen=True)
class Contest:
    """What was measured of every dictionary on test, by measurement, and which control is the best
    at every score that has one."""

    decisions: Decisions
    measured: Mapping[str, Parts]
    best: Mapping[str, str]

    def evidence(self, score: Score, name: str) -> Any:
        """What a score of a dictionary is made from; None where it was not measured."""
        part = self.measured[name].get(score.measurement)
        return None if part is None else score.columns(part, self.decisions)


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
    rival_names = {s.name: rivals(s.name, controls) for s in headlines()}
    compared = {name for names in rival_names.values() for name in names}
    if not thorough:
        contenders = [
            replace(entry, levels=(ANY,)) if entry.name in compared else entry
            for entry in contenders
        ]
    on_fit = _measure(node_set, [c for c in contenders if c.name in compared], split="decide")
    if not thorough:
        best = _best(_score("control"), on_fit, rival_names["control"], decisions)
        chosen = {best, *LOOKUPS} & compared
        contenders = [
            replace(entry, levels=EVERY_LEVEL) if entry.name in chosen else entry
            for entry in contenders
        ]
        again = [entry for entry in contenders if entry.name in chosen]
        on_fit = {**on_fit, **_measure(node_set, again, split="decide")}
    measured = _measure(node_set, contenders, split="test")
    best = {
        score.name: name
        for score in headlines()
        if (name := _best(score, on_fit, rival_names[score.name], decisions)) is not None
    }
    node_set.meanings.clear()
    return Contest(decisions, measured, best)


def _score(name: str) -> Score:
    return next(score for score in headlines() if score.name == name)


def _best(
    score: Score, measured: Mapping[str, Parts], names: Iterable[str], decisions: Decisions
) -> str | None:
    """The control with the highest score, the first of equals; None where none has one."""
    values: dict[str, float] = {}
    for name in names:
        part = measured.get(name, {}).get(score.measurement)
        evidence = None if part is None else score.columns(part, decisions)
        if evidence is not None:
            values[name] = at_means(evidence, score.statistic)
    return max(values, key=lambda name: values[name]) if values else None


def _measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, dict[str, Any]]:
    """Every measurement of every contender; of those of one content once."""
    measured: dict[str, dict[str, Any]] = {entry.name: {} for entry in contenders}
    for measurement, measure in measurements().items():
        keys = {entry.name: _key(measurement, split, entry) for entry in contenders}
        fresh = [entry for entry in contenders if keys[entry.name] not in node_set.memo]
        parts = measure(node_set, fresh, split=split) if fresh else {}
        for entry in contenders:
            key = keys[entry.name]
            if entry.name in parts:
                measured[entry.name][measurement] = parts[entry.name]
                if key is not None:
                    node_set.memo[key] = parts[entry.name]
            elif key is not None and key in node_set.memo:
                measured[entry.name][measurement] = node_set.memo[key]
    return measured


def _key(measurement: str, split: Split, entry: Contender) -> str | None:
    """Under which a measurement is shared; None for a contender that is its suite's alone."""
    if entry.content is None:
        return None
    wanted = (entry.levels, entry.copied, entry.detected, entry.choice)
    return f"{measurement} | {split} | {entry.content} | {wanted}"
