"""What is resampled together, and how what a model says is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from linear import MLP, activations
from sage.scores.data import PairRuns
from sage.scores.node_set import NodeSet
from sage.scores.runs import behaviours, pair_clusters
from scores.worlds import pairs, split_world


def numbers(rows: list[tuple[int, int]]) -> tuple[tuple[int, ...], bool]:
    """The clusters of pairs of these prompts, renumbered in the order in which they are met."""
    every = activations([{"a": 0}] * 100, mlp=torch.zeros(100, 8))
    clusters = pair_clusters(pairs(every, rows))
    order = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters.numbers))}
    return tuple(order[cluster] for cluster in clusters.numbers), clusters.by_base


def spread(count: int) -> list[tuple[int, int]]:
    """Pairs that share no prompt with any other, from row 40 on."""
    return [(row, row + 1) for row in range(40, 40 + 2 * count, 2)]


def test_pairs_that_share_a_text_on_any_side_are_one_cluster_and_so_is_what_they_link() -> None:
    """0-1 and 1-2 share 1, 2-3 shares 2: one component of three; 8-9 and 9-8 another of two."""
    rows = [(0, 1), (1, 2), (8, 9), (3, 2), (9, 8), *spread(27)]
    clusters, by_base = numbers(rows)
    assert clusters == (0, 0, 1, 0, 1, *range(2, 29))
    assert not by_base


@pytest.mark.parametrize(("together", "by_base"), [(3, False), (4, True)])
def test_where_a_component_holds_over_a_tenth_of_the_pairs_base_texts_are_clusters(
    together: int, by_base: bool
) -> None:
    """All go to prompt 0, from two texts in turn."""
    linked = [(1 + number % 2, 0) for number in range(together)]
    clusters, told = numbers([*linked, *spread(30 - together)])
    assert told == by_base
    assert len(set(clusters[:together])) == (2 if by_base else 1)
    assert len(set(clusters[together:])) == 30 - together


def test_what_the_ground_truth_says_is_what_the_model_says_with_all_of_the_other_prompt() -> None:
    """m is the dot product; `yes` is said where it is not negative."""
    behaviour = split_world().node_set().test.behaviour
    np.testing.assert_allclose(behaviour.clean.metric, [1.2] * 6, atol=1e-6)
    np.testing.assert_allclose(behaviour.truth.metric, [-0.8] * 6, atol=1e-6)
    np.testing.assert_allclose(behaviour.ablated.metric, [0.2] * 6, atol=1e-6)
    assert behaviour.clean.choice.tolist() == [0] * 6
    assert behaviour.truth.choice.tolist() == [1] * 6
    np.testing.assert_allclose(behaviour.effect, [2] * 6, atol=1e-6)
    assert behaviour.unchanged.tolist() == [0] * 6


def test_the_order_of_edits_and_how_many_are_run_at_once_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = split_world()
    base = world.data.test.base.values[MLP]
    edits = [{}, {MLP: base + 1}, {MLP: base - 1}, {MLP: base + 1}]
    answers = world.data.shared.answers
    whole = behaviours(world.model, edits, world.data.test, answers)
    monkeypatch.setattr("sage.scores.runs.WRITTEN_NUMBERS_AT_ONCE", 1)
    for one, other in zip(
        whole, behaviours(world.model, edits, world.data.test, answers), strict=True
    ):
        assert np.array_equal(one.metric, other.metric)
        assert np.array_equal(one.choice, other.choice)
    assert np.array_equal(whole[1].metric, whole[3].metric)


def test_success_with_sets_of_answers_is_the_set_with_the_larger_summed_probability() -> None:
    """With `yes` counted twice the sets are even at m = -log 2 = -.69: at -.3 the answers win, at
    -.8 the foils."""
    world = split_world()
    test = world.data.test
    several = tuple(replace(prompt, answers=(0, 0)) for prompt in test.base.prompts)
    runs = PairRuns(replace(test.base, prompts=several), test.target)
    base = test.base.values[MLP]
    moved = [{MLP: base - torch.tensor([k] + [0.0] * 7)} for k in (3.0, 4.0)]
    first, second = behaviours(world.model, moved, runs, world.data.shared.answers)
    assert first.metric == pytest.approx([-0.3] * 6, abs=1e-6)
    assert first.choice.tolist() == [-1] * 6
    assert second.choice.tolist() == [-2] * 6


def test_runs_are_remembered_by_split() -> None:
    world = split_world()
    node_set = world.node_set()
    first, spent = node_set.test.behaviour, world.model.counter.tokens
    again = NodeSet(world.model, world.data, node_set.settings, node_set.memo).test.behaviour
    assert again is first
    assert world.model.counter.tokens == spent
