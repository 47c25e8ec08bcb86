"""T1 worked by hand on a model whose metric is a dot product, and against a literal twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from linear import MLP, Claimed, Z, activations, claimed
from sage.dictionaries.activations import moments
from sage.dictionaries.controls.without_latents import identity, mean_only
from sage.dictionaries.dictionary import Dictionary
from sage.scores.approximation import (
    SCORE,
    Approximation,
    approximation,
    measure,
    necessity,
    raw_approximation,
    sufficiency,
    why_undefined,
)
from sage.scores.decide import decide
from sage.scores.levels import Decisions
from sage.scores.node_set import Contender, NodeSet
from sage.scores.runs import Behaviour, Clusters, SplitBehaviour
from sage.scores.score import at_means
from sage.stats import resamples
from scores.worlds import Facts, Roles, World, in_turn, make_world

READ = {"mlp": [1.0, 0.5, 0, 0, 0, 0, 0, 0], "z": [2.0, 0, -1, 0]}
FIT, TEST = range(40), range(40, 56)


def world(seed: int = 0) -> World:
    """Activations are noise about 1; the clean metric and the mean-ablated one differ on test."""
    generator = torch.Generator().manual_seed(seed)
    every = activations(
        [{"a": number % 2} for number in range(56)],
        mlp=1 + torch.randn(56, 8, generator=generator),
        z=torch.randn(56, 4, generator=generator),
    )
    roles = Roles(fit=FIT, decide=in_turn(0, 20), test=in_turn(40, 56))
    return make_world(every, roles, Facts(attributes=("a",), changed=("a",)), read=READ)


def shrunk(made: World, share: float) -> Claimed:
    """a_hat = mean of fit + share (a - mean)."""
    means = made.data.moments.mean
    codes = {node: share * (value - means[node]) for node, value in made.every.values.items()}
    vectors = {node: torch.eye(value.shape[1]) for node, value in made.every.values.items()}
    return Claimed(means, codes, vectors, signed=True)


def measured(node_set: NodeSet, dictionary: Dictionary) -> Approximation:
    contender = Contender("it", dictionary, None, node_set.data.supervised, node_set.fit)
    return measure(node_set, [contender], split="test")["it"]


def values(part: Approximation) -> list[float]:
    """Sufficiency, necessity and the score."""
    return [at_means(part.columns, rule) for rule in (sufficiency, necessity, approximation)]


@pytest.mark.parametrize(
    ("share", "closest"),
    [(1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (1.25, 0.75), (2.5, 0.0), (-0.5, 0.0)],
)
def test_keeping_a_share_of_what_varies_is_that_sufficient_and_that_necessary(
    share: float, closest: float
) -> None:
    """With a linear metric both are the share; what passes 1 counts as much as what falls short of
    it."""
    made = world()
    part = measured(made.node_set(), shrunk(made, share))
    assert values(part) == pytest.approx([share, share, closest], abs=1e-5)


def test_identity_scores_one_and_the_mean_nothing() -> None:
    made = world()
    anatomy, node_set = made.every.anatomy, made.node_set()
    assert values(measured(node_set, identity(anatomy))) == pytest.approx([1, 1, 1], abs=1e-6)
    means = mean_only(anatomy, made.data.moments)
    assert values(measured(node_set, means)) == pytest.approx([0, 0, 0], abs=1e-6)


def test_overshoot_of_one_and_shortfall_of_the_other_do_not_cancel() -> None:
    """Clean 2, ablated 0; sufficient 3, necessary 1: x = 1.5 and .5, both .5 from 1."""
    assert raw_approximation(np.array([[2.0, 0, 3, 1]])) == [0.5]
    assert raw_approximation(np.array([[2.0, 0, 6, 2]])) == [-0.5]
    assert approximation(np.array([[2.0, 0, 6, 2]])) == [0]


def test_sufficiency_and_necessity_are_those_of_the_definition() -> None:
    """A twin in float64: every prompt's metric under each write, the shares of their means, and the
    same on a resample."""
    made = world(seed=1)
    generator = torch.Generator().manual_seed(5)
    given = made.every
    codes = {node: torch.randn(56, 3, generator=generator) for node in given.nodes}
    vectors = {
        MLP: torch.randn(3, 8, generator=generator),
        Z: torch.randn(3, 4, generator=generator),
    }
    dictionary = claimed(given, codes, vectors)
    node_set = made.node_set()
    part = measured(node_set, dictionary)
    base = made.data.test.base
    names = ("clean", "ablated", "sufficient", "necessary")
    metric = {name: np.zeros(len(base)) for name in names}
    for node, read in {MLP: READ["mlp"], Z: READ["z"]}.items():
        value = base.values[node].double().numpy()
        mean = made.data.fit.values[node].double().numpy().mean(0)
        a_hat = dictionary.reconstruct(base)[node].double().numpy()
        metric["clean"] += value @ read
        metric["ablated"] += mean @ read
        metric["sufficient"] += a_hat @ read
        metric["necessary"] += (mean + value - a_hat) @ read
    np.testing.assert_allclose(part.columns.values, np.stack(list(metric.values()), -1), atol=1e-4)

    def score(rows: list[int]) -> float:
        clean, ablated, sufficient, necessary = (
            np.mean([numbers[row] for row in rows]) for numbers in metric.values()
        )
        whole = clean - ablated
        both = ((sufficient - ablated) / whole, (clean - necessary) / whole)
        return max(0.0, min(1.0, float(np.mean([1 - abs(1 - x) for x in both]))))

    sampled = SCORE.sampled(part.columns, seed=0)
    assert sampled.value == pytest.approx(score(list(range(len(base)))), abs=1e-4)
    weights = resamples(len(base), seed=0, clusters=node_set.test.behaviour.clusters)
    for draw in (0, 5, 500):
        rows = [row for row, times in enumerate(weights[draw]) for _ in range(int(times))]
        assert sampled.draws[draw] == pytest.approx(score(rows), abs=1e-3)


def test_all_nodes_are_written_at_once() -> None:
    """The mean at one node alone would leave the other's part of the metric."""
    made = world()
    behaviour = made.node_set().test.behaviour
    mean = moments(made.data.fit).mean
    expected = mean[MLP] @ torch.tensor(READ["mlp"]) + mean[Z] @ torch.tensor(READ["z"])
    np.testing.assert_allclose(behaviour.ablated.metric, expected.item(), rtol=1e-5)


