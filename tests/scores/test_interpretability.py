"""T3 worked by hand, and against a twin that loops over nodes, latents, predicates and prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from linear import MLP, Claimed, Z, activations, claimed
from sage.dictionaries.activations import Activations
from sage.nodes import Section
from sage.scores.interpretability import interpretable, score_interpretability

EQUAL = Section("x", {MLP: 1.0})


def one_node(labels: Sequence[dict], codes: torch.Tensor) -> tuple[Activations, Claimed]:
    given = activations(labels, mlp=torch.zeros(len(labels), 8))
    return given, claimed(given, {MLP: codes.float()}, {MLP: torch.eye(8)[: codes.shape[1]]})


def test_coverage_and_decoding_by_hand() -> None:
    """Ten prompts of each of three values. Latent 0 is value 0; latent 1 is value 1 and half of
    value 2; latent 2 is always on.

    p = 1/3, F1_on = .5. Value 0: 1. Value 1: TP 10, FP 5: F1 = .8, corrected .6. Value 2: always-on
    is best on fit (.5 > .4): 0. Coverage .5333. Only latent 0 is precise: TP 10, FN 20: decoding 2
    * 10 / (2 * 10 + 20) = .5.
    """
    labels = [{"a": value} for value in (0, 1, 2) for _ in range(10)]
    codes = torch.zeros(30, 3)
    codes[:10, 0] = 1
    codes[10:25, 1] = 2
    codes[:, 2] = 3
    given, dictionary = one_node(labels, codes)
    found = score_interpretability(dictionary, given, given, attributes=["a"], section=EQUAL)
    assert found.coverage.value == pytest.approx((1 + 0.6) / 3)
    assert found.decoding.value == pytest.approx(0.5)
    assert found.score.value == pytest.approx((0.8 / 1.5 + 0.5) / 2)
    assert found.values == 3
    assert found.coverage.n == 30
    assert found.nodes[MLP].best_on_fit.tolist() == pytest.approx(
        [1, max(0.6, corrected_f1(15, 15, 20, 30)), 0]
    )
    assert found.nodes[MLP].latents.tolist() == [0, 1]
    torch.testing.assert_close(found.nodes[MLP].f1, torch.tensor([[1.0, 0, 0], [0, 0.6, 0]]))


def corrected_f1(hit: float, active: float, positive: float, n: float) -> float:
    """max(0, (F1 - F1_on)/(1 - F1_on))."""
    if not positive < n:
        return 0.0
    p = positive / n
    on = 2 * p / (1 + p)
    return max(0.0, (2 * hit / max(active + positive, 1) - on) / (1 - on))


def test_what_is_chosen_on_fit_is_measured_on_test() -> None:
    """On fit latent 0 is value 0; on test latent 1 is, and latent 0 is active on half of its
    prompts: F1 = 2/3, exactly what always-on has.

    Latent 1 is active on 8 prompts of fit, too few to name anything. Decoding: value 0 named on 10
    prompts, value 1 on its 20.
    """
    labels = [{"a": value} for value in (0, 1) for _ in range(20)]
    right = torch.tensor([1.0] * 20 + [0.0] * 20)
    half, eight = torch.tensor([1.0, 0.0] * 10 + [0.0] * 20), torch.tensor([1.0] * 8 + [0.0] * 32)
    fit, dictionary = one_node(labels, torch.stack([right, eight, 1 - right], -1))
    test = replace(
        fit,
        prompts=tuple(
            replace(prompt, ids=(40 + number,)) for number, prompt in enumerate(fit.prompts)
        ),
    )
    codes = torch.cat([dictionary.by_prompt[MLP], torch.stack([half, right, 1 - right], -1)])
    found = score_interpretability(
        replace(dictionary, by_prompt={MLP: codes}), fit, test, attributes=["a"], section=EQUAL
    )
    assert found.coverage.value == pytest.approx((0 + 1) / 2)
    assert found.decoding.value == pytest.approx(2 * 30 / (2 * 30 + 10))


def test_a_value_with_fewer_than_five_test_prompts_is_not_asked_for() -> None:
    labels = [{"a": value} for value in [0] * 20 + [1] * 16 + [2] * 4]
    codes = torch.zeros(40, 2)
    codes[:20, 0], codes[20:36, 1] = 1, 1
    given, dictionary = one_node(labels, codes)
    found = score_interpretability(dictionary, given, given, attributes=["a"], section=EQUAL)
    assert found.values == 2
    assert found.coverage.value == pytest.approx(1)
    few = given.select([0, 1, 20, 21, 36])
    nothing = score_interpretability(dictionary, given, few, attributes=["a"], section=EQUAL)
    assert nothing.values == 0
    assert np.isnan(nothing.coverage.value)
    assert np.isnan(nothing.score.value)


def test_precise_means_95_of_100_on_ten_active_prompts() -> None:
    """Latent 0: 19 of 20 right, precise. Latent 1: 18 of 20, not. Latent 2: 9 of 9, too few. Each
    alone names its value."""
    labels = [{"a": value} for value in [0] * 20 + [1] * 20 + [2] * 20]
    codes = torch.zeros(60, 3)
    codes[1:21, 0], codes[22:42, 1], codes[51:60, 2] = 1, 1, 1
    for latent, expected in ((0, 2 * 19 / (2 * 19 + 1 + 41)), (1, 0), (2, 0)):
        given, dictionary = one_node(labels, codes[:, [latent]])
        assert score_interpretability(
            dictionary, given, given, attributes=["a"], section=EQUAL
        ).decoding.value == pytest.approx(expected)


def test_a_union_is_the_values_most_of_whose_prompts_the_latent_is_active_on() -> None:
    """Active on values 0 and 1 of four: no single value (F1 2/3, F1_on .4: .444), but the union of
    two is it exactly."""
    labels = [{"a": value} for value in range(4) for _ in range(10)]
    codes = torch.zeros(40, 2)
    codes[:20, 0], codes[:, 1] = 1, 1
    given, dictionary = one_node(labels, codes)
    found = score_interpretability(dictionary, given, given, attributes=["a"], section=EQUAL)
    assert found.nodes[MLP].best_on_fit.tolist() == pytest.approx([1, 0])
    assert found.nodes[MLP].f1[0, :2].tolist() == pytest.approx([(2 / 3 - 0.4) / 0.6] * 2)
    assert interpretable(found, level=0.6)[MLP].tolist() == [True, False]


def test_a_latent_for_a_pair_of_values_is_interpretable() -> None:
    labels = [{"a": a, "b": b} for a in range(3) for b in range(3) for _ in range(6)]
    codes = torch.zeros(54, 1)
    codes[:6] = 1
    given, dictionary = one_node(labels, codes)
    found = score_interpretability(dictionary, given, given, attributes=["a", "b"], section=EQUAL)
    assert found.nodes[MLP].best_on_fit.tolist() == pytest.approx([1])
    alone = score_interpretability(dictionary, given, given, attributes=["a"], section=EQUAL)
    assert alone.nodes[MLP].best_on_fit.tolist() == pytest.approx([corrected_f1(6, 6, 18, 54)])


def test_a_dictionary_without_latents_scores_nothing() -> None:
    given, dictionary = one_node([{"a": value} for value in (0, 1) * 10], torch.zeros(20, 0))
    for own in (
        dictionary,
        one_node([{"a": value} for value in (0, 1) * 10], torch.zeros(20, 3))[1],
    ):
        found = score_interpretability(own, given, given, attributes=["a"], section=EQUAL)
        assert (found.coverage.value, found.decoding.value, found.score.value) == (0, 0, 0)


def random_case(seed: int) -> tuple[Activations, Activations, Claimed, Section]:
    """Two nodes, two attributes, 12 latents: some mean a value more or less, one is always on, one
    dead."""
    generator = np.random.default_rng(seed)
    labels = [
        {"a": int(a), "b": ("x", "y", "z")[b]}
        for a, b in zip(
            generator.integers(4, size=200), generator.integers(3, size=200), strict=True
        )
    ]
    codes = {}
    for node in (MLP, Z):
        noise = np.abs(generator.normal(size=(200, 12))) * (generator.random((200, 12)) < 0.4)
        for latent in range(6):
            holds = np.array(
                [
                    own["a"] == latent if latent < 4 else own["b"] == "xyz"[latent - 4]
                    for own in labels
                ]
            )
            noise[:, latent] = (noise[:, latent] * 0.5 + 2 * holds) * (generator.random(200) < 0.95)
        noise[:, 6], noise[:, 7] = 1, 0
        noise[:, 8] = np.array([own["a"] in (1, 2) for own in labels]) + 0.1 * noise[:, 8]
        noise[:, 9] = np.array([own["a"] == 1 and own["b"] == "x" for own in labels])
        codes[node] = torch.from_numpy(noise).float()
    given = activations(labels, mlp=torch.zeros(200, 8), z=torch.zeros(200, 4))
    vectors = {MLP: torch.zeros(12, 8), Z: torch.zeros(12, 4)}
    return (
        given.select(range(120)),
        given.select(range(120, 200)),
        claimed(given, codes, vectors),
        Section("x", {MLP: 3.0, Z: 1.0}),
    )


def literal(
    fit: Activations, test: Activations, dictionary: Claimed, node
) -> tuple[float, float, list[float]]:
    """Coverage, decoding and each latent's best corrected F1 on fit at one node."""
    codes, tested = (
        dictionary.codes(fit)[node].double().numpy(),
        dictionary.codes(test)[node].double().numpy(),
    )
    labels = {
        "fit": [prompt.prompt.labels for prompt in fit.prompts],
        "test": [prompt.prompt.labels for prompt in test.prompts],
    }
    values = [
        (name, value)
        for name in "ab"
        for value in sorted({own[name] for own in labels["fit"]}, key=str)
    ]

    def cut(latent: int, holds: list[bool]) -> tuple[float, float]:
        """(threshold, F1) on fit."""
        cuts = (
            [0.0]
            if node == MLP
            else sorted({0.0, *(code for code in codes[:, latent] if code > 0)})
        )
        tries = [(f1([code > one for code in codes[:, latent]], holds), one) for one in cuts]
        best = max(score for score, _ in tries)
        lower = max(one for score, one in tries if score == best)
        higher = [code for code in codes[:, latent] if code > lower]
        return ((lower + min(higher)) / 2 if node == Z and higher else lower), best

    coverage, outcomes = [], [0, 0, 0]
    best_on_fit = [0.0] * codes.shape[1]
    for name, value in values:
        holds = [own[name] == value for own in labels["fit"]]
        truth = [own[name] == value for own in labels["test"]]
        chosen = [cut(latent, holds) for latent in range(codes.shape[1])]
        best = max(range(len(chosen)), key=lambda latent: chosen[latent][1])
        fires = [code > chosen[best][0] for code in tested[:, best]]
        hit, active, positive = count(fires, truth)
        if positive >= 5:
            coverage.append(corrected_f1(hit, active, positive, len(truth)))
        named = [False] * len(truth)
        for latent, (threshold, _) in enumerate(chosen):
            hit, active, _ = count([code > threshold for code in codes[:, latent]], holds)
            if active >= 10 and hit / active >= 0.95:
                named = [
                    old or code > threshold
                    for old, code in zip(named, tested[:, latent], strict=True)
                ]
        hit, active, positive = count(named, truth)
        outcomes = [outcomes[0] + hit, outcomes[1] + active - hit, outcomes[2] + positive - hit]
        for latent, (threshold, _) in enumerate(chosen):
            hit, active, positive = count([code > threshold for code in codes[:, latent]], holds)
            best_on_fit[latent] = max(
                best_on_fit[latent], corrected_f1(hit, active, positive, len(holds))
            )
    pairs = [(first, second) for first, second in combinations(values, 2) if first[0] != second[0]]
    for first, second in pairs:
        holds = [own[first[0]] == first[1] and own[second[0]] == second[1] for own in labels["fit"]]
        for latent in range(codes.shape[1]) if sum(holds) >= 5 else ():
            _, score = cut(latent, holds)
            best_on_fit[latent] = max(best_on_fit[latent], correct(score, sum(holds), len(holds)))
    for latent in range(codes.shape[1]):
        for name in "ab":
            own_values = [value for attribute, value in values if attribute == name]
            at = max(
                own_values,
                key=lambda value: cut(latent, [own[name] == value for own in labels["fit"]])[1],
            )
            threshold, _ = cut(latent, [own[name] == at for own in labels["fit"]])
            share = {}
            for value in own_values:
                hit, _, positive = count(
                    [code > threshold for code in codes[:, latent]],
                    [own[name] == value for own in labels["fit"]],
                )
                share[value] = hit / positive
            ranked = sorted(own_values, key=lambda value: -share[value])
            for size in range(2, len(own_values)):
                holds = [own[name] in ranked[:size] for own in labels["fit"]]
                best_on_fit[latent] = max(
                    best_on_fit[latent], correct(cut(latent, holds)[1], sum(holds), len(holds))
                )
    return (
        float(np.mean(coverage)),
        2 * outcomes[0] / (2 * outcomes[0] + outcomes[1] + outcomes[2]),
        best_on_fit,
    )


