"""Planted worlds: what is drawn is what is said of them, and the model reads it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sage.errors import SageError, UnknownName, Unsupported
from sage.models.engine import Engine
from sage.task.metric import logit_difference
from sage.toy.planted import CORRELATED, INDEPENDENT, NESTED, NODE, WORLDS, World

PROMPTS = 4000


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_directions_are_orthonormal_and_48_of_them_are_attributes(world: World) -> None:
    gram = world.directions @ world.directions.T
    torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
    assert world.features == 48


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_true_codes_are_the_labels(world: World) -> None:
    """Of every attribute the feature of the prompt's value alone, between .6 and 1.4 strong; all
    else is background, 48 x 5 % = 2.4 features of it where there is any."""
    given = world.draw(PROMPTS, 0)
    codes = world.codes(given.values[NODE])
    for attribute, block in world.blocks.items():
        value = torch.tensor(given.labels(attribute))
        own = codes[:, block.start : block.stop]
        active = torch.nn.functional.one_hot(value, len(block)).bool()
        assert torch.equal(own > 0, active)
        torch.testing.assert_close(
            own[active], torch.ones(PROMPTS), atol=0.4 + 6 * world.noise, rtol=0
        )
        assert float(own[active].mean()) == pytest.approx(1, abs=0.01)
    assert float((codes != 0).float().sum(1).mean()) == pytest.approx(world.true_l0, abs=0.1)


def test_correlated_attributes_agree_in_pairs_on_80_percent() -> None:
    given = CORRELATED.draw(PROMPTS, 0)
    assert agreement(given.labels("A1"), given.labels("A2")) == pytest.approx(0.8, abs=0.03)
    assert agreement(given.labels("A2"), given.labels("A3")) == pytest.approx(1 / 6, abs=0.03)


def test_independent_draws_agree_by_chance() -> None:
    given = CORRELATED.draw(PROMPTS, 0, independent=True)
    assert agreement(given.labels("A1"), given.labels("A2")) == pytest.approx(1 / 6, abs=0.03)


def test_two_values_each_lie_within_a_coarse_one() -> None:
    given = NESTED.draw(PROMPTS, 0)
    assert NESTED.within == {"A1": "C1", "A2": "C2", "A3": "C3", "A4": "C4"}
    for fine, coarse in NESTED.within.items():
        assert given.labels(coarse) == [int(value) // 2 for value in given.labels(fine)]


@pytest.mark.parametrize(
    ("world", "contrast", "changed"),
    [
        (INDEPENDENT, "A3", {"A3"}),
        (CORRELATED, "A1", {"A1"}),
        (NESTED, "C1", {"C1", "A1"}),
        (NESTED, "A1", {"A1"}),
        (NESTED, "A5", {"A5"}),
    ],
    ids=lambda value: value.name if isinstance(value, World) else None,
)
def test_a_pair_differs_in_one_attribute_and_keeps_the_rest(
    world: World, contrast: str, changed: set[str]
) -> None:
    """p' - p is the new features less the old ones, to the last digit of noise and background."""
    world = replace(world, spread=0.0)
    base, target = world.pairs(contrast, 60, 0)
    difference = target.values[NODE] - base.values[NODE]
    expected = torch.zeros_like(difference)
    for attribute in world.attributes:
        before, after = (torch.tensor(side.labels(attribute)) for side in (base, target))
        assert bool((before != after).all() if attribute in changed else (before == after).all())
        if attribute not in world.blocks:
            continue
        features = world.directions[world.blocks[attribute]]
        expected += features[after] - features[before]
    torch.testing.assert_close(difference, expected, atol=1e-5, rtol=0)


def test_the_model_says_the_value_and_its_logits_are_the_codes() -> None:
    """Answer 1, foil 0: the logit difference is 1 on p up to noise, and with p' written in -1."""
    world = replace(INDEPENDENT, spread=0.0, noise=0.01)
    base, target = world.pairs("A2", 40, 0)
    model = world.model(base, target)
    words = tuple(world.blocks["A2"])
    clean, patched = model.write_many(
        [{}, dict(target.values)], base.prompts, logit_difference, among=words
    )
    assert clean.choice.tolist() == [6 + int(value) for value in base.labels("A2")]
    assert patched.choice.tolist() == [6 + int(value) for value in target.labels("A2")]
    torch.testing.assert_close(clean.metric, torch.ones(40), atol=0.06, rtol=0)
    torch.testing.assert_close(patched.metric, -torch.ones(40), atol=0.06, rtol=0)


def test_the_model_says_the_coarse_value_when_it_is_asked_for() -> None:
    base, target = NESTED.pairs("C2", 40, 0)
    words = NESTED.words["C2"]
    outcome = NESTED.model(base, target).write({}, base.prompts, logit_difference, among=words)
    assert words == range(51, 54)
    assert outcome.choice.tolist() == [51 + int(value) for value in base.labels("C2")]


def test_the_model_holds_what_was_drawn() -> None:
    given, (base, target) = INDEPENDENT.draw(30, 0), INDEPENDENT.pairs("A1", 30, 0)
    model = INDEPENDENT.model(given, base, target)
    for run in (given, base, target):
        assert torch.equal(model.read([NODE], run.prompts)[NODE], run.values[NODE])


def test_values_of_one_attribute_have_the_cosine_asked_for() -> None:
    world = World("close", sizes=(2, 3), d=10, background=2, cosine=0.6)
    expected = torch.eye(7)
    expected[:2, :2] = expected[2:5, 2:5] = 0.6
    expected.fill_diagonal_(1)
    torch.testing.assert_close(world.directions @ world.directions.T, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(world.duals @ world.directions.T, torch.eye(7), atol=1e-5, rtol=0)


def test_a_draw_depends_on_its_seed_alone() -> None:
    again = World("independent").draw(50, 3)
    given = INDEPENDENT.draw(50, 3)
    assert torch.equal(given.values[NODE], again.values[NODE])
    assert given.prompts == again.prompts
    assert torch.equal(INDEPENDENT.activations(50, 3), given.values[NODE])
    assert not torch.equal(INDEPENDENT.activations(50, 4), given.values[NODE])


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(SageError, match="Give it d = 48 or more"):
        World("narrow", d=40)
    with pytest.raises(UnknownName, match="No attribute of this world is named 'A9'"):
        INDEPENDENT.pairs("A9", 10, 0)
    engine = INDEPENDENT.model(INDEPENDENT.draw(2, 0)).engine
    assert isinstance(engine, Engine)
    with pytest.raises(Unsupported, match="no gradients"):
        engine.gradients(torch.zeros(1, 1, dtype=torch.long), [], torch.sum)


def agreement(first: list[object], second: list[object]) -> float:
    same = [one == other for one, other in zip(first, second, strict=True)]
    return sum(same) / len(same)