def behaviour(clean: list[float], ablated: list[float]) -> SplitBehaviour:
    runs = [Behaviour(np.array(m), np.zeros(len(m), dtype=int)) for m in (clean, ablated)]
    clusters = Clusters(tuple(range(len(clean))), by_base=False)
    return SplitBehaviour(clusters, runs[0], runs[1], runs[0])


@pytest.mark.parametrize(
    ("clean", "ablated", "defined"),
    [
        ([4.0, 4.2, 3.8, 4.0], [0.1, 0, -0.1, 0], True),
        # .3 is less than a tenth of 4
        ([4.0, 4.2, 3.8, 4.0], [3.7, 3.9, 3.5, 3.7], False),
        # a mean effect of 5, three standard errors of which are 15
        ([1.0, -1.0, 1.0, 1.0], [-9.0, 9.0, -9.0, -9.0], False),
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], False),
        ([4.0], [0.0], False),
    ],
)
def test_t1_is_undefined_where_ablation_hardly_moves_the_metric(
    clean: list[float], ablated: list[float], defined: bool
) -> None:
    reason = why_undefined(behaviour(clean, ablated))
    assert (reason is None) == defined
    if reason:
        assert f"from {np.mean(clean):.3g} to {np.mean(ablated):.3g}" in reason


def test_whether_it_is_defined_is_decided_on_fit_for_every_dictionary_alike() -> None:
    """On fit, pair by pair, ablation moves the metric by as much up as down; on test it is moved
    up alone."""
    labels = [{"a": number % 2} for number in range(36)]
    mlp = torch.zeros(36, 8)
    mlp[:, 0] = torch.tensor([1.0 if n >= 24 or n % 4 < 2 else -1.0 for n in range(36)])
    roles = Roles(fit=range(24), decide=in_turn(0, 24), test=in_turn(24, 36))
    facts = Facts(attributes=("a",), changed=("a",))
    made = make_world(activations(labels, mlp=mlp), roles, facts, read=READ)
    node_set = made.node_set()
    assert why_undefined(node_set.test.behaviour) is None
    decisions = decide(node_set)
    assert decisions.approximation is not None
    assert SCORE.why_undefined(decisions) == decisions.approximation


def test_rows_beside_an_undefined_score_are_the_raw_metrics() -> None:
    made = world()
    part = measured(made.node_set(), shrunk(made, 0.5))
    defined, undefined = (
        Decisions(why, None, None, "success", 0.0, 1.0, 1.0) for why in (None, "too little")
    )
    names = [[row.metric for row in SCORE.details(part, told)] for told in (defined, undefined)]
    raw = ["sufficient metric", "necessary metric"]
    assert names == [["sufficiency", "necessity", *raw], raw]
