"""Residual activations token by token, of task prompts or of a text file: what SAEs are trained and
measured on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import BadFile, SageError
from sage.models.base import Model
from sage.nodes import EVERYWHERE, Node
from sage.task.task import Prompt, Task
from sage.task.token_audit import audit
from sage.task.tokens import Tokenized

WINDOW = 64
PROMPTS_AT_ONCE = 256


def residual_tokens(
    model: Model, hook: Node, prompts: Sequence[Tokenized]
) -> Float[Tensor, "token d_model"]:
    """The residual stream at a hook, every token of every prompt but BOS, on the CPU."""
    start = 1 if model.bos else 0
    parts: list[Tensor] = []
    for first in range(0, len(prompts), PROMPTS_AT_ONCE):
        chosen = prompts[first : first + PROMPTS_AT_ONCE]
        values = model.read([hook.at(EVERYWHERE)], chosen)[hook.at(EVERYWHERE)].cpu()
        parts += [row[start : len(prompt.ids)] for row, prompt in zip(values, chosen, strict=True)]
    if not parts:
        raise SageError("There is nothing to read activations of: no prompts were given.")
    return torch.cat(parts)


def task_prompts(
    model: Model, tasks: Sequence[Task], *, count: int, seed: int = 0
) -> list[Tokenized]:
    """Up to `count` prompts of every task, as the model reads them."""
    usable = [audit(task, model.tokenizer, bos=model.bos).task for task in tasks]
    return [model.tokenize(prompt) for task in usable for prompt in task.sample(count, seed=seed)]


def text_prompts(model: Model, path: Path, *, window: int = WINDOW) -> list[Tokenized]:
    """The lines of a text file, cut into windows of tokens; each begins with BOS where the model
    has one."""
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(
            f"{path} cannot be read as text ({error}). Give a UTF-8 text file, one passage per line."
        ) from error
    if not lines:
        raise BadFile(f"{path} has no text. Give a UTF-8 text file, one passage per line.")
    size = window - 1 if model.bos else window
    found: list[Tokenized] = []
    for line in lines:
        ids = model.tokenizer.backend_tokenizer.encode(line, add_special_tokens=False).ids
        found += [
            _window(model, line, ids[first : first + size]) for first in range(0, len(ids), size)
        ]
    return found


def _window(model: Model, line: str, ids: Sequence[int]) -> Tokenized:
    bos = model.tokenizer.bos_token_id
    start = (bos,) if model.bos and isinstance(bos, int) else ()
    return Tokenized(Prompt(line, "", "", {}, {}, {}, (), ()), (*start, *ids), {}, (), ())
