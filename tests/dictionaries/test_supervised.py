"""Supervised features: worked by hand, and against literal NumPy twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from linear import MLP, D, Z, activations, joined
from sage.dictionaries.activations import Activations
from sage.dictionaries.design import design_columns, one_hot
from sage.dictionaries.dictionary import site_codes
from sage.dictionaries.edits import control, copying
from sage.dictionaries.least_squares import HOWS, How
from sage.dictionaries.supervised import FeatureDictionary, fit_features, with_labels_of
from sage.errors import BadTask, SageError, UnknownName
from sage.task.task import TEMPLATE, Label
from tests.dictionaries.worlds import (
    MLP_SITE,
    Q,
    V,
    additive,
    columns_of,
    feature,
    grid,
    products,
    signs,
    uneven,
)


def correlated(r: float) -> Activations:
    """a = s1 e1 + s2 e2 with signs of correlation r exactly, in a space of 8."""
    pairs = signs(r)
    values = torch.zeros(len(pairs), D)
    values[:, :2] = torch.tensor(pairs).float()
    return activations([{"s1": first, "s2": second} for first, second in pairs], mlp=values)


def unexplained(given: Activations, features: FeatureDictionary) -> float:
    value = given.values[MLP].double()
    rest = value - features.reconstruct(given)[MLP].double()
    return float(rest.square().sum() / (value - value.mean(0)).square().sum())


@pytest.mark.parametrize(
    ("how", "left"), [("mean", 0.64), ("weighted", 1 - 1.64**2 / 2.92), ("least squares", 0.0)]
)
def test_correlated_attributes_are_counted_twice_by_means_and_not_by_least_squares(
    how: How, left: float
) -> None:
    """The hand check at r = .8: r^2 = .64, 1 - (1 + r^2)^2/(1 + 3 r^2) = .0789, 0."""
    given = correlated(0.8)
    features = fit_features(given, attributes=("s1", "s2"), how=how, coupled=False)
    assert unexplained(given, features) == pytest.approx(left, abs=1e-6)
    assert round(left, 4) in (0.64, 0.0789, 0)


def test_mean_features_of_correlated_signs_by_hand() -> None:
    """E[a | s1 = 1] = e1 + r e2; with weights (1 + r^2)/(1 + 3 r^2) of it."""
    given = correlated(0.8)
    mean, weighted, least = (
        fit_features(given, attributes=("s1", "s2"), how=how, coupled=False)
        for how in ("mean", "weighted", "least squares")
    )
    torch.testing.assert_close(feature(mean, "s1=1")[:3], torch.tensor([1, 0.8, 0]))
    torch.testing.assert_close(feature(mean, "s2=-1")[:3], torch.tensor([-0.8, -1, 0]))
    expected = torch.tensor([1, 0.8, 0]) * 1.64 / 2.92
    torch.testing.assert_close(feature(weighted, "s1=1")[:3], expected)
    torch.testing.assert_close(feature(least, "s1=1")[:3], torch.tensor([1.0, 0, 0]))


@pytest.mark.parametrize("how", HOWS)
def test_weights_and_means_are_those_of_a_literal_twin(how: How) -> None:
    labels, given = uneven()
    features = fit_features(given, attributes=("a", "b", "c"), how=how, coupled=False)
    reconstructions = features.reconstruct(given)
    for node in (MLP, Z):
        values = given.values[node].double().numpy()
        expected = literal_fit(labels, values, how)
        np.testing.assert_allclose(reconstructions[node].numpy(), expected, atol=2e-5)


def literal_fit(labels: Sequence[Mapping[str, Label]], values: np.ndarray, how: How) -> np.ndarray:
    """a_hat of the definition: mean codes, weights from G w = h, or the least squares solution."""
    mean = values.mean(0)
    parts: list[np.ndarray] = []
    for name in "abc":
        of_prompt = np.array([label[name] for label in labels])
        parts.append(np.stack([values[of_prompt == value].mean(0) - mean for value in of_prompt]))
    if how == "mean":
        return mean + sum(parts)
    if how == "weighted":
        gram = np.array([[np.mean((p * q).sum(1)) for q in parts] for p in parts])
        aims = np.array([np.mean((part * (values - mean)).sum(1)) for part in parts])
        weights = np.linalg.lstsq(gram, aims, rcond=None)[0]
        return mean + sum(weight * part for weight, part in zip(weights, parts, strict=True))
    design = columns_of(labels, "abc")
    return mean + design @ np.linalg.pinv(design) @ (values - mean)


def test_with_nuisance_columns_the_features_are_those_of_the_whole_literal_solve() -> None:
    """Attributes and template in one pinv; what the attributes add is the features, each about its
    mean over the prompts."""
    labels, given = uneven()
    features = fit_features(given, attributes=("a", "b", "c"), nuisance=(TEMPLATE,), coupled=False)
    values = given.values[MLP].double().numpy()
    design = columns_of(labels, ("a", "b", "c", TEMPLATE))
    solution = np.linalg.pinv(design) @ (values - values.mean(0))
    attributes = design[:, : 3 + 4 + 2] @ solution[: 3 + 4 + 2]
    expected = values.mean(0) + attributes - attributes.mean(0)
    np.testing.assert_allclose(features.reconstruct(given)[MLP].numpy(), expected, atol=2e-5)
    plain = fit_features(given, attributes=("a", "b", "c"), coupled=False)
    assert not np.allclose(plain.reconstruct(given)[MLP].numpy(), expected, atol=0.1)


@pytest.mark.parametrize("how", HOWS)
def test_every_attribute_has_mean_zero_over_the_prompts(how: How) -> None:
    given = joined(additive({"a": 3, "b": 2}, noise=1), additive({"a": 2, "b": 2}, seed=1, noise=1))
    fit = fit_features(given, attributes=("a", "b"), how=how, coupled=False).fits[MLP].chosen
    contributions = fit.codes(given.prompt_labels)[:, :, None] * fit.features
    for block in (slice(0, 3), slice(3, 5)):
        mean = contributions[:, block].sum(1).mean(0)
        torch.testing.assert_close(mean, torch.zeros(D), atol=1e-5, rtol=0)


def test_an_edit_moves_one_attribute_and_leaves_the_other() -> None:
    given = additive({"a": 3, "b": 2})
    features = fit_features(given, attributes=("a", "b"))
    base, target = given.select(range(6)), given.select([2, 3, 4, 5, 0, 1])
    aim = features.aim(base, target.prompt_labels)[MLP]
    torch.testing.assert_close(aim, target.values[MLP], atol=1e-5, rtol=0)
    flipped = [{**label, "b": 1 - int(label["b"])} for label in base.prompt_labels]
    step = feature(features, "b=1") - feature(features, "b=0")
    upwards = torch.tensor([1.0 if label["b"] == 0 else -1.0 for label in base.prompt_labels])
    expected = base.values[MLP] + upwards[:, None] * step
    torch.testing.assert_close(features.aim(base, flipped)[MLP], expected, atol=1e-5, rtol=0)


def test_all_moves_of_supervised_features_are_the_whole_edit() -> None:
    """Values at right angles, so that every move lowers the distance; one takes the old value away,
    one puts the new value in."""
    labels = grid({"a": 4, "b": 3})
    eye = torch.eye(D)
    values = [eye[int(label["a"])] + 2 * eye[4 + int(label["b"])] for label in labels]
    given = activations(labels, mlp=torch.stack(values))
    features = fit_features(given, attributes=("a", "b"))
    base, target = given.select(range(12)), given.select([7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6])
    aim = features.aim(base, target.prompt_labels)
    ((nothing, whole),) = control(
        features, base, target.prompt_labels, aim,
        variance=features.variance, budgets={MLP_SITE: (0, None)},
    )  # fmt: skip
    assert torch.equal(nothing.values[MLP], base.values[MLP])
    torch.testing.assert_close(whole.values[MLP], aim[MLP], atol=1e-5, rtol=0)
    changed = [
        sum(p[name] != q[name] for name in "ab")
        for p, q in zip(base.prompt_labels, target.prompt_labels, strict=True)
    ]
    assert whole.picks.tolist() == [2 * count for count in changed]


def test_a_budget_of_one_removes_or_adds_one_value() -> None:
    """Values 0 and 1 of `a` at 3 e1 and e2, half of the prompts each. From value 0 to value 1 the
    features are +-(1.5, -.5): both moves are (-1.5, .5), half of the way."""
    labels = [{"a": 0}] * 6 + [{"a": 1}] * 6
    values = torch.zeros(12, D)
    values[:6, 0], values[6:, 1] = 3, 1
    given = activations(labels, mlp=values)
    features = fit_features(given, attributes=("a",))
    base = given.select([0])
    ((half, whole),) = control(
        features, base, [{"a": 1}], features.aim(base, [{"a": 1}]),
        variance=features.variance, budgets={MLP_SITE: (1, 2)},
    )  # fmt: skip
    torch.testing.assert_close(half.values[MLP][0, :2], torch.tensor([1.5, 0.5]))
    torch.testing.assert_close(whole.values[MLP][0, :2], torch.tensor([0.0, 1.0]))


def test_a_coarse_feature_is_the_mean_of_the_fine_ones_which_keep_the_rest() -> None:
    """Mary (1, 3), Alice (1, 1), John (-1, 0), each in equal shares within a gender; two prompts of
    Mary and Alice for four of John.

    The mean is 0 for the first coordinate and 1 for the second. gender: F = E[a | F] - mean = (1,
    1), M = (-1, -1). name: Mary = (0, 1).
    """
    people = {"Mary": ("F", 1, 3), "Alice": ("F", 1, 1), "John": ("M", -1, 0)}
    labels: list[dict[str, Label]] = []
    rows: list[list[float]] = []
    for name in ["Mary"] * 4 + ["Alice"] * 4 + ["John"] * 8:
        gender, first, second = people[name]
        labels.append({"gender": gender, "name": name})
        rows.append([first, second, *[0] * (D - 2)])
    given = activations(labels, mlp=torch.tensor(rows))
    features = fit_features(given, attributes=("gender", "name"), within={"name": "gender"})
    fit = features.fits[MLP].chosen
    assert fit.names == ("gender=F", "gender=M", "name=F/Alice", "name=F/Mary", "name=M/John")
    expected = torch.zeros(5, D)
    expected[:, :2] = torch.tensor([[1, 1], [-1, -1], [0, -1], [0, 1], [0, 0]])
    torch.testing.assert_close(fit.features, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        features.reconstruct(given)[MLP], given.values[MLP], atol=1e-5, rtol=0
    )


def test_two_fine_attributes_in_one_coarse_one_share_it() -> None:
    """IO and S of one gender each add their name's vector; gender is the sum of both conditional
    means."""
    names = {"F": ("Mary", "Alice"), "M": ("John", "Bob")}
    vector = {
        name: torch.randn(D, generator=torch.Generator().manual_seed(seed))
        for seed, name in enumerate(("Mary", "Alice", "John", "Bob"))
    }
    labels = [
        {"gender": gender, "IO": io, "S": s}
        for gender in "FM"
        for io in names[gender]
        for s in names[gender]
    ] * 3
    values = torch.stack([vector[label["IO"]] - 2 * vector[label["S"]] for label in labels])
    given = activations(labels, mlp=values)
    features = fit_features(
        given,
        attributes=("gender", "IO", "S"),
        within={"IO": "gender", "S": "gender"},
        coupled=False,
    )
    half = (vector["Mary"] + vector["Alice"] - vector["John"] - vector["Bob"]) / 4
    torch.testing.assert_close(feature(features, "gender=F"), -half, atol=1e-5, rtol=0)
    mary = (vector["Mary"] - vector["Alice"]) / 2
    torch.testing.assert_close(feature(features, "IO=F/Mary"), mary, atol=1e-5, rtol=0)
    torch.testing.assert_close(features.reconstruct(given)[MLP], values, atol=1e-4, rtol=0)


def test_coupling_is_chosen_where_it_lowers_the_error_held_out_and_only_there() -> None:
    given = products()
    features = fit_features(given, attributes=("s", "order", "other"))
    at_mlp, at_z = features.fits[MLP], features.fits[Z]
    assert [column.name for column in at_mlp.chosen.columns] == ["s x order", "other"]
    assert at_mlp.chosen.design.coupled == ("s", "order")
    assert [column.name for column in at_z.chosen.columns] == ["s", "order", "other"]
    assert at_z.coupled is None
    assert at_mlp.unexplained < 0.001
    plain = fit_features(given, attributes=("s", "order", "other"), coupled=False)
    assert plain.fits[MLP].unexplained > 0.4
    torch.testing.assert_close(plain.fits[MLP].additive.features, at_mlp.additive.features)


def test_exact_additive_activations_are_never_coupled() -> None:
    """Rounding is no gain."""
    for seed in range(5):
        given = additive({"a": 3, "b": 2, "c": 2}, seed=seed)
        assert fit_features(given, attributes=("a", "b", "c")).fits[MLP].coupled is None


@pytest.mark.parametrize("nuisance", [(), (TEMPLATE,)])
def test_the_unexplained_share_is_that_of_a_literal_five_fold_loop(nuisance: tuple[str]) -> None:
    """Nuisances are part of the prediction; the loop without attributes leaves what they leave."""
    labels, given = uneven()
    features = fit_features(
        given, attributes=("a", "b", "c"), nuisance=nuisance, coupled=False, seed=3
    )
    folds = torch.randperm(len(given), generator=torch.Generator().manual_seed(3)) % 5
    values = given.values[MLP].double().numpy()
    fit = features.fits[MLP]
    names = ("a", "b", "c", *nuisance)
    for columns, share in ((names, fit.unexplained), (nuisance, fit.nuisance_unexplained)):
        design = columns_of(labels, columns) if columns else np.zeros((len(labels), 0))
        assert share == pytest.approx(literal_folds(design, values, folds.numpy()), rel=1e-9)


def literal_folds(design: np.ndarray, values: np.ndarray, folds: np.ndarray) -> float:
    missed = 0.0
    for fold in range(5):
        train, held = folds != fold, folds == fold
        mean = values[train].mean(0)
        solution = np.linalg.pinv(design[train]) @ (values[train] - mean)
        missed += np.square(values[held] - mean - design[held] @ solution).sum()
    return float(missed / np.square(values - values.mean(0)).sum())


def test_an_unseen_pair_of_values_falls_back_on_the_additive_fit_on_both_sides() -> None:
    """Fitted without (1, 1): its reconstruction is additive, and so is an edit from a seen pair to
    it, and its single moves."""
    given = products(without=(1, 1))
    features = fit_features(given, attributes=("s", "order", "other"))
    fit = features.fits[MLP]
    assert "s x order=1/1" not in fit.chosen.names
    seen, new = [{"s": -1, "order": -1, "other": 0}], [{"s": 1, "order": 1, "other": 0}]
    base, target = (activations(labels, mlp=torch.zeros(1, D)) for labels in (seen, new))
    plain = {
        id(labels): fit.additive.mean + fit.additive.codes(labels) @ fit.additive.features
        for labels in (seen, new)
    }
    torch.testing.assert_close(features.reconstruct(target)[MLP], plain[id(new)])
    coupled = fit.chosen.mean + fit.chosen.codes(seen) @ fit.chosen.features
    torch.testing.assert_close(features.reconstruct(base)[MLP], coupled)
    assert not torch.allclose(coupled, plain[id(seen)], atol=0.1)
    expected = plain[id(new)] - plain[id(seen)]
    torch.testing.assert_close(features.aim(base, new)[MLP], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(features.aim(target, seen)[MLP], -expected, atol=1e-6, rtol=0)
    (part,) = features.moves(base, new)
    assert part.steps[MLP].abs().sum() == 4
    moved = part.steps[MLP] @ part.directions[MLP]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
    assert features.codes(target)[MLP][:, :5].tolist() == [[0] * 5]


def test_in_copying_an_unseen_pair_puts_both_runs_on_the_additive_fit() -> None:
    features = fit_features(products(without=(1, 1)), attributes=("s", "order", "other"))
    labels = (
        [{"s": 1, "order": -1, "other": 0}] * 2,
        [{"s": s, "order": 1, "other": 0} for s in (1, 0)],
    )
    base, target = (activations(side, mlp=torch.zeros(2, D)) for side in labels)
    (part,) = features.site_codes(base, target)
    fit = features.fits[MLP]
    count = len(fit.chosen.names)
    before, after = (run.codes[MLP] for run in part.runs)
    for codes, side in ((before, labels[0]), (after, labels[1])):
        assert not codes[0, :count].any()
        assert torch.equal(codes[0, count:], fit.additive.codes(side)[0])
        assert torch.equal(codes[1, :count], fit.chosen.codes(side)[1])
        assert not codes[1, count:].any()


def test_nodes_of_a_site_with_features_of_their_own_are_copied_by_name() -> None:
    """q has more features than v; the numbers of both are those of the site, with the additive
    fit's beside them, whichever way they are asked for."""
    given = products()
    world = replace(given, values={Q: given.values[MLP][:, :4], V: given.values[Z]})
    features = fit_features(world, attributes=("s", "order", "other"))
    assert len({len(features.directions(node)) for node in (Q, V)}) == 2
    runs = world.select([0, 1]), world.select([2, 3])
    (part,) = site_codes(features, *runs)
    (expected,) = features.site_codes(*runs)
    assert torch.equal(part.latents, expected.latents)
    for run, other in zip(part.runs, expected.runs, strict=True):
        for node in (Q, V):
            assert torch.equal(run.codes[node], other.codes[node])
    edits = copying(features, *runs, variance={Q: 1.0, V: 1.0}, ks=(100,))
    aim = features.reconstruct(runs[1]), features.reconstruct(runs[0])
    for node in (Q, V):
        moved = edits[100].values[node] - runs[0].values[node]
        assert (moved - (aim[0][node] - aim[1][node])).norm() < moved.norm()