def count(fires: Sequence[bool], truth: Sequence[bool]) -> tuple[int, int, int]:
    return sum(a and b for a, b in zip(fires, truth, strict=True)), sum(fires), sum(truth)


def f1(fires: Sequence[bool], truth: Sequence[bool]) -> float:
    hit, active, positive = count(fires, truth)
    return 2 * hit / (active + positive)


def correct(score: float, positive: int, n: int) -> float:
    on = 2 * positive / n / (1 + positive / n)
    return max(0.0, (score - on) / (1 - on))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_t3_is_that_of_the_literal_twin(seed: int) -> None:
    fit, test, dictionary, section = random_case(seed)
    found = score_interpretability(dictionary, fit, test, attributes=["a", "b"], section=section)
    coverage, decoding = [], []
    for node in (MLP, Z):
        own_coverage, own_decoding, best_on_fit = literal(fit, test, dictionary, node)
        assert found.nodes[node].coverage.value == pytest.approx(own_coverage, abs=1e-6)
        assert found.nodes[node].decoding.value == pytest.approx(own_decoding, abs=1e-6)
        np.testing.assert_allclose(found.nodes[node].best_on_fit, best_on_fit, atol=1e-5)
        coverage.append(own_coverage)
        decoding.append(own_decoding)
    assert found.coverage.value == pytest.approx((3 * coverage[0] + coverage[1]) / 4, abs=1e-6)
    assert found.decoding.value == pytest.approx((3 * decoding[0] + decoding[1]) / 4, abs=1e-6)
    assert found.score.value == pytest.approx((found.coverage.value + found.decoding.value) / 2)
    assert min(coverage) > 0.3
    assert max(decoding) < 0.99


