"""Isolation worked by hand: what an edit of one attribute does to what is read of the others."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from linear import MLP, D, activations
from sage.dictionaries.activations import Activations
from sage.dictionaries.supervised import fit_features
from sage.scores.isolation import Bystanders, Decoder, find_bystanders
from scores.worlds import split_world

EYE = torch.eye(D)


def world() -> tuple[Activations, Decoder]:
    """`a` along e0 and e1, `b` along e2 and e3, `place` (irrelevant) along e4 and e5: 8
    combinations, three times each."""
    combinations = product(range(2), range(2), range(2))
    labels = [{"a": a, "b": b, "place": place} for a, b, place in combinations] * 3
    values = [
        2 * EYE[label["a"]] + 2 * EYE[2 + label["b"]] + EYE[4 + label["place"]] for label in labels
    ]
    given = activations(labels, mlp=torch.stack(values))
    features = fit_features(given, attributes=("a", "b"))
    places = fit_features(given, attributes=("place",), how="mean", coupled=False)
    return given, Decoder(features, {"place": places}, ("a", "b", "place"))


def runs(given: Activations) -> tuple[Activations, Activations]:
    """From a = 0 to a = 1, b and place alike: four pairs."""
    return given.select(range(4)), given.select(range(4, 8))


def isolation_after(edit: Tensor) -> list[float]:
    """The isolation of an edit of four prompts from a = 0 to a = 1; b and place are to be left."""
    given, decoder = world()
    base, target = runs(given)
    watched = find_bystanders(decoder, base, target, changed=("a",))
    assert watched.total.tolist() == [2] * 4
    return watched.isolation({MLP: base.values[MLP] + edit}).tolist()


def right(watched: Bystanders) -> list[list[bool]]:
    """Where each bystander is read rightly before the edit and under the ground truth."""
    return [bystander.right.tolist() for bystander in watched.readings]


def test_the_edit_it_was_meant_to_be_leaves_all_else_alone() -> None:
    assert isolation_after(torch.zeros(4, D)) == [1] * 4
    assert isolation_after(2 * EYE[1] - 2 * EYE[0]) == [1] * 4
    assert isolation_after(EYE[1] - EYE[0]) == [1] * 4


def test_an_edit_that_moves_another_attribute_spoils_it_where_it_was_right() -> None:
    """Prompts 0 and 1 have b = 0; adding 5 to b = 1 makes them read b = 1. Prompts 2 and 3 had b =
    1 already. Adding 5 to place = 0 as well spoils prompts 1 and 3."""
    assert isolation_after(5 * EYE[3]) == [0.5, 0.5, 1, 1]
    assert isolation_after(5 * EYE[4] + 5 * EYE[3]) == [0.5, 0, 1, 0.5]


def test_an_attribute_that_differs_between_the_prompts_is_no_bystander() -> None:
    """From (0, 0, 0) to (1, 1, 0): only the place stays. To (1, 1, 1): nothing does."""
    given, decoder = world()
    for other, count in ((6, 1), (7, 0)):
        base, target = given.select([0]), given.select([other])
        watched = find_bystanders(decoder, base, target, changed=("a",))
        assert watched.total.tolist() == [count]


def test_a_changed_attribute_is_no_bystander_even_on_pairs_that_keep_it() -> None:
    given, decoder = world()
    base = given.select([0])
    for changed, others in ((("a", "b"), ["place"]), ((), ["a", "b", "place"])):
        watched = find_bystanders(decoder, base, base, changed=changed)
        assert [bystander.attribute for bystander in watched.readings] == others
        assert watched.total.tolist() == [len(others)]


@pytest.mark.parametrize("split", ["decide", "test"])
def test_a_node_set_watches_what_its_contrast_does_not_change(split: str) -> None:
    node_set = split_world(b=0.15).node_set()
    watched = node_set.watched(split)
    assert {bystander.attribute for bystander in watched.readings} == {"b"}


def test_where_there_is_nothing_to_isolate_isolation_is_one() -> None:
    given, decoder = world()
    base, target = given.select([0, 0]), given.select([7, 6])
    watched = find_bystanders(decoder, base, target, changed=("a",))
    assert watched.total.tolist() == [0, 1]
    assert watched.isolation({MLP: torch.full((2, D), -9.0)}).tolist()[0] == 1


def test_what_was_not_right_before_or_is_not_under_the_ground_truth_is_not_counted() -> None:
    """Both b and place are read right of two prompts in each case: where b is 0 or place 0 (the
    first of equally near values)."""
    given, decoder = world()
    base, target = runs(given)
    labels = [dict(prompt.prompt.labels) for prompt in base.prompts]
    blank = activations(labels, mlp=torch.zeros(4, D))
    whole = right(find_bystanders(decoder, base, target, changed=("a",)))
    assert whole == [[True] * 4] * 2
    expected = [[True, True, False, False], [True, False, True, False]]
    for before, after in ((blank, target), (base, blank)):
        watched = find_bystanders(decoder, before, after, changed=("a",))
        assert right(watched) == expected
        assert watched.total.tolist() == [2, 1, 1, 0]
        assert watched.isolation(base.values).tolist() == [1] * 4


def test_the_share_is_of_the_same_bystanders_for_every_edit() -> None:
    """Read wrongly at first, b = 1 of a blank prompt is not made good by an edit that reads so."""
    given, decoder = world()
    base, target = runs(given)
    labels = [dict(prompt.prompt.labels) for prompt in base.prompts]
    blank = activations(labels, mlp=torch.zeros(4, D))
    watched = find_bystanders(decoder, blank, target, changed=("a",))
    assert watched.isolation({MLP: target.values[MLP]}).tolist() == [1] * 4
    assert watched.isolation({MLP: 9 * (EYE[3] + EYE[5]).expand(4, D)}).tolist() == [0, 0, 0, 1]


def test_values_of_an_irrelevant_attribute_need_not_have_been_seen() -> None:
    given, decoder = world()
    base = activations([{"a": 0, "b": 0, "place": 9}], mlp=given.values[MLP][:1])
    watched = find_bystanders(decoder, base, base, changed=("a",))
    assert right(watched) == [[True], [False]]
    assert watched.isolation(base.values).tolist() == [1]


def test_an_attribute_that_the_node_does_not_carry_is_no_bystander() -> None:
    """Without anything of `b` its features are rounding, and which is nearest is too."""
    given, _ = world()
    values = given.values[MLP].clone()
    values[:, 2:4] = 0
    other = activations([dict(prompt.prompt.labels) for prompt in given.prompts], mlp=values)
    decoder = Decoder(fit_features(other, attributes=("a", "b")), {}, ("a", "b"))
    base, target = runs(other)
    assert decoder.reader(MLP, "b", base, target) is None
    assert find_bystanders(decoder, base, target, changed=("a",)).total.tolist() == [0] * 4


def test_nested_attributes_are_read_together() -> None:
    """Names within genders: Mary and John differ in both; moving half of the way to Bob spoils no
    gender, moving to Mary does."""
    people = {"Mary": ("F", 0), "Alice": ("F", 1), "John": ("M", 2), "Bob": ("M", 3)}
    labels = [
        {"gender": people[name][0], "name": name, "b": b} for name, b in product(people, range(2))
    ] * 3
    values = [
        3 * EYE[people[label["name"]][1]]
        + EYE[4 + int(label["b"])]
        + (label["gender"] == "F") * EYE[6]
        for label in labels
    ]
    given = activations(labels, mlp=torch.stack(values))
    names = ("gender", "name", "b")
    features = fit_features(given, attributes=names, within={"name": "gender"}, coupled=False)
    decoder = Decoder(features, {}, names)
    john, mary, bob = (
        given.select([labels.index({"gender": people[name][0], "name": name, "b": 0})])
        for name in ("John", "Mary", "Bob")
    )
    for run in (john, mary, bob):
        for attribute in ("gender", "name"):
            reader = decoder.reader(MLP, attribute, run, run)
            assert reader is not None
            (place,) = reader.nearest(run.values[MLP]).tolist()
            assert [reader.labels[place]] == run.labels(attribute)
    half = (john.values[MLP] + bob.values[MLP]) / 2
    watched = find_bystanders(decoder, john, bob, changed=("name",))
    assert watched.total.tolist() == [2]
    assert watched.isolation({MLP: half}).tolist() == [1]
    assert watched.isolation(mary.values).tolist() == [0.5]
