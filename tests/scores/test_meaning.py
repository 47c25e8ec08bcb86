"""What latents mean, worked by hand, and against a twin that loops over latents and predicates."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch

from linear import MLP, Claimed, K, Q, Z, activations, claimed
from sage.dictionaries.activations import Activations
from sage.dictionaries.native import NativeDictionary
from sage.dictionaries.supervised import fit_features
from sage.scores.meaning import Meaning, activity, find_meaning
from scores.latents import (
    Labels,
    best_cut,
    correct,
    corrected_f1,
    one_node,
    random_case,
)


def meaning_of(labels: Labels, codes: torch.Tensor, *attributes: str, **fields: object) -> Meaning:
    given, dictionary = one_node(labels, codes, **fields)
    supervised = fit_features(given, attributes=attributes)
    return find_meaning(dictionary, given, supervised, attributes=attributes)


def on_values(values: Sequence[int], *, of: int, each: int = 10) -> torch.Tensor:
    """A code of 1 on the prompts of some values, `each` prompts of each value in turn."""
    codes = torch.zeros(of, each)
    codes[list(values)] = 1
    return codes.flatten()[:, None]


def labels_of(values: int, *, each: int = 10) -> list[dict[str, object]]:
    return [{"a": value} for value in range(values) for _ in range(each)]


def test_a_latent_means_the_value_that_its_activity_predicts_best() -> None:
    """Ten prompts of each of three values, p = 1/3, F1_on = .5. Latent 0 is value 0; latent 1 is
    value 1 and half of value 2: F1 = .8 for the value, .6 corrected, and for the union of the two
    30/35 = .857 where always-on has .8: .286. Latent 2 is always on."""
    codes = torch.zeros(30, 3)
    codes[:10, 0], codes[10:25, 1], codes[:, 2] = 1, 2, 3
    meaning = meaning_of(labels_of(3), codes, "a")
    assert meaning.nodes[MLP].best.tolist() == pytest.approx([1, 0.6, 0])
    assert meaning.nodes[MLP].activity.tolist() == pytest.approx([1 / 3, 0.5, 1])


@pytest.mark.parametrize(
    ("level", "mask"),
    [
        (0.25, [True, True, False]),
        (0.5, [True, True, False]),
        (0.75, [True, False, False]),
    ],
)
def test_a_level_lets_those_through_that_reach_it(level: float, mask: list[bool]) -> None:
    codes = torch.zeros(30, 3)
    codes[:10, 0], codes[10:25, 1], codes[:, 2] = 1, 1, 1
    assert meaning_of(labels_of(3), codes, "a").masks(level)[MLP].tolist() == mask


def test_a_union_of_values_is_a_meaning_and_all_of_them_are_not() -> None:
    """Active on values 0 and 1 of four: no single value (F1 2/3, F1_on .4: .444), but the union of
    the two is it exactly. Active on all is no meaning."""
    codes = torch.cat([on_values([0, 1], of=4), on_values(range(4), of=4)], 1)
    meaning = meaning_of(labels_of(4), codes, "a")
    assert meaning.nodes[MLP].best.tolist() == pytest.approx([1, 0])


def test_of_two_values_there_is_no_union() -> None:
    """On all prompts of value 0 and half of value 1: F1 = .8 where always-on has 2/3."""
    codes = torch.tensor([1.0] * 15 + [0.0] * 5)[:, None]
    best = meaning_of(labels_of(2), codes, "a").nodes[MLP].best
    assert best.tolist() == pytest.approx([corrected_f1(10, 15, 10, 20)])


@pytest.mark.parametrize("size", [9, 10, 11])
def test_a_union_has_at_most_ten_values(size: int) -> None:
    """Of 13 values. Eleven are best predicted as ten of them: F1 = 2 * 100 / (110 + 100)."""
    best = meaning_of(labels_of(13), on_values(range(size), of=13), "a").nodes[MLP].best
    ten = corrected_f1(100, 110, 100, 130)
    assert best.tolist() == pytest.approx([1 if size <= 10 else ten])
    assert ten < 0.9


def pairs_world(*, interacting: bool) -> tuple[Activations, Claimed]:
    """A latent for a = 0 and b = 0 together, at a node where each pair of values has a direction of
    its own, or the values of `a` and `b` add up."""
    labels = [{"a": a, "b": b} for a in range(3) for b in range(3) for _ in range(6)]
    values = torch.zeros(54, 8)
    for row, label in enumerate(labels):
        pair = 3 * label["a"] + label["b"]
        if interacting:
            values[row] = torch.eye(9)[pair][:8]
        else:
            values[row] = torch.eye(8)[label["a"]] + torch.eye(8)[3 + label["b"]]
    given = activations(labels, mlp=values)
    codes = torch.tensor([[float(label == {"a": 0, "b": 0})] for label in labels])
    return given, claimed(given, {MLP: codes}, {MLP: torch.ones(1, 8)})


@pytest.mark.parametrize("interacting", [True, False])
def test_a_pair_of_values_is_a_meaning_only_where_the_node_s_features_are_coupled(
    interacting: bool,
) -> None:
    """Elsewhere the latent is a poor detector of a = 0: 6 hits of 6 active, 18 positive."""
    given, dictionary = pairs_world(interacting=interacting)
    supervised = fit_features(given, attributes=("a", "b"))
    assert (supervised.fits[MLP].coupled is not None) == interacting
    meaning = find_meaning(dictionary, given, supervised, attributes=("a", "b"))
    expected = 1 if interacting else corrected_f1(6, 6, 18, 54)
    assert meaning.nodes[MLP].best.tolist() == pytest.approx([expected])


def test_supervised_features_have_meanings_where_they_are_coupled_too() -> None:
    given, _ = pairs_world(interacting=True)
    supervised = fit_features(given, attributes=("a", "b"))
    meaning = find_meaning(supervised, given, supervised, attributes=("a", "b")).nodes[MLP]
    assert len(meaning.best) == len(supervised.directions(MLP)) == 9
    codes = supervised.codes(given)[MLP]
    for latent, best in enumerate(meaning.best.tolist()):
        pair = given.prompts[int(codes[:, latent].argmax())]
        assert best > 0, pair


def test_nodes_that_read_the_same_share_a_meaning_only_where_the_same_latents_are_active() -> None:
    """Latent 0 at q and latent 1 at k, active on the same prompts: value 0."""
    value = torch.tensor([[1.0, 0.0]] * 10 + [[0.0, 1.0]] * 10)
    given = activations(labels_of(2), q=value, k=value)
    supervised = fit_features(given, attributes=("a",))
    first, second = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    dictionary = NativeDictionary(
        "two", {Q: lambda x: x @ first, K: lambda x: x @ second}, {Q: first, K: second}
    )
    meaning = find_meaning(dictionary, given, supervised, attributes=("a",))
    assert [meaning.nodes[node].best.tolist() for node in (Q, K)] == [[1, 0], [0, 1]]


def test_a_pair_with_an_attribute_that_the_contrast_does_not_change_is_no_meaning() -> None:
    given, dictionary = pairs_world(interacting=True)
    supervised = fit_features(given, attributes=("a", "b"))
    meaning = find_meaning(dictionary, given, supervised, attributes=("a",))
    assert meaning.nodes[MLP].best.tolist() == pytest.approx([corrected_f1(6, 6, 18, 54)])


def test_of_signed_codes_either_sign_may_mean_something() -> None:
    """Latent 0 is negative on value 0 and positive on value 1, half of the prompts each."""
    codes = torch.tensor([[-1.0]] * 10 + [[2.0]] * 10 + [[0.0]] * 10)
    signed = meaning_of(labels_of(3), codes, "a", signed=True).nodes[MLP]
    assert signed.best.tolist() == pytest.approx([1])
    assert signed.activity.tolist() == pytest.approx([2 / 3])
    below = torch.where(codes < 0, codes, 0.0)
    assert meaning_of(labels_of(3), below, "a").nodes[MLP].best.tolist() == [0]
    assert meaning_of(labels_of(3), below, "a", signed=True).nodes[MLP].best.tolist() == [1]


def test_a_dictionary_without_latents_or_with_dead_ones_means_nothing() -> None:
    for latents in (0, 3):
        node = meaning_of(labels_of(2), torch.zeros(20, latents), "a").nodes[MLP]
        assert node.best.tolist() == node.activity.tolist() == [0] * latents


def test_activity_is_the_share_of_prompts_with_a_code() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(30, 5, generator=generator) * (torch.rand(30, 5, generator=generator) < 0.3)
    for signed in (True, False):
        own = codes if signed else codes.relu()
        given, dictionary = one_node(labels_of(3), own, signed=signed)
        shares = activity(dictionary, given)[MLP]
        assert torch.equal(shares, (own != 0).float().mean(0))
        supervised = fit_features(given, attributes=("a",))
        meaning = find_meaning(dictionary, given, supervised, attributes=("a",))
        torch.testing.assert_close(meaning.nodes[MLP].activity, shares)


def literal_best(given: Activations, codes: np.ndarray, *, thresholded: bool) -> float:
    """A latent's best corrected F1 over values and unions of 2 values or more but not all."""
    labels = {name: np.array(given.labels(name)) for name in ("a", "b")}
    best = 0.0

    def cut(truth: np.ndarray) -> tuple[float, float]:
        return best_cut(codes, truth, thresholded=thresholded)

    for own in labels.values():
        values = sorted(set(own))
        f1 = {value: cut(own == value)[1] for value in values}
        for value in values:
            best = max(best, correct(f1[value], float((own == value).mean())))
        threshold, _ = cut(own == max(values, key=lambda value: f1[value]))
        shares = {value: (codes[own == value] > threshold).mean() for value in values}
        ranked = sorted(values, key=lambda value: -shares[value])
        for size in range(2, len(values)):
            union = np.isin(own, ranked[:size])
            best = max(best, correct(cut(union)[1], float(union.mean())))
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_f1_is_that_of_the_literal_twin(seed: int) -> None:
    given, dictionary = random_case(seed)
    supervised = fit_features(given, attributes=("a", "b"), coupled=False)
    meaning = find_meaning(dictionary, given, supervised, attributes=("a", "b"))
    for node in (MLP, Z):
        codes = dictionary.codes(given)[node].double().numpy()
        best = [literal_best(given, own, thresholded=node == Z) for own in codes.T]
        np.testing.assert_allclose(meaning.nodes[node].best, best, atol=1e-5)
        assert best[6:8] == pytest.approx([0, 0])
        assert max(best) > 0.4


