"""The scores of one contrast and node set as rows of a result, and the columns beside it.

Method, section 5.9: every score with its interval, its best control, and the gain over it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from sage.result import ALL, SUPERVISED, BestControl, Row
from sage.scores.contest import Contest
from sage.scores.data import PairRuns
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
from sage.stats import Sampled, combine, constant

BY_BASE = "base text"


@dataclass(frozen=True, eq=False)
class PlaceScores:
    """What a summary needs of one node set.

    `sampled[score][dictionary]` are the defined headline scores with their draws, `best[score]` the
    best control.
    """

    id: str
    decisions: Decisions
    sampled: Mapping[str, Mapping[str, Sampled]]
    best: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class NodeSetScores:
    """What all dictionaries of one suite came to on one node set.

    `sampled[score][dictionary]` are the defined headline scores, clipped, with their draws.
    """

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
    def seed(self) -> int:
        """Of the bootstrap."""
        return self.node_set.settings.seed

    def row(self, dictionary: str, metric: str, **fields: Any) -> Row:
        """A row of this node set, without a value."""
        need = list(self.node_set.needs.values())
        row = Row(
            self.id, self.suite, dictionary, metric, self.contrast, None, len(self.clusters),
            need=float(np.mean(need)), sites=len(need), seed=self.seed,
        )  # fmt: skip
        return replace(row, **fields)

    @property
    def clusters(self) -> tuple[int, ...]:
        """The cluster of each test pair."""
        return self.node_set.test.behaviour.clusters

    def resampled_by(self, evidence: Columns | Sampled) -> str | None:
        """What a resample takes together, where that is not all that shares a prompt."""
        by_pairs = isinstance(evidence, Columns) and evidence.clusters is not None
        by_base = self.node_set.test.behaviour.pair_clusters.by_base
        return BY_BASE if by_pairs and by_base else None


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


def score_rows(collected: NodeSetScores) -> Iterator[Row]:
    """Every number of every dictionary."""
    yield from _behaviour_rows(collected)
    for name, measured in collected.contest.measured.items():
        for score in scores().values():
            if score.measurement not in measured:
                continue
            yield _headline(collected, score, name)
            part = measured[score.measurement]
            for detail in score.details(part, collected.contest.decisions):
                yield _detail(collected, score, name, detail)


def _headline(collected: NodeSetScores, score: Score, name: str) -> Row:
    """The score itself, with its best control."""
    decisions = collected.contest.decisions
    form = decisions.form if score.has_form else None
    row = collected.row(name, score.name, version=score.version, form=form)
    evidence = collected.contest.evidence(score, name)
    if evidence is None:
        return replace(row, status="undefined: not measured by this plan")
    row = replace(row, raw=_finite(score.unclipped(evidence)))
    if (why := score.why_undefined(decisions)) is not None:
        return replace(row, status=f"undefined: {why}")
    value = score.sampled(evidence, seed=collected.seed)
    row = replace(with_estimate(row, value), clusters=collected.resampled_by(evidence))
    best = collected.contest.best.get(score.name, "")
    control = collected.sampled.get(score.name, {}).get(best)
    return row if control is None else with_gain(row, value, best, control)


def _detail(collected: NodeSetScores, score: Score, name: str, detail: Detail) -> Row:
    """A number beside a score; where the score is undefined, so is what goes by its name."""
    raw = None if detail.raw is None else _finite(at_means(detail.evidence, detail.raw))
    row = collected.row(
        name, detail.metric, version=score.version, at=detail.at, form=detail.form,
        budget=detail.budget, k=detail.k, picks=detail.picks, raw=raw,
    )  # fmt: skip
    why = score.why_undefined(collected.contest.decisions)
    if why is not None and detail.metric == score.name:
        return replace(row, status=f"undefined: {why}")
    value = sampled(detail.evidence, detail.statistic, seed=collected.seed)
    return replace(with_estimate(row, value), clusters=collected.resampled_by(detail.evidence))


def _behaviour_rows(collected: NodeSetScores) -> Iterator[Row]:
    """What all dictionaries share: the metric clean, with the nodes at their means, and at the
    ground truth; how often that leaves what the model says as it is."""
    behaviour = collected.node_set.test.behaviour
    shared = {
        "clean metric": behaviour.clean.metric,
        "mean-ablated metric": behaviour.ablated.metric,
        "patched metric": behaviour.truth.metric,
        "unchanged": behaviour.unchanged,
    }
    for metric, values in shared.items():
        columns = Columns(values[:, None], behaviour.clusters)
        row = collected.row(ALL, metric, clusters=collected.resampled_by(columns))
        yield with_estimate(row, sampled(columns, mean_of(0), seed=collected.seed))
    row = collected.row(ALL, "supervised on fit")
    n = len(collected.node_set.decide.behaviour.clusters)
    yield with_estimate(row, constant(collected.contest.decisions.supervised, n=n))


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


def with_gain(row: Row, value: Sampled, name: str, control: Sampled) -> Row:
    """The row with the best control and the gain over it, draw by draw."""
    gain = combine(lambda this, other: this - other, value, control).estimate()
    return replace(
        row,
        best_control=BestControl(name, _finite(control.value)),
        gain=_finite(gain.value),
        gain_low=_finite(gain.low),
        gain_high=_finite(gain.high),
    )


def score_arrays(collected: NodeSetScores) -> dict[str, np.ndarray]:
    """The columns of every headline score under `section|suite|dictionary|score`, with the clusters
    of their rows and a digest of their prompts, and matrices of the suite and the supervised
    features, `...|what|node`.

    `f1` is [latent, value] on test and `cosine` [latent, feature]. `f1 latents` and `cosine
    latents` are the numbers of their rows, `f1 names` and `cosine names` their columns, to be read
    by `sage.result_file.names`.
    """
    start = f"{collected.id}|{collected.suite}"
    arrays: dict[str, np.ndarray] = {
        f"{start}|{ALL}|clusters": np.array(collected.clusters, dtype=np.int64),
        f"{start}|{ALL}|prompts": _digest(collected.node_set.data.test),
    }
    for name, measured in collected.contest.measured.items():
        for score in headlines():
            evidence = collected.contest.evidence(score, name)
            if isinstance(evidence, Columns):
                arrays[f"{start}|{name}|{score.name}"] = evidence.values.astype(np.float32)
        if name in (collected.suite, SUPERVISED):
            for what, array in _matrices(measured):
                arrays[f"{start}|{name}|{what}"] = np.ascontiguousarray(array)
    return arrays


def _digest(pairs: PairRuns) -> np.ndarray:
    """32 bytes that tell the texts of these pairs, in their order, from any others."""
    both = zip(pairs.base.prompts, pairs.target.prompts, strict=True)
    texts = json.dumps([(p.prompt.text, q.prompt.text) for p, q in both])
    return np.frombuffer(sha256(texts.encode()).digest(), dtype=np.uint8)


def _matrices(measured: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """F1 and cosine matrices, which latents their rows are, and what their columns are called."""
    detection, geometry = measured.get("detection"), measured.get("geometry")
    if isinstance(detection, Detection):
        names = list(detection.positives)
        for node, detected in detection.nodes.items():
            f1, latents = detected.f1.numpy(), detected.latents.numpy()
            yield from _matrix("f1", str(node), f1, latents, names)
    if isinstance(geometry, Geometry):
        for node, matched in geometry.nodes.items():
            cosines, latents = matched.cosines.float().numpy(), matched.latents.numpy()
            yield from _matrix("cosine", str(node), cosines, latents, matched.features)


def _matrix(
    what: str, node: str, matrix: np.ndarray, latents: np.ndarray, columns: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    yield f"{what}|{node}", matrix
    yield f"{what} latents|{node}", latents
    names = json.dumps(list(columns)).encode()
    yield f"{what} names|{node}", np.frombuffer(names, dtype=np.uint8)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
