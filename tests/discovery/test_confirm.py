"""Confirming and validating a ranking, with effects known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from sage.discovery.confirm import Confirmed, confirm
from sage.discovery.faithfulness import faithfulness
from sage.discovery.pairs import ContrastPairs, IrrelevantPairs, irrelevant_pairs
from sage.discovery.statistic import pool
from sage.discovery.validation import validate
from sage.models.base import Model
from sage.nodes import Node
from sage.task.metric import logit_difference
from sage.task.tokens import TokenizedPair
from tests.discovery.conftest import Ready, random_pairs

NODES = [Node("z", 0, head, "END") for head in range(40)]
RANKS = {node: rank for rank, node in enumerate(NODES)}
LARGE = {"six": 6, "seven": 7, "all": 40, "irrelevant": 2}


@pytest.fixture
def model(ready: Callable[[str, str], Ready]) -> Model:
    return ready("gpt2", "nnsight").model


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Patching one of the first LARGE heads moves the metric by 1, another by .1; the list keeps
    every node patched."""
    seen: list[Node] = []

    def known(
        model: Model,
        node_sets: Sequence[Collection[Node]],
        pairs: Sequence[TokenizedPair],
        metric: object,
    ):
        del model, metric
        seen.extend(node for node_set in node_sets for node in node_set)
        metrics = [
            [10.0 + known_effect(node_set, pair) for pair in pairs] for node_set in node_sets
        ]
        return torch.tensor(metrics, dtype=torch.float64)

    monkeypatch.setattr("sage.discovery.pairs.patch", known)
    return seen


def known_effect(node_set: Collection[Node], pair: TokenizedPair) -> float:
    heads = [node.head for node in node_set if node.head is not None]
    if pair.contrast == "back and forth":
        return len(heads) * (1.0 if pair.clean.ids[1] % 2 else -1.0)
    if pair.contrast == "any of six":
        return float(any(head < 6 for head in heads))
    return sum(1.0 if head < LARGE[pair.contrast] else 0.1 for head in heads)


def contrast_pairs(contrast: str) -> ContrastPairs:
    return ContrastPairs(
        contrast,
        tuple(replace(pair, contrast=contrast) for pair in random_pairs(20)),
        classes=pool([contrast] * 20),
        metric=logit_difference,
        clean=torch.full((20,), 10.0, dtype=torch.float64),
        tau=0.02,
    )


def irrelevant(count: int = 20) -> IrrelevantPairs:
    pairs = [replace(pair, contrast="irrelevant") for pair in random_pairs(count)] if count else []
    return irrelevant_pairs({"place": pairs} if pairs else {}, logit_difference, most=20)


def test_the_baseline_is_the_mean_of_the_absolute_metric():
    pairs = replace(contrast_pairs("six"), clean=torch.tensor([3.0, -5.0] * 10))
    assert pairs.baseline == 4


@pytest.mark.parametrize(("contrast", "count"), [("six", 8), ("seven", 16), ("all", 40)])
def test_as_many_nodes_are_patched_again_while_any_of_the_last_quarter_passes(
    contrast: str, count: int, patched: list[Node], model: Model
):
    """Of 4 the fourth passes, so 8 are patched; of 8 the seventh and eighth decide, of 16 those
    from the thirteenth on."""
    confirmed = confirm(model, contrast_pairs(contrast), RANKS, irrelevant(0), top=4, seed=0)
    assert (len(confirmed.nodes), confirmed.level, confirmed.null_n) == (count, None, 0)
    assert patched == NODES[:count]
    assert confirmed.section == NODES[: LARGE[contrast]]


def test_nothing_is_kept_below_what_irrelevant_changes_do(patched: list[Node], model: Model):
    """Two heads move as much on irrelevant pairs as six do on the contrast's: the 99th percentile
    over 8 nodes is 1."""
    confirmed = confirm(model, contrast_pairs("six"), RANKS, irrelevant(), top=4, seed=0)
    assert confirmed.level == pytest.approx(1)
    assert confirmed.null_n == 20
    assert confirmed.section == []
    assert len(patched) == 2 * len(confirmed.nodes)


def test_irrelevant_pairs_are_patched_once_for_all_contrasts(patched: list[Node], model: Model):
    pairs = irrelevant()
    first = pairs.effects(model, NODES[:3])
    again = pairs.effects(model, NODES[2:5])
    assert patched == NODES[:5]
    assert first[:, 0].tolist() == pytest.approx([1, 1, 0.1])
    assert again[:, 0].tolist() == pytest.approx([0.1, 0.1, 0.1])


def test_irrelevant_attributes_take_turns():
    pairs = random_pairs(6)
    by_attribute = {"place": pairs[:3], "object": pairs[3:5], "template": pairs[5:]}
    taken = irrelevant_pairs(by_attribute, logit_difference, most=5)
    assert taken.pairs == (pairs[0], pairs[3], pairs[5], pairs[1], pairs[4])


