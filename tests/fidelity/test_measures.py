"""Measures of sums over sequences, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sage.fidelity.measures import COLUMNS, measure_columns
from sage.fidelity.reconstruction import GROUPS, LatentShare, latent_shares, reconstruct_tokens
from sage.nodes import Node
from sage.saes.architectures.relu import ReLU
from sage.saes.sae import SAE

# Two sequences of 2 and 6 scored tokens; losses 1, 2, 5 and 4 nats a token; four latents a token.
FIRST = {
    "scored": 2, "tokens": 3, "cross_entropy": 2, "cross_entropy_sae": 4, "cross_entropy_zero": 10,
    "cross_entropy_mean": 8, "kl_sae": 1, "kl_zero": 8, "kl_mean": 4, "active": 12, "error": 1,
    "variance": 10, "cosine": 2.7, "norm": 6, "product": 8,
}  # fmt: skip
THRICE = ("scored", "cross_entropy", "cross_entropy_sae", "cross_entropy_zero",
          "cross_entropy_mean", "kl_sae", "kl_zero", "kl_mean")  # fmt: skip


def columns(*sequences: dict[str, float]) -> np.ndarray:
    return np.array([[float(one[name]) for name in COLUMNS] for one in sequences])


def test_measures_by_hand() -> None:
    second = {name: value * (3 if name in THRICE else 1) for name, value in FIRST.items()}
    measured = measure_columns(columns(FIRST, second), ["a", "b"])
    assert {name: sampled.value for name, sampled in measured.items()} == pytest.approx(
        {
            "cross_entropy": 1,
            "cross_entropy_sae": 2,
            "cross_entropy_zero": 5,
            "cross_entropy_mean": 4,
            "loss_recovered_zero": (5 - 2) / (5 - 1),
            "loss_recovered_mean": (4 - 2) / (4 - 1),
            "nats_lost": 1,
            "kl": 0.5,
            "kl_recovered_zero": 1 - 0.5 / 4,
            "kl_recovered_mean": 1 - 0.5 / 2,
            "l0": 4,
            "fvu": 0.1,
            "cosine": 0.9,
            "bias": 0.75,
        }
    )
    assert measured["loss_recovered_mean"].estimate().stderr == pytest.approx(0)


def test_tokens_weigh_alike_and_sequences_are_resampled_whole() -> None:
    """L0 of 4 on 3 tokens and of 1 on 9: the mean over tokens is 21/12; half of the resamples have
    each sequence once, a quarter one of them twice."""
    second = {**FIRST, "tokens": 9, "active": 9}
    drawn = measure_columns(columns(FIRST, second), ["a", "b"])["l0"]
    assert drawn.value == pytest.approx(21 / 12)
    shares = {value: np.isclose(drawn.draws, value).mean() for value in (4, 21 / 12, 1)}
    assert sum(shares.values()) == 1
    assert shares[21 / 12] == pytest.approx(0.5, abs=0.06)


def test_equal_sequences_are_drawn_together() -> None:
    drawn = measure_columns(columns(FIRST, {**FIRST, "active": 3}), ["a", "a"])["l0"]
    assert drawn.draws == pytest.approx(np.full(len(drawn.draws), 15 / 6))


def test_a_share_of_nothing_is_undefined() -> None:
    """Mean ablation that costs a nat on one sequence and wins one on the other is not seen to lose
    anything; zero ablation costs on both."""
    one = {**FIRST, "cross_entropy_mean": 4}
    other = {**FIRST, "cross_entropy_mean": 1}
    measured = measure_columns(columns(one, other), ["a", "b"])
    assert np.isnan(measured["loss_recovered_mean"].value)
    assert np.isnan(measured["loss_recovered_mean"].estimate().low)
    assert measured["loss_recovered_zero"].value == pytest.approx(6 / 8)


def test_latents_are_dead_where_never_active_and_dense_above_a_tenth() -> None:
    """Of four latents on 20 tokens in two groups: never active; on two, a tenth, which is not
    dense; on three; on all."""
    active = torch.zeros(GROUPS, 4, dtype=torch.int32)
    active[0] = torch.tensor([0, 2, 0, 10])
    active[1] = torch.tensor([0, 0, 3, 10])
    tokens = torch.zeros(GROUPS, dtype=torch.long)
    tokens[:2] = 10
    dead, dense = latent_shares(active, tokens)
    assert (dead.whole, dense.whole) == (0.25, 0.5)
    # Without the first group the second latent is dead, without the other the third.
    assert dead.without.tolist() == [0.5, 0.5]
    # Either way two are dense: 2 of 10, and 3 of 10, are above a tenth.
    assert dense.without.tolist() == [0.5, 0.5]


def test_the_jackknife_by_hand() -> None:
    """Four groups: the root of 3/4 of the summed squares about their mean."""
    estimate = LatentShare(0.5, np.array([0.5, 0.6, 0.5, 0.4])).estimate(n=40)
    assert estimate.stderr == pytest.approx((0.75 * 0.02) ** 0.5)
    assert (estimate.value, estimate.n) == (0.5, 40)
    assert LatentShare(0.0, np.array([0.0, 0.0])).estimate(n=2)[:4] == (0, 0, 0, 0)
    assert np.isnan(LatentShare(0.5, np.array([0.5])).estimate(n=1).stderr)


def test_what_is_measured_of_tokens_by_hand() -> None:
    """One latent reads the first axis and writes half of it: (2, 1) becomes (1, 0), (-2, 1) becomes
    (0, 0); the second token is passed over when latents are counted."""
    encoder, W_dec = ReLU(torch.tensor([[1.0], [0.0]]), torch.zeros(1)), torch.tensor([[0.5, 0.0]])
    sae = SAE("half", encoder, W_dec, torch.zeros(2), Node("resid_pre", 0))
    x = torch.tensor([[2.0, 1.0], [-2.0, 1.0]])
    tokens = reconstruct_tokens(
        sae, x, torch.tensor([0.0, 1.0]), torch.tensor([3, 3]), torch.tensor([True, False])
    )
    assert tokens.x_hat.tolist() == [[1, 0], [0, 0]]
    # active, squared error, squared distance from the mean, cosine, |x_hat|^2, <x, x_hat>
    assert tokens.measured.tolist() == [
        pytest.approx([1, 2, 4, 2 / 5**0.5, 1, 2]),
        pytest.approx([0, 5, 4, 0, 0, 0]),
    ]
    assert tokens.active[3].tolist() == [1]
    assert tokens.active.sum() == 1
