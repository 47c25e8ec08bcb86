"""The scores of one contrast and node set as rows of a result, and as the matrices and per-prompt
outcomes beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from sage.result import ALL, SUPERVISED, Row
from sage.scores.control import Control
from sage.scores.data import Settings
from sage.scores.geometry import Geometry
from sage.scores.interpretability import Interpretability
from sage.scores.node_set import Causal, Measured
from sage.scores.node_set_scores import NodeSetScores, t2
from sage.scores.summary import Component, Summary
from sage.stats import Estimate, Sampled, mean

# An edit that does nothing leaves everything alone.
UNFLOORED = ("isolation",)


class _Number(NamedTuple):
    """One number of one dictionary on one node set: the component whose floor stands beside it, and
    why it is undefined where it is."""

    estimate: Estimate
    component: Literal["T1", "T2", "T3", "T4"] | None = None
    why: str = "not measured"
    picks: float | None = None


class _Key(NamedTuple):
    """What tells apart the numbers of one dictionary."""

    metric: str
    at: str | None = None
    k: int | None = None


def score_rows(scores: NodeSetScores, *, suite: str, settings: Settings, sites: int) -> list[Row]:
    """Every number of every dictionary, with the same number of the floor's control and of the
    supervised dictionary beside it.

    `sites` is the number of residual sites of the node set: a budget is k at each.
    """
    rows = list(_shared(scores, suite))
    numbers = {
        name: _numbers(measured, scores, settings) for name, measured in scores.measured.items()
    }
    for name, own in numbers.items():
        blank = Row(scores.id, suite, name, "", scores.contrast, None, scores.n)
        for key, number in own.items():
            row = _row(
                replace(blank, metric=key.metric, at=key.at, k=key.k, picks=number.picks),
                number.estimate,
                number.why,
            )
            if key.k is not None:
                row = replace(row, site_k=key.k * sites)
            if number.component is not None:
                low, high = (
                    numbers.get(which, {}).get(key)
                    for which in (scores.decisions.floors[number.component], SUPERVISED)
                )
                row = replace(
                    row,
                    floor=None if key.metric in UNFLOORED else _value(low),
                    ceiling=_value(high),
                )
            rows.append(row)
        for component, found in scores.components[name].items():
            rows += _component(blank, component, found)
        for causal in scores.causal.get(name, ()):
            rows += _causal(blank, causal, scores, settings)
    return rows


def summary_rows(summary: Summary, *, suite: str, dictionary: str, reach: float) -> list[Row]:
    """A dictionary's components over all contrasts, its control and sage scores; reach, the mean
    over contrasts, stands beside them."""
    blank = Row(ALL, suite, dictionary, "", ALL, None, 0)
    why = "no contrast has this component"
    rows = [
        sampled_row(
            replace(blank, metric=f"{name} normalised", at=f"{summary.contrasts[name]} contrasts"),
            value,
            why,
        )
        for name, value in summary.components.items()
    ]
    rows.append(
        sampled_row(
            replace(blank, metric="control"),
            summary.components["T2"],
            "no contrast has a control score",
        )
    )
    rows.append(
        sampled_row(
            replace(blank, metric="sage"), summary.sage, "a component is missing everywhere"
        )
    )
    return [*rows, replace(blank, metric="reach", value=reach)]


def score_arrays(scores: NodeSetScores, *, suite: str) -> dict[str, np.ndarray]:
    """Per-prompt outcomes of T1 and T2 under `section|suite|dictionary|what`, and matrices of a
    whole section's nodes, `...|what|node`.

    Matrices are of the suite and of the supervised dictionary; of a control they would say nothing.

    `f1` is [latent, value] on test and `cosine` [latent, feature]. `f1 latents` and `cosine
    latents` are the numbers of their rows, `f1 names` and `cosine names` their columns, to be read
    by `sage.result.names`.
    """
    found: dict[str, np.ndarray] = {}
    for name, measured in scores.measured.items():
        prefix = f"{scores.id}|{suite}|{name}"
        found[f"{prefix}|sufficient"] = measured.approximation.sufficient
        found[f"{prefix}|necessary"] = measured.approximation.necessary
        if measured.control is not None:
            found[f"{prefix}|success"] = np.stack(list(measured.control.success.values()))
            found[f"{prefix}|left"] = np.stack(list(measured.control.left.values()))
        if scores.id == scores.contrast and name in (suite, SUPERVISED):
            found |= {f"{prefix}|{what}": array for what, array in _matrices(measured)}
    return {
        name: np.ascontiguousarray(array, dtype=np.float32 if array.dtype == np.float64 else None)
        for name, array in found.items()
    }


def _matrices(measured: Measured) -> Iterator[tuple[str, np.ndarray]]:
    """F1 and cosine matrices, which latents their rows are, and what their columns are called."""
    if measured.interpretability is not None:
        for node, found in measured.interpretability.nodes.items():
            yield from _matrix(
                "f1",
                str(node),
                found.f1.numpy(),
                found.latents.numpy(),
                [str(predicate) for predicate in found.predicates],
            )
    if measured.geometry is not None:
        for node, found in measured.geometry.nodes.items():
            yield from _matrix(
                "cosine", str(node), found.cosines.numpy(), found.latents.numpy(), found.features
            )


def _matrix(
    what: str, node: str, matrix: np.ndarray, latents: np.ndarray, columns: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{what}|{node}", matrix
    yield f"{what} latents|{node}", latents
    yield f"{what} names|{node}", np.frombuffer(json.dumps(list(columns)).encode(), dtype=np.uint8)


def _shared(scores: NodeSetScores, suite: str) -> Iterator[Row]:
    """What all dictionaries on this node set share: the metric clean, with the nodes at their
    means, and at their values on p'."""
    blank = Row(scores.id, suite, ALL, "", scores.contrast, None, scores.n)
    shared = {
        "clean metric": scores.baseline.clean,
        "mean-ablated metric": scores.baseline.ablated,
        "patched metric": scores.patched,
    }
    for metric, values in shared.items():
        yield sampled_row(
            replace(blank, metric=metric),
            mean(values, seed=scores.seed, clusters=scores.clusters),
            "",
        )


