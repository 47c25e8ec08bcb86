"""The argmax found in bfloat16 first: never another token than float32 finds.

All logits are computed where the error of bfloat16 is too large.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sage.models import argmax_token as module
from sage.models.argmax_token import (
    LEAST_WEIGHTS,
    MOST_CANDIDATES,
    argmax_token,
    round_unembedding,
    rounding_pays,
)

VOCABULARY, WIDTH, RUNS = 3000, 64, 200


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def in_full(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What is given to the argmax of all logits."""
    seen: list[Tensor] = []

    def watched(x: Tensor, W_U: Tensor) -> Tensor:
        seen.append(x)
        return argmax_token(x, W_U)

    monkeypatch.setattr(module, "argmax_token", watched)
    return seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_random_weights_give_the_token_float32_gives(
    seed: int, offset: float, in_full: list[Tensor]
) -> None:
    """With an offset that all tokens share, too: logits of -60 and -61 are the same in bfloat16,
    and 1 apart."""
    W_U, x = (
        _random(VOCABULARY, WIDTH, seed=seed) + offset,
        _random(RUNS, WIDTH, seed=seed + 9) - offset / 2,
    )
    unembedding = round_unembedding(W_U)
    assert unembedding.argmax_token(x).equal(argmax_token(x, W_U))
    assert unembedding.candidates(x).sum(-1).float().mean() < 8
    assert in_full == []


def test_tokens_that_bfloat16_cannot_tell_apart_are_both_left() -> None:
    """1 and 1 + 2^-10 are both 1 in bfloat16; the mean over tokens is 0."""
    W_U = torch.tensor([[1.0], [1 + 2**-10], [-1.0], [-1 - 2**-10]])
    unembedding = round_unembedding(W_U)
    assert unembedding.rounded.tolist() == [[1.0], [1.0], [-1.0], [-1.0]]
    assert unembedding.candidates(torch.ones(1, 1)).tolist() == [[True, True, False, False]]
    assert unembedding.argmax_token(torch.tensor([[1.0], [-1.0]])).tolist() == [1, 3]


@pytest.mark.parametrize("what", ["weights", "inputs"])
def test_the_argmax_in_float32_wins_where_bfloat16_says_another(what: str) -> None:
    """Everything at its worst: seventeen times 1 + 2^-8 + 2^-16 is rounded up to 1 + 2^-7,
    seventeen times 1 + 2^-8 is rounded down to 1.

    With 29/512 and 31/512 besides, both exact, the sums are 17.1233 and 17.1270. Rounded they are
    17.1895 and 17.0605, and rounded again 17.25 and 17. The mean over tokens is 0.
    """
    up, down, one, nothing = (
        torch.full((17,), 1 + 2**-8 + 2**-16),
        torch.full((17,), 1 + 2**-8),
        torch.ones(17),
        torch.zeros(17),
    )
    first, second = torch.tensor([29 / 512]), torch.tensor([31 / 512])
    if what == "weights":
        tokens, x = [torch.cat([up, first]), torch.cat([down, second])], torch.ones(1, 18)
    else:
        tokens = [torch.cat([one, nothing, first]), torch.cat([nothing, one, second])]
        x = torch.cat([up, down, torch.ones(1)])[None]
    W_U = torch.stack([tokens[0], -tokens[0], tokens[1], -tokens[1]])
    unembedding = round_unembedding(W_U)
    assert (x.bfloat16() @ unembedding.rounded.T).tolist() == [[17.25, -17.25, 17.0, -17.0]]
    assert argmax_token(x, W_U).tolist() == unembedding.argmax_token(x).tolist() == [2]
    assert unembedding.argmax_token(-x).tolist() == [3]


