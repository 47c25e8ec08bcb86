"""What a design leaves unexplained on prompts held out, against a literal loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sage.dictionaries.cross_validation import FOLDS, cross_validated, folded
from sage.dictionaries.design import design_columns, make_column, make_design, nuisance_columns
from sage.task.task import Label
from tests.dictionaries.worlds import columns_of, grid


def world() -> tuple[list[dict[str, Label]], torch.Tensor, torch.Tensor]:
    """Labels, values and folds of 62 prompts; the pair (2, 1) of s and order is in fold 3 alone.

    What a pair adds is no sum, and a template adds more.
    """
    labels = [
        {**label, "template": number // 6 % 2}
        for number, label in enumerate(grid({"s": 3, "order": 2}, copies=12))
        if (label["s"], label["order"]) != (2, 1)
    ]
    labels += [{"s": 2, "order": 1, "template": t} for t in (0, 1)]
    folds = torch.tensor([*(number // 5 % FOLDS for number in range(60)), 3, 3])
    values = 0.1 * torch.randn(62, 4, generator=torch.Generator().manual_seed(0)).double()
    for row, label in enumerate(labels):
        values[row, int(label["s"])] += 1 + 2 * int(label["order"])
        values[row, 3] += 3 * int(label["template"])
    return labels, values, folds


def predictions(
    labels: list[dict[str, Label]], names: tuple[str, ...], values: np.ndarray, train: np.ndarray
) -> np.ndarray:
    """Of all prompts, by the least squares solution on those of training."""
    design = columns_of(labels, names)
    mean = values[train].mean(0)
    return mean + design @ np.linalg.pinv(design[train]) @ (values[train] - mean)


def test_pairs_that_training_has_not_seen_are_left_to_the_additive_fit() -> None:
    labels, values, folds = world()
    nuisance, aliased = nuisance_columns(("template",), ("s", "order"), labels)
    assert not aliased
    joint = make_column("s x order", ("s", "order"), labels, coupled=True)
    plain = design_columns(("s", "order"), {}, labels)
    coupled, additive = (
        folded(make_design(columns, nuisance, labels, how="least squares"), folds)
        for columns in ((joint,), plain)
    )
    paired = [{**label, "pair": f"{label['s']}/{label['order']}"} for label in labels]
    exact, numbers = values.numpy(), folds.numpy()
    missed = 0.0
    for fold in range(FOLDS):
        train, held = numbers != fold, numbers == fold
        by_pair = predictions(paired, ("pair", "template"), exact, train)
        by_sum = predictions(paired, ("s", "order", "template"), exact, train)
        seen = {label["pair"] for label, in_train in zip(paired, train, strict=True) if in_train}
        unseen = np.array([label["pair"] not in seen for label in paired])
        assert unseen.any() == (fold == 3)
        predicted = np.where(unseen[:, None], by_sum, by_pair)
        missed += float(np.square(exact - predicted)[held].sum())
    expected = missed / float(np.square(exact - exact.mean(0)).sum())
    assert cross_validated(coupled, additive, values) == pytest.approx(expected, rel=1e-9)
    assert cross_validated(coupled, additive, values) < cross_validated(additive, additive, values)


def test_a_value_that_training_has_not_seen_adds_nothing_to_the_mean() -> None:
    """The features of the others are about their mean over the prompts of training: what a prompt
    with a = 2, in fold 0 alone, is told is the mean and its b, about the mean b."""
    generator = np.random.default_rng(3)
    labels: list[dict[str, Label]] = [
        {"a": int(generator.random() < 0.3), "b": int(generator.random() < 0.8)} for _ in range(57)
    ]
    labels += [{"a": 2, "b": 0}] * 3
    folds = np.array([*(number % FOLDS for number in range(57)), 0, 0, 0])
    values = generator.normal(size=(60, 4)) + 3 * columns_of(labels, "b")[:, [0, 1, 1, 0]]
    columns = columns_of(labels, "ab")
    missed = 0.0
    for fold in range(FOLDS):
        train, held = folds != fold, folds == fold
        mean = values[train].mean(0)
        features = np.linalg.pinv(columns[train]) @ (values[train] - mean)
        for block in (slice(0, 3), slice(3, 5)):
            features[block] -= (columns[train][:, block] @ features[block]).mean(0)
        features[columns[train].sum(0) == 0] = 0
        missed += float(np.square((values - mean - columns @ features)[held]).sum())
    expected = missed / float(np.square(values - values.mean(0)).sum())
    design = make_design(design_columns(("a", "b"), {}, labels), (), labels, how="least squares")
    additive = folded(design, torch.from_numpy(folds))
    share = cross_validated(additive, additive, torch.from_numpy(values))
    assert share == pytest.approx(expected, rel=1e-9)


def test_a_design_without_columns_leaves_what_the_mean_leaves() -> None:
    labels, values, folds = world()
    nothing = folded(make_design((), (), labels, how="least squares"), folds)
    missed = 0.0
    for fold in range(FOLDS):
        mean = values[folds != fold].mean(0)
        missed += float((values[folds == fold] - mean).square().sum())
    expected = missed / float((values - values.mean(0)).square().sum())
    assert cross_validated(nothing, nothing, values) == pytest.approx(expected, rel=1e-9)
    assert expected > 1


def test_what_does_not_vary_leaves_nothing() -> None:
    labels, _, folds = world()
    nothing = folded(make_design((), (), labels, how="least squares"), folds)
    constant = torch.full((62, 4), 3.0).double()
    assert cross_validated(nothing, nothing, constant) == 0
