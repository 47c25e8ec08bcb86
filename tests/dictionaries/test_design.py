"""Which columns a fit has: values in their order, nested and coupled attributes, nuisances."""

from __future__ import annotations

import torch

from linear import MLP, D, activations
from sage.dictionaries.design import (
    couplings,
    design_columns,
    make_column,
    nuisance_columns,
    one_hot,
)
from sage.dictionaries.supervised import fit_features
from sage.task.task import Label
from tests.dictionaries.worlds import feature, grid, signs


def test_values_stand_in_their_own_order() -> None:
    labels: list[dict[str, Label]] = [
        {"year": year, "word": word} for year in (10, 9, 2) for word in "ba"
    ]
    columns = design_columns(("year", "word"), {}, labels)
    assert [column.keys for column in columns] == [((2,), (9,), (10,)), (("a",), ("b",))]
    ((joint,),) = couplings(columns, labels * 5)
    assert joint.names[:3] == ("year x word=2/a", "year x word=2/b", "year x word=9/a")


def test_a_one_hot_row_has_a_one_in_every_block_but_where_a_pair_was_not_seen() -> None:
    labels = [{"a": 0, "b": 0}, {"a": 0, "b": 1}, {"a": 1, "b": 0}]
    columns = design_columns(("a", "b"), {}, labels)
    assert one_hot(columns, labels).tolist() == [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]
    joint = make_column("a x b", ("a", "b"), labels, coupled=True)
    assert one_hot([joint], [{"a": 1, "b": 0}, {"a": 1, "b": 1}]).tolist() == [[0, 0, 1], [0, 0, 0]]


def test_nesting_counts_only_among_the_attributes_that_are_fitted() -> None:
    """A coarse attribute whose fine ones are not fitted has columns of its own."""
    labels = [{"gender": "F", "name": "Mary"}, {"gender": "M", "name": "John"}]
    (coarse,) = design_columns(("gender",), {"name": "gender"}, labels)
    assert coarse.attributes == ("gender",)
    (fine,) = design_columns(("gender", "name"), {"name": "gender"}, labels)
    assert (fine.name, fine.attributes) == ("name", ("gender", "name"))
    assert fine.inside(coarse)
    assert not coarse.inside(fine)


def test_two_attributes_are_tried_together_where_a_pair_has_five_prompts_on_average() -> None:
    """4 x 3 pairs of a and b need 60 prompts, 4 x 2 of a and c 40, 3 x 2 of b and c 30."""
    labels = grid({"a": 4, "b": 3, "c": 2}, copies=2)
    columns = design_columns(("a", "b", "c"), {}, labels)
    names = [[column.name for column in choice] for choice in couplings(columns, labels)]
    assert names == [["a x c", "b"], ["b x c", "a"]]
    assert len(couplings(columns, grid({"a": 4, "b": 3, "c": 2}, copies=3))) == 3


def test_without_nuisance_columns_the_templates_variance_lands_in_the_attribute() -> None:
    """a = s e1 + 2 t e2, s the attribute, t the template, correlation .6: E[a | s = 1] is e1 + 1.2
    e2. With the template in the solve the feature is e1, and a_hat has no part of the template."""
    pairs = signs(0.6)
    values = torch.zeros(len(pairs), D)
    values[:, :2] = torch.tensor(pairs) * torch.tensor([1.0, 2.0])
    labels = [{"s": s, "template": str(t)} for s, t in pairs]
    given = activations(labels, mlp=values)
    plain = fit_features(given, attributes=("s",))
    torch.testing.assert_close(feature(plain, "s=1")[:2], torch.tensor([1.0, 1.2]))
    beside = fit_features(given, attributes=("s",), nuisance=("template",))
    torch.testing.assert_close(feature(beside, "s=1")[:2], torch.tensor([1.0, 0.0]))
    assert beside.fits[MLP].chosen.names == ("s=-1", "s=1")
    expected = values * torch.tensor([1.0, *[0.0] * (D - 1)])
    torch.testing.assert_close(beside.reconstruct(given)[MLP], expected)
    assert beside.fits[MLP].unexplained < 1e-12
    assert plain.fits[MLP].unexplained > 0.5


