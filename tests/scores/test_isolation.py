"""Isolation worked by hand: what an edit of one attribute does to what is read of the others."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from linear import MLP, D, activations
from sage.dictionaries.activations import Activations
from sage.dictionaries.supervised import fit_features
from sage.scores.isolation import Decoder, bystanders, spoiled


def world() -> tuple[Activations, Decoder]:
    """`a` along e0 and e1, `b` along e2 and e3, `place` (irrelevant) along e4 and e5: 8
    combinations, three times each."""
    labels = [
        {"a": a, "b": b, "place": place} for a, b, place in product(range(2), range(2), range(2))
    ] * 3
    eye = torch.eye(D)
    values = torch.stack(
        [
            2 * eye[int(own["a"])] + 2 * eye[2 + int(own["b"])] + eye[4 + int(own["place"])]
            for own in labels
        ]
    )
    given = activations(labels, mlp=values)
    features = fit_features(given, attributes=("a", "b"))
    places = fit_features(given, attributes=("place",), how="mean", coupled=False)
    return given, Decoder(features, {"place": places}, ("a", "b", "place"))


def runs(given: Activations) -> tuple[Activations, Activations]:
    """From a = 0 to a = 1, b and place alike: four pairs."""
    return given.select(range(4)), given.select(range(4, 8))


def after(edit: Tensor) -> list[list[float]]:
    """What four prompts lose, and of how much, under a = 0 -> 1 done by this edit."""
    given, decoder = world()
    base, target = runs(given)
    watched = bystanders(decoder, base, target, named=("a",))
    return [spoiled(watched, {MLP: base.values[MLP] + edit}).tolist(), watched.total.tolist()]


def test_the_edit_it_was_meant_to_be_spoils_nothing() -> None:
    eye = torch.eye(D)
    assert after(torch.zeros(4, D)) == [[0] * 4, [2] * 4]
    assert after(2 * eye[1] - 2 * eye[0]) == [[0] * 4, [2] * 4]
    assert after(eye[1] - eye[0]) == [[0] * 4, [2] * 4]


def test_an_edit_that_moves_another_attribute_spoils_it_where_it_was_right() -> None:
    """Prompts 0 and 1 have b = 0; adding 5 to b = 1 makes them read b = 1. Prompts 2 and 3 had b =
    1 already."""
    eye = torch.eye(D)
    assert after(5 * eye[3]) == [[1, 1, 0, 0], [2] * 4]
    assert after(5 * eye[4] + 5 * eye[3]) == [[1, 2, 0, 1], [2] * 4]


def test_an_attribute_that_differs_between_the_prompts_is_no_bystander() -> None:
    """From (0, 0, 0) to (1, 1, 0): only the place stays. To (1, 1, 1): nothing does."""
    given, decoder = world()
    for other, count in ((6, 1), (7, 0)):
        base, target = given.select([0]), given.select([other])
        assert bystanders(decoder, base, target, named=("a",)).total.tolist() == [count]


def test_an_attribute_that_the_contrast_names_is_no_bystander_even_where_it_stays() -> None:
    given, decoder = world()
    base = given.select([0])
    assert bystanders(decoder, base, base, named=("a", "b")).total.tolist() == [1]
    assert bystanders(decoder, base, base, named=()).total.tolist() == [3]


def test_what_was_not_right_before_cannot_be_spoiled() -> None:
    given, decoder = world()
    base, target = runs(given)
    blank = activations(
        [dict(prompt.prompt.labels) for prompt in base.prompts], mlp=-5 * base.values[MLP]
    )
    watched = bystanders(decoder, blank, target, named=("a",))
    assert watched.total.tolist() == [2] * 4
    right = sum(own.right.double() for own in watched.every)
    assert (spoiled(watched, {MLP: torch.full((4, D), 3.0)}) <= right.numpy()).all()
    assert right.max() < 2


def test_values_of_an_irrelevant_attribute_need_not_have_been_seen() -> None:
    given, decoder = world()
    labels = [{"a": 0, "b": 0, "place": 9}]
    base = activations(labels, mlp=given.values[MLP][:1])
    watched = bystanders(decoder, base, base, named=("a",))
    assert [own.right.tolist() for own in watched.every] == [[True], [False]]
    assert spoiled(watched, base.values).tolist() == [0]


def test_an_attribute_that_the_node_does_not_carry_is_no_bystander() -> None:
    """Without anything of `b` its features are rounding, and which is nearest is too."""
    given, _ = world()
    values = given.values[MLP].clone()
    values[:, 2:4] = 0
    other = activations([dict(prompt.prompt.labels) for prompt in given.prompts], mlp=values)
    decoder = Decoder(fit_features(other, attributes=("a", "b")), {}, ("a", "b"))
    base, target = runs(other)
    assert decoder.reader(MLP, "b", base, target) is None
    assert bystanders(decoder, base, target, named=("a",)).total.tolist() == [0] * 4


def test_nested_attributes_are_read_together() -> None:
    """Names within genders: Mary and John differ in both; moving half of the way to Bob spoils no
    gender, moving to Mary does."""
    people = {"Mary": ("F", 0), "Alice": ("F", 1), "John": ("M", 2), "Bob": ("M", 3)}
    labels = [
        {"gender": people[name][0], "name": name, "b": b} for name in people for b in range(2)
    ] * 3
    eye = torch.eye(D)
    values = torch.stack(
        [
            3 * eye[people[str(own["name"])][1]]
            + eye[4 + int(own["b"])]
            + (own["gender"] == "F") * eye[6]
            for own in labels
        ]
    )
    given = activations(labels, mlp=values)
    features = fit_features(
        given, attributes=("gender", "name", "b"), within={"name": "gender"}, coupled=False
    )
    decoder = Decoder(features, {}, ("gender", "name", "b"))
    john, mary, bob = (
        given.select([labels.index({"gender": people[name][0], "name": name, "b": 0})])
        for name in ("John", "Mary", "Bob")
    )
    for run in (john, mary, bob):
        for attribute in ("gender", "name"):
            reader = decoder.reader(MLP, attribute, run, run)
            assert reader is not None
            assert [
                reader.labels[place] for place in reader.nearest(run.values[MLP]).tolist()
            ] == run.labels(attribute)
    half = (john.values[MLP] + bob.values[MLP]) / 2
    watched = bystanders(decoder, john, bob, named=("name",))
    assert spoiled(watched, {MLP: half}).tolist() == [0]
    assert spoiled(watched, mary.values).tolist() == [1]
    assert watched.total.tolist() == [2]
