"""The direction-wise statistic, its null and its threshold, worked by hand."""

from __future__ import annotations

import pytest
import torch

from sage.discovery.confirm import shuffled
from sage.discovery.statistic import null_level, passes, pool, standard_error, statistic


def test_a_plain_mean_cancels_where_the_statistic_does_not():
    """Half of the pairs turn ABB into BAB and lose 3, the other half turn it back and gain 1."""
    effects = torch.tensor([[-3.0] * 10 + [1.0] * 10, [0.5, -0.5] * 10], dtype=torch.float64)
    classes = pool(["ABB>BAB"] * 10 + ["BAB>ABB"] * 10)
    assert effects.mean(1).tolist() == [-1, 0]
    assert statistic(effects, classes).tolist() == [2, 0]


def test_the_statistic_does_not_count_noise_as_the_mean_of_absolute_values_would():
    noise = torch.randn(1, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(noise.abs().mean()) > 0.7
    assert float(statistic(noise, pool(["one"] * 400))) < 0.1


def test_directions_with_fewer_than_ten_pairs_are_pooled_into_one_class():
    directions = ["a>b"] * 12 + ["b>a"] * 10 + ["a>c"] * 9 + ["c>a"]
    assert pool(directions).tolist() == [0] * 12 + [1] * 10 + [2] * 10


def test_a_contrast_of_few_pairs_has_one_class():
    assert pool(["a>b", "b>a", "a>b"]).tolist() == [0, 0, 0]


def test_directions_count_equally_however_many_pairs_they_have():
    effects = torch.tensor([[4.0] * 10 + [0.0] * 30])
    assert statistic(effects, pool(["up"] * 10 + ["down"] * 30)).tolist() == [2]


def test_the_standard_error_is_that_of_a_mean_of_class_means():
    """Two classes of 10: variances 90/9 x .1 (values -3 and 3) and 0, so each mean has variance 1
    and 0, their mean sqrt(1)/2."""
    effects = torch.tensor([[3.0, -3.0] * 5 + [7.0] * 10])
    assert standard_error(effects, pool(["up"] * 10 + ["down"] * 10)).tolist() == pytest.approx(
        [0.5]
    )


def test_the_null_is_the_99th_percentile_over_nodes():
    """101 nodes whose statistics are 0, 1, ..., 100."""
    effects = torch.arange(101.0)[:, None].expand(101, 4)
    assert null_level(effects, pool(["one"] * 4)) == pytest.approx(99)


def test_a_node_is_kept_at_tau_and_only_above_the_null():
    values = torch.tensor([0.19, 0.2, 0.3, 0.31], dtype=torch.float64)
    assert passes(values, baseline=10.0, tau=0.02, null=None).tolist() == [False, True, True, True]
    assert passes(values, baseline=10.0, tau=0.02, null=0.3).tolist() == [False, False, False, True]


def test_irrelevant_pairs_get_classes_as_large_as_the_contrasts_own():
    classes = pool(["up"] * 15 + ["down"] * 10)
    dealt = shuffled(classes, 200, seed=0)
    assert sorted(dealt.tolist()) == sorted(classes.tolist())
    assert dealt.tolist() != classes.tolist()
    assert len(shuffled(classes, 7, seed=0)) == 7
