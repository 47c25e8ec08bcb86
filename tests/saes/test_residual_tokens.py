"""SAEs are trained and measured on the tokens of prompts, without padding and BOS."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saes.examples import sae
from sage.errors import BadFile, SageError
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import EVERYWHERE, Node
from sage.saes.residual_tokens import (
    measure_on,
    residual_tokens,
    task_prompts,
    text_prompts,
    without_bos,
)
from sage.saes.sae import SAE
from sage.task.catalog import load_task
from sage.task.tokens import Tokenized

HOOK = Node("resid_pre", 2)


@pytest.fixture(scope="module")
def wired() -> Model:
    return load_model("wired", device="cpu")


@pytest.fixture(scope="module")
def prompts(wired: Model) -> list[Tokenized]:
    return task_prompts(wired, [load_task("wired")], count=12)


def read(model: Model, prompts: list[Tokenized]) -> torch.Tensor:
    return model.read([HOOK.at(EVERYWHERE)], prompts)[HOOK.at(EVERYWHERE)]


def literal(
    example: SAE, stream: torch.Tensor, prompts: list[Tokenized], *, first: int
) -> tuple[float, float]:
    """L0 and unexplained variance, token by token, from a first position on."""
    tokens = [
        stream[row, position].double()
        for row, prompt in enumerate(prompts)
        for position in range(first, len(prompt.ids))
    ]
    mean = sum(tokens) / len(tokens)
    active = unexplained = variance = 0.0
    for x in tokens:
        active += int((example.encode(x.float()) != 0).sum())
        unexplained += float((x - example.reconstruct(x.float())).square().sum())
        variance += float((x - mean).square().sum())
    return active / len(tokens), unexplained / variance


def test_l0_and_unexplained_variance_are_those_of_all_tokens_but_bos(
    wired: Model, prompts: list[Tokenized]
) -> None:
    assert wired.bos
    example = sae("relu", d=wired.anatomy.d_model, width=24)
    stream = read(wired, prompts)
    fidelity = measure_on(wired, example, stream, prompts)
    l0, fvu = literal(example, stream, prompts, first=1)
    assert fidelity.l0 == pytest.approx(l0)
    assert fidelity.fvu == pytest.approx(fvu, rel=1e-4)
    l0_with_bos, fvu_with_bos = literal(example, stream, prompts, first=0)
    assert abs(l0_with_bos - l0) > 0.01
    assert abs(fvu_with_bos - fvu) > 0.01


def test_no_token_of_a_model_without_bos_is_left_out(prompts: list[Tokenized]) -> None:
    longest = max(len(prompt.ids) for prompt in prompts)
    stream = torch.arange(float(len(prompts) * longest)).reshape(len(prompts), longest, 1)
    lengths = [len(prompt.ids) for prompt in prompts]
    every = [stream[row, :length] for row, length in enumerate(lengths)]
    assert torch.equal(without_bos(stream, prompts, bos=False), torch.cat(every))
    but_the_first = [tokens[1:] for tokens in every]
    assert torch.equal(without_bos(stream, prompts, bos=True), torch.cat(but_the_first))


def test_tokens_are_read_in_the_order_of_the_prompts(
    wired: Model, prompts: list[Tokenized], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = residual_tokens(wired, HOOK, prompts)
    assert torch.equal(whole, without_bos(read(wired, prompts), prompts, bos=True).cpu())
    monkeypatch.setattr("sage.saes.residual_tokens.PROMPTS_READ_AT_ONCE", 5)
    assert torch.allclose(residual_tokens(wired, HOOK, prompts), whole, atol=1e-5)
    with pytest.raises(SageError, match="no prompts were given"):
        residual_tokens(wired, HOOK, [])


def test_a_text_is_cut_into_windows_that_begin_with_bos(wired: Model, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("My dog is red, your cat is blue; so dog is\n\nMy dog\n")
    bos = wired.tokenizer.bos_token_id
    windows = [prompt.ids for prompt in text_prompts(wired, text, window=5)]
    assert all(ids[0] == bos and bos not in ids[1:] for ids in windows)
    assert max(map(len, windows)) == 5
    (whole, last) = text_prompts(wired, text, window=64)
    assert [token for ids in windows[:-1] for token in ids[1:]] == list(whole.ids[1:])
    assert windows[-1] == last.ids
    text.write_text("\n\n")
    with pytest.raises(BadFile, match="has no text"):
        text_prompts(wired, text)
    with pytest.raises(BadFile, match="cannot be read as text"):
        text_prompts(wired, tmp_path / "none.txt")
