"""The argmax found in bfloat16 first: never another word than float32 finds, and all logits where
the error of bfloat16 is too large."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sage.models import argmax_token as module
from sage.models.argmax_token import LEAST, MOST, loudest, pays, sieve

VOCABULARY, WIDTH, RUNS = 3000, 64, 200


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def in_full(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What is given to the argmax of all logits."""
    seen: list[Tensor] = []

    def watched(x: Tensor, W_U: Tensor) -> Tensor:
        seen.append(x)
        return loudest(x, W_U)

    monkeypatch.setattr(module, "loudest", watched)
    return seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_random_weights_give_the_word_float32_gives(
    seed: int, offset: float, in_full: list[Tensor]
) -> None:
    """With an offset that all words share, too: logits of -60 and -61 are the same in bfloat16, and
    1 apart."""
    W_U, x = (
        _random(VOCABULARY, WIDTH, seed=seed) + offset,
        _random(RUNS, WIDTH, seed=seed + 9) - offset / 2,
    )
    found = sieve(W_U)
    assert found.loudest(x).equal(loudest(x, W_U))
    assert found.left(x).sum(-1).float().mean() < 8
    assert in_full == []


def test_words_that_bfloat16_cannot_tell_apart_are_both_left() -> None:
    """1 and 1 + 2^-10 are both 1 in bfloat16; the mean over words is 0."""
    W_U = torch.tensor([[1.0], [1 + 2**-10], [-1.0], [-1 - 2**-10]])
    found = sieve(W_U)
    assert found.rounded.tolist() == [[1.0], [1.0], [-1.0], [-1.0]]
    assert found.left(torch.ones(1, 1)).tolist() == [[True, True, False, False]]
    assert found.loudest(torch.tensor([[1.0], [-1.0]])).tolist() == [1, 3]


@pytest.mark.parametrize("what", ["weights", "inputs"])
def test_the_loudest_wins_where_bfloat16_says_another(what: str) -> None:
    """Everything at its worst: seventeen times 1 + 2^-8 + 2^-16 is rounded up to 1 + 2^-7,
    seventeen times 1 + 2^-8 is rounded down to 1.

    With 29/512 and 31/512 besides, both exact, the sums are 17.1233 and 17.1270. Rounded they are
    17.1895 and 17.0605, and rounded again 17.25 and 17. The mean over words is 0.
    """
    up, down, one, nothing = (
        torch.full((17,), 1 + 2**-8 + 2**-16),
        torch.full((17,), 1 + 2**-8),
        torch.ones(17),
        torch.zeros(17),
    )
    first, second = torch.tensor([29 / 512]), torch.tensor([31 / 512])
    if what == "weights":
        words, x = [torch.cat([up, first]), torch.cat([down, second])], torch.ones(1, 18)
    else:
        words = [torch.cat([one, nothing, first]), torch.cat([nothing, one, second])]
        x = torch.cat([up, down, torch.ones(1)])[None]
    W_U = torch.stack([words[0], -words[0], words[1], -words[1]])
    found = sieve(W_U)
    assert (x.bfloat16() @ found.rounded.T).tolist() == [[17.25, -17.25, 17.0, -17.0]]
    assert loudest(x, W_U).tolist() == found.loudest(x).tolist() == [2]
    assert found.loudest(-x).tolist() == [3]


