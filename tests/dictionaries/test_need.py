"""Need, worked by hand: how many supervised candidates change between p and p' at a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from linear import MLP, D, Z, activations
from sage.dictionaries.activations import Activations, Labels
from sage.dictionaries.need import needs
from sage.dictionaries.supervised import FeatureDictionary, fit_features
from sage.nodes import Node
from sage.task.task import Label
from tests.dictionaries.worlds import MLP_SITE, Z_SITE, Q, V, additive, grid, products

Pair = tuple[Mapping[str, Label], Mapping[str, Label]]


def need(features: FeatureDictionary, *pairs: Pair) -> int:
    """The need at MLP of these pairs."""
    before, after = [p for p, _ in pairs], [q for _, q in pairs]
    base = activations(before, mlp=torch.zeros(len(before), D))
    return needs(features, base, after)[MLP_SITE]


def test_an_additive_column_needs_2() -> None:
    features = fit_features(additive({"a": 3, "b": 2}), attributes=("a", "b"))
    assert need(features, ({"a": 0, "b": 0}, {"a": 2, "b": 0})) == 2
    assert need(features, ({"a": 0, "b": 0}, {"a": 2, "b": 1})) == 4


def test_gender_and_name_need_4_and_a_name_of_the_same_gender_2() -> None:
    people = {"Mary": "F", "Alice": "F", "John": "M", "Bob": "M"}
    labels = [{"gender": gender, "name": name} for name, gender in people.items()] * 5
    eye = torch.eye(D)
    names = list(people)
    values = [eye[names.index(label["name"])] + 2 * eye["FM".index(label["gender"]) + 4]
              for label in labels]  # fmt: skip
    features = fit_features(
        activations(labels, mlp=torch.stack(values)),
        attributes=("gender", "name"),
        within={"name": "gender"},
    )
    mary, alice, john, _ = labels[:4]
    assert need(features, (mary, alice)) == 2
    assert need(features, (mary, john)) == 4


def test_a_coupled_column_needs_2_whichever_of_its_attributes_change() -> None:
    features = fit_features(products(), attributes=("s", "order", "other"))
    start = {"s": -1, "order": -1, "other": 0}
    for changes in ({"s": 1}, {"order": 1}, {"s": 1, "order": 1}):
        assert need(features, (start, {**start, **changes})) == 2
    assert need(features, (start, {"s": 1, "order": 1, "other": 1})) == 2, "`other` is noise"


def test_of_the_nodes_of_a_site_the_one_where_most_changes_counts() -> None:
    """q couples s and order, v adds them up: where both change 2 at q and 4 at v."""
    given = products()
    world = replace(given, values={Q: given.values[MLP][:, :4], V: given.values[Z]})
    for nodes, expected in (((Q,), 2), ((V,), 4), ((Q, V), 4)):
        features = fit_features(world.on(nodes), attributes=("s", "order", "other"))
        base = world.on(nodes).select([0])
        assert needs(features, base, [{"s": 1, "order": 1, "other": 0}]) == {Z_SITE: expected}


def test_where_a_pair_of_values_is_unseen_the_columns_of_the_additive_fit_count() -> None:
    """s and order, which both carry over 1 % of the variance there."""
    features = fit_features(products(without=(1, 1)), attributes=("s", "order", "other"))
    start = {"s": -1, "order": -1, "other": 0}
    carried = dict(zip(("s", "order", "other"), features.fits[MLP].additive.carried, strict=True))
    assert min(carried["s"], carried["order"]) > 0.01 > carried["other"]
    assert need(features, (start, {**start, "s": 1})) == 2
    assert need(features, (start, {**start, "s": 1, "order": 1})) == 4
    assert need(features, ({**start, "order": 1}, {**start, "s": 1, "order": 1})) == 2


def test_the_median_over_pairs_counts_and_nothing_needs_less_than_2() -> None:
    features = fit_features(additive({"a": 3, "b": 2, "c": 2}), attributes=("a", "b", "c"))
    start = {"a": 0, "b": 0, "c": 0}
    two, four, six = (
        (start, {**start, **changes})
        for changes in ({"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1, "c": 1})
    )
    assert need(features, two, two, six) == 2
    assert need(features, two, four) == 3
    assert need(features, two, four, six, six) == 5
    assert need(features, (start, start)) == 2


def sites_of(values: Mapping[Node, torch.Tensor], labels: Labels) -> Activations:
    given = activations(labels, mlp=torch.zeros(len(labels), D))
    return replace(given, values=values)


def coded(labels: Labels, names: Sequence[str], scales: Sequence[float]) -> torch.Tensor:
    """Four dimensions, in each of the first the value of one attribute times a scale."""
    columns = [
        [scale * int(label[name]) for label in labels]
        for name, scale in zip(names, scales, strict=True)
    ]
    padding = [[0.0] * len(labels)] * (4 - len(columns))
    return torch.tensor([*columns, *padding]).T.contiguous()


def test_a_column_counts_where_some_node_of_the_site_carries_1_percent_of_it() -> None:
    """v has b at a tenth of the size of a: just under 1 % of the variance; at q it has all of
    it. Every site has its own need."""
    labels = grid({"a": 2, "b": 2}, copies=5)
    only_v = sites_of({V: coded(labels, "ab", (1, 0.1))}, labels)
    both = sites_of({V: only_v.values[V], Q: coded(labels, "b", (1,))}, labels)
    mlp = torch.zeros(20, D)
    mlp[:, 0] = torch.tensor([float(label["a"]) for label in labels])
    all_three = sites_of({**both.values, MLP: mlp}, labels)
    after = [{"a": 1 - int(label["a"]), "b": 1 - int(label["b"])} for label in labels]
    expected = (
        (only_v, {Z_SITE: 2}),
        (both, {Z_SITE: 4}),
        (all_three, {Z_SITE: 4, MLP_SITE: 2}),
    )
    for given, need_by_site in expected:
        features = fit_features(given, attributes=("a", "b"), coupled=False)
        assert needs(features, given, after) == need_by_site
