"""`move` worked by hand: how far edits go in the activations, without a run of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from linear import MLP, claimed
from sage.scores import control
from sage.scores.levels import ANY, BUDGETS, LEVELS, Decisions
from sage.scores.move import SCORE, move_statistic, raw_move_statistic
from sage.scores.node_set import Contender
from sage.scores.score import Columns, at_means
from scores.worlds import World, split_world, value_one

DECIDED = Decisions(None, None, None, "success", 0.0, 1.0, 1.0)


def latents(world: World, count: int, *, length: float = 1.0) -> Contender:
    """Latent i is on where the value is 1 and takes `length` from coordinate i."""
    on = value_one(world.every).expand(-1, count)
    vectors = -length * torch.eye(8)[:count]
    return world.node_set().contender(claimed(world.every, {MLP: on}, {MLP: vectors}))


def measured(world: World, contender: Contender) -> control.EditOutcomes:
    return control.measure(world.node_set(), [contender], split="test")[contender.name]


def test_move_is_the_share_of_the_way_to_the_aim() -> None:
    """Four coordinates move by 1 each. Two of four latents at need, all from 2 need on: (.5 + 1 +
    1)/3. With moves half too long a quarter of each coordinate's way is left."""
    world = split_world()
    part = measured(world, latents(world, 4))
    columns = SCORE.columns(part, DECIDED)
    assert isinstance(columns, Columns)
    assert at_means(columns, SCORE.statistic) == pytest.approx(2.5 / 3, abs=1e-6)
    longer = measured(world, latents(world, 4, length=1.5)).moved(LEVELS)
    assert at_means(longer, SCORE.statistic) == pytest.approx(0.75 * 2.5 / 3, abs=1e-6)


def test_moves_that_lead_away_are_not_made() -> None:
    world = split_world()
    part = measured(world, latents(world, 4, length=-1))
    assert at_means(part.moved(LEVELS), SCORE.statistic) == 0
    assert part.edits[ANY, "all"].picks.tolist() == [0] * 6


def test_supervised_features_go_all_of_the_way() -> None:
    world = split_world()
    node_set = world.node_set()
    part = measured(world, node_set.contender(node_set.data.supervised))
    assert at_means(part.moved(LEVELS), SCORE.statistic) == pytest.approx(1)


def test_distance_is_summed_over_prompts_before_it_is_divided() -> None:
    """Starts 1 and 9, left 1 and 0: 1 - 1/10, not (0 + 1)/2."""
    means = np.array([[1.0, 1, 1, 1], [9, 0, 0, 0]]).mean(0, keepdims=True)
    assert move_statistic(means) == pytest.approx([0.9])


def test_levels_are_clipped_one_by_one_and_not_each_budget() -> None:
    """Left 2 1 0 of 1: -1 0 1, mean 0; left 2 2 2: -1, clipped to 0; left 0 0 0: 1."""
    assert move_statistic(np.array([[1.0, 2, 1, 0]])) == [0]
    assert move_statistic(np.array([[1.0, 2, 2, 2, 0, 0, 0]])) == [0.5]
    assert raw_move_statistic(np.array([[1.0, 2, 2, 2, 0, 0, 0]])) == [0]


def test_rows_beside_it_are_with_all_latents_and_at_every_level() -> None:
    world = split_world()
    details = list(SCORE.details(measured(world, latents(world, 2)), DECIDED))
    assert [row.at for row in details] == ["all latents", *(f"F1 >= {t}" for t in LEVELS)]
    values = [at_means(row.evidence, SCORE.statistic) for row in details]
    assert values == pytest.approx([0.5] * 10)
    assert len(BUDGETS) == 3
