"""Looks at growing parts of some pairs, and the bound that a look puts on all of them."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch
from scipy.stats import t as student

from sage.discovery.looks import all_at_once, plan_looks, upper_bounds
from sage.discovery.statistic import statistic

ONE_CLASS = torch.zeros(8, dtype=torch.long)
TWO_CLASSES = torch.tensor([0] * 80 + [1] * 40)


def test_looks_hold_an_eighth_a_quarter_a_half_and_all_of_every_class():
    """Of 80 and 40 pairs: 10 and 5, 20 and 10, 40 and 20."""
    looks = plan_looks(TWO_CLASSES, torch.arange(120).flip(0))
    assert [len(part) for part in looks.parts] == [15, 30, 60, 120]
    assert looks.parts[0].tolist() == [*range(70, 80), *range(115, 120)]
    assert looks.tests == 3
    for smaller, larger in zip(looks.parts, looks.parts[1:], strict=False):
        assert set(smaller.tolist()) < set(larger.tolist())


def test_a_look_at_fewer_than_five_pairs_of_a_class_is_left_out():
    """Of 80 and 36 pairs an eighth is 10 and 4."""
    looks = plan_looks(TWO_CLASSES[:116], torch.arange(116))
    assert [len(part) for part in looks.parts] == [29, 58, 116]
    assert [len(part) for part in plan_looks(ONE_CLASS, torch.arange(8)).parts] == [8]


def test_looks_can_follow_one_order_whatever_the_classes():
    """The first 15 in order, of which 5 are of the second class."""
    order = torch.tensor([*range(10), *range(80, 85), *range(10, 80), *range(85, 120)])
    looks = plan_looks(TWO_CLASSES, order, strata=torch.zeros_like(TWO_CLASSES))
    assert looks.parts[0].tolist() == [*range(10), *range(80, 85)]


def test_effects_are_cut_to_the_last_look_that_is_known():
    looks = plan_looks(torch.zeros(40, dtype=torch.long), torch.arange(40))
    effects = torch.full((3, 40), nan, dtype=torch.float64)
    effects[0, :8] = 1
    effects[1] = 1
    assert looks.reached(effects).tolist() == [0, 3, -1]
    assert (~looks.cut(effects[:2]).isnan()).sum(1).tolist() == [5, 40]


def bound(effects: list[float], attributed: list[float], *, chance: float) -> float:
    return float(
        upper_bounds(
            torch.tensor([effects], dtype=torch.float64),
            ONE_CLASS,
            attributed=torch.tensor([attributed], dtype=torch.float64),
            chance=torch.tensor([chance], dtype=torch.float64),
        )
    )


def test_a_bound_is_the_look_and_the_error_of_a_sample_without_replacement():
    """Four of eight pairs are -1, 1, 2, 2: mean 1, variance 2, so 1 + t sqrt(2 (1/4 - 1/8))."""
    known = [-1.0, 1.0, 2.0, 2.0, nan, nan, nan, nan]
    expected = 1 + student.isf(0.01, 3) * 0.5
    assert bound(known, [0.0] * 8, chance=0.01) == pytest.approx(expected)


def test_all_pairs_leave_nothing_open():
    assert bound([-1.0, 1, 2, 2, 0, 0, 0, 0], [5.0, -5] * 4, chance=1e-9) == 0.5


def test_a_rare_large_effect_that_a_look_has_missed_is_seen_by_the_attribution():
    """No effect on four pairs, and an attribution of 8 on one of the others: variance 8."""
    known = [0.0] * 4 + [nan] * 4
    expected = student.isf(0.01, 3) * 1.0
    assert bound(known, [0.0] * 7 + [8.0], chance=0.01) == pytest.approx(expected)
    assert bound(known, [0.0] * 8, chance=0.01) == 0


def test_classes_of_a_bound_have_variances_and_freedom_of_their_own():
    """Means 1 and -3 with variances 2 and 0 on 4 of 8 pairs and 2 of 8: of the mean over classes
    the error is half that of the first, with its 3 degrees of freedom (Welch)."""
    first, second = [-1.0, 1, 2, 2, *[nan] * 4], [-3.0, -3, *[nan] * 6]
    upper = upper_bounds(
        torch.tensor([first + second], dtype=torch.float64),
        torch.tensor([0] * 8 + [1] * 8),
        attributed=torch.zeros(1, 16, dtype=torch.float64),
        chance=torch.tensor([0.01], dtype=torch.float64),
    )
    assert float(upper) == pytest.approx(2 + student.isf(0.01, 3) * 0.5 / 2)


def test_a_bound_fails_no_more_often_than_its_chance():
    """1,000 samples of 50 of 200 normal effects whose classes differ in mean and spread."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(200) % 2
    effects = torch.randn(200, generator=generator, dtype=torch.float64) * (1 + classes) + classes
    full = float(statistic(effects[None], classes))
    looks = torch.full((1000, 200), nan, dtype=torch.float64)
    for look in looks:
        order = torch.randperm(200, generator=generator)
        rows = plan_looks(classes, order).parts[1]
        look[rows] = effects[rows]
    upper = upper_bounds(
        looks,
        classes,
        attributed=torch.zeros_like(looks),
        chance=torch.full((1000,), 0.05, dtype=torch.float64),
    )
    failures = int((upper < full).sum())
    assert upper.max() < inf
    assert 0.03 < failures / 1000 < 0.07


def test_one_look_drops_nothing():
    assert all_at_once(TWO_CLASSES).tests == 0