def test_features_of_one_name_are_one_candidate_at_all_nodes_of_a_site() -> None:
    """q couples s and order, and does not move with s alone; v adds them up, and does not move with
    the pair; both move with `other`."""
    given = products()
    world = replace(given, values={Q: given.values[MLP][:, :4], V: given.values[Z]})
    features = fit_features(world, attributes=("s", "order", "other"))
    base = world.select([0])
    (part,) = features.moves(base, [{"s": 1, "order": 1, "other": 1}])
    at_q, at_v = features.fits[Q].chosen, features.fits[V].chosen
    assert "s x order=1/1" in at_q.names
    assert "s=1" in at_v.names
    moving = {
        node: [number for number, step in enumerate(part.steps[node][0].tolist()) if step]
        for node in (Q, V)
    }
    assert [len(moving[node]) for node in (Q, V)] == [4, 6]
    shared = sorted(set(moving[Q]) & set(moving[V]))
    assert [part.steps[Q][0, number].item() for number in shared] == [-1, 1]
    for node, fit in ((Q, at_q), (V, at_v)):
        expected = fit.features[fit.names.index("other=1")]
        assert torch.equal(part.directions[node][shared[1]], expected)
        aim = features.aim(base, [{"s": 1, "order": 1, "other": 1}])[node] - base.values[node]
        moved = part.steps[node] @ part.directions[node]
        torch.testing.assert_close(moved, aim, atol=1e-6, rtol=0)


