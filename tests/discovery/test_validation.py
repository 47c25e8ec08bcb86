"""What is printed with a discovery, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sage.discovery.validation import areas, correlate, matched_sets, recovered, top_overlap
from sage.nodes import parse_node


def test_faithfulness_is_the_share_of_the_metric_that_comes_back():
    """m_none = 1, m_all = 5: metrics 1, 2, 5 are 0, a quarter and all of it."""
    assert recovered(np.array([[1.0, 2.0, 5.0]])).tolist() == [[0, 0.25, 1]]


def test_cpr_and_cmd_are_the_areas_under_f_and_under_its_distance_from_one():
    """f = 0, 2, 1 at shares 0, .5, 1: trapezoids .5 + .75; |1 - f| = 1, 1, 0: .5 + .25."""
    found = areas((0.0, 0.5, 1.0), np.array([[0.0, 2.0, 1.0]]))
    assert found.cpr.tolist() == [1.25]
    assert found.cmd.tolist() == [0.75]


def test_a_perfect_curve_has_cpr_near_one_and_cmd_near_zero():
    found = areas((0.0, 0.01, 1.0), np.array([[0.0, 1.0, 1.0]]))
    assert found.cpr.tolist() == [pytest.approx(0.995)]
    assert found.cmd.tolist() == [pytest.approx(0.005)]


def test_correlations_take_rounding_for_ties():
    """Ranks of (0, 0, 0, 2, 3) against (0, 0, 0, 3, 2), whatever the order of the three zeros'
    rounding errors."""
    guess, exact = (
        torch.tensor([1e-9, 3e-9, 2e-9, 2.0, 3.0]),
        torch.tensor([3e-9, 1e-9, 2e-9, 3.0, 2.0]),
    )
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
    candidates = [
        *section,
        *(
            parse_node(name)
            for name in ("0.1.z@END", "0.2.z@END", "1.2.z@END", "0.0.q@END", "2.0.z@END")
        ),
    ]
    sets = matched_sets(section, candidates, count=20, seed=0)
    assert len(sets) == 20
    for chosen in sets:
        assert [(node.kind, node.layer) for node in chosen] == [("z", 0), ("z", 1), ("z", 1)]
        assert len(set(chosen)) == 3
        assert chosen[0] not in section
        assert sum(node in section for node in chosen[1:]) == 1
    assert {chosen[0] for chosen in sets} == {parse_node("0.1.z@END"), parse_node("0.2.z@END")}