def _numbers(measured: Measured, scores: NodeSetScores, settings: Settings) -> dict[_Key, _Number]:
    found = dict(_approximation(measured, scores))
    if measured.control is not None:
        found |= dict(_control(measured.control, scores, settings))
    if measured.interpretability is not None:
        found |= dict(_detection(measured.interpretability))
    if measured.geometry is not None:
        found |= dict(_directions(measured.geometry))
    return found


def _approximation(measured: Measured, scores: NodeSetScores) -> Iterator[tuple[_Key, _Number]]:
    first, why = measured.approximation, scores.decisions.t1
    for metric, value in (("sufficiency", first.sufficiency), ("necessity", first.necessity)):
        yield (
            _Key(metric),
            _Number(
                _nothing(value.n) if why else value.estimate(),
                "T1",
                why or "the ablated metric is the clean one",
            ),
        )
    for metric, values in (
        ("sufficient metric", first.sufficient),
        ("necessary metric", first.necessary),
    ):
        yield (
            _Key(metric),
            _Number(mean(values, seed=scores.seed, clusters=scores.clusters).estimate()),
        )


def _control(
    control: Control, scores: NodeSetScores, settings: Settings
) -> Iterator[tuple[_Key, _Number]]:
    seed, still = settings.seed, "the ground-truth patch changes nothing"
    for k in control.success:
        picks = float(control.picks[k].mean())
        yield (
            _Key("accuracy", k=k),
            _Number(control.accuracy(k, seed=seed).estimate(), "T2", picks=picks),
        )
        yield (
            _Key("graded", k=k),
            _Number(control.graded(k, seed=seed).estimate(), "T2", still, picks),
        )
        alone = "no node carries an attribute outside the contrast that keeps its value"
        yield (
            _Key("isolation", k=k),
            _Number(control.isolation(k, seed=seed).estimate(), "T2", alone, picks),
        )
        yield (
            _Key("magnitude", k=k),
            _Number(
                mean(control.magnitude[k], seed=seed, clusters=control.clusters).estimate(),
                picks=picks,
            ),
        )
    form = scores.decisions.form
    for name in ("success", "graded") if form is None else (form,):
        yield (
            _Key("area", name, settings.k_max),
            _Number(control.area(name, k_max=settings.k_max, seed=seed).estimate(), "T2", still),
        )