def test_the_draws_are_those_of_scoring_each_resample() -> None:
    """Coverage of a resample in which every prompt comes as often as drawn, computed anew from its
    prompts."""
    from sage.stats import resamples

    fit, test, dictionary, _ = random_case(3)
    fit, test = fit.on([MLP]), test.on([MLP])
    found = score_interpretability(dictionary, fit, test, attributes=["a"], section=EQUAL, seed=4)
    weights = resamples(len(test), seed=4, clusters=[prompt.prompt.text for prompt in test.prompts])
    for draw in (0, 17, 999):
        rows = [row for row, times in enumerate(weights[draw]) for _ in range(int(times))]
        again = score_interpretability(
            dictionary, fit, test.select(rows), attributes=["a"], section=EQUAL
        )
        assert found.coverage.draws[draw] == pytest.approx(again.coverage.value, abs=1e-6)
        assert found.decoding.draws[draw] == pytest.approx(again.decoding.value, abs=1e-6)


def test_shuffled_labels_score_the_floor() -> None:
    """Perfect latents, and labels dealt out anew: nothing is left but what the best of six latents
    finds in noise."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randint(6, (900,), generator=generator)
    dealt = value[torch.randperm(900, generator=generator)]
    labels = [
        {"a": one, "shuffled": other}
        for one, other in zip(value.tolist(), dealt.tolist(), strict=True)
    ]
    given, dictionary = one_node(labels, torch.nn.functional.one_hot(value))
    fit, test = given.select(range(600)), given.select(range(600, 900))
    true = score_interpretability(dictionary, fit, test, attributes=["a"], section=EQUAL)
    shuffled = score_interpretability(dictionary, fit, test, attributes=["shuffled"], section=EQUAL)
    assert true.score.value == 1
    assert shuffled.score.value < 0.03
