"""Ordinary text for the text lookup: the residual streams of its tokens at the hooks asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from sage.dictionaries.activations import Reader
from sage.dictionaries.controls.lookup import MOST_CENTRES, TOKENS_PER_CENTRE
from sage.nodes import EVERYWHERE, Node
from sage.task.tokens import Tokenized

MOST_TOKENS = MOST_CENTRES * TOKENS_PER_CENTRE

Streams = dict[Node, Tensor]
Text = Callable[[Reader, Collection[Node]], Streams | None]


def no_text(model: Reader, hooks: Collection[Node]) -> Streams | None:
    """Where no ordinary text is known."""
    del model, hooks


def text_of(prompts: Sequence[Tokenized]) -> Text:
    """The text of these prompts: each hook's tokens but BOS, up to as many as the largest table
    takes."""
    return partial(_read_text, tuple(prompts))


def _read_text(
    prompts: Sequence[Tokenized], model: Reader, hooks: Collection[Node]
) -> Streams | None:
    start = 1 if model.sink else 0
    taken: list[Tokenized] = []
    tokens = 0
    for prompt in prompts:
        if tokens >= MOST_TOKENS:
            break
        taken.append(prompt)
        tokens += len(prompt.ids) - start
    if not taken or not hooks:
        return None
    everywhere = {hook: hook.at(EVERYWHERE) for hook in sorted(hooks)}
    streams = model.read(list(everywhere.values()), taken)
    return {
        hook: torch.cat(
            [row[start : len(prompt.ids)] for row, prompt in zip(streams[node], taken, strict=True)]
        )
        for hook, node in everywhere.items()
    }
