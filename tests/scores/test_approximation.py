"""T1 worked by hand on a model whose metric is a dot product, and against a literal twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from linear import MLP, Claimed, Z, activations, claimed, model
from sage.dictionaries.activations import Activations, moments
from sage.dictionaries.controls import identity, mean_only
from sage.models.base import Model
from sage.scores.approximation import (
    Approximation,
    Baseline,
    baseline,
    closeness,
    score_approximations,
)
from sage.stats import resamples
from sage.task.metric import logit_difference

MLP_READ, Z_READ = [1.0, 0.5, 0, 0, 0, 0, 0, 0], [2.0, 0, -1, 0]


def world(seed: int = 0, prompts: int = 20) -> tuple[Activations, Model]:
    generator = torch.Generator().manual_seed(seed)
    labels = [{"a": number % 2} for number in range(prompts)]
    given = activations(
        labels,
        mlp=1 + torch.randn(prompts, 8, generator=generator),
        z=torch.randn(prompts, 4, generator=generator),
    )
    return given, model(given, mlp=MLP_READ, z=Z_READ)


def shrunk(given: Activations, share: float) -> Claimed:
    """a_hat = mean + share (a - mean)."""
    means = moments(given).mean
    codes = {node: share * (value - means[node]) for node, value in given.values.items()}
    return claimed(
        given, codes, {node: torch.eye(value.shape[1]) for node, value in given.values.items()}
    )


def score(given: Activations, own: Model, dictionary: object) -> Approximation:
    """The first prompts away from the mean of all: their clean and mean-ablated metrics differ."""
    told = moments(given)
    part = given.select(range(8))
    start = baseline(own, part, moments=told, metric=logit_difference)
    named = {"own": dictionary}
    return score_approximations(
        own, named, part, baseline=start, moments=told, metric=logit_difference
    )["own"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "closest"),
    [(1.0, 1.0), (0.0, 0.0), (0.5, 0.5), (1.25, 0.75), (2.5, 0.0), (-0.5, 0.0)],
)
def test_keeping_a_share_of_what_varies_is_that_sufficient_and_that_necessary(
    share: float, closest: float
) -> None:
    """With a linear metric both are the share; what passes 1 counts as much as what falls short of
    it."""
    given, own = world()
    found = score(given, own, shrunk(given, share))
    assert found.sufficiency.value == pytest.approx(share, abs=1e-5)
    assert found.necessity.value == pytest.approx(share, abs=1e-5)
    assert found.score.value == pytest.approx(closest, abs=1e-5)
    assert found.score.n == 8


def test_identity_scores_one_and_the_mean_nothing() -> None:
    given, own = world()
    perfect, nothing = (
        score(given, own, identity(given.anatomy)),
        score(given, own, mean_only(given.anatomy, moments(given))),
    )
    assert [perfect.sufficiency.value, perfect.necessity.value, perfect.score.value] == [1, 1, 1]
    assert [
        nothing.sufficiency.value,
        nothing.necessity.value,
        nothing.score.value,
    ] == pytest.approx([0, 0, 0], abs=1e-6)
    assert perfect.sufficiency.estimate().stderr == 0


def test_sufficiency_and_necessity_are_those_of_the_definition() -> None:
    """A twin in float64: every prompt's metric under each write, the shares of their means, and the
    same on a resample."""
    given, own = world(seed=1)
    generator = torch.Generator().manual_seed(5)
    codes = {node: torch.randn(20, 3, generator=generator) for node in given.nodes}
    dictionary = claimed(
        given,
        codes,
        {MLP: torch.randn(3, 8, generator=generator), Z: torch.randn(3, 4, generator=generator)},
    )
    found = score(given, own, dictionary)
    read = {MLP: np.array(MLP_READ), Z: np.array(Z_READ)}
    metric = {
        "clean": np.zeros(8),
        "ablated": np.zeros(8),
        "sufficient": np.zeros(8),
        "necessary": np.zeros(8),
    }
    for node in given.nodes:
        value = given.values[node].double().numpy()
        mean = value.mean(0)
        a_hat = dictionary.reconstruct(given)[node].double().numpy()
        for row in range(8):
            metric["clean"][row] += value[row] @ read[node]
            metric["ablated"][row] += mean @ read[node]
            metric["sufficient"][row] += a_hat[row] @ read[node]
            metric["necessary"][row] += (mean + value[row] - a_hat[row]) @ read[node]
    np.testing.assert_allclose(found.sufficient, metric["sufficient"], atol=1e-4)
    np.testing.assert_allclose(found.necessary, metric["necessary"], atol=1e-4)

    def shares(rows: list[int]) -> tuple[float, float]:
        clean, ablated, sufficient, necessary = (
            np.mean([values[row] for row in rows]) for values in metric.values()
        )
        return (sufficient - ablated) / (clean - ablated), (clean - necessary) / (clean - ablated)

    assert (found.sufficiency.value, found.necessity.value) == pytest.approx(
        shares(list(range(8))), rel=1e-4
    )
    weights = resamples(8, seed=0, clusters=[prompt.prompt.text for prompt in given.prompts[:8]])
    for draw in (0, 5, 500):
        rows = [row for row, times in enumerate(weights[draw]) for _ in range(int(times))]
        drawn = found.sufficiency.draws[draw], found.necessity.draws[draw]
        assert drawn == pytest.approx(shares(rows), rel=1e-3)
        assert found.score.draws[draw] == pytest.approx(closeness(np.array(drawn)).mean(), abs=1e-9)


def test_all_nodes_are_written_at_once() -> None:
    """The mean at one node alone would leave the other's part of the metric."""
    given, own = world()
    told = moments(given)
    found = baseline(own, given, moments=told, metric=logit_difference)
    expected = told.mean[MLP] @ torch.tensor(MLP_READ) + told.mean[Z] @ torch.tensor(Z_READ)
    np.testing.assert_allclose(found.ablated, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(
        found.clean, own.write({}, given.prompts, logit_difference).metric.numpy()
    )


@pytest.mark.parametrize(
    ("clean", "ablated", "defined"),
    [
        ([4.0, 4.2, 3.8, 4.0], [0.1, 0, -0.1, 0], True),
        ([4.0, 4.2, 3.8, 4.0], [3.7, 3.9, 3.5, 3.7], False),  # .3 < .1 * 4
        (
            [1.0, -1.0, 1.0, 1.0],
            [-9.0, 9.0, -9.0, -9.0],
            False,
        ),  # mean effect 5, 3 standard errors 15
        ([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], False),
        ([4.0], [0.0], False),
    ],
)
def test_t1_is_undefined_where_ablation_hardly_moves_the_metric(
    clean: list[float], ablated: list[float], defined: bool
) -> None:
    reason = Baseline(np.array(clean), np.array(ablated)).undefined
    assert (reason is None) == defined
    if reason:
        assert f"from {np.mean(clean):.3g} to {np.mean(ablated):.3g}" in reason
