"""Supervised features are what the method says they are: worked by hand, and against literal NumPy
twins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from linear import MLP, Z, activations, joined
from sage.dictionaries.activations import Activations
from sage.dictionaries.design import couple, design_columns, one_hot
from sage.dictionaries.supervised import HOWS, FeatureDictionary, fit_features
from sage.errors import BadTask, SageError, UnknownName


def correlated(r: float, count: int) -> Activations:
    """a = s1 e1 + s2 e2 with signs of correlation r exactly, in a space of 8."""
    equal = round(count * (1 + r) / 4)
    signs = [(1, 1)] * equal + [(-1, -1)] * equal
    signs += [(1, -1)] * ((count - 2 * equal) // 2) + [(-1, 1)] * ((count - 2 * equal) // 2)
    values = torch.zeros(len(signs), 8)
    values[:, :2] = torch.tensor(signs).float()
    return activations([{"s1": first, "s2": second} for first, second in signs], mlp=values)


def unexplained(given: Activations, found: FeatureDictionary) -> float:
    value = given.values[MLP].double()
    rest = value - found.reconstruct(given)[MLP].double()
    return float(rest.square().sum() / (value - value.mean(0)).square().sum())


def feature(found: FeatureDictionary, name: str) -> Tensor:
    return found.fits[MLP].features[found.fits[MLP].names.index(name)]


def full_grid(sizes: dict[str, int], copies: int = 1) -> list[dict[str, str | int]]:
    return [
        dict(zip(sizes, values, strict=True))
        for values in product(*(range(size) for size in sizes.values()))
    ] * copies


def additive(
    sizes: dict[str, int], *, seed: int = 0, copies: int = 3, noise: float = 0.0
) -> Activations:
    """Every combination of values equally often; each value adds a random vector of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = full_grid(sizes, copies)
    vectors = {name: torch.randn(size, 8, generator=generator) for name, size in sizes.items()}
    values = torch.stack(
        [
            sum((vectors[name][int(own[name])] for name in sizes), start=torch.ones(8))
            for own in labels
        ]
    )
    return activations(labels, mlp=values + noise * torch.randn(values.shape, generator=generator))


@pytest.mark.parametrize(
    ("how", "left"), [("mean", 0.64), ("weighted", 1 - 1.64**2 / 2.92), ("least squares", 0.0)]
)
def test_correlated_attributes_are_counted_twice_by_means_a_little_by_weights_and_not_by_least_squares(
    how, left
) -> None:
    """The hand check at r = .8: r^2 = .64, 1 - (1 + r^2)^2/(1 + 3 r^2) = .0789, 0."""
    given = correlated(0.8, 200)
    found = fit_features(given, attributes=("s1", "s2"), how=how, coupled=False)
    assert unexplained(given, found) == pytest.approx(left, abs=1e-6)
    assert round(left, 4) in (0.64, 0.0789, 0)


def test_mean_features_of_correlated_signs_by_hand() -> None:
    """E[a | s1 = 1] = e1 + r e2; with weights (1 + r^2)/(1 + 3 r^2) of it."""
    given = correlated(0.8, 200)
    mean = fit_features(given, attributes=("s1", "s2"), how="mean", coupled=False)
    torch.testing.assert_close(feature(mean, "s1=1")[:3], torch.tensor([1, 0.8, 0]))
    torch.testing.assert_close(feature(mean, "s2=-1")[:3], torch.tensor([-0.8, -1, 0]))
    weighted = fit_features(given, attributes=("s1", "s2"), how="weighted", coupled=False)
    torch.testing.assert_close(
        feature(weighted, "s1=1")[:3], torch.tensor([1, 0.8, 0]) * 1.64 / 2.92
    )
    least = fit_features(given, attributes=("s1", "s2"), coupled=False)
    torch.testing.assert_close(feature(least, "s1=1")[:3], torch.tensor([1.0, 0, 0]))


