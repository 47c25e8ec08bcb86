"""The scores of one contrast and node set as rows of a result, and the columns beside it.

Method, section 5.9: every score with its interval, its best control, and the gain over it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sage.result import ALL, SUPERVISED, BestControl, Row
from sage.scores.contest import Contest
from sage.scores.detection import Detection
from sage.scores.geometry import Geometry
from sage.scores.levels import Decisions
from sage.scores.node_set import NodeSet
from sage.scores.score import (
    Columns,
    Detail,
    Score,
    at_means,
    headlines,
    mean_of,
    sampled,
    scores,
)
from sage.stats import Sampled, combine


@dataclass(frozen=True, eq=False)
class PlaceScores:
    """What a summary needs of one node set: the decisions, every dictionary's defined headline
    scores with their draws (`sampled[score][dictionary]`), and the best controls."""

    id: str
    decisions: Decisions
    sampled: Mapping[str, Mapping[str, Sampled]]
    best: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class NodeSetScores:
    """What all dictionaries of one suite came to on one node set: `sampled[score][dictionary]`
    holds the defined headline scores, clipped, with their draws."""

    id: str
    contrast: str
    suite: str
    node_set: NodeSet
    contest: Contest
    sampled: Mapping[str, Mapping[str, Sampled]]

    @property
    def place(self) -> PlaceScores:
        """What a summary needs of it."""
        return PlaceScores(self.id, self.contest.decisions, self.sampled, self.contest.best)

    @property
    def blank(self) -> Row:
        """A row of this node set with nothing in it."""
        need = self.node_set.needs.values()
        behaviour = self.node_set.test.behaviour
        return Row(
            self.id, self.suite, "", "", self.contrast, None, len(behaviour.clusters),
            need=float(np.mean(list(need))), sites=len(need), seed=self.node_set.settings.seed,
        )  # fmt: skip


def collect(node_set: NodeSet, contest: Contest, *, id: str, suite: str) -> NodeSetScores:
    """The headline scores of every dictionary that has them, where they are defined."""
    seed = node_set.settings.seed
    values: dict[str, dict[str, Sampled]] = {}
    for score in headlines():
        values[score.name] = {}
        if score.why_undefined(contest.decisions) is not None:
            continue
        for name in contest.measured:
            evidence = contest.evidence(score, name)
            if evidence is not None:
                values[score.name][name] = score.sampled(evidence, seed=seed)
    return NodeSetScores(id, node_set.data.section.contrast, suite, node_set, contest, values)


def score_rows(found: NodeSetScores) -> Iterator[Row]:
    """Every number of every dictionary."""
    yield from _behaviour_rows(found)
    for name in found.contest.measured:
        blank = replace(found.blank, dictionary=name)
        for score in scores().values():
            if score.measurement not in found.contest.measured[name]:
                continue
            yield _headline(found, score, blank)
            part = found.contest.measured[name][score.measurement]
            for detail in score.details(part, found.contest.decisions):
                yield _detail(found, score, detail, blank)


def _headline(found: NodeSetScores, score: Score, blank: Row) -> Row:
    """The score itself, with its best control."""
    decisions, name, seed = found.contest.decisions, blank.dictionary, blank.seed
    form = decisions.form if score.measurement in ("control", "copying") else None
    row = replace(blank, metric=score.name, version=score.version, form=form)
    evidence = found.contest.evidence(score, name)
    if evidence is None:
        return replace(row, status="undefined: not measured by this plan")
    raw = _finite(score.unclipped(evidence))
    if (why := score.why_undefined(decisions)) is not None:
        return replace(row, raw=raw, status=f"undefined: {why}")
    value = score.sampled(evidence, seed=seed)
    return _with_gain(replace(with_estimate(row, value), raw=raw), found, score, value)


def _with_gain(row: Row, found: NodeSetScores, score: Score, value: Sampled) -> Row:
    best = found.contest.best.get(score.name)
    others = found.sampled.get(score.name, {})
    if best is None or best not in others:
        return row
    control = others[best]
    gain = combine(lambda own, other: own - other, value, control).estimate()
    return replace(
        row,
        best_control=BestControl(best, _finite(control.value)),
        gain=_finite(gain.value),
        gain_low=_finite(gain.low),
        gain_high=_finite(gain.high),
    )


def _detail(found: NodeSetScores, score: Score, detail: Detail, blank: Row) -> Row:
    row = replace(
        blank, metric=detail.metric, version=score.version, at=detail.at, form=detail.form,
        budget=detail.budget, k=detail.k, picks=detail.picks,
    )  # fmt: skip
    value = sampled(detail.evidence, detail.statistic, seed=found.blank.seed)
    raw = None if detail.raw is None else _finite(at_means(detail.evidence, detail.raw))
    why = score.why_undefined(found.contest.decisions)
    if why is not None and detail.metric == score.name:
        return replace(row, raw=raw, status=f"undefined: {why}")
    return replace(with_estimate(row, value), raw=raw)


def _behaviour_rows(found: NodeSetScores) -> Iterator[Row]:
    """What all dictionaries share: the metric clean, with the nodes at their means, and at the
    ground truth; how often that leaves what the model says as it is."""
    behaviour = found.node_set.test.behaviour
    shared = {
        "clean metric": behaviour.clean.metric,
        "mean-ablated metric": behaviour.ablated.metric,
        "patched metric": behaviour.truth.metric,
        "unchanged": behaviour.unchanged,
    }
    blank = replace(found.blank, dictionary=ALL)
    for metric, values in shared.items():
        columns = Columns(values[:, None], behaviour.clusters)
        value = sampled(columns, mean_of(0), seed=blank.seed)
        yield with_estimate(replace(blank, metric=metric), value)
    decisions = found.contest.decisions
    yield replace(blank, metric="supervised on fit", value=_finite(decisions.supervised))


def with_estimate(row: Row, value: Sampled | None, why: str = "nothing to measure") -> Row:
    """The row with a number and its interval; undefined, and `why`, where there is none."""
    if value is None or not math.isfinite(value.value):
        return replace(row, status=f"undefined: {why}")
    estimate = value.estimate()
    return replace(
        row,
        value=float(estimate.value),
        stderr=_finite(estimate.stderr),
        low=_finite(estimate.low),
        high=_finite(estimate.high),
        n=estimate.n,
    )


def score_arrays(found: NodeSetScores) -> dict[str, np.ndarray]:
    """The columns of every headline score under `section|suite|dictionary|score`, with the clusters
    of their rows, and matrices of the suite and the supervised features, `...|what|node`.

    `f1` is [latent, value] on test and `cosine` [latent, feature]. `f1 latents` and `cosine
    latents` are the numbers of their rows, `f1 names` and `cosine names` their columns, to be read
    by `sage.result.names`.
    """
    arrays: dict[str, np.ndarray] = {}
    start = f"{found.id}|{found.suite}"
    clusters = found.node_set.test.behaviour.clusters
    arrays[f"{start}|{ALL}|clusters"] = np.array(clusters, dtype=np.int64)
    for name, parts in found.contest.measured.items():
        for score in headlines():
            evidence = found.contest.evidence(score, name)
            if isinstance(evidence, Columns):
                arrays[f"{start}|{name}|{score.name}"] = evidence.values.astype(np.float32)
        if name in (found.suite, SUPERVISED):
            for what, array in _matrices(parts):
                arrays[f"{start}|{name}|{what}"] = np.ascontiguousarray(array)
    return arrays


def _matrices(parts: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """F1 and cosine matrices, which latents their rows are, and what their columns are called."""
    detection, geometry = parts.get("detection"), parts.get("geometry")
    if isinstance(detection, Detection):
        for node, own in detection.nodes.items():
            names = list(detection.positives)
            yield from _matrix("f1", str(node), own.f1.numpy(), own.latents.numpy(), names)
    if isinstance(geometry, Geometry):
        for node, own in geometry.nodes.items():
            cosines, latents = own.cosines.float().numpy(), own.latents.numpy()
            yield from _matrix("cosine", str(node), cosines, latents, own.features)


def _matrix(
    what: str, node: str, matrix: np.ndarray, latents: np.ndarray, columns: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{what}|{node}", matrix
    yield f"{what} latents|{node}", latents
    names = json.dumps(list(columns)).encode()
    yield f"{what} names|{node}", np.frombuffer(names, dtype=np.uint8)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