def test_a_value_that_the_fit_has_not_seen_is_an_error_that_names_it() -> None:
    features = fit_features(additive({"a": 3, "b": 2}), attributes=("a", "b"))
    stranger = activations([{"a": 7, "b": 0}], mlp=torch.zeros(1, D))
    message = "value 7 of attribute 'a' does not occur in the prompts of the fit"
    for ask in (features.reconstruct, features.codes):
        with pytest.raises(BadTask, match=message):
            ask(stranger)
    coupled = fit_features(products(), attributes=("s", "order", "other"))
    new = activations([{"s": 5, "order": 1, "other": 0}], mlp=torch.zeros(1, D))
    with pytest.raises(BadTask, match="value 5 of attribute 's'"):
        coupled.reconstruct(new)


def test_features_do_not_depend_on_the_order_of_prompts() -> None:
    given = additive({"a": 3, "b": 2}, noise=0.5)
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(0)).tolist()
    plain, shuffled = (
        fit_features(runs, attributes=("a", "b"), coupled=False).fits[MLP].chosen
        for runs in (given, given.select(order))
    )
    assert plain.names == shuffled.names
    torch.testing.assert_close(plain.features, shuffled.features, atol=1e-5, rtol=0)


def test_a_turned_space_has_turned_features() -> None:
    labels, given = uneven()
    turn = torch.linalg.qr(torch.randn(D, D, generator=torch.Generator().manual_seed(0)))[0]
    turned = activations(labels, mlp=given.values[MLP] @ turn)
    straight, other = (
        fit_features(runs, attributes=("a", "b"), nuisance=(TEMPLATE,)).fits[MLP]
        for runs in (given.on([MLP]), turned)
    )
    torch.testing.assert_close(
        other.chosen.features, straight.chosen.features @ turn, atol=1e-4, rtol=0
    )
    assert other.unexplained == pytest.approx(straight.unexplained, rel=1e-5)
    assert other.chosen.carried == pytest.approx(straight.chosen.carried, rel=1e-4)