@pytest.mark.parametrize("how", HOWS)
def test_weights_and_means_are_those_of_a_literal_twin(how: str) -> None:
    """Three attributes in unequal shares, NumPy in float64; every node has weights of its own."""
    generator = np.random.default_rng(1)
    labels = [
        {"a": int(x), "b": int(min(x + y, 3)), "c": int(y)}
        for x, y in zip(generator.integers(3, size=90), generator.integers(2, size=90), strict=True)
    ]
    values = {"mlp": generator.normal(size=(90, 8)) + 2, "z": generator.normal(size=(90, 4))}
    for row, own in enumerate(labels):
        values["mlp"][row, own["a"]] += 3
        values["z"][row, own["b"]] += 1 + own["c"]
    given = activations(labels, **{name: torch.from_numpy(value) for name, value in values.items()})
    found = fit_features(given, attributes=("a", "b", "c"), how=how, coupled=False)
    for node in (MLP, Z):
        expected = literal_fit(labels, given.values[node].double().numpy(), how)
        np.testing.assert_allclose(found.reconstruct(given)[node].numpy(), expected, atol=2e-5)


def literal_fit(labels: Sequence[dict[str, int]], values: np.ndarray, how: str) -> np.ndarray:
    """a_hat of the definition: mean codes, weights from G w = h, or the least squares solution."""
    mean = values.mean(0)
    parts = []
    for name in labels[0]:
        own = np.array([row[name] for row in labels])
        parts.append(np.stack([values[own == value].mean(0) - mean for value in own]))
    if how == "mean":
        return mean + sum(parts)
    if how == "weighted":
        gram = np.array([[np.mean((one * other).sum(1)) for other in parts] for one in parts])
        aims = np.array([np.mean((one * (values - mean)).sum(1)) for one in parts])
        return mean + sum(
            weight * part
            for weight, part in zip(np.linalg.lstsq(gram, aims, rcond=None)[0], parts, strict=True)
        )
    columns = [
        [float(row[name] == value) for row in labels]
        for name in labels[0]
        for value in sorted({row[name] for row in labels})
    ]
    design = np.array(columns).T
    return mean + design @ np.linalg.pinv(design) @ (values - mean)


@pytest.mark.parametrize("how", HOWS)
def test_every_attribute_has_mean_zero_over_the_prompts(how: str) -> None:
    given = joined(additive({"a": 3, "b": 2}, noise=1), additive({"a": 2, "b": 2}, seed=1, noise=1))
    found = fit_features(given, attributes=("a", "b"), how=how, coupled=False)
    fit = found.fits[MLP]
    contributions = fit.codes(given.prompts)[:, :, None] * fit.features
    for block in (slice(0, 3), slice(3, 5)):
        torch.testing.assert_close(
            contributions[:, block].sum(1).mean(0), torch.zeros(8), atol=1e-5, rtol=0
        )


def test_an_edit_moves_one_attribute_and_leaves_the_other() -> None:
    given = additive({"a": 3, "b": 2})
    found = fit_features(given, attributes=("a", "b"))
    base, target = given.select(range(6)), given.select([2, 3, 4, 5, 0, 1])
    moved = found.move(base, target)[MLP]
    torch.testing.assert_close(moved, target.values[MLP], atol=1e-5, rtol=0)
    labels = [
        {**prompt.prompt.labels, "b": 1 - int(prompt.prompt.labels["b"])} for prompt in base.prompts
    ]
    other = found.move(base, activations(labels, mlp=base.values[MLP]))[MLP]
    step = feature(found, "b=1") - feature(found, "b=0")
    signs = torch.tensor(
        [1.0 if prompt.prompt.labels["b"] == 0 else -1.0 for prompt in base.prompts]
    )
    torch.testing.assert_close(other, base.values[MLP] + signs[:, None] * step, atol=1e-5, rtol=0)


def test_the_greedy_edit_with_a_large_budget_is_the_whole_edit() -> None:
    """Values at right angles, so that every pick lowers the distance."""
    labels = full_grid({"a": 4, "b": 3})
    eye = torch.eye(8)
    given = activations(
        labels, mlp=torch.stack([eye[int(own["a"])] + 2 * eye[4 + int(own["b"])] for own in labels])
    )
    found = fit_features(given, attributes=("a", "b"))
    base, target = given.select(range(12)), given.select([7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6])
    edited = found.edit(base, target, ks=(0, 32))
    assert torch.equal(edited[0].values[MLP], base.values[MLP])
    torch.testing.assert_close(
        edited[32].values[MLP], found.move(base, target)[MLP], atol=1e-5, rtol=0
    )
    changed = [
        sum(p.prompt.labels[name] != q.prompt.labels[name] for name in "ab")
        for p, q in zip(base.prompts, target.prompts, strict=True)
    ]
    assert edited[32].picks.tolist() == [2 * count for count in changed], (
        "one pick takes the old value away, one puts the new value in"
    )


