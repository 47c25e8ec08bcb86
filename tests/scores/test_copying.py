"""Copying worked by hand: codes and target of the other prompt itself, at most k latents a site."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from linear import MLP, claimed
from sage.scores import control
from sage.scores.copying import SCORE, copying_statistic, measure
from sage.scores.levels import ANY, Decisions
from sage.scores.node_set import Contender
from sage.scores.score import at_means
from scores.worlds import World, split_world, value_one

SUCCESS, GRADED = (
    Decisions(None, None, None, form, 0.0, 1.0, 1.0) for form in ("success", "graded")
)
KS = (1, 2, 4)


def copier(world: World, codes: torch.Tensor, vectors: torch.Tensor) -> Contender:
    dictionary = claimed(world.every, {MLP: codes}, {MLP: vectors})
    return world.node_set().contender(dictionary, copied=True)


def test_copying_by_hand() -> None:
    """m = .7 .2 -.8 after 1, 2 and 4 latents, and -.8 under the patch: success 0 0 1, graded .25 .5
    1. The score itself is that of the largest k."""
    world = split_world()
    node_set = world.node_set(copying=KS)
    four = copier(world, value_one(world.every).expand(-1, 4), -torch.eye(8)[:4])
    part = measure(node_set, [four], split="test")["claimed"]
    for decisions, expected in ((SUCCESS, [0, 0, 1]), (GRADED, [0.25, 0.5, 1])):
        details = list(SCORE.details(part, decisions))
        assert [(row.metric, row.k, row.picks) for row in details] == [
            ("copying", k, k) for k in KS
        ]
        values = [at_means(row.evidence, copying_statistic) for row in details]
        assert values == pytest.approx(expected, abs=1e-6)
        columns = SCORE.columns(part, decisions)
        assert columns is not None
        assert at_means(columns, SCORE.statistic) == pytest.approx(1, abs=1e-6)


def test_a_memory_of_every_prompt_wins_it() -> None:
    """A latent for each prompt, with the activation itself as its direction: off with the one, on
    with the other. Told labels alone it can do nothing: each is active on one prompt."""
    world = split_world()
    node_set = world.node_set(copying=(2,))
    memory = copier(world, torch.eye(36), world.every.values[MLP])
    part = measure(node_set, [memory], split="test")["claimed"]
    (row,) = SCORE.details(part, SUCCESS)
    assert at_means(row.evidence, copying_statistic) == 1
    told = control.measure(node_set, [memory], split="test")["claimed"]
    assert at_means(told.columns("success", (ANY,)), control.control_statistic) == 0


def test_what_a_copied_edit_does_beside_its_aim_counts_against_it() -> None:
    """Four latents that also add .3 to coordinate 6, where `b` lies at -.15 and .15."""
    world = split_world(b=0.15)
    vectors = -torch.eye(8)[:4]
    vectors[:, 6] = 0.3
    node_set = world.node_set(copying=(4,))
    four = copier(world, value_one(world.every).expand(-1, 4), vectors)
    part = measure(node_set, [four], split="test")["claimed"]
    assert part.isolation[4].mean() == 0.5
    assert at_means(part.columns("success", 4), copying_statistic) == 0.5


def test_one_is_the_ground_truth_and_below_nothing_is_nothing() -> None:
    means = np.array([[0.25, 1.0], [0.25, 0.625], [0.25, 0.0]])
    assert copying_statistic(means).tolist() == [1, 0.5, 0]


def test_only_what_is_to_be_copied_is_and_on_test_alone() -> None:
    world = split_world()
    codes = value_one(world.every)
    contender = copier(world, codes, -torch.eye(8)[:1])
    assert measure(world.node_set(copying=()), [contender], split="test") == {}
    assert measure(world.node_set(copying=KS), [contender], split="decide") == {}
    plain = world.node_set().contender(contender.dictionary)
    assert measure(world.node_set(copying=KS), [plain], split="test") == {}
