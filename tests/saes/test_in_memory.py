"""SAEs in memory: each is what its own library computes, a copy, and refused where it is no SAE."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saes.examples import NAMES, sae
from sage.errors import SageError
from sage.nodes import Node
from sage.saes.in_memory import as_suite, measure_suite, read_hook
from sage.saes.sae import SAE
from sage.store.key import suite_digest

D, WIDTH, K = 6, 10, 3


class Own(nn.Module):
    """An SAE as somebody may write it: relu(W (x - c)), and a linear layer back."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.W = nn.Parameter(torch.randn(WIDTH, D))
            self.decoder = nn.Linear(WIDTH, D)

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu((x - self.decoder.bias) @ self.W.T)

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoder(codes)


class AutoEncoderTopK(nn.Module):
    """What dictionary_learning calls so: the k largest of relu(W (x - b_dec) + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.activation_dim, self.dict_size = D, WIDTH
        self.register_buffer("k", torch.tensor(K, dtype=torch.int))
        self.register_buffer("threshold", torch.tensor(-1.0))
        self.encoder = nn.Linear(D, WIDTH)
        self.decoder = nn.Linear(WIDTH, D, bias=False)
        self.b_dec = nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor) -> Tensor:
        codes = torch.relu(self.encoder(x - self.b_dec))
        kept = codes.topk(K, dim=-1)
        return self.decoder(torch.zeros_like(codes).scatter(-1, *kept[::-1])) + self.b_dec


class SparseCoder(nn.Module):
    """What sparsify calls so: the same with the decoder's rows as an array."""

    def __init__(self) -> None:
        super().__init__()
        self.cfg = SimpleNamespace(k=K, activation="topk", transcode=False)
        self.encoder = nn.Linear(D, WIDTH)
        self.W_dec = nn.Parameter(torch.randn(WIDTH, D))
        self.b_dec = nn.Parameter(torch.randn(D))

    def forward(self, x: Tensor) -> Tensor:
        codes = torch.relu(self.encoder(x - self.b_dec))
        kept = codes.topk(K, dim=-1)
        return torch.zeros_like(codes).scatter(-1, *kept[::-1]) @ self.W_dec + self.b_dec


@pytest.mark.parametrize("make", [AutoEncoderTopK, SparseCoder])
def test_an_object_of_another_library_computes_what_it_computes(
    make: Callable[[], nn.Module],
) -> None:
    theirs = make()
    (ours,) = as_suite({"layers.3": theirs}).saes.values()
    x = tokens()
    assert (ours.encoder.name, str(ours.hook)) == ("topk", "3.resid_post@*")
    torch.testing.assert_close(ours.reconstruct(x), theirs(x))


def test_an_object_of_nobody_knows_which_class_is_taken_as_it_is() -> None:
    theirs = Own()
    (ours,) = as_suite({"blocks.1.hook_resid_pre": theirs}, name="mine").saes.values()
    x = tokens()
    assert (ours.id, ours.width, ours.d_model) == ("mine/1.resid_pre", WIDTH, D)
    torch.testing.assert_close(ours.encode(x), theirs.encode(x).detach())
    torch.testing.assert_close(ours.reconstruct(x), theirs.decode(theirs.encode(x)).detach())


@pytest.mark.parametrize("name", NAMES)
def test_an_sae_of_sage_stays_what_it_is(name: str) -> None:
    given = sae(name)
    (ours,) = as_suite({str(given.hook): given}).saes.values()
    assert ours.encoder is given.encoder


def test_what_is_taken_is_a_copy_and_is_known_by_its_tensors() -> None:
    """Training goes on, and the suite stays; two of the same weights are one."""
    theirs = Own()
    suite = as_suite({"1.resid_pre": theirs})
    before = suite_digest(suite)
    assert suite_digest(as_suite({"1.resid_pre": Own()}, name="other")) == before
    with torch.no_grad():
        theirs.W += 1
    assert suite_digest(suite) == before
    assert suite_digest(as_suite({"1.resid_pre": theirs})) != before


def test_a_factor_of_training_is_applied_before_and_undone_after() -> None:
    theirs = Own()
    (ours,) = as_suite({"1.resid_pre": theirs}, factor=0.5).saes.values()
    x = tokens()
    expected = theirs.decode(theirs.encode(0.5 * x)) / 0.5
    torch.testing.assert_close(ours.reconstruct(x), expected.detach())


def test_an_sae_worse_than_the_mean_is_refused() -> None:
    """A decoder of -x leaves four times the variance of x about 0."""
    theirs = SimpleNamespace(W_dec=-torch.eye(D), encode=lambda x: x)
    suite = as_suite({"1.resid_pre": theirs})
    model: Any = SimpleNamespace(device="cpu")
    with pytest.raises(SageError, match=r"leaves 4\.\d\d of the variance"):
        measure_suite(model, suite, {Node("resid_pre", 1): tokens(400)})
    good = as_suite({"1.resid_pre": SimpleNamespace(W_dec=torch.eye(D), encode=lambda x: x)})
    (measured,) = measure_suite(model, good, {Node("resid_pre", 1): tokens()}).values()
    assert measured.fvu == pytest.approx(0, abs=1e-9)


def changed(**methods: object) -> object:
    theirs = Own()
    for name, method in methods.items():
        object.__setattr__(theirs, name, method)
    return theirs


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (SimpleNamespace(W_dec=torch.eye(D)), "has no `encode`"),
        (SimpleNamespace(encode=lambda x: x), "holds no tensors"),
        (SimpleNamespace(encode=lambda x: x, W=torch.eye(D)), "has no decoder matrix"),
        (changed(encode=lambda x: x), "expected codes"),
        (changed(encode=lambda x: x @ torch.eye(D + 1)), "`encode` fails on activations"),
        (changed(encode=lambda x: torch.relu(x - x.mean(0)) @ torch.ones(D, WIDTH)), "beside it"),
        (changed(decode=lambda codes: torch.tanh(codes @ torch.ones(WIDTH, D))), "is not codes"),
    ],
)
def test_what_is_no_sae_is_refused_and_told_why(theirs: object, says: str) -> None:
    with pytest.raises(SageError, match=says):
        as_suite({"1.resid_pre": theirs})


@pytest.mark.parametrize(
    ("written", "node"),
    [
        ("blocks.5.hook_resid_mid", "5.resid_mid@*"),
        ("5.resid_post", "5.resid_post@*"),
        ("gpt_neox.layers.2", "2.resid_post@*"),
        ("transformer.h.7", "7.resid_post@*"),
    ],
)
def test_a_hook_is_read_in_every_spelling(written: str, node: str) -> None:
    assert str(read_hook(written)) == node


@pytest.mark.parametrize("written", ["blocks.5.attn.hook_z", "5.mlp_out", "five"])
def test_a_hook_off_the_residual_stream_is_refused(written: str) -> None:
    with pytest.raises(SageError, match="no hook of the residual stream"):
        read_hook(written)


def test_an_sae_that_says_it_reads_another_hook_is_refused() -> None:
    given: SAE = sae("relu")
    with pytest.raises(SageError, match="says that it reads"):
        as_suite({f"{given.hook.layer + 3}.resid_pre": given})


def tokens(count: int = 20) -> Tensor:
    return torch.randn(count, D, generator=torch.Generator().manual_seed(1))
