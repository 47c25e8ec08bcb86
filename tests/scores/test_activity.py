"""Thresholds and F1 against trying every cut, one latent and one predicate after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sage.scores.activity import corrected, detectors


def some(seed: int, *, prompts: int = 40, latents: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes with zeros, negatives and many ties; four predicates of different prevalence, one of
    which always holds."""
    generator = np.random.default_rng(seed)
    codes = generator.normal(size=(prompts, latents)) * (generator.random((prompts, latents)) < 0.7)
    codes[:, ::2] = codes[:, ::2].round()
    truth = generator.random((prompts, 4)) < np.array([0.1, 0.5, 0.8, 1.1])
    truth[0] = True
    return torch.from_numpy(codes).float(), torch.from_numpy(truth)


def f1(active: np.ndarray, truth: np.ndarray) -> float:
    hit = (active & truth).sum()
    return 2 * hit / (active.sum() + truth.sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all_cuts_through_positive_codes(seed: int) -> None:
    codes, truth = some(seed)
    chosen = detectors(codes, truth, thresholded=True)
    for latent in range(codes.shape[1]):
        own = codes[:, latent].numpy()
        cuts = [0.0, *own[own > 0]]
        for predicate in range(4):
            holds = truth[:, predicate].numpy()
            best = max([f1(own > cut, holds) for cut in cuts], default=0.0)
            assert chosen.f1[latent, predicate] == pytest.approx(best, abs=1e-6)
            fires = own > chosen.threshold[latent, predicate].item()
            assert chosen.active[latent, predicate] == fires.sum()
            assert chosen.hits[latent, predicate] == (fires & holds).sum()
            assert fires.sum() == 0 or chosen.threshold[latent, predicate] >= 0


def test_a_threshold_lies_halfway_to_the_next_lower_code() -> None:
    """Codes 5 3 1 1 0: the predicate holds at 5 and 3. The best cut is between 3 and 1."""
    codes, truth = (
        torch.tensor([[5.0], [3], [1], [1], [0]]),
        torch.tensor([[True], [True], [False], [False], [False]]),
    )
    chosen = detectors(codes, truth, thresholded=True)
    assert (chosen.threshold.item(), chosen.hits.item(), chosen.active.item()) == (2, 2, 2)
    lowest = detectors(codes, torch.tensor([[True]] * 4 + [[False]]), thresholded=True)
    assert lowest.threshold.item() == 0.5


def test_neighbouring_floats_are_told_apart() -> None:
    low = torch.tensor(1.0)
    high = torch.nextafter(low, torch.tensor(2.0))
    codes, truth = torch.stack([high, low])[:, None], torch.tensor([[True], [False]])
    chosen = detectors(codes, truth, thresholded=True)
    assert (codes > chosen.threshold)[:, 0].tolist() == [True, False]


def test_a_latent_that_is_never_active_with_the_predicate_is_never_active() -> None:
    codes, truth = torch.tensor([[0.0, -1], [2, -1]]), torch.tensor([[True], [False]])
    chosen = detectors(codes, truth, thresholded=True)
    assert torch.isinf(chosen.threshold).all()
    assert chosen.f1.tolist() == chosen.precision.tolist() == [[0], [0]]


def test_without_thresholds_active_is_above_zero() -> None:
    codes, truth = some(9)
    chosen = detectors(codes, truth, thresholded=False)
    for latent in range(codes.shape[1]):
        active = codes[:, latent].numpy() > 0
        for predicate in range(4):
            holds = truth[:, predicate].numpy()
            assert chosen.f1[latent, predicate] == pytest.approx(f1(active, holds), abs=1e-6)
            assert chosen.precision[latent, predicate] == pytest.approx(
                (active & holds).sum() / max(active.sum(), 1), abs=1e-6
            )


def test_correction_takes_always_on_to_zero_and_perfect_to_one() -> None:
    """At p = 1/4 always-on has F1 = .4: .7 becomes .5, anything below .4 nothing; where the
    predicate always holds nothing is gained."""
    p = torch.tensor(0.25)
    assert [
        corrected(torch.tensor(value), p).item() for value in (0.4, 0.7, 1.0, 0.1)
    ] == pytest.approx([0, 0.5, 1, 0])
    assert corrected(torch.tensor(1.0), torch.tensor(1.0)) == 0


def test_no_latents_and_no_predicates_are_no_detectors() -> None:
    assert detectors(
        torch.zeros(5, 0), torch.ones(5, 2, dtype=torch.bool), thresholded=True
    ).f1.shape == (0, 2)
    assert detectors(
        torch.zeros(5, 3), torch.ones(5, 0, dtype=torch.bool), thresholded=True
    ).f1.shape == (3, 0)
