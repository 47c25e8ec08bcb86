"""Detection: does a latent's activity tell the values apart? Rows beside the scores, in no mean.

Method, section 5.7. `coverage` asks for each value how well its best latent detects it, `decoding`
whether the precise latents together name the value. Latents and thresholds are chosen on fit, and
measured on prompts of the test share beyond those of the pairs. At a name's own position random
directions tell tokens apart as well as trained ones: detection alone is no score.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sage.dictionaries.activations import Activations, sites
from sage.dictionaries.dictionary import Dictionary
from sage.memory import DETECTOR_NUMBERS_AT_ONCE
from sage.nodes import Node, Section
from sage.scores.activity import Detectors, corrected
from sage.scores.levels import Decisions, Split
from sage.scores.meaning import Meaning, NodeMeaning, codes_by_node
from sage.scores.node_set import Contender, NodeSet
from sage.scores.predicates import Predicates, where_holds
from sage.scores.score import Detail, Score, mean_of
from sage.stats import DRAWS, Sampled, average, bootstrap

MIN_TEST_POSITIVES = 5
MIN_FIT_ACTIVE = 10
PRECISE = 0.95
SHOWN_FROM = 0.25


class NodeDetection(NamedTuple):
    """One node: the two scores on test, and the corrected F1 there of the latents shown, NaN for
    values with too few positives."""

    coverage: Sampled
    decoding: Sampled
    latents: Tensor
    f1: Float[Tensor, "shown predicate"]


class Detection(NamedTuple):
    """Coverage and decoding of one dictionary on one node set; `values` had enough positives."""

    coverage: Sampled
    decoding: Sampled
    values: int
    positives: dict[str, int]
    nodes: Mapping[Node, NodeDetection]


def score_detection(
    dictionary: Dictionary,
    meaning: Meaning,
    test: Activations,
    *,
    section: Section,
    nodes: Sequence[Node] | None = None,
    seed: int = 0,
) -> Detection:
    """Measure on test what was chosen on fit; the mean over nodes, weighted by their statistic."""
    holds = _holds(meaning.predicates, test)
    counted = (holds.sum(0) >= MIN_TEST_POSITIVES).numpy()
    clusters = [prompt.prompt.text for prompt in test.prompts]
    detected: dict[Node, NodeDetection] = {}
    for group in sites(nodes or test.nodes, test.anatomy).values():
        for node, codes in codes_by_node(dictionary, test, group):
            known = meaning.nodes[node]
            detected[node] = _detect(
                codes.of(known.latents), known, holds, counted, clusters=clusters, seed=seed
            )
    weights = [section.statistic[node] for node in detected]
    names = [str(predicate) for predicate in meaning.predicates.values]
    return Detection(
        average([node.coverage for node in detected.values()], weights),
        average([node.decoding for node in detected.values()], weights),
        int(counted.sum()),
        dict(zip(names, holds.sum(0).tolist(), strict=True)),
        detected,
    )


def _holds(table: Predicates, test: Activations) -> Bool[Tensor, "prompt predicate"]:
    blocks = [
        where_holds(test, name, [table.values[n].value for n in table.of(name)])
        for name in table.attributes
    ]
    return torch.cat(blocks, -1)


def _detect(
    active: Float[Tensor, "prompt active"],
    meaning: NodeMeaning,
    holds: Bool[Tensor, "prompt predicate"],
    counted: Bool[np.ndarray, "predicate"],
    *,
    clusters: Sequence[Hashable],
    seed: int,
) -> NodeDetection:
    single = meaning.detectors
    covered = _outcomes(_best_detected(active, single), holds)[..., counted]
    named = _outcomes(_named(active, single), holds)
    shown = meaning.best[meaning.latents % len(meaning.best)] >= SHOWN_FROM
    f1 = _test_f1(active[:, shown], holds, single.threshold[shown])
    f1[:, torch.from_numpy(~counted)] = math.nan
    return NodeDetection(
        _coverage(covered, clusters=clusters, seed=seed),
        bootstrap(named.sum(-1), _f1, seed=seed, clusters=clusters),
        meaning.latents[shown] % len(meaning.best),
        f1,
    )


def _coverage(
    outcomes: Float[np.ndarray, "prompt 3 counted"], *, clusters: Sequence[Hashable], seed: int
) -> Sampled:
    """The mean over the values counted of the corrected F1; undefined where there are none."""
    if not outcomes.shape[-1]:
        return Sampled(math.nan, np.full(DRAWS, math.nan), len(outcomes))

    def statistic(means: Float[np.ndarray, "draw outcome"]) -> Float[np.ndarray, "draw"]:
        shares = means.reshape(len(means), 3, -1)
        prevalence = torch.from_numpy(shares[:, 0] + shares[:, 2])
        return corrected(torch.from_numpy(_f1(shares)), prevalence).mean(-1).numpy()

    flat = outcomes.reshape(len(outcomes), -1)
    return bootstrap(flat, statistic, seed=seed, clusters=clusters)


def _best_detected(
    codes: Float[Tensor, "prompt active"], single: Detectors
) -> Bool[Tensor, "prompt predicate"]:
    """Where each value's best latent of `fit` is active; nowhere where no latent ever was with the
    value."""
    if not codes.shape[1]:
        return torch.zeros(len(codes), len(single.positives), dtype=torch.bool)
    f1, latent = single.f1.max(0)
    threshold = single.threshold[latent, torch.arange(len(latent))]
    return (codes[:, latent] > threshold) & (f1 > 0)


def _named(
    codes: Float[Tensor, "prompt active"], single: Detectors
) -> Bool[Tensor, "prompt predicate"]:
    """Where any precise latent names each value."""
    precise = (single.precision >= PRECISE) & (single.active >= MIN_FIT_ACTIVE)
    latent, predicate = precise.nonzero(as_tuple=True)
    votes = (codes[:, latent] > single.threshold[latent, predicate]).float()
    empty = torch.zeros(len(codes), len(single.positives))
    return empty.index_add_(1, predicate, votes) > 0


def _outcomes(
    predicted: Bool[Tensor, "prompt predicate"], truth: Bool[Tensor, "prompt predicate"]
) -> Float[np.ndarray, "prompt 3 predicate"]:
    """True positives, false positives and false negatives."""
    outcomes = [predicted & truth, predicted & ~truth, ~predicted & truth]
    return torch.stack(outcomes, 1).double().numpy()


def _f1(outcomes: Float[np.ndarray, "draw 3 *predicate"]) -> Float[np.ndarray, "draw *predicate"]:
    """F1 from shares of true positives, false positives and false negatives; 0 where there are
    none."""
    hit, false, missed = outcomes[:, 0], outcomes[:, 1], outcomes[:, 2]
    total = 2 * hit + false + missed
    return np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)


def _test_f1(
    codes: Float[Tensor, "prompt shown"],
    truth: Bool[Tensor, "prompt predicate"],
    threshold: Float[Tensor, "shown predicate"],
) -> Float[Tensor, "shown predicate"]:
    """Corrected F1 on test of every latent for every value, at the thresholds of the fit."""
    target = truth.float()
    step = max(1, DETECTOR_NUMBERS_AT_ONCE // max(1, codes.numel()))
    size = (codes.shape[1], target.shape[1])
    hits, active = torch.zeros(size), torch.zeros(size)
    for first in range(0, target.shape[1], step):
        some = slice(first, first + step)
        fires = (codes[:, :, None] > threshold[:, some]).float()
        hits[:, some] = torch.einsum("tkp,tp->kp", fires, target[:, some])
        active[:, some] = fires.sum(0)
    return corrected(2 * hits / (active + target.sum(0)).clamp(min=1), target.mean(0))


def measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, Detection]:
    """Those contenders that are to detect, on prompts of the test share beyond those of the pairs;
    nothing is decided by it, so on test alone."""
    given = node_set.detect
    if split != "test" or given is None:
        return {}
    return {
        contender.name: score_detection(
            contender.dictionary,
            node_set.meaning(contender),
            given,
            section=node_set.data.section,
            seed=node_set.settings.seed,
        )
        for contender in contenders
        if contender.detected and contender.candidates is not None
    }


def _coverage_of(part: Detection, decisions: Decisions) -> Sampled:
    del decisions
    return part.coverage


def _details(part: Detection, decisions: Decisions) -> Iterator[Detail]:
    """Decoding."""
    del decisions
    yield Detail("decoding", part.decoding, at=f"{part.values} values")


SCORE = Score(
    name="coverage",
    version=2,
    symbol="coverage",
    title="coverage",
    zero="a latent that is always on",
    one="every value has a latent that is active on it alone",
    measurement="detection",
    columns=_coverage_of,
    statistic=mean_of(0),
    raw=mean_of(0),
    why_undefined=lambda _: None,
    details=_details,
    headline=False,
    figure="f1",
)
