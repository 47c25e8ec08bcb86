"""T2 worked by hand: a value split into four latents against one supervised feature, and every
number against a literal twin."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from linear import MLP, Claimed, activations, claimed, model
from sage.dictionaries.activations import Activations
from sage.dictionaries.supervised import fit_features
from sage.scores.control import (
    Control,
    decide_form,
    ground_truth,
    largest_k,
    normalised,
    score_controls,
    trapezoid,
)
from sage.stats import resamples
from sage.task.metric import logit_difference

READ = [0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0]


def split_value(count: int = 12) -> tuple[Activations, Activations, Activations]:
    """Value 0 lies at (.45, .45, .45, .45), value 1 at the same less 1 each: m = .9 and -1.1. The
    base has value 0, the target value 1."""
    labels = [{"a": number % 2} for number in range(count)]
    sign = torch.tensor([int(own["a"]) for own in labels])[:, None]
    given = activations(
        labels, mlp=torch.cat([0.45 - sign.float().expand(-1, 4), torch.zeros(count, 4)], -1)
    )
    return given, given.select(range(0, count, 2)), given.select(range(1, count, 2))


def four_latents(given: Activations) -> Claimed:
    """Latent i is on where the value is 1, and takes 1 from coordinate i."""
    on = (given.values[MLP][:, :1] < 0).float().expand(-1, 4)
    return claimed(given, {MLP: on}, {MLP: -torch.eye(8)[:4]})


def score(
    own: Any, given: Activations, base: Activations, target: Activations, **options: Any
) -> Control:
    engine = model(given, mlp=READ)
    truth = ground_truth(engine, base, target, metric=logit_difference)
    return score_controls(
        engine, {"own": own}, base, target, truth=truth, metric=logit_difference, **options
    )["own"]


def test_control_by_hand() -> None:
    """m = .9 .4 -.1 -.6 -1.1 after 0 to 4 latents, and the patch says 'no' below 0: accuracy 0 0 1
    1 1 at k = 0 1 2 4 8.

    Area over log2 k up to 8: (.5 + 1 + 1)/3 = .8333. Two supervised features of half the move each:
    0 1 1 1 1, area 1. Graded: |m - m_gt| = 2 1.5 1 0 0 of 2: 0 .25 .5 1 1, area (.375 + .75 + 1)/3;
    supervised 0 .5 1 1 1, area (.75 + 1 + 1)/3.
    """
    given, base, target = split_value()
    latents, features = (
        score(four_latents(given), given, base, target),
        score(fit_features(given, attributes=("a",)), given, base, target),
    )
    assert [latents.accuracy(k).value for k in (0, 1, 2, 4, 8)] == [0, 0, 1, 1, 1]
    assert [features.accuracy(k).value for k in (0, 1, 2, 4, 8)] == [0, 1, 1, 1, 1]
    assert [latents.graded(k).value for k in (0, 1, 2, 4, 8)] == pytest.approx(
        [0, 0.25, 0.5, 1, 1], abs=1e-6
    )
    assert [latents.picks[k].tolist() for k in (0, 1, 2, 4, 8, 32)] == [
        [k] * 6 for k in (0, 1, 2, 4, 4, 4)
    ]
    areas = {
        form: [own.area(form, k_max=8) for own in (latents, features)]
        for form in ("success", "graded")
    }
    assert [area.value for area in areas["success"]] == pytest.approx([2.5 / 3, 1])
    assert [area.value for area in areas["graded"]] == pytest.approx(
        [2.125 / 3, 2.75 / 3], abs=1e-6
    )
    assert normalised(
        areas["success"][0], latents.start("success"), areas["success"][1]
    ).value == pytest.approx(2.5 / 3)
    assert normalised(
        areas["graded"][0], latents.start("graded"), areas["graded"][1]
    ).value == pytest.approx(2.125 / 2.75, abs=1e-6)
    assert latents.area("success", k_max=2).value == pytest.approx(0.5)
    assert latents.area("success", k_max=4).value == pytest.approx(0.75)


def test_magnitude_is_the_share_taken_away() -> None:
    """From value 1 to value 0 every latent is switched off: a quarter of the reconstruction each.
    The other way nothing is taken away."""
    given, base, target = split_value()
    own = four_latents(given)
    taken = score(own, given, target, base)
    assert [taken.magnitude[k].mean() for k in (0, 1, 2, 4)] == pytest.approx([0, 0.25, 0.5, 1])
    assert score(own, given, base, target).magnitude[4].mean() == 0


def test_accuracy_graded_and_area_are_those_of_the_definition() -> None:
    """Random latents on random prompts: a loop over prompts and k, and over the prompts of a
    resample."""
    generator = torch.Generator().manual_seed(0)
    labels = [{"a": number % 3} for number in range(60)]
    codes = torch.rand(60, 20, generator=generator) * (
        torch.rand(60, 20, generator=generator) < 0.4
    )
    vectors = torch.randn(20, 8, generator=generator) / 4
    given = activations(labels, mlp=codes @ vectors + 0.1 * torch.randn(60, 8, generator=generator))
    base, target = given.select(range(30)), given.select(range(30, 60))
    own = claimed(given, {MLP: codes}, {MLP: vectors})
    found = score(own, given, base, target)
    read = np.array(READ)
    clean, truth = (run.values[MLP].double().numpy() @ read for run in (base, target))
    edits = own.edit(base, target, ks=(0, 1, 2, 4, 8))
    edited = {k: edit.values[MLP].double().numpy() @ read for k, edit in edits.items()}

    def graded(k: int, rows: list[int]) -> float:
        return 1 - np.mean([abs(edited[k][row] - truth[row]) for row in rows]) / np.mean(
            [abs(clean[row] - truth[row]) for row in rows]
        )

    def accuracy(k: int, rows: list[int]) -> float:
        return float(np.mean([(edited[k][row] >= 0) == (truth[row] >= 0) for row in rows]))

    def area(points: list[float]) -> float:
        return sum((low + high) / 2 for low, high in pairwise(points)) / 3

    weights = resamples(30, seed=2, clusters=[prompt.prompt.text for prompt in base.prompts])
    everyone = list(range(30))
    drawn = [row for row, times in enumerate(weights[9]) for _ in range(int(times))]
    for k in edits:
        assert found.accuracy(k).value == pytest.approx(accuracy(k, everyone))
        assert found.graded(k).value == pytest.approx(graded(k, everyone), abs=1e-5)
        assert found.graded(k, seed=2).draws[9] == pytest.approx(graded(k, drawn), abs=1e-5)
    for form, value in (("success", accuracy), ("graded", graded)):
        whole = found.area(form, k_max=8, seed=2)
        assert whole.value == pytest.approx(
            area([value(k, everyone) for k in (1, 2, 4, 8)]), abs=1e-5
        )
        assert whole.draws[9] == pytest.approx(
            area([value(k, drawn) for k in (1, 2, 4, 8)]), abs=1e-5
        )
    assert 0 < found.area("success", k_max=8).value < 1


def test_budgets_that_give_no_further_pick_are_not_run_again() -> None:
    """Four latents: k = 8, 16 and 32 repeat k = 4, and k = 0 is the clean run, so three edits run
    for seven budgets."""
    given, base, target = split_value()
    engine = model(given, mlp=READ)
    truth = ground_truth(engine, base, target, metric=logit_difference)
    before = engine.counter.tokens
    found = score_controls(
        engine, {"own": four_latents(given)}, base, target, truth=truth, metric=logit_difference
    )["own"]
    assert engine.counter.tokens - before == 3 * len(base)
    assert np.array_equal(found.left[32], found.left[4])
    assert np.array_equal(found.left[0], found.effect)
    written = engine.write(
        four_latents(given).edit(base, target, ks=(32,))[32].values, base.prompts, logit_difference
    )
    np.testing.assert_allclose(
        found.left[32], np.abs(written.metric.numpy() - truth.patched.metric.numpy()), atol=1e-6
    )


def test_a_trapezoid_is_divided_by_its_range() -> None:
    assert trapezoid(
        np.log2([1, 2, 4, 8]), [np.array([0.0]), np.array([1.0]), np.array([1.0]), np.array([1.0])]
    ) == pytest.approx(2.5 / 3)
    assert trapezoid(np.log2([1, 4]), [np.array([0.2]), np.array([0.6])]) == pytest.approx(0.4)
    assert trapezoid(np.log2([1]), [np.array([0.7])]) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("width", "largest"),
    [(24, 2), (32, 2), (63, 2), (64, 4), (96, 4), (128, 8), (768, 8), (2304, 8)],
)
def test_the_largest_budget_is_a_sixteenth_of_the_width(width: int, largest: int) -> None:
    assert largest_k(width) == largest
    assert largest_k(width, across_models=True) == 4


def control(success: dict[int, float], graded: dict[int, float], effect: float = 1.0) -> Control:
    """Ten prompts with these accuracies and graded scores."""
    ones = np.ones(10)
    nothing = dict.fromkeys(success, ones)
    share = {k: (np.arange(10) < round(10 * value)).astype(float) for k, value in success.items()}
    left = {k: effect * (1 - value) * ones for k, value in graded.items()}
    return Control(
        share,
        left,
        effect * ones,
        nothing,
        nothing,
        nothing,
        nothing,
        [f"p{number}" for number in range(10)],
    )


def test_the_form_of_t2_is_decided_by_what_the_supervised_dictionary_gains() -> None:
    decide = {"k_max": 2, "effect_of_irrelevant": 0.1, "metric_size": 1.0}
    rising = {0: 0.0, 1: 0.5, 2: 1.0}
    assert decide_form(control({0: 0.5, 1: 0.8, 2: 0.8}, rising), **decide) == ("success", "ok")
    assert decide_form(control({0: 0.6, 1: 0.7, 2: 0.7}, rising), **decide) == ("graded", "ok")
    form, reason = decide_form(
        control({0: 0.6, 1: 0.7, 2: 0.7}, {0: 0.0, 1: 0.1, 2: 0.1}), **decide
    )
    assert form is None
    assert "only 0.10 in accuracy and 0.10 graded" in reason


@pytest.mark.parametrize(
    ("effect", "irrelevant", "size"), [(0.015, 0.0, 1.0), (0.5, 0.6, 1.0), (0.0, 0.0, 0.0)]
)
def test_a_patch_that_moves_no_more_than_an_irrelevant_one_has_no_control_score(
    effect: float, irrelevant: float, size: float
) -> None:
    own = control({0: 0.0, 1: 1.0, 2: 1.0}, {0: 0.0, 1: 1.0, 2: 1.0}, effect)
    form, reason = decide_form(own, k_max=2, effect_of_irrelevant=irrelevant, metric_size=size)
    assert form is None
    assert "moves the metric by" in reason


def test_success_with_sets_of_answers_is_the_set_with_the_larger_summed_probability() -> None:
    """With 'yes' counted twice the sets are even at m = -log 2 = -.69: only the fourth latent takes
    -.6 to -1.1."""
    given, base, target = split_value()
    several = replace(
        base, prompts=tuple(replace(prompt, answers=(0, 0)) for prompt in base.prompts)
    )
    found = score(four_latents(given), given, several, target)
    assert [found.accuracy(k).value for k in (0, 1, 2, 4)] == [0, 0, 0, 1]