def _detection(found: Interpretability) -> Iterator[tuple[_Key, _Number]]:
    at = f"{found.values} values"
    yield (
        _Key("coverage", at),
        _Number(found.coverage.estimate(), "T3", "no value has enough positives on test"),
    )
    yield _Key("decoding", at), _Number(found.decoding.estimate(), "T3")


def _directions(found: Geometry) -> Iterator[tuple[_Key, _Number]]:
    yield _Key("MCC"), _Number(_exact(found.mcc, found.n), "T4")
    yield _Key("MCC null"), _Number(found.null.estimate())
    yield _Key("uniqueness"), _Number(_exact(found.uniqueness, found.n), "T4")
    if found.angle is not None:
        yield _Key("principal angle"), _Number(_exact(found.angle, found.n))


def _component(blank: Row, name: str, found: Component) -> Iterator[Row]:
    """One component as it is, and between floor and ceiling (unclipped)."""
    low, high = (
        None if part is None else _finite(part.value) for part in (found.floor, found.ceiling)
    )
    beside = replace(blank, floor=low, ceiling=high)
    yield sampled_row(
        replace(beside, metric=name), found.raw, found.status.removeprefix("undefined: ")
    )
    yield sampled_row(
        replace(beside, metric=f"{name} normalised"),
        found.normalised,
        found.status.removeprefix("undefined: "),
    )


def _causal(blank: Row, causal: Causal, scores: NodeSetScores, settings: Settings) -> Iterator[Row]:
    """T1 and T2 with the interpretable latents only; `at` is the least F1, and the number of
    latents stands beside it."""
    at = f"F1 >= {causal.level}"
    t1, form, supervised = (
        scores.decisions.t1,
        scores.decisions.form,
        scores.measured[SUPERVISED].control,
    )
    second = (
        t2(causal.control, supervised, form=form, settings=settings)
        if form and supervised
        else None
    )
    yield replace(blank, metric="interpretable latents", at=at, value=float(causal.latents))
    yield sampled_row(
        replace(blank, metric="causal T1", at=at),
        None if t1 else causal.approximation.score,
        t1 or "",
    )
    yield sampled_row(
        replace(blank, metric="causal T2", at=at, k=settings.k_max), second, scores.decisions.t2
    )


def _row(blank: Row, found: Estimate, why: str) -> Row:
    """A number with its interval; undefined, and why, where there is none."""
    if not math.isfinite(found.value):
        return replace(blank, n=found.n, status=f"undefined: {why}")
    stderr, low, high = (_finite(value) for value in (found.stderr, found.low, found.high))
    return replace(blank, value=float(found.value), stderr=stderr, low=low, high=high, n=found.n)


def sampled_row(blank: Row, value: Sampled | None, why: str) -> Row:
    """The row with a number and its interval; undefined, and `why`, where there is none."""
    return _row(blank, _nothing(blank.n) if value is None else value.estimate(), why)


def _exact(value: float, n: int) -> Estimate:
    """A number that nothing random went into once `fit` is given."""
    return Estimate(value, math.nan, math.nan, math.nan, n)


def _nothing(n: int) -> Estimate:
    return _exact(math.nan, n)


def _value(number: _Number | None) -> float | None:
    return None if number is None else _finite(number.estimate.value)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