def test_a_budget_of_one_removes_or_adds_one_value() -> None:
    """Values 0 and 1 of `a` at 3 e1 and e2, half of the prompts each: the first pick is whichever
    lowers the distance more.

    From value 0 to value 1 the features are +-(1.5, -.5): both picks move by (-1.5, .5), half of
    the way.
    """
    labels = [{"a": 0}] * 6 + [{"a": 1}] * 6
    values = torch.zeros(12, 8)
    values[:6, 0], values[6:, 1] = 3, 1
    given = activations(labels, mlp=values)
    found = fit_features(given, attributes=("a",))
    edited = found.edit(given.select([0]), given.select([6]), ks=(1, 2))
    torch.testing.assert_close(edited[1].values[MLP][0, :2], torch.tensor([1.5, 0.5]))
    torch.testing.assert_close(edited[2].values[MLP][0, :2], torch.tensor([0.0, 1.0]))


def test_of_nested_attributes_the_coarse_feature_is_the_mean_of_the_fine_ones_and_the_fine_keep_the_rest() -> (
    None
):
    """Mary (1, 3), Alice (1, 1), John (-1, 0), each in equal shares within a gender; two prompts of
    Mary and Alice for four of John.

    The mean is 0 for the first coordinate and 1 for the second. gender: F = E[a | F] - mean = (1,
    1), M = (-1, -1). name: Mary = (0, 1).
    """
    people = {"Mary": ("F", 1, 3), "Alice": ("F", 1, 1), "John": ("M", -1, 0)}
    labels, rows = [], []
    for name in ["Mary"] * 4 + ["Alice"] * 4 + ["John"] * 8:
        gender, first, second = people[name]
        labels.append({"gender": gender, "name": name})
        rows.append([first, second, 0, 0, 0, 0, 0, 0])
    given = activations(labels, mlp=torch.tensor(rows))
    found = fit_features(given, attributes=("gender", "name"), within={"name": "gender"})
    assert found.fits[MLP].names == (
        "gender=F",
        "gender=M",
        "name=F/Alice",
        "name=F/Mary",
        "name=M/John",
    )
    expected = torch.zeros(5, 8)
    expected[:, :2] = torch.tensor([[1, 1], [-1, -1], [0, -1], [0, 1], [0, 0]])
    torch.testing.assert_close(found.fits[MLP].features, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.reconstruct(given)[MLP], given.values[MLP], atol=1e-5, rtol=0)


