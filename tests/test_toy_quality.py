"""Planted quality, snapshots and scores of toy worlds, on a small world, by hand."""

from __future__ import annotations

from math import cos, radians, sqrt

import pytest
import torch

from sage.dictionaries.native import NativeDictionary
from sage.toy.panel import PANEL, dropped, merged, rotated
from sage.toy.planted import NODE, World
from sage.toy.quality import planted_quality
from sage.toy.scoring import every_score, node_sets, one_score
from sage.toy.training import ToyRecipe, snapshots, train

WORLD = World("small", sizes=(4, 4, 4, 4), d=20, spread=0.2, noise=0.02)


def dictionary(name: str) -> NativeDictionary:
    return next(entry for entry in PANEL if entry.name == name).on(WORLD)


def test_the_truth_has_every_quality() -> None:
    told = planted_quality(WORLD, dictionary("truth"))
    assert told[:3] == pytest.approx((1, 1, 1), abs=0.001)
    assert told.fvu < 0.01
    assert told.l0 == pytest.approx(4)


def test_a_rotated_dictionary_is_as_good_as_its_cosine() -> None:
    """Each direction turned on its own: the cosine with its feature is cos 60."""
    made = rotated(WORLD, degrees=60.0)
    told = planted_quality(
        WORLD, NativeDictionary("r", {NODE: made.encode}, {NODE: made.directions})
    )
    assert told.atoms == pytest.approx(cos(radians(60)), abs=0.06)
    assert told.f1 == pytest.approx(1, abs=0.001)


def test_a_quarter_dropped_is_a_quarter_less() -> None:
    made = dropped(WORLD, share=0.25)
    told = planted_quality(
        WORLD, NativeDictionary("d", {NODE: made.encode}, {NODE: made.directions})
    )
    assert told.atoms == pytest.approx(0.75, abs=0.001)
    assert told.l0 == pytest.approx(3, abs=0.1)


def test_composites_point_half_way_and_fire_on_a_quarter() -> None:
    """A pair of values: cosine 1/sqrt 2 with either, and F1 2 (1/16) / (1/16 + 1/4) = .4."""
    made = merged(WORLD, count=2)
    told = planted_quality(
        WORLD, NativeDictionary("m", {NODE: made.encode}, {NODE: made.directions})
    )
    assert told.mcc == pytest.approx(1 / sqrt(2), abs=0.001)
    assert told.f1 == pytest.approx(0.4, abs=0.05)
    assert told.atoms == pytest.approx(0.4 / sqrt(2), abs=0.04)


def test_true_codes_on_the_directions_of_others_are_no_atoms() -> None:
    """Directions and codes are each a set of the true ones: mcc x F1 would be 1."""
    told = planted_quality(WORLD, dictionary("permuted"))
    assert told.mcc == pytest.approx(1, abs=0.001)
    assert told.f1 == pytest.approx(1, abs=0.001)
    assert told.atoms < 0.45


def test_snapshots_are_the_course_of_one_training() -> None:
    recipe = ToyRecipe(k=4, steps=30)
    start, middle, end = snapshots(WORLD, recipe, at=(0, 10, 30))
    assert torch.equal(end.W_dec, train(WORLD, recipe).directions(NODE))
    assert torch.equal(start.W_dec.T, start.encoder.W_enc)
    assert not torch.equal(middle.W_dec, end.W_dec)
    torch.testing.assert_close(middle.W_dec.norm(dim=-1), torch.ones(32))


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (ToyRecipe(k=4), "topk 4"),
        (ToyRecipe(penalty=0.1, expansion=4), "relu 0.1, x4 wide"),
        (ToyRecipe(k=4, frozen="encoder", seed=2), "topk 4, encoder frozen, seed 2"),
    ],
)
def test_recipes_are_told_apart_by_their_names(recipe: ToyRecipe, name: str) -> None:
    assert recipe.name == name


def test_every_score_of_the_truth_is_1_and_one_score_is_one_of_them() -> None:
    sets = node_sets(WORLD, ["A1"], prompts=300, pairs=40, detect=300, copying=(4,))
    exact = dictionary("truth")
    scores = every_score(sets, [exact])[exact.name]
    assert {*scores} == {
        "interpretable", "control", "approximation", "geometry", "move", "copying", "coverage",
        "isolation", "decoding",
    }  # fmt: skip
    assert min(scores.values()) > 0.93
    assert one_score(sets, exact, "interpretable") == scores["interpretable"]


def test_another_seed_redraws_prompts_and_pairs_alike() -> None:
    first, again, other = (
        node_sets(WORLD, ["A1"], prompts=60, pairs=10, seed=seed)[0] for seed in (0, 0, 42)
    )
    for part in ("fit", "test"):
        texts = [
            {p.prompt.text for p in (at.fit if part == "fit" else at.data.test.base).prompts}
            for at in (first, again, other)
        ]
        assert texts[0] == texts[1]
        assert not texts[0] & texts[2]
