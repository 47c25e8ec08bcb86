"""Sequences: the tokens that fidelity is measured on, and what the model must say after them.

On text the model is asked for every next token, on a task for the answer at END. What it says after
BOS alone is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sage.errors import BadFile, SageError
from sage.models.base import Model
from sage.saes.residual_tokens import task_prompts, text_prompts, windows
from sage.task.task import Task
from sage.task.tokens import Tokenized

LENGTH, MOST, PROMPTS = 128, 512, 200
TEXT_COLUMN = "text"

Asked = Literal["next tokens", "answers"]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Tokens as the model reads them; `asked` is what it must say, `source` where they are from."""

    prompts: tuple[Tokenized, ...]
    asked: Asked
    source: str


class NextTokens(NamedTuple):
    """What sequences of one length are asked for: at these positions any of these tokens, as far as
    they are `valid`."""

    positions: Int[Tensor, "scored"]
    token_ids: Int[Tensor, "sequence scored choice"]
    valid: Bool[Tensor, "sequence scored choice"]


def sequences_of_text(
    model: Model, path: Path, *, length: int | None = None, most: int = MOST
) -> Sequences:
    """The first sequences of a UTF-8 text file, one passage per line, or of the column `text` of a
    dataset in a folder, as `datasets.save_to_disk` writes it.

    Passages are cut into sequences of `length` tokens, BOS included; a shorter rest stays. 128
    where no length is given, or as many as the model has positions for. BadFile where there is no
    text.
    """
    length = _length(model, length)
    if path.is_dir():
        cut = windows(model, _passages_in(path), window=length)
    else:
        cut = text_prompts(model, path, window=length)
    return sequences_of(model, cut[:most], source=str(path))


def sequences_of(model: Model, prompts: Iterable[Tokenized], *, source: str) -> Sequences:
    """Prompts as text, asked for every next token; those too short to ask for any are left out."""
    shortest = 3 if model.bos else 2
    asked = tuple(prompt for prompt in prompts if len(prompt.ids) >= shortest)
    if not asked:
        raise SageError(
            f"{source}: no sequence has {shortest} tokens or more, and a shorter one asks for "
            "no next token. Give longer passages, or a larger length."
        )
    return Sequences(asked, "next tokens", source)


def sequences_of_tasks(
    model: Model, tasks: Sequence[Task], *, count: int = PROMPTS, seed: int = 0
) -> Sequences:
    """Up to `count` prompts of every task, asked for their answer at END."""
    prompts = task_prompts(model, tasks, count=count, seed=seed)
    if not prompts:
        raise SageError("There are no prompts to measure on. Name at least one task.")
    return Sequences(tuple(prompts), "answers", ", ".join(task.name for task in tasks))


def targets(prompts: Sequence[Tokenized], asked: Asked, *, bos: bool) -> NextTokens:
    """What prompts of one length are asked for."""
    length = len(prompts[0].ids)
    if asked == "answers":
        most = max(len(prompt.answers) for prompt in prompts)
        rows = [[*prompt.answers, *[-1] * (most - len(prompt.answers))] for prompt in prompts]
        token_ids = torch.tensor(rows)[:, None]
        return NextTokens(torch.tensor([length - 1]), token_ids.clamp(min=0), token_ids >= 0)
    start = 1 if bos else 0
    token_ids = torch.tensor([prompt.ids[start + 1 :] for prompt in prompts])[..., None]
    valid = torch.ones_like(token_ids, dtype=torch.bool)
    return NextTokens(torch.arange(start, length - 1), token_ids, valid)


def _length(model: Model, asked: int | None) -> int:
    """The length asked for, or 128 where the model has as many positions; SageError where it has
    not, or where nothing would be asked of a sequence."""
    shortest = 3 if model.bos else 2
    positions = None if model.partial is None else model.partial.network.W_pos
    most = LENGTH if positions is None else len(positions)
    if asked is None:
        return min(LENGTH, most)
    if asked < shortest:
        raise SageError(f"Sequences of {asked} tokens ask for no next token. Give {shortest}+.")
    if positions is not None and asked > most:
        raise SageError(
            f"{model.name} has positions for {most} tokens; sequences of {asked} were asked for. "
            f"Give a length of at most {most}."
        )
    return asked


def _passages_in(folder: Path) -> list[str]:
    """The texts of a dataset on disk, of its one split or of `train`."""
    from datasets import Dataset, DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(folder))
    except (FileNotFoundError, ValueError) as error:
        raise BadFile(
            f"{folder} is no dataset on disk ({error}). Give a text file, or a folder that "
            "datasets.save_to_disk wrote."
        ) from error
    if isinstance(loaded, DatasetDict):
        loaded = loaded["train"] if "train" in loaded else next(iter(loaded.values()))
    assert isinstance(loaded, Dataset)
    if TEXT_COLUMN not in loaded.column_names:
        columns = ", ".join(loaded.column_names)
        raise BadFile(f"{folder} has no column '{TEXT_COLUMN}'; it has: {columns}.")
    return [text for text in loaded[TEXT_COLUMN] if isinstance(text, str) and text.strip()]