def test_the_section_is_held_against_random_sets_of_its_size(patched: list[Node], model: Model):
    """Six heads patched at once move the metric by 6, any six of the others by .6."""
    pairs = contrast_pairs("six")
    confirmed = confirm(model, pairs, RANKS, irrelevant(0), top=4, seed=0)
    patched.clear()
    validation = validate(model, pairs, confirmed, dict.fromkeys(NODES, 100.0), seed=0)
    assert patched[:6] == NODES[:6]
    assert (validation.patched, validation.top) == (8, 6)
    assert validation.section_effect == pytest.approx(6)
    assert validation.random_effects == pytest.approx((0.6,) * 20)
    assert (validation.jaccard, validation.jaccard_sd, validation.resamples) == (1, 0, 50)


@pytest.mark.usefixtures("patched")
def test_nodes_patched_are_left_clean_before_those_only_attributed(model: Model):
    """4 of 40 nodes are left clean first: four large ones, whatever is guessed of the others."""
    pairs = contrast_pairs("six")
    confirmed = confirm(model, pairs, RANKS, irrelevant(0), top=4, seed=0)
    validation = validate(model, pairs, confirmed, dict.fromkeys(NODES, 100.0), seed=0)
    assert validation.curve is not None
    assert validation.curve.points[3] == (0.1, pytest.approx(4 / 9.4))


@pytest.mark.usefixtures("patched")
def test_a_ranking_agrees_with_patching_but_for_the_rounding_of_a_forward_pass(model: Model):
    """Of 8 nodes patched the small two are guessed at 3e-5 and 2e-5: nothing beside E|m| = 10."""
    pairs = contrast_pairs("six")
    confirmed = confirm(model, pairs, RANKS, irrelevant(0), top=4, seed=0)
    guesses = {**dict.fromkeys(NODES, 2.0), NODES[6]: 3e-5, NODES[7]: 2e-5}
    validation = validate(model, pairs, confirmed, guesses, seed=0)
    assert validation.spearman == pytest.approx(1)
    assert validation.pearson == pytest.approx(1)


@pytest.mark.usefixtures("patched")
def test_without_a_section_there_is_nothing_to_compare(model: Model):
    pairs = replace(contrast_pairs("six"), tau=1.0)
    confirmed = confirm(model, pairs, RANKS, irrelevant(0), top=4, seed=0)
    validation = validate(model, pairs, confirmed, dict.fromkeys(NODES, 1.0), seed=0)
    assert validation.notes == ("Nothing was kept: no set to compare.",)
    assert (validation.section_effect, validation.random_effects) == (None, ())
    assert (validation.jaccard, validation.jaccard_sd, validation.top_overlap) == (None, None, None)
    assert validation.curve is not None


@pytest.mark.usefixtures("patched")
def test_the_spread_of_the_overlaps_is_their_sample_standard_deviation(model: Model):
    """One node, kept by one pair of 20 alone: an overlap is 1 where that pair is drawn, else 0."""
    pairs = contrast_pairs("six")
    effects = torch.zeros(1, 20, dtype=torch.float64)
    effects[0, 7] = 20 * 0.2
    confirmed = Confirmed((NODES[0],), effects, None, None, None, torch.tensor([True]))
    validation = validate(model, pairs, confirmed, dict.fromkeys(NODES, 1.0), seed=0)
    share = validation.jaccard
    assert share is not None
    assert share == pytest.approx(1 - 0.95**20, abs=0.2)
    assert validation.jaccard_sd == pytest.approx((share * (1 - share) * 50 / 49) ** 0.5)


@pytest.mark.usefixtures("patched")
def test_faithfulness_is_what_comes_back_with_the_first_nodes_left_clean(model: Model):
    """All 40 patched move the metric by 6 + 3.4; 1, 1, 2, 4, 8 and 20 nodes left clean take back 1,
    1, 2, 4, 6.2 and 7.4 of these 9.4."""
    curve, note = faithfulness(model, contrast_pairs("six"), NODES, seed=0)
    assert note == ""
    assert curve is not None
    shares, values = zip(*curve.points, strict=True)
    expected = np.array([1, 1, 2, 4, 6.2, 7.4, 9.4]) / 9.4
    assert shares == (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
    assert values == pytest.approx(expected.tolist())
    area = np.trapezoid([0, *expected], [0, *shares])
    assert (curve.cpr, curve.cmd) == (pytest.approx(area), pytest.approx(1 - area))
    assert curve.n == 20


@pytest.mark.usefixtures("patched")
def test_nothing_comes_back_before_the_last_node_that_breaks_the_metric_is_left_clean(model: Model):
    """Any of the first six moves it as much as all; 8 nodes are the first step with all six."""
    curve, _ = faithfulness(model, contrast_pairs("any of six"), NODES, seed=0)
    assert curve is not None
    assert [f for _, f in curve.points] == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.usefixtures("patched")
def test_no_fraction_comes_back_where_patching_everything_moves_the_metric_both_ways(model: Model):
    curve, note = faithfulness(model, contrast_pairs("back and forth"), NODES, seed=0)
    assert curve is None
    assert "less than 3 standard errors: no recovered fraction" in note