@pytest.mark.parametrize("seed", [0, 1])
def test_a_coupled_node_adds_the_pairs_that_five_prompts_have(seed: int) -> None:
    """Latent 9 is on a = 1 and b = x."""
    given, dictionary = random_case(seed)
    values = torch.zeros(200, 8)
    pairs = list(combinations(range(7), 2))
    for row, label in enumerate(given.prompt_labels):
        first, second = pairs[3 * int(label["a"]) + "xyz".index(str(label["b"]))]
        values[row, first] = values[row, second] = 1
    interacting = activations([dict(p.prompt.labels) for p in given.prompts], mlp=values)
    supervised = fit_features(interacting, attributes=("a", "b"))
    assert supervised.fits[MLP].coupled is not None
    meaning = find_meaning(dictionary, interacting, supervised, attributes=("a", "b"))
    codes = dictionary.codes(given)[MLP].double().numpy()
    labels = {name: np.array(given.labels(name)) for name in ("a", "b")}
    for latent, own in enumerate(codes.T):
        best = literal_best(given, own, thresholded=False)
        for a in range(4):
            for b in "xyz":
                pair = (labels["a"] == a) & (labels["b"] == b)
                if pair.sum() >= 5:
                    f1 = best_cut(own, pair, thresholded=False)[1]
                    best = max(best, correct(f1, float(pair.mean())))
        assert float(meaning.nodes[MLP].best[latent]) == pytest.approx(best, abs=1e-5)
    assert float(meaning.nodes[MLP].best[9]) == pytest.approx(1)