def test_two_fine_attributes_in_one_coarse_one_share_it() -> None:
    """IO and S of one gender each add their name's vector; gender is the sum of both conditional
    means."""
    names = {"F": ("Mary", "Alice"), "M": ("John", "Bob")}
    vector = {
        name: torch.randn(8, generator=torch.Generator().manual_seed(seed))
        for seed, name in enumerate(("Mary", "Alice", "John", "Bob"))
    }
    labels = [
        {"gender": gender, "IO": io, "S": s}
        for gender in "FM"
        for io in names[gender]
        for s in names[gender]
    ] * 3
    values = torch.stack([vector[str(own["IO"])] - 2 * vector[str(own["S"])] for own in labels])
    given = activations(labels, mlp=values)
    found = fit_features(
        given,
        attributes=("gender", "IO", "S"),
        within={"IO": "gender", "S": "gender"},
        coupled=False,
    )
    half = (vector["Mary"] + vector["Alice"] - vector["John"] - vector["Bob"]) / 4
    torch.testing.assert_close(feature(found, "gender=F"), -half, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        feature(found, "IO=F/Mary"), (vector["Mary"] - vector["Alice"]) / 2, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(found.reconstruct(given)[MLP], values, atol=1e-4, rtol=0)


def test_nesting_counts_only_among_the_attributes_that_are_fitted() -> None:
    """A coarse attribute whose fine ones are not fitted has its own columns."""
    labels = [
        {"gender": gender, "name": name}
        for gender, name in (("F", "Mary"), ("F", "Alice"), ("M", "John"))
    ]
    given = activations(
        labels * 4, mlp=torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    )
    columns = design_columns(("gender",), {"name": "gender"}, given.prompts)
    assert [column.attributes for column in columns] == [("gender",)]


def products(copies: int = 20, drop: tuple[int, int] | None = None) -> Activations:
    """mlp holds a product of two attributes, which no sum of features can say; z holds their sum."""
    labels = [
        {"s": s, "order": o, "other": t}
        for s, o, t in product((-1, 0, 1), (-1, 1), (0, 1, 2))
        if (s, o) != drop
    ] * copies
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([[own["s"], own["order"]] for own in labels]).float()
    mlp, z = (
        0.01 * torch.randn(len(labels), 8, generator=generator),
        0.01 * torch.randn(len(labels), 4, generator=generator),
    )
    mlp[:, 0] += rows.prod(1) + rows[:, 0]
    z[:, 0] += rows.sum(1)
    return activations(labels, mlp=mlp, z=z)


def test_coupling_is_chosen_where_it_lowers_the_error_held_out_and_only_there() -> None:
    given = products()
    found = fit_features(given, attributes=("s", "order", "other"))
    assert [column.name for column in found.fits[MLP].columns] == ["s x order", "other"]
    assert [column.name for column in found.fits[Z].columns] == ["s", "order", "other"]
    assert found.fits[Z].additive is None
    assert found.unexplained[MLP] < 0.001
    assert (
        fit_features(given, attributes=("s", "order", "other"), coupled=False).unexplained[MLP]
        > 0.4
    )


def test_exact_additive_activations_are_never_coupled() -> None:
    """Rounding is no gain."""
    for seed in range(5):
        found = fit_features(
            additive({"a": 3, "b": 2, "c": 2}, seed=seed), attributes=("a", "b", "c")
        )
        assert found.fits[MLP].additive is None


def test_the_unexplained_share_is_that_of_a_literal_five_fold_loop() -> None:
    given = additive({"a": 3, "b": 2}, noise=1.5, copies=4)
    found = fit_features(given, attributes=("a", "b"), coupled=False, seed=3)
    folds = torch.randperm(len(given), generator=torch.Generator().manual_seed(3)) % 5
    values = given.values[MLP].double().numpy()
    codes = one_hot(design_columns(("a", "b"), {}, given.prompts), given.prompts).double().numpy()
    missed = 0.0
    for fold in range(5):
        train, held = (folds != fold).numpy(), (folds == fold).numpy()
        mean = values[train].mean(0)
        missed += np.square(
            values[held]
            - mean
            - codes[held] @ np.linalg.pinv(codes[train]) @ (values[train] - mean)
        ).sum()
    assert found.unexplained[MLP] == pytest.approx(
        missed / np.square(values - values.mean(0)).sum(), rel=1e-9
    )


def test_an_unseen_pair_of_values_falls_back_on_the_additive_fit_on_both_sides() -> None:
    """Fitted without (1, 1): its reconstruction is additive, and an edit from a seen pair to it is
    the additive edit."""
    given = products(drop=(1, 1))
    found = fit_features(given, attributes=("s", "order", "other"))
    fit = found.fits[MLP]
    plain = fit.additive
    assert plain is not None
    assert "s x order=1/1" not in fit.names
    seen, new = [{"s": 1, "order": -1, "other": 0}], [{"s": 1, "order": 1, "other": 0}]
    base, target = (activations(own, mlp=torch.zeros(1, 8)) for own in (seen, new))
    torch.testing.assert_close(found.reconstruct(target)[MLP], plain.reconstruct(target.prompts))
    torch.testing.assert_close(
        found.reconstruct(base)[MLP], fit.mean + fit.codes(base.prompts) @ fit.features
    )
    expected = plain.reconstruct(target.prompts) - plain.reconstruct(base.prompts)
    torch.testing.assert_close(found.move(base, target)[MLP], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.move(target, base)[MLP], -expected, atol=1e-6, rtol=0)
    assert found.codes(target)[MLP][:, :5].tolist() == [[0] * 5]


def test_a_value_that_the_fit_has_not_seen_is_an_error_that_names_it() -> None:
    found = fit_features(additive({"a": 3, "b": 2}), attributes=("a", "b"))
    stranger = activations([{"a": 7, "b": 0}], mlp=torch.zeros(1, 8))
    for ask in (found.reconstruct, found.codes):
        with pytest.raises(
            BadTask, match="value 7 of attribute 'a' does not occur in the prompts of the fit"
        ):
            ask(stranger)
    coupled = fit_features(products(), attributes=("s", "order", "other"))
    new = activations([{"s": 5, "order": 1, "other": 0}], mlp=torch.zeros(1, 8))
    with pytest.raises(BadTask, match="value 5 of attribute 's'"):
        coupled.reconstruct(new)


def test_only_some_features_reconstruct_and_edit() -> None:
    given = additive({"a": 2, "b": 2})
    found = fit_features(given, attributes=("a", "b"))
    only_a = found.only({MLP: torch.tensor([True, True, False, False])})
    base, target = given.select([0]), given.select([3])
    torch.testing.assert_close(
        only_a.reconstruct(base)[MLP][0], found.fits[MLP].mean + feature(found, "a=0")
    )
    step = feature(found, "a=1") - feature(found, "a=0")
    torch.testing.assert_close(
        only_a.move(base, target)[MLP][0], base.values[MLP][0] + step, atol=1e-6, rtol=0
    )
    edited = only_a.edit(base, target, ks=(8,))[8]
    assert edited.picks.tolist() <= [2]
    assert only_a.codes(given)[MLP][:, 2:].sum() == 0


def test_features_do_not_depend_on_the_order_of_prompts() -> None:
    given = additive({"a": 3, "b": 2}, noise=0.5)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(0)).tolist()
    one, other = (
        fit_features(own, attributes=("a", "b"), coupled=False).fits[MLP]
        for own in (given, given.select(order))
    )
    assert one.names == other.names
    torch.testing.assert_close(one.features, other.features, atol=1e-5, rtol=0)