def test_the_first_of_equal_words_wins() -> None:
    """Of 3, 40 and 700 of them, the last of which are more than are computed on their own."""
    W_U = _random(VOCABULARY, WIDTH)
    x = W_U[[5, 7, 11]]
    for place, count in ((5, 3), (7, 40), (11, 700)):
        W_U[torch.arange(place, VOCABULARY, VOCABULARY // count)[:count]] = x[
            (5, 7, 11).index(place)
        ].clone()
    W_U[[5, 7, 11]] = x
    assert sieve(W_U).loudest(3 * x).tolist() == [5, 7, 11]


def test_an_outlier_that_all_words_read_alike_costs_nothing_and_one_they_read_differently_all_logits(
    in_full: list[Tensor],
) -> None:
    """Dimension 0 has the weight 1 in every word. In dimension 1 all have 1 or -1, exact in
    bfloat16; there an outlier leaves half of them, told apart by the other dimensions."""
    W_U, x = _random(VOCABULARY, WIDTH), _random(6, WIDTH)
    W_U[:, 0], W_U[:, 1] = 1.0, W_U[:, 1].sign()
    x[:3, 0] = 1000.0
    assert sieve(W_U).loudest(x).equal(loudest(x, W_U))
    assert in_full == []
    x[[1, 4], 1] = 10_000.0
    assert sieve(W_U).loudest(x).equal(loudest(x, W_U))
    assert [given.tolist() for given in in_full] == [x[[1, 4]].tolist()]


def test_so_many_words_are_computed_on_their_own_and_no_more(in_full: list[Tensor]) -> None:
    """Of 2 MOST + 2 words the first MOST + 1 are alike but for less than bfloat16 sees; on the
    other side of zero, MOST of them."""
    up, down = torch.ones(MOST + 1), -torch.ones(MOST)
    W_U = torch.cat([up, down, torch.zeros(1)])[:, None].repeat(1, 2)
    W_U[:, 1] = 0
    W_U[MOST, 0], W_U[-2, 0] = 1 + 2**-10, -1 - 2**-10
    found, x = sieve(W_U), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert found.left(x).sum(-1).tolist() == [MOST + 1, MOST]
    assert found.loudest(x).tolist() == [MOST, 2 * MOST]
    assert [given.tolist() for given in in_full] == [[[1.0, 0.0]]]


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_for_every_word(seed: int) -> None:
    """In float64: no logit, less what all words share, is further from its rounded one than the
    bound says, and some are a tenth as far.

    Weights over five orders of magnitude, and inputs that are all rounded the same way.
    """
    W_U = _random(VOCABULARY, WIDTH, seed=seed) * torch.logspace(-3, 2, WIDTH)
    W_U[:40] = W_U[:40].bfloat16().float() * (1 + 2**-9)
    x = _random(RUNS, WIDTH, seed=seed + 9).bfloat16().float() * (1 + 2**-9)
    found, y = sieve(W_U), x.bfloat16()
    rounded = torch.nn.functional.linear(y, found.rounded).double()
    exact = x.double() @ (W_U.double() - W_U.mean(0).double()).T
    allowed = found.error(x, y.float())[:, None].double() + 2.0**-8 * rounded.abs()
    share = (rounded - exact).abs() / allowed
    assert 0.1 < share.max() < 1
    assert found.left(x).gather(1, loudest(x, W_U)[:, None]).all()


def test_words_that_are_all_alike_or_inputs_that_are_not_finite_are_computed_in_full(
    in_full: list[Tensor],
) -> None:
    same, x = sieve(torch.ones(500, 4)), torch.ones(2, 4)
    assert same.loudest(x).tolist() == [0, 0]
    assert [given.tolist() for given in in_full] == [x.tolist()]
    W_U, broken = (
        _random(500, 4),
        torch.tensor([[torch.nan, 0.0, 0.0, 0.0], [torch.inf, 0.0, 0.0, 1.0]]),
    )
    assert sieve(W_U).loudest(broken).equal(loudest(broken, W_U))
    assert len(in_full[1]) == 2


def test_a_zero_input_gives_the_first_word() -> None:
    assert sieve(_random(VOCABULARY, WIDTH)).loudest(torch.zeros(2, WIDTH)).tolist() == [0, 0]


def test_it_pays_for_large_float32_vocabularies_on_a_cpu_that_multiplies_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = torch.empty(LEAST // 64, 64)
    assert pays(large, fast=True)
    assert not pays(large, fast=False)
    assert not pays(large[1:], fast=True)
    assert not pays(large.bfloat16(), fast=True)
    assert not pays(large.to("meta"), fast=True)
    for known, expected in (
        ({}, False),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_f": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known)
        assert pays(large) == expected
