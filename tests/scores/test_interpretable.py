"""T3 worked by hand: control with only those latents that mean something the contrast changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from linear import MLP, claimed
from sage.scores import control
from sage.scores.interpretable import SCORE
from sage.scores.levels import ANY, BUDGETS, EVERY_LEVEL, LEVELS, OTHER_FORM, Decisions
from sage.scores.node_set import Contender
from sage.scores.score import Columns, at_means
from scores.worlds import World, split_world, value_one

SUCCESS, GRADED = (
    Decisions(None, None, None, form, 0.0, 1.0, 1.0) for form in ("success", "graded")
)


def with_noise(world: World, misses: list[int]) -> Contender:
    """Four latents that take 1 each from a coordinate where the value is 1; latent i is on besides
    on so many of the 12 prompts of fit that have value 0, and on no other."""
    on = value_one(world.every).expand(-1, 4).clone()
    for latent, extra in enumerate(misses):
        on[range(0, 2 * extra, 2), latent] = 1
    vectors = -torch.eye(8)[:4]
    return world.node_set().contender(claimed(world.every, {MLP: on}, {MLP: vectors}))


def measured(world: World, contender: Contender) -> control.EditOutcomes:
    return control.measure(world.node_set(), [contender], split="test")[contender.name]


def value(
    part: control.EditOutcomes, decisions: Decisions, *, of: tuple[float, ...] = LEVELS
) -> float:
    columns = part.columns(decisions.form, of)
    return at_means(columns, SCORE.statistic)


def test_latents_that_mean_nothing_are_left_where_they_are() -> None:
    """Value 1 holds on 12 of 24 prompts: F1_on = 2/3. A latent that is on beside it on m prompts
    has F1 = 24/(24 + m): corrected 1, .769 .571 .4 for m = 0 2 4 6.

    All four pass up to t = .4, three at .5, two at .6 and .7, one at .8 and .9. By the labels their
    codes rise by 1 - m/12 = 1 5/6 4/6 3/6, each half of which is taken from m = 1.2; the patch, at
    -.8, says `no`. m after one to four: .7 .283 -.05 -.3. Success at need, 2 need, 4 need, which
    move 2, 4 and 8 where there are as many: 0 1 1 up to t = .5, and 0 0 0 beyond. Graded: .25 .458
    .625 .75 for one to four.
    """
    world = split_world()
    part = measured(world, with_noise(world, [0, 2, 4, 6]))
    count = dict(zip(EVERY_LEVEL, [4, 4, 4, 4, 4, 3, 2, 2, 1, 1], strict=True))
    for level, latents in count.items():
        assert part.edits[level, "4 need"].picks.tolist() == [latents] * 6
    by_level = [value(part, SUCCESS, of=(level,)) for level in EVERY_LEVEL]
    assert by_level == pytest.approx([2 / 3] * 6 + [0] * 4)
    assert value(part, SUCCESS) == pytest.approx(5 / 9 * 2 / 3)
    graded = {1: 0.25, 2: 0.5 - 1 / 24, 3: 0.625, 4: 0.75}
    expected = [graded[min(count[t], most)] for t in LEVELS for most in (2, 4, 8)]
    assert value(part, GRADED) == pytest.approx(sum(expected) / 27, abs=1e-6)


def test_a_level_at_which_nothing_qualifies_scores_nothing() -> None:
    """F1 = 24/30 of all four latents: .4, which passes up to .4, itself among them. Codes rise by
    1/2 there: graded .25 at need, .5 at 2 need and 4 need."""
    world = split_world()
    part = measured(world, with_noise(world, [6] * 4))
    assert part.edits[0.5, "4 need"].picks.tolist() == [0] * 6
    by_level = [value(part, GRADED, of=(level,)) for level in LEVELS]
    assert by_level == pytest.approx([1.25 / 3] * 4 + [0] * 5, abs=1e-6)
    assert value(part, GRADED) == pytest.approx(5 / 27, abs=1e-6)


def test_supervised_features_mean_something_by_definition() -> None:
    world = split_world(b=0.15)
    node_set = world.node_set()
    part = measured(world, node_set.contender(node_set.data.supervised))
    assert set(node_set.masks(node_set.contender(node_set.data.supervised)).values()) == {None}
    for decisions in (SUCCESS, GRADED):
        assert value(part, decisions) == pytest.approx(value(part, decisions, of=(ANY,)), abs=1e-12)
    assert value(part, SUCCESS) == 1


def test_a_latent_of_what_the_contrast_does_not_change_is_left_out() -> None:
    """Latents 0 and 1 are on where a = 1, latents 2 and 3 where b = 1, which says nothing of a."""
    world = split_world(b=0.15)
    on = value_one(world.every).expand(-1, 4).clone()
    on[:, 2:] = torch.tensor([[float(label)] for label in world.every.labels("b")])
    vectors = -torch.eye(8)[:4]
    contender = world.node_set().contender(claimed(world.every, {MLP: on}, {MLP: vectors}))
    masks = world.node_set().masks(contender)
    assert masks[ANY] is None
    for level in LEVELS:
        mask = masks[level]
        assert mask is not None
        assert mask[MLP].tolist() == [True, True, False, False]


def test_without_its_levels_it_is_not_measured() -> None:
    world = split_world()
    contender = replace(with_noise(world, [0] * 4), levels=(ANY,))
    part = measured(world, contender)
    assert not part.has_levels
    assert SCORE.columns(part, SUCCESS) is None
    assert list(SCORE.details(part, SUCCESS)) == []


def test_rows_beside_the_score_are_the_other_form_which_is_no_headline_and_every_level() -> None:
    world = split_world()
    part = measured(world, with_noise(world, [0, 2, 4, 6]))
    details = list(SCORE.details(part, SUCCESS))
    told = [(row.form, row.at) for row in details]
    levels = [f"F1 >= {level}" for level in LEVELS]
    expected = [("success", level) for level in levels]
    expected += [("graded", OTHER_FORM), *(("graded", level) for level in levels)]
    assert told == expected
    values = [at_means(row.evidence, SCORE.statistic) for row in details[:9]]
    assert values == pytest.approx([2 / 3] * 5 + [0] * 4)


def test_the_columns_are_those_of_every_level_and_budget() -> None:
    world = split_world()
    part = measured(world, with_noise(world, [0, 2, 4, 6]))
    columns = SCORE.columns(part, SUCCESS)
    assert isinstance(columns, Columns)
    assert columns.values.shape == (6, 1 + len(LEVELS) * len(BUDGETS))
    assert columns.clusters == part.clusters
