"""T2 worked by hand: a value split into four latents against one supervised feature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from linear import MLP, claimed
from sage.dictionaries.edits import Edited
from sage.scores.control import (
    SCORE,
    EditOutcomes,
    control_statistic,
    measure,
    raw_control_statistic,
)
from sage.scores.data import PairRuns
from sage.scores.levels import ANY, BUDGETS, Decisions
from sage.scores.node_set import Contender, NodeSet
from sage.scores.runs import Behaviour, Clusters, SplitBehaviour
from sage.scores.score import Columns, at_means
from scores.worlds import World, hopeless, split_world, value_one

NEED, TWICE, FOUR_TIMES = BUDGETS
SUCCESS, GRADED = (
    Decisions(None, None, None, form, 0.0, 1.0, 1.0) for form in ("success", "graded")
)


def four_latents(world: World, *, beside: float = 0.0) -> Contender:
    """Latent i is on where the value is 1 and takes 1 from coordinate i; each adds `beside` to
    coordinate 6."""
    vectors = -torch.eye(8)[:4]
    vectors[:, 6] = beside
    on = value_one(world.every).expand(-1, 4)
    return world.node_set().contender(claimed(world.every, {MLP: on}, {MLP: vectors}))


def measured(node_set: NodeSet, contender: Contender) -> EditOutcomes:
    return measure(node_set, [contender], split="test")[contender.name]


def value(control: EditOutcomes, decisions: Decisions) -> float:
    columns = SCORE.columns(control, decisions)
    assert isinstance(columns, Columns)
    return at_means(columns, SCORE.statistic)


def test_control_by_hand() -> None:
    """need is 2: value 0 off, value 1 on. m = 1.2 .7 .2 -.3 -.8 after 0 to 4 latents, and -.8 under
    the patch, which says `no`.

    At need m = .2 still says `yes`, at 2 need and 4 need the edit is the patch: (0 + 1 + 1)/3.
    Graded: |m - m_gt| = 1 0 0 of 2: (.5 + 1 + 1)/3.
    """
    world = split_world()
    node_set = world.node_set()
    assert list(node_set.needs.values()) == [2]
    control = measured(node_set, four_latents(world))
    successes = [control.success(ANY, budget).mean() for budget in BUDGETS]
    assert successes == [0, 1, 1]
    graded = [control.graded(ANY, budget).mean() for budget in BUDGETS]
    assert graded == pytest.approx([0.5, 1, 1], abs=1e-6)
    assert value(control, SUCCESS) == pytest.approx(2 / 3)
    assert value(control, GRADED) == pytest.approx(2.5 / 3, abs=1e-6)
    picks = [control.edits[ANY, budget].picks.tolist() for budget in (*BUDGETS, "all")]
    assert picks == [[2] * 6, [4] * 6, [4] * 6, [4] * 6]


def test_supervised_features_move_the_whole_value_with_two_features() -> None:
    node_set = split_world().node_set()
    control = measured(node_set, node_set.contender(node_set.data.supervised))
    assert value(control, SUCCESS) == 1
    assert value(control, GRADED) == pytest.approx(1, abs=1e-6)


def test_a_dictionary_without_latents_is_not_measured() -> None:
    node_set = split_world().node_set()
    assert measure(node_set, [hopeless(node_set)], split="test") == {}


def test_an_edit_is_told_nothing_of_the_other_prompt_but_its_labels() -> None:
    world = split_world()
    contender = four_latents(world)
    spoilt = world.data.test.target
    noise = torch.randn(spoilt.values[MLP].shape, generator=torch.Generator().manual_seed(0))
    target = replace(spoilt, values={MLP: noise})
    other = replace(world.data, test=PairRuns(world.data.test.base, target))
    before = measured(world.node_set(), contender)
    after = measured(NodeSet(world.model, other, world.node_set().settings), contender)
    for key, edit in before.edits.items():
        assert torch.equal(edit.picks, after.edits[key].picks)
        assert torch.equal(edit.distance, after.edits[key].distance)
        assert np.array_equal(before.behaviour[key].metric, after.behaviour[key].metric)


def test_what_an_edit_does_beside_its_aim_takes_its_success_away() -> None:
    """`b` lies at -.15 and .15; every latent adds .3 there. Where b is 0 it is read as 1 from the
    first latent on, where it is 1 it stays: isolation .5 at every budget.

    Success 0 1 1 and graded .5 1 1 halved: 1/3 and 2.5/6.
    """
    world = split_world(b=0.15)
    control = measured(world.node_set(), four_latents(world, beside=0.3))
    assert [control.isolation[ANY, budget].mean() for budget in BUDGETS] == [0.5] * 3
    assert value(control, SUCCESS) == pytest.approx(1 / 3)
    assert value(control, GRADED) == pytest.approx(2.5 / 6, abs=1e-6)


def by_hand(
    metrics: list[float], isolation: list[float], *, clean: list[float], truth: list[float]
) -> EditOutcomes:
    """One edit at need of a few prompts with these metrics; positive ones say 0, others 1."""
    behaviours = [
        Behaviour(np.array(values), np.array([int(value <= 0) for value in values]))
        for values in (clean, truth, metrics)
    ]
    pair_clusters = Clusters(tuple(range(len(clean))), by_base=False)
    split = SplitBehaviour(pair_clusters, behaviours[0], behaviours[0], behaviours[1])
    nothing = torch.zeros(len(clean))
    edit = Edited({}, nothing.long(), nothing, nothing, {})
    key = (ANY, NEED)
    return EditOutcomes(split, {key: edit}, {key: behaviours[2]}, {key: np.array(isolation)})


def test_isolation_counts_only_where_an_edit_did_some_good() -> None:
    """|m_clean - m_gt| is 2 and 6, 4 in the mean. The first edit ends 1 from its truth: graded
    .75, of which half is isolated; the second ends 8 away: -1, whatever it left alone."""
    control = by_hand([0.0, 9.0], [0.5, 0.25], clean=[1.0, 7.0], truth=[-1.0, 1.0])
    assert control.graded(ANY, NEED).tolist() == [0.75, -1]
    assert control.weight("graded", ANY, NEED).tolist() == [0.375, -1]
    assert control.nothing("graded").tolist() == [0.5, -0.5]


def test_success_is_to_say_what_is_said_under_the_ground_truth_right_or_wrong() -> None:
    """Truth says 1, 0, 0. The edits say 1, 0 and 1."""
    control = by_hand(
        [-3.0, 2.0, -1.0], [0.5, 1.0, 1.0], clean=[1.0, 1.0, -1.0], truth=[-1.0, 9.0, 1.0]
    )
    assert control.success(ANY, NEED).tolist() == [1, 1, 0]
    assert control.weight("success", ANY, NEED).tolist() == [0.5, 1, 0]
    assert control.nothing("success").tolist() == [0, 1, 0]


def test_zero_is_nothing_edited_and_one_the_ground_truth() -> None:
    """w_0 = .25; w = .25 .625 1: (0 + .5 + 1)/3."""
    assert control_statistic(np.array([[0.25, 0.25, 0.625, 1.0]])) == pytest.approx([0.5])
    assert control_statistic(np.array([[0.25, 0.25, 0.25, 0.25]])) == [0]
    assert control_statistic(np.array([[0.25, 1.0, 1.0, 1.0]])) == [1]


def test_a_score_is_clipped_once_and_not_at_each_budget() -> None:
    """-1 1 1: a third, not two thirds; what is below 0 in the mean is 0, and raw below it."""
    once = np.array([[0.5, 0.0, 1.0, 1.0]])
    assert control_statistic(once) == pytest.approx([1 / 3])
    below = np.array([[0.5, 0.0, 0.0, 0.5]])
    assert control_statistic(below) == [0]
    assert raw_control_statistic(below) == pytest.approx([-2 / 3])


def test_levels_are_clipped_one_by_one() -> None:
    """Levels of -1 and 1: (0 + 1)/2; raw they cancel."""
    means = np.array([[0.5, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    assert control_statistic(means) == [0.5]
    assert raw_control_statistic(means) == [0]


def test_every_draw_is_clipped_too() -> None:
    generator = np.random.default_rng(0)
    values = np.concatenate([np.zeros((40, 1)), generator.normal(0.05, 1, (40, 3))], 1)
    columns = Columns(values, tuple(range(40)))
    drawn = SCORE.sampled(columns, seed=0).draws
    raw = replace(SCORE, statistic=SCORE.raw).sampled(columns, seed=0).draws
    assert raw.min() < 0
    assert np.array_equal(drawn, np.clip(raw, 0, 1))


def test_rows_beside_the_score_are_the_other_form_every_budget_and_isolation() -> None:
    world = split_world()
    control = measured(world.node_set(), four_latents(world))
    details = list(SCORE.details(control, SUCCESS))
    other, *rest = details
    assert (other.metric, other.form, other.budget) == ("control", "graded", None)
    assert [(row.metric, row.budget, row.form) for row in rest] == [
        row
        for budget in (*BUDGETS, "all")
        for row in (
            ("control", budget, "success"),
            ("control", budget, "graded"),
            ("isolation", budget, None),
        )
    ]
    values = {
        (row.budget, row.form): at_means(row.evidence, row.statistic)
        for row in rest
        if row.metric == "control" and row.statistic
    }
    assert [values[budget, "success"] for budget in BUDGETS] == [0, 1, 1]
    assert values[NEED, "graded"] == pytest.approx(0.5, abs=1e-6)
    assert [row.picks for row in rest if row.metric == "isolation"] == [2, 4, 4, 4]


def test_without_the_budget_that_has_no_bound_no_edit_has_none() -> None:
    world = split_world()
    control = measured(world.node_set(unbounded=False), four_latents(world))
    assert control.budgets == BUDGETS
