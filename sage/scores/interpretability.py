"""T3, interpretability: do single latents mean single values of the attributes that the contrast
names?

`coverage` asks for each value how well the best latent detects it, `decoding` whether the precise
latents together name the value. Latents and thresholds are chosen on `fit`, everything is measured
on test, per node, and averaged with the nodes' statistic as weights (method, section 5, T3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Dictionary, sites
from sage.dictionaries.design import label_order
from sage.memory import DETECTOR_NUMBERS_AT_ONCE
from sage.nodes import Node, Section
from sage.scores.activity import Detectors, corrected, cuts_through, detectors
from sage.stats import DRAWS, Sampled, average, bootstrap
from sage.task.task import Label

MIN_TEST_POSITIVES = 5
MIN_FIT_POSITIVES_OF_PAIRS = 5
MIN_FIT_ACTIVE = 10
PRECISE = 0.95
LARGEST_UNION = 10
LEVELS = (0.2, 0.4, 0.6, 0.8)


class Predicate(NamedTuple):
    """One value of one attribute, `IO=Mary`, or a pair of values of two."""

    attributes: tuple[str, ...]
    values: tuple[Label, ...]

    def __str__(self) -> str:
        return " & ".join(
            f"{attribute}={value}"
            for attribute, value in zip(self.attributes, self.values, strict=True)
        )


class NodeInterpretability(NamedTuple):
    """One node: the two scores on test, and the corrected F1 on test, [latent, value], of the
    `latents` that reach .2 on `fit`.

    `values` is how many values had enough test positives; `best_on_fit` every latent's best
    corrected F1 on `fit` over values, pairs of values of two attributes, and unions of values of
    one; `active` the share of `fit` on which each has a code above 0.
    """

    coverage: Sampled
    decoding: Sampled
    values: int
    predicates: tuple[Predicate, ...]
    latents: Int[Tensor, "kept"]
    f1: Float[Tensor, "kept predicate"]
    best_on_fit: Float[Tensor, "latent"]
    active: Float[Tensor, "latent"]


class Interpretability(NamedTuple):
    """T3 of one dictionary on one node set; `score` is the mean of the two."""

    coverage: Sampled
    decoding: Sampled
    score: Sampled
    values: int
    nodes: Mapping[Node, NodeInterpretability]


class Table(NamedTuple):
    """The predicates, and where they hold: single values on `fit` and on test, pairs of values on
    `fit`."""

    predicates: tuple[Predicate, ...]
    fit: Bool[Tensor, "fit predicate"]
    test: Bool[Tensor, "test predicate"]
    pairs: Bool[Tensor, "fit pair"]

    @property
    def counted(self) -> Bool[np.ndarray, "predicate"]:
        """The values with enough positives on test."""
        return (self.test.sum(0) >= MIN_TEST_POSITIVES).numpy()


def tabulate(fit: Activations, test: Activations, attributes: Sequence[str]) -> Table:
    """Where every value of the attributes, and every pair of values of two of them, holds."""
    values = {
        attribute: sorted(set(fit.labels(attribute)), key=label_order) for attribute in attributes
    }
    single = tuple(
        Predicate((attribute,), (value,)) for attribute, own in values.items() for value in own
    )
    on_fit, on_test = (
        torch.cat([_holds(given, name, own) for name, own in values.items()], -1)
        for given in (fit, test)
    )
    blocks = on_fit.split([len(own) for own in values.values()], dim=-1)
    pairs = [
        (one[:, :, None] & other[:, None, :]).flatten(1) for one, other in combinations(blocks, 2)
    ]
    both = torch.cat(pairs, -1) if pairs else on_fit[:, :0]
    return Table(single, on_fit, on_test, both[:, both.sum(0) >= MIN_FIT_POSITIVES_OF_PAIRS])


def score_interpretability(
    dictionary: Dictionary,
    fit: Activations,
    test: Activations,
    *,
    attributes: Sequence[str],
    section: Section,
    seed: int = 0,
    table: Table | None = None,
) -> Interpretability:
    """Choose detectors of the attributes' values on `fit` and measure them on test; `section` gives
    the nodes' weights.

    Coverage is undefined (nan) where no value has five positives on test. A dictionary without
    latents scores 0. `table` is that of these prompts and attributes, where it is known already.
    """
    truth = table or tabulate(fit, test, attributes)
    clusters = [prompt.prompt.text for prompt in test.prompts]
    found: dict[Node, NodeInterpretability] = {}
    for nodes in sites(fit.nodes, fit.anatomy).values():
        known: list[_Known] = []
        for node, codes in _coded(dictionary, fit, test, nodes):
            same = (
                None
                if node.kind == "z"
                else next((one.found for one in known if one.same(codes)), None)
            )
            found[node] = same or _score_node(
                codes, truth, thresholded=node.kind == "z", clusters=clusters, seed=seed
            )
            if node.kind != "z" and same is None:
                known.append(_Known(codes.fit > 0, codes.test > 0, found[node]))
    return together({node: found[node] for node in fit.nodes}, section=section)


def together(nodes: Mapping[Node, NodeInterpretability], *, section: Section) -> Interpretability:
    """T3 of a node set from what its nodes came to: the mean, weighted by their statistic."""
    weights = [section.statistic[node] for node in nodes]
    coverage = average([found.coverage for found in nodes.values()], weights)
    decoding = average([found.decoding for found in nodes.values()], weights)
    return Interpretability(
        coverage,
        decoding,
        average([coverage, decoding]),
        max(found.values for found in nodes.values()),
        nodes,
    )


def interpretable(found: Interpretability, *, level: float) -> dict[Node, Bool[Tensor, "latent"]]:
    """Which latents have, on `fit`, a corrected F1 of at least `level` for some predicate: what the
    causal scores may use."""
    return {node: own.best_on_fit >= level for node, own in found.nodes.items()}


def _holds(
    given: Activations, attribute: str, values: Sequence[Label]
) -> Bool[Tensor, "prompt value"]:
    """Where each value holds."""
    place = {value: index for index, value in enumerate(values)}
    own = torch.tensor([place.get(label, -1) for label in given.labels(attribute)])
    return own[:, None] == torch.arange(len(values))


class _Codes(NamedTuple):
    """The codes of one node."""

    fit: Float[Tensor, "fit latent"]
    test: Float[Tensor, "test latent"]


class _Known(NamedTuple):
    """What a node came to, and where its latents are active: all that counts but at z, and at most
    nodes of a site the same."""

    fit: Bool[Tensor, "fit latent"]
    test: Bool[Tensor, "test latent"]
    found: NodeInterpretability

    def same(self, codes: _Codes) -> bool:
        """Whether another node's latents are active on the same prompts."""
        return torch.equal(self.fit, codes.fit > 0) and torch.equal(self.test, codes.test > 0)