def test_a_nuisance_is_never_moved() -> None:
    """An edit to labels that differ in the template alone is no edit."""
    labels = [{"s": s, "template": t} for s, t in zip((0, 1) * 20, "xxyy" * 10, strict=True)]
    generator = torch.Generator().manual_seed(0)
    given = activations(labels, mlp=torch.randn(40, D, generator=generator))
    features = fit_features(given, attributes=("s",), nuisance=("template",))
    others = [{**label, "template": "z"} for label in labels]
    assert torch.equal(features.aim(given, others)[MLP], given.values[MLP])
    for part in features.moves(given, others):
        assert not any(step.any() for step in part.steps.values())


def test_a_nuisance_value_that_the_fit_has_not_seen_has_no_feature() -> None:
    labels = [{"s": 0, "place": "park"}, {"s": 1, "place": "shop"}] * 2
    (column,), _ = nuisance_columns(("place",), ("s",), [{"s": 0, "place": p} for p in "ab"] * 3)
    assert column.feature([{"place": "a"}, {"place": "park"}]).tolist() == [0, -1]
    assert one_hot([column], labels).tolist() == [[0, 0]] * 4


def test_a_nuisance_that_is_nearly_the_attribute_is_left_out_and_named() -> None:
    """At a correlation of .8 the template explains .64 of the attribute's variance: in the solve it
    would take half of its edit. Out of it the attribute has all: e1 + 2 x .8 e2."""
    pairs = signs(0.8)
    values = torch.zeros(len(pairs), D)
    values[:, :2] = torch.tensor(pairs) * torch.tensor([1.0, 2.0])
    labels = [{"s": s, "place": place, "template": str(t)} for (s, t), place in zip(
        pairs, "ab" * 100, strict=True
    )]  # fmt: skip
    given = activations(labels, mlp=values)
    features = fit_features(given, attributes=("s",), nuisance=("place", "template"))
    assert features.aliased == {"template": "s"}
    assert [column.name for column in features.fits[MLP].chosen.design.nuisance] == ["place"]
    torch.testing.assert_close(feature(features, "s=1")[:2], torch.tensor([1.0, 1.6]))


def test_one_template_for_each_value_is_aliased() -> None:
    labels = [{"s": n % 3, "t": n % 2, "template": str(n % 3)} for n in range(30)]
    columns, aliased = nuisance_columns(("template",), ("t", "s"), labels)
    assert (columns, aliased) == ((), {"template": "s"})


def paired(agreeing: int) -> list[dict[str, Label]]:
    """60 prompts, half of each value of s, in 30 places of two; in so many places the two have the
    same value, in the others not."""
    labels: list[dict[str, Label]] = []
    for place in range(30):
        first = place % 2
        labels += [
            {"s": first, "place": place},
            {"s": first if place < agreeing else 1 - first, "place": place},
        ]
    return labels


def test_the_share_explained_is_adjusted_for_the_number_of_values() -> None:
    """With k of 30 places agreeing k/30 is explained, adjusted 1 - (1 - k/30) 59/30: .02 at k = 15
    (as good as nothing), .48 at 22 and .61 at 24, where it is aliased."""
    for agreeing in (15, 22):
        columns, aliased = nuisance_columns(("place",), ("s",), paired(agreeing))
        assert ([len(column.keys) for column in columns], aliased) == ([30], {})
    assert nuisance_columns(("place",), ("s",), paired(24)) == ((), {"place": "s"})


def test_a_nuisance_with_a_value_for_every_prompt_is_aliased_and_a_constant_is_none() -> None:
    labels = [{"s": n % 2, "object": n, "place": "park"} for n in range(30)]
    columns, aliased = nuisance_columns(("object", "place"), ("s",), labels)
    assert (columns, aliased) == ((), {"object": "s"})


def test_only_least_squares_has_nuisance_columns() -> None:
    labels = [{"s": s, "place": t} for s, t in signs(0.5)]
    given = activations(labels, mlp=torch.tensor(signs(0.5)).float() @ torch.ones(2, D))
    for how in ("mean", "weighted"):
        features = fit_features(given, attributes=("s",), nuisance=("place",), how=how)
        assert features.fits[MLP].additive.design.nuisance == ()