def test_values_stand_in_their_own_order() -> None:
    labels = [{"year": year, "word": word} for year in (10, 9, 2) for word in ("b", "a")] * 3
    columns = design_columns(
        ("year", "word"), {}, activations(labels, mlp=torch.zeros(18, 8)).prompts
    )
    assert [column.keys for column in columns] == [((2,), (9,), (10,)), (("a",), ("b",))]
    joint = couple(columns, 0, 1, activations(labels, mlp=torch.zeros(18, 8)).prompts)[0]
    assert joint.names[:2] == ("year x word=2/a", "year x word=2/b")


def test_a_reader_names_the_value_whose_feature_is_nearest_given_the_others() -> None:
    given = additive({"a": 3, "b": 2}, noise=0.01)
    found = fit_features(given, attributes=("a", "b"))
    reader = found.reader(MLP, "a", [given.prompts])
    labels = [reader.labels[place] for place in reader.nearest(given.values[MLP]).tolist()]
    assert labels == given.labels("a")
    with pytest.raises(UnknownName, match="'c'"):
        found.reader(MLP, "c", [given.prompts])


@pytest.mark.parametrize("size", [2, 40])
def test_noise_carries_nothing_however_many_values_it_is_fitted_for(size: int) -> None:
    """A signal of 3 % of the variance is there; 400 prompts of noise give features of 40 values a
    tenth of it, and are not."""
    generator = torch.Generator().manual_seed(4)
    labels = [{"signal": number % 2, "nothing": number // 2 % size} for number in range(400)]
    values = torch.randn(400, 8, generator=generator)
    values[:, 0] += torch.tensor([float(own["signal"]) for own in labels])
    found = fit_features(
        activations(labels, mlp=values), attributes=("signal", "nothing"), coupled=False
    )
    assert found.carries(MLP, "signal")
    assert not found.carries(MLP, "nothing")
    assert dict(zip(("signal", "nothing"), found.fits[MLP].carried, strict=True)) == pytest.approx(
        {"signal": 0.25 / 8.25, "nothing": 0}, abs=0.01
    )


def test_too_few_prompts_to_fit_are_refused() -> None:
    with pytest.raises(SageError, match="at least 10"):
        fit_features(additive({"a": 3, "b": 2}).select(range(9)), attributes=("a",))