def test_the_first_of_equal_tokens_wins() -> None:
    """Of 3, 40 and 700 of them, the last of which are more than are computed on their own."""
    W_U = _random(VOCABULARY, WIDTH)
    x = W_U[[5, 7, 11]]
    for row, (first, count) in enumerate(((5, 3), (7, 40), (11, 700))):
        W_U[torch.arange(first, VOCABULARY, VOCABULARY // count)[:count]] = x[row]
    W_U[[5, 7, 11]] = x
    assert round_unembedding(W_U).argmax_token(3 * x).tolist() == [5, 7, 11]


def test_an_outlier_costs_all_logits_only_where_tokens_read_it_differently(
    in_full: list[Tensor],
) -> None:
    """Dimension 0 has the weight 1 in every token. In dimension 1 all have 1 or -1, exact in
    bfloat16; there an outlier leaves half of them, told apart by the other dimensions."""
    W_U, x = _random(VOCABULARY, WIDTH), _random(6, WIDTH)
    W_U[:, 0], W_U[:, 1] = 1.0, W_U[:, 1].sign()
    x[:3, 0] = 1000.0
    assert round_unembedding(W_U).argmax_token(x).equal(argmax_token(x, W_U))
    assert in_full == []
    x[[1, 4], 1] = 10_000.0
    assert round_unembedding(W_U).argmax_token(x).equal(argmax_token(x, W_U))
    assert [given.tolist() for given in in_full] == [x[[1, 4]].tolist()]


def test_so_many_tokens_are_computed_on_their_own_and_no_more(in_full: list[Tensor]) -> None:
    """Of 2 MOST_CANDIDATES + 2 tokens the first MOST_CANDIDATES + 1 are alike but for less than
    bfloat16 sees; on the other side of zero, MOST_CANDIDATES of them."""
    up, down = torch.ones(MOST_CANDIDATES + 1), -torch.ones(MOST_CANDIDATES)
    W_U = torch.cat([up, down, torch.zeros(1)])[:, None].repeat(1, 2)
    W_U[:, 1] = 0
    W_U[MOST_CANDIDATES, 0], W_U[-2, 0] = 1 + 2**-10, -1 - 2**-10
    unembedding, x = round_unembedding(W_U), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert unembedding.candidates(x).sum(-1).tolist() == [MOST_CANDIDATES + 1, MOST_CANDIDATES]
    assert unembedding.argmax_token(x).tolist() == [MOST_CANDIDATES, 2 * MOST_CANDIDATES]
    assert [given.tolist() for given in in_full] == [[[1.0, 0.0]]]


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_for_every_token(seed: int) -> None:
    """In float64: no logit, less what all tokens share, is further from its rounded one than the
    bound says, and some are a tenth as far.

    Weights over five orders of magnitude, and inputs that are all rounded the same way.
    """
    W_U = _random(VOCABULARY, WIDTH, seed=seed) * torch.logspace(-3, 2, WIDTH)
    W_U[:40] = W_U[:40].bfloat16().float() * (1 + 2**-9)
    x = _random(RUNS, WIDTH, seed=seed + 9).bfloat16().float() * (1 + 2**-9)
    unembedding, y = round_unembedding(W_U), x.bfloat16()
    rounded = torch.nn.functional.linear(y, unembedding.rounded).double()
    exact = x.double() @ (W_U.double() - W_U.mean(0).double()).T
    allowed = unembedding.error(x, y.float())[:, None].double() + 2.0**-8 * rounded.abs()
    share = (rounded - exact).abs() / allowed
    assert 0.1 < share.max() < 1
    assert unembedding.candidates(x).gather(1, argmax_token(x, W_U)[:, None]).all()


def test_tokens_that_are_all_alike_or_inputs_that_are_not_finite_are_computed_in_full(
    in_full: list[Tensor],
) -> None:
    alike, x = round_unembedding(torch.ones(500, 4)), torch.ones(2, 4)
    assert alike.argmax_token(x).tolist() == [0, 0]
    assert [given.tolist() for given in in_full] == [x.tolist()]
    W_U, broken = (
        _random(500, 4),
        torch.tensor([[torch.nan, 0.0, 0.0, 0.0], [torch.inf, 0.0, 0.0, 1.0]]),
    )
    assert round_unembedding(W_U).argmax_token(broken).equal(argmax_token(broken, W_U))
    assert len(in_full[1]) == 2


def test_a_zero_input_gives_the_first_token() -> None:
    unembedding = round_unembedding(_random(VOCABULARY, WIDTH))
    assert unembedding.argmax_token(torch.zeros(2, WIDTH)).tolist() == [0, 0]


def test_it_pays_for_large_float32_vocabularies_on_a_cpu_that_multiplies_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = torch.empty(LEAST_WEIGHTS // 64, 64)
    assert rounding_pays(large, fast=True)
    assert not rounding_pays(large, fast=False)
    assert not rounding_pays(large[1:], fast=True)
    assert not rounding_pays(large.bfloat16(), fast=True)
    assert not rounding_pays(large.to("meta"), fast=True)
    for capabilities, expected in (
        ({}, False),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_f": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda given=capabilities: given)
        assert rounding_pays(large) == expected