def _coded(
    dictionary: Dictionary, fit: Activations, test: Activations, nodes: Sequence[Node]
) -> Iterator[tuple[Node, _Codes]]:
    """The codes of the nodes of one site, of as many at a time as memory should hold."""
    left, size = list(nodes), 1
    while left:
        part, left = left[:size], left[size:]
        on_fit, on_test = dictionary.codes(fit.on(part)), dictionary.codes(test.on(part))
        for node in part:
            yield node, _Codes(on_fit[node].cpu(), on_test[node].cpu())
        size = max(1, DETECTOR_NUMBERS_AT_ONCE // max(1, on_fit[part[0]].numel()))


def _score_node(
    codes: _Codes, truth: Table, *, thresholded: bool, clusters: Sequence[str], seed: int
) -> NodeInterpretability:
    active = (codes.fit > 0).float().mean(0)
    alive = active > 0
    known, tested = codes.fit[:, alive], codes.test[:, alive]
    single = detectors(known, truth.fit, thresholded=thresholded)
    best_on_fit = torch.zeros(len(alive))
    best_on_fit[alive] = _best_on_fit(known, truth, single, thresholded=thresholded)
    covered, named = (
        _outcomes(_best_detected(tested, single), truth.test),
        _outcomes(_named(tested, single), truth.test),
    )
    shown = best_on_fit >= LEVELS[0]
    return NodeInterpretability(
        coverage=_coverage(covered[..., truth.counted], clusters=clusters, seed=seed),
        decoding=bootstrap(named.sum(-1), _f1, seed=seed, clusters=clusters),
        values=int(truth.counted.sum()),
        predicates=truth.predicates,
        latents=shown.nonzero().flatten(),
        f1=_test_f1(tested[:, shown[alive]], truth.test, single.threshold[shown[alive]]),
        best_on_fit=best_on_fit,
        active=active,
    )


def _coverage(
    outcomes: Float[np.ndarray, "prompt 3 counted"], *, clusters: Sequence[str], seed: int
) -> Sampled:
    """The mean over the values counted of the corrected F1; undefined where there are none."""
    if not outcomes.shape[-1]:
        return Sampled(math.nan, np.full(DRAWS, math.nan), len(outcomes))

    def statistic(means: Float[np.ndarray, "draw outcome"]) -> Float[np.ndarray, "draw"]:
        shares = means.reshape(len(means), 3, -1)
        return (
            corrected(torch.from_numpy(_f1(shares)), torch.from_numpy(shares[:, 0] + shares[:, 2]))
            .mean(-1)
            .numpy()
        )

    return bootstrap(outcomes.reshape(len(outcomes), -1), statistic, seed=seed, clusters=clusters)


def _best_on_fit(
    codes: Float[Tensor, "fit alive"], truth: Table, single: Detectors, *, thresholded: bool
) -> Float[Tensor, "alive"]:
    """Each latent's best corrected F1 over values, pairs and unions."""
    paired = detectors(codes, truth.pairs, thresholded=thresholded)
    found = _best_unions(codes, truth, single, thresholded=thresholded)
    for detected in (single, paired):
        if len(detected.positives):
            found = torch.maximum(
                found, corrected(detected.f1, detected.positives / len(codes)).max(-1).values
            )
    return found


def _best_unions(
    codes: Float[Tensor, "fit alive"], truth: Table, single: Detectors, *, thresholded: bool
) -> Float[Tensor, "alive"]:
    """Best corrected F1 for a union of 2 to 10 values of one attribute, never all: those most of
    whose prompts the latent is active on.

    At z that is by the threshold of the latent's best single value, and each union then gets its
    own.
    """
    found = codes.new_zeros(codes.shape[1])
    cuts = cuts_through(codes) if thresholded else None
    for attribute in dict.fromkeys(predicate.attributes for predicate in truth.predicates):
        block = [
            index
            for index, predicate in enumerate(truth.predicates)
            if predicate.attributes == attribute
        ]
        if len(block) < 3:
            continue
        values, positives = truth.fit[:, block], single.positives[block]
        threshold = single.threshold[:, block].gather(
            1, single.f1[:, block].argmax(-1, keepdim=True)
        )[:, 0]
        active = (codes > threshold).to(codes)
        hits = active.T @ values.to(codes)
        order = (hits / positives).argsort(dim=-1, descending=True, stable=True)
        size = positives[order].cumsum(-1)
        for last in range(1, min(LARGEST_UNION, len(block) - 1)):
            union = size[:, last]
            if cuts:
                f1 = cuts.best_f1(_in_union(order[:, : last + 1], values))
            else:
                f1 = 2 * hits.gather(1, order[:, : last + 1]).sum(-1) / (active.sum(0) + union)
            found = torch.maximum(found, corrected(f1, union / len(codes)))
    return found


def _in_union(
    chosen: Int[Tensor, "alive value"], values: Bool[Tensor, "fit every"]
) -> Bool[Tensor, "fit alive"]:
    """Where a prompt's value is among those chosen for each latent."""
    inside = torch.zeros(len(chosen), values.shape[1], dtype=torch.bool).scatter_(
        1, chosen, value=True
    )
    return inside[:, values.byte().argmax(-1)].T


def _best_detected(
    codes: Float[Tensor, "test alive"], single: Detectors
) -> Bool[Tensor, "test predicate"]:
    """Where each value's best latent of `fit` is active; nowhere where no latent ever was with the
    value."""
    if not codes.shape[1]:
        return torch.zeros(len(codes), len(single.positives), dtype=torch.bool)
    f1, latent = single.f1.max(0)
    return (codes[:, latent] > single.threshold[latent, torch.arange(len(latent))]) & (f1 > 0)


def _named(codes: Float[Tensor, "test alive"], single: Detectors) -> Bool[Tensor, "test predicate"]:
    """Where any precise latent names each value."""
    latent, predicate = ((single.precision >= PRECISE) & (single.active >= MIN_FIT_ACTIVE)).nonzero(
        as_tuple=True
    )
    votes = (codes[:, latent] > single.threshold[latent, predicate]).float()
    return torch.zeros(len(codes), len(single.positives)).index_add_(1, predicate, votes) > 0


def _outcomes(
    predicted: Bool[Tensor, "prompt predicate"], truth: Bool[Tensor, "prompt predicate"]
) -> Float[np.ndarray, "prompt 3 predicate"]:
    """True positives, false positives and false negatives."""
    return (
        torch.stack([predicted & truth, predicted & ~truth, ~predicted & truth], 1).double().numpy()
    )


def _f1(outcomes: Float[np.ndarray, "draw 3 *predicate"]) -> Float[np.ndarray, "draw *predicate"]:
    """F1 from shares of true positives, false positives and false negatives; 0 where there are
    none."""
    hit, false, missed = outcomes[:, 0], outcomes[:, 1], outcomes[:, 2]
    total = 2 * hit + false + missed
    return np.divide(2 * hit, total, out=np.zeros_like(hit), where=total > 0)


def _test_f1(
    codes: Float[Tensor, "test kept"],
    truth: Bool[Tensor, "test predicate"],
    threshold: Float[Tensor, "kept predicate"],
) -> Float[Tensor, "kept predicate"]:
    """Corrected F1 on test of every latent for every value, at the thresholds of the fit."""
    target = truth.float()
    step = max(1, DETECTOR_NUMBERS_AT_ONCE // max(1, codes.numel()))
    hits, active = (
        torch.zeros(codes.shape[1], target.shape[1]),
        torch.zeros(codes.shape[1], target.shape[1]),
    )
    for first in range(0, target.shape[1], step):
        some = slice(first, first + step)
        fires = (codes[:, :, None] > threshold[:, some]).float()
        hits[:, some], active[:, some] = (
            torch.einsum("tkp,tp->kp", fires, target[:, some]),
            fires.sum(0),
        )
    return corrected(2 * hits / (active + target.sum(0)).clamp(min=1), target.mean(0))
