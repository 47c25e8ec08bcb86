"""Residual activations token by token: what SAEs are trained and measured on.

Those of task prompts or of a text file, without BOS and without what the model makes a sink of,
whose activations are like no other token's (`sage.models.sinks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import BadFile, SageError
from sage.files import read_lines
from sage.memory import PROMPTS_READ_AT_ONCE
from sage.models.base import Model
from sage.models.sinks import massive
from sage.nodes import EVERYWHERE, Node
from sage.saes.sae import SAE, Fidelity, measure
from sage.task.task import Prompt, Task
from sage.task.token_audit import audit
from sage.task.tokens import Tokenized

WINDOW = 64


def residual_tokens(
    model: Model, hook: Node, prompts: Sequence[Tokenized]
) -> Float[Tensor, "token d_model"]:
    """The residual stream at a hook, every token of every prompt but sinks, on the CPU."""
    return tokens_at_hooks(model, [hook], prompts)[hook]


def tokens_at_hooks(
    model: Model, hooks: Sequence[Node], prompts: Sequence[Tokenized]
) -> dict[Node, Float[Tensor, "_ d_model"]]:
    """The same at several hooks, of one reading; what is a sink is told hook by hook."""
    if not prompts:
        raise SageError("There is nothing to read activations of: no prompts were given.")
    nodes = {hook: hook.at(EVERYWHERE) for hook in hooks}
    tokens: dict[Node, list[Tensor]] = {hook: [] for hook in hooks}
    for first in range(0, len(prompts), PROMPTS_READ_AT_ONCE):
        chunk = prompts[first : first + PROMPTS_READ_AT_ONCE]
        streams = model.read(list(nodes.values()), chunk)
        for hook, node in nodes.items():
            tokens[hook].append(without_bos(streams[node].cpu(), chunk, bos=model.sink))
    return {hook: without_massive(torch.cat(parts)) for hook, parts in tokens.items()}


def without_bos(
    stream: Float[Tensor, "prompt position d_model"], prompts: Sequence[Tokenized], *, bos: bool
) -> Float[Tensor, "token d_model"]:
    """The activations of prompts one after the other, without padding.

    With `bos` every prompt begins with that token, and its activations are left out too.
    """
    start = 1 if bos else 0
    return torch.cat(
        [row[start : len(prompt.ids)] for row, prompt in zip(stream, prompts, strict=True)]
    )


def without_massive(tokens: Float[Tensor, "token d_model"]) -> Float[Tensor, "token d_model"]:
    """The activations without those whose norm is many times the typical one, wherever they
    stood."""
    return tokens[~massive(tokens)]


def measure_on(
    model: Model,
    sae: SAE,
    stream: Float[Tensor, "prompt position d_model"],
    prompts: Sequence[Tokenized],
) -> Fidelity:
    """L0 and unexplained variance on the tokens of prompts, of which the model read this stream.

    Sinks count in neither: their norm can be many times that of other tokens, most of the variance.
    """
    return measure(sae, without_massive(without_bos(stream, prompts, bos=model.sink)))


def task_prompts(
    model: Model, tasks: Sequence[Task], *, count: int, seed: int = 0
) -> list[Tokenized]:
    """Up to `count` prompts of every task, as the model reads them."""
    tokenized: list[Tokenized] = []
    for task in tasks:
        usable = audit(task, model.tokenizer, bos=model.bos).task
        tokenized += [model.tokenize(prompt) for prompt in usable.sample(count, seed=seed)]
    return tokenized


def text_prompts(model: Model, path: Path, *, window: int = WINDOW) -> list[Tokenized]:
    """The lines of a text file, cut into windows of tokens. Raises as `read_passages`."""
    return windows(model, read_passages(path), window=window)


def read_passages(path: Path) -> list[str]:
    """The lines of a text file that are not empty; BadFile where it is no text."""
    try:
        lines = [line for line in read_lines(path) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(
            f"{path} cannot be read as text ({error}). "
            "Give a UTF-8 text file, one passage per line."
        ) from error
    if not lines:
        raise BadFile(f"{path} has no text. Give a UTF-8 text file, one passage per line.")
    return lines


def windows(model: Model, passages: Iterable[str], *, window: int = WINDOW) -> list[Tokenized]:
    """Passages cut into windows of at most that many tokens, and of no more than the model has
    positions.

    Each window begins with BOS where the model has one, which counts among its tokens.
    """
    longest = min(window, model.positions or window)
    size = max(1, longest - 1 if model.bos else longest)
    cut: list[Tokenized] = []
    for passage in passages:
        ids = model.tokenizer.backend_tokenizer.encode(passage, add_special_tokens=False).ids
        for first in range(0, len(ids), size):
            cut.append(_window(model, passage, ids[first : first + size]))
    return cut


def _window(model: Model, line: str, ids: Sequence[int]) -> Tokenized:
    bos = model.tokenizer.bos_token_id
    start = (bos,) if model.bos and isinstance(bos, int) else ()
    return Tokenized(Prompt(line, "", "", {}, {}, {}, (), ()), (*start, *ids), {}, (), ())
