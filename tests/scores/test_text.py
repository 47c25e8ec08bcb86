"""Ordinary text for the text lookup: every token but BOS, of as many prompts as a table takes."""

from __future__ import annotations

import pytest
import torch

from sage.models.base import Model
from sage.preparation import prepare
from sage.scores import text
from sage.scores.text import no_text, text_of
from sage.task.tokens import Tokenized
from wired_runs import PLAN, wired_model, wired_task


@pytest.fixture(scope="module")
def model() -> Model:
    return wired_model()


@pytest.fixture(scope="module")
def prompts(model: Model) -> list[Tokenized]:
    return list(prepare(model, wired_task("kind"), PLAN).splits.fit[:6])


def test_every_token_but_bos_of_every_prompt_is_read_at_every_hook(
    model: Model, prompts: list[Tokenized]
) -> None:
    hooks = model.anatomy.hooks[:2]
    streams = text_of(prompts)(model, hooks)
    assert streams is not None
    assert list(streams) == list(hooks)
    tokens = sum(len(prompt.ids) - 1 for prompt in prompts)
    for hook, stream in streams.items():
        assert stream.shape == (tokens, model.anatomy.d_model)
        alone = model.read([hook], prompts[:1])[hook][0]
        torch.testing.assert_close(stream[: len(prompts[0].ids) - 1], alone[1:])


@pytest.mark.parametrize(("more", "read"), [(0, 1), (1, 2)])
def test_no_more_prompts_are_read_than_the_largest_table_takes(
    model: Model, prompts: list[Tokenized], monkeypatch: pytest.MonkeyPatch, more: int, read: int
) -> None:
    """A table of as many tokens as the first prompt has takes it alone, one of more the next
    too."""
    monkeypatch.setattr(text, "MOST_TOKENS", len(prompts[0].ids) - 1 + more)
    hook = model.anatomy.hooks[0]
    streams = text_of(prompts)(model, [hook])
    assert streams is not None
    assert len(streams[hook]) == sum(len(prompt.ids) - 1 for prompt in prompts[:read])


def test_where_there_is_no_text_or_no_hook_there_is_none(
    model: Model, prompts: list[Tokenized]
) -> None:
    assert no_text(model, model.anatomy.hooks) is None
    assert text_of([])(model, model.anatomy.hooks) is None
    assert text_of(prompts)(model, []) is None
