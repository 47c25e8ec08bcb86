"""What is printed with a discovery, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sage.discovery.confirm import Confirmed
from sage.discovery.faithfulness import areas, recovered
from sage.discovery.pairs import ContrastPairs
from sage.discovery.validation import correlate, matched_sets, resampled_overlaps, top_overlap
from sage.nodes import parse_node
from sage.task.metric import logit_difference
from tests.discovery.conftest import random_pairs


def test_faithfulness_is_the_share_of_the_metric_that_comes_back():
    """m_none = 1, m_all = 5: metrics 1, 2, 5 are 0, a quarter and all of it."""
    assert recovered(np.array([[1.0, 2.0, 5.0]])).tolist() == [[0, 0.25, 1]]


def test_cpr_and_cmd_are_the_areas_under_f_and_under_its_distance_from_one():
    """f = 0, 2, 1 at shares 0, .5, 1: trapezoids .5 + .75; |1 - f| = 1, 1, 0: .5 + .25."""
    cpr, cmd = areas((0.0, 0.5, 1.0), np.array([[0.0, 2.0, 1.0]]))
    assert (cpr.tolist(), cmd.tolist()) == ([1.25], [0.75])


def test_a_perfect_curve_has_cpr_near_one_and_cmd_near_zero():
    cpr, cmd = areas((0.0, 0.01, 1.0), np.array([[0.0, 1.0, 1.0]]))
    assert cpr.tolist() == [pytest.approx(0.995)]
    assert cmd.tolist() == [pytest.approx(0.005)]


def test_correlations_take_rounding_for_ties():
    """Ranks of (0, 0, 0, 2, 3) against (0, 0, 0, 3, 2), whatever the order of the three zeros'
    rounding errors."""
    guess = torch.tensor([1e-9, 3e-9, 2e-9, 2.0, 3.0])
    exact = torch.tensor([3e-9, 1e-9, 2e-9, 3.0, 2.0])
    left, right = np.array([2, 2, 2, 4, 5.0]), np.array([2, 2, 2, 5, 4.0])
    expected = ((left - 3) * (right - 3)).sum() / ((left - 3) ** 2).sum()
    assert correlate(guess, exact, noise=1e-6).spearman == pytest.approx(expected)
    assert correlate(guess, exact, noise=1e-6).pearson == pytest.approx(
        float(np.corrcoef([0, 0, 0, 2, 3], [0, 0, 0, 3, 2])[0, 1])
    )


def test_there_is_no_correlation_with_what_does_not_vary():
    assert correlate(torch.zeros(5), torch.arange(5.0), noise=1e-6) == (None, None)


def test_top_overlap_counts_nodes_both_put_first():
    assert top_overlap(torch.tensor([5.0, 4, 3, 2, 1]), torch.tensor([5.0, 1, 4, 3, 2]), 2) == 0.5
    assert top_overlap(torch.tensor([5.0, 4]), torch.tensor([5.0, 1]), 0) is None


def test_random_sets_match_the_section_in_size_layer_and_kind_and_avoid_it_where_they_can():
    """Layer 0 has two z outside the section for its one; layer 1 has one outside for its two, so
    one of its own fills up."""
    section = [parse_node(name) for name in ("0.0.z@END", "1.0.z@END", "1.1.z@END")]
    others = ("0.1.z@END", "0.2.z@END", "1.2.z@END", "0.0.q@END", "2.0.z@END")
    candidates = [*section, *map(parse_node, others)]
    sets = matched_sets(section, candidates, count=20, seed=0)
    assert len(sets) == 20
    for chosen in sets:
        assert [(node.kind, node.layer) for node in chosen] == [("z", 0), ("z", 1), ("z", 1)]
        assert len(set(chosen)) == 3
        assert chosen[0] not in section
        assert sum(node in section for node in chosen[1:]) == 1
    assert {chosen[0] for chosen in sets} == {parse_node("0.1.z@END"), parse_node("0.2.z@END")}


# Resampling. The section is one node, kept by four pairs; each case says when a sample of four
# pairs, drawn with replacement, keeps it. It overlaps with itself (1) or with nothing (0).


@pytest.mark.parametrize(
    ("effects", "clean", "nulls", "share"),
    [
        # The mean effect is how often the first pair is drawn: at least once.
        ([4.0, 0, 0, 0], [1.0, 1, 1, 1], None, 1 - 0.75**4),
        # The threshold is 1.5/2 times how often the first pair is drawn: at most once.
        ([1.0, 1, 1, 1], [6.0, 0, 0, 0], None, 0.75**4 + 0.75**3),
        # So is the null, of which other four pairs are drawn.
        ([1.0, 1, 1, 1], [1.0, 1, 1, 1], [3.0, 0, 0, 0], 0.75**4 + 0.75**3),
        ([1.0, 1, 1, 1], [1.0, 1, 1, 1], None, 1),
    ],
)
def test_effects_baseline_and_null_are_all_resampled(
    effects: list[float], clean: list[float], nulls: list[float] | None, share: float
):
    classes = torch.zeros(4, dtype=torch.long)
    pairs = ContrastPairs(
        "a", random_pairs(4), classes, logit_difference, torch.tensor(clean), tau=0.5
    )
    confirmed = Confirmed(
        (parse_node("0.0.z@END"),),
        torch.tensor([effects]),
        None if nulls is None else torch.tensor([nulls]),
        None if nulls is None else classes,
        None,
        torch.tensor([True]),
    )
    overlaps = resampled_overlaps(pairs, confirmed, draws=2000, seed=0)
    assert set(overlaps) <= {0, 1}
    assert np.mean(overlaps) == pytest.approx(share, abs=0.04)