@pytest.mark.parametrize("size", [2, 40])
def test_noise_carries_nothing_however_many_values_it_is_fitted_for(size: int) -> None:
    """A signal of 3 % of the variance is there; 400 prompts of noise give features of 40 values a
    tenth of it, and are not."""
    generator = torch.Generator().manual_seed(4)
    labels = [{"signal": number % 2, "nothing": number // 2 % size} for number in range(400)]
    values = torch.randn(400, D, generator=generator)
    values[:, 0] += torch.tensor([float(label["signal"]) for label in labels])
    features = fit_features(
        activations(labels, mlp=values), attributes=("signal", "nothing"), coupled=False
    )
    assert features.carries(MLP, "signal")
    assert not features.carries(MLP, "nothing")
    carried = dict(zip(("signal", "nothing"), features.fits[MLP].chosen.carried, strict=True))
    assert carried == pytest.approx({"signal": 0.25 / 8.25, "nothing": 0}, abs=0.01)
    with pytest.raises(UnknownName, match="'place'"):
        features.carries(MLP, "place")


def noisy(size: float, *, template: float = 0.0) -> Tensor:
    """2,000 prompts of noise of variance 8, an attribute of variance size^2, and a template's."""
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(2000, D, generator=generator)
    number = torch.arange(2000)
    values[:, 0] += size * (2.0 * (number % 2) - 1)
    values[:, 1] += template * (2.0 * (number // 2 % 2) - 1)
    return values


def test_a_node_where_the_attributes_save_less_than_1_percent_has_no_features() -> None:
    """.4 % of what is left is too little, 3 % is enough, even where a template makes it .25 % of
    the node's variance. A node that does not vary has no features."""
    labels = [{"s": n % 2, TEMPLATE: str(n // 2 % 2)} for n in range(2000)]
    cases = {"too little": noisy(0.18), "enough": noisy(0.5), "templates": noisy(0.5, template=10)}
    features = {
        name: fit_features(
            activations(labels, mlp=values, z=torch.ones(2000, 4)),
            attributes=("s",),
            nuisance=(TEMPLATE,),
        )
        for name, values in cases.items()
    }
    kept = {name: fitted.with_features([MLP, Z]) for name, fitted in features.items()}
    assert kept == {"too little": (), "enough": (MLP,), "templates": (MLP,)}
    shares = features["templates"].fits[MLP]
    assert shares.nuisance_unexplained - shares.unexplained < 0.01


def test_labels_of_other_prompts_are_the_same_labels_template_and_all() -> None:
    labels, given = uneven()
    order = torch.randperm(len(given), generator=torch.Generator().manual_seed(1)).tolist()
    shuffled = with_labels_of(given, order)
    assert [dict(label) for label in shuffled.prompt_labels] == [labels[row] for row in order]
    assert [prompt.ids for prompt in shuffled.prompts] == [prompt.ids for prompt in given.prompts]
    assert shuffled.values is given.values


def test_too_few_prompts_to_fit_are_refused() -> None:
    with pytest.raises(SageError, match="at least 10"):
        fit_features(additive({"a": 3, "b": 2}).select(range(9)), attributes=("a",))


def test_codes_and_directions_make_the_reconstruction() -> None:
    given = additive({"a": 3, "b": 2}, noise=0.3)
    features = fit_features(given, attributes=("a", "b"))
    columns = design_columns(("a", "b"), {}, given.prompt_labels)
    assert torch.equal(features.codes(given)[MLP], one_hot(columns, given.prompt_labels))
    whole = given.values[MLP].mean(0) + features.codes(given)[MLP] @ features.directions(MLP)
    torch.testing.assert_close(features.reconstruct(given)[MLP], whole)
