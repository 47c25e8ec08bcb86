"""Confirming and validating a ranking, with effects known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from sage.discovery.confirm import ERROR, Confirmed, confirm
from sage.discovery.faithfulness import Faithfulness, faithfulness
from sage.discovery.pairs import ContrastPairs, PatchedPairs
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
        *,
        rows: Sequence[int] | None = None,
        held: object = None,
    ):
        del model, metric, held
        seen.extend(node for node_set in node_sets for node in node_set)
        chosen = pairs if rows is None else [pairs[row] for row in rows]
        metrics = [
            [10.0 + known_effect(node_set, pair) for pair in chosen] for node_set in node_sets
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


def patched_pairs(pairs: ContrastPairs, model: Model) -> PatchedPairs:
    return PatchedPairs(model, pairs.pairs, pairs.metric, {})


def irrelevant(model: Model, count: int = 20) -> PatchedPairs:
    pairs = [replace(pair, contrast="irrelevant") for pair in random_pairs(count)] if count else []
    return PatchedPairs(model, tuple(pairs), logit_difference, {})


def confirm_first(
    pairs: ContrastPairs, null: PatchedPairs, *, top: int = 4, error: float = ERROR
) -> Confirmed:
    """The first nodes of a ranking, or as many as it takes."""
    patched = patched_pairs(pairs, null.model)
    return confirm(pairs, patched, RANKS, null, top=top, seed=0, error=error)


def curve_of(pairs: ContrastPairs, model: Model) -> Faithfulness:
    return faithfulness(pairs, patched_pairs(pairs, model), NODES, seed=0)


def test_the_baseline_is_the_mean_of_the_absolute_metric():
    pairs = replace(contrast_pairs("six"), clean=torch.tensor([3.0, -5.0] * 10))
    assert pairs.baseline == 4


@pytest.mark.parametrize(("contrast", "count"), [("six", 8), ("seven", 16), ("all", 40)])
def test_as_many_nodes_are_patched_again_while_any_of_the_last_quarter_passes(
    contrast: str, count: int, patched: list[Node], model: Model
):
    """Of 4 the fourth passes, so 8 are patched; of 8 the seventh and eighth decide, of 16 those
    from the thirteenth on."""
    confirmed = confirm_first(contrast_pairs(contrast), irrelevant(model, 0))
    assert (len(confirmed.nodes), confirmed.level, confirmed.null_n) == (count, None, 0)
    assert list(dict.fromkeys(patched)) == NODES[:count]
    assert confirmed.section == NODES[: LARGE[contrast]]


@pytest.mark.usefixtures("patched")
def test_nodes_that_do_too_little_are_dropped_at_the_first_look(model: Model):
    """.1 on each of 5 pairs, a quarter of 20, is below tau = .02 of 10 without a doubt; an eighth
    would be too few pairs to look at."""
    confirmed = confirm_first(contrast_pairs("six"), irrelevant(model, 0))
    assert confirmed.n.tolist() == [20] * 6 + [5, 5]
    assert confirmed.in_full.tolist() == [True] * 6 + [False] * 2
    assert confirmed.effects.nanmean(1).tolist() == pytest.approx([1] * 6 + [0.1] * 2)


@pytest.mark.usefixtures("patched")
def test_with_no_error_nothing_is_dropped(model: Model):
    confirmed = confirm_first(contrast_pairs("six"), irrelevant(model), top=8, error=0.0)
    assert confirmed.n.tolist() == [20] * 8
    assert confirmed.nulls is not None
    assert not confirmed.nulls.isnan().any()


@pytest.mark.usefixtures("patched")
def test_nothing_is_kept_below_what_irrelevant_changes_do(model: Model):
    """Two heads move as much on irrelevant pairs as six do on the contrast's: the 99th percentile
    over 8 nodes is 1, whatever the other six do, which are dropped at the first look."""
    confirmed = confirm_first(contrast_pairs("six"), irrelevant(model), top=8)
    assert confirmed.level == pytest.approx(1)
    assert confirmed.null_n == 20
    assert confirmed.section == []
    assert confirmed.nulls is not None
    assert (~confirmed.nulls.isnan()).sum(1).tolist() == [20] * 2 + [5] * 6


@pytest.mark.usefixtures("patched")
def test_nodes_below_the_null_are_dropped_although_they_reach_tau(model: Model):
    """Six heads move the metric by 1 and so does the null: at tau = .005 the others, .1, pass that
    bar and not the null."""
    pairs = replace(contrast_pairs("six"), tau=0.005)
    confirmed = confirm_first(pairs, irrelevant(model), top=8)
    assert confirmed.n.tolist() == [20] * 6 + [5, 5]


def test_a_set_is_patched_once_on_a_pair_whoever_asks_for_it(patched: list[Node], model: Model):
    pairs, sets = irrelevant(model), [(node,) for node in NODES[:5]]
    pairs.measure(sets[:3], range(20))
    pairs.measure(sets[2:], range(20))
    assert patched == NODES[:5]
    assert pairs.effects(sets)[:, 0].tolist() == pytest.approx([1, 1, 0.1, 0.1, 0.1])


def test_pairs_that_were_left_out_can_follow(patched: list[Node], model: Model):
    pairs, sets = irrelevant(model), [(NODES[0],)]
    pairs.measure(sets, [3, 5])
    assert pairs.effects(sets)[0].isnan().logical_not().nonzero().flatten().tolist() == [3, 5]
    assert pairs.unmeasured(sets, 5) == 4
    pairs.measure(sets, range(20))
    assert pairs.effects(sets)[0].tolist() == pytest.approx([1] * 20)
    assert patched == [NODES[0], NODES[0]]


def test_the_section_is_held_against_random_sets_of_its_size(patched: list[Node], model: Model):
    """Six heads patched at once move the metric by 6, any six of the others by .6."""
    pairs = contrast_pairs("six")
    confirmed = confirm_first(pairs, irrelevant(model, 0))
    patched.clear()
    validation = validate(
        pairs, patched_pairs(pairs, model), confirmed, dict.fromkeys(NODES, 100.0), seed=0
    )
    assert patched[:6] == NODES[:6]
    assert (validation.patched, validation.top) == (8, 6)
    assert validation.section_effect == pytest.approx(6)
    assert validation.random_effects == pytest.approx((0.6,) * 20)
    assert validation.random_n == (5,) * 20
    assert validation.in_full == 6
    assert (validation.jaccard, validation.jaccard_sd, validation.resamples) == (1, 0, 50)


@pytest.mark.usefixtures("patched")
def test_nodes_patched_are_left_clean_before_those_only_attributed(model: Model):
    """4 of 40 nodes are left clean first: four large ones, whatever is guessed of the others."""
    pairs = contrast_pairs("six")
    confirmed = confirm_first(pairs, irrelevant(model, 0))
    validation = validate(
        pairs, patched_pairs(pairs, model), confirmed, dict.fromkeys(NODES, 100.0), seed=0
    )
    assert validation.curve is not None
    assert validation.curve.points[3] == (0.1, pytest.approx(4 / 9.4))


@pytest.mark.usefixtures("patched")
def test_a_ranking_agrees_with_patching_but_for_the_rounding_of_a_forward_pass(model: Model):
    """Of 8 nodes patched the small two are guessed at 3e-5 and 2e-5: nothing beside E|m| = 10."""
    pairs = contrast_pairs("six")
    confirmed = confirm_first(pairs, irrelevant(model, 0))
    guesses = {**dict.fromkeys(NODES, 2.0), NODES[6]: 3e-5, NODES[7]: 2e-5}
    validation = validate(pairs, patched_pairs(pairs, model), confirmed, guesses, seed=0)
    assert validation.spearman == pytest.approx(1)
    assert validation.pearson == pytest.approx(1)


@pytest.mark.usefixtures("patched")
def test_without_a_section_there_is_nothing_to_compare(model: Model):
    pairs = replace(contrast_pairs("six"), tau=1.0)
    confirmed = confirm_first(pairs, irrelevant(model, 0))
    validation = validate(
        pairs, patched_pairs(pairs, model), confirmed, dict.fromkeys(NODES, 1.0), seed=0
    )
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
    validation = validate(
        pairs, patched_pairs(pairs, model), confirmed, dict.fromkeys(NODES, 1.0), seed=0
    )
    share = validation.jaccard
    assert share is not None
    assert share == pytest.approx(1 - 0.95**20, abs=0.2)
    assert validation.jaccard_sd == pytest.approx((share * (1 - share) * 50 / 49) ** 0.5)


@pytest.mark.usefixtures("patched")
def test_faithfulness_is_what_comes_back_with_the_first_nodes_left_clean(model: Model):
    """All 40 patched move the metric by 6 + 3.4; 1, 1, 2, 4, 8 and 20 nodes left clean take back 1,
    1, 2, 4, 6.2 and 7.4 of these 9.4."""
    curve, note = curve_of(contrast_pairs("six"), model)
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
    curve, _ = curve_of(contrast_pairs("any of six"), model)
    assert curve is not None
    assert [f for _, f in curve.points] == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.usefixtures("patched")
def test_no_fraction_comes_back_where_patching_everything_moves_the_metric_both_ways(model: Model):
    curve, note = curve_of(contrast_pairs("back and forth"), model)
    assert curve is None
    assert "less than 3 standard errors: no recovered fraction" in note
