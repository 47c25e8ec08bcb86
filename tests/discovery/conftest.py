"""Random models of each family reading a small ioi, wired models, and pairs of random prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from sage.models.base import Model
from sage.models.load import load_model
from sage.models.wired import wired_folder
from sage.task.catalog import load_task
from sage.task.splits import Splits, SplitSizes, split
from sage.task.task import Task
from sage.task.tokens import TokenizedPair, align
from tests.models.twin import Twin, load_twin
from tests.tiny import random_prompts, save_random_model

BACKENDS = ("transformer-lens", "nnsight")
IOI = load_task("ioi")
WIRED = load_task("wired")


class Ready(NamedTuple):
    """A model with a task it can read and the splits of it."""

    model: Model
    task: Task
    splits: Splits


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Family -> the folder of a random model whose vocabulary has all words of ioi."""
    texts = [
        " ".join([prompt.text, *prompt.answers, *prompt.foils])
        for prompt in IOI.sample(2000, seed=0)
    ]
    return cache(
        lambda family: save_random_model(
            tmp_path_factory.mktemp("random") / family, family, texts=texts
        )
    )


@pytest.fixture(scope="session")
def ready(folder: Callable[[str], Path]) -> Callable[[str, str], Ready]:
    """(family, backend) -> the random model reading ioi.

    Another template moves everything in it, so templates are no null.
    """

    def load(family: str, backend: str) -> Ready:
        model = load_model(str(folder(family)), backend=backend, device="cpu")
        splits = split(IOI, model.tokenize, seed=0, sizes=SplitSizes(discover=8, test=30, fit=400))
        null = {name: splits.discover_null[name] for name in ("place", "object")}
        return Ready(model, IOI, replace(splits, discover_null=null))

    return cache(load)


@pytest.fixture(scope="session")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, str], Ready]:
    """(seed, backend) -> a wired model with its task."""

    def load(seed: int, backend: str) -> Ready:
        folder = wired_folder(seed, tmp_path_factory.mktemp("wired") / str(seed))
        model = load_model(str(folder), backend=backend, device="cpu")
        splits = split(
            WIRED, model.tokenize, seed=seed, sizes=SplitSizes(discover=12, test=30, fit=200)
        )
        return Ready(model, WIRED, splits)

    return cache(load)


@pytest.fixture(scope="session")
def twin(folder: Callable[[str], Path]) -> Callable[[str], Twin]:
    """Family -> the random model as transformers alone runs it, in double precision."""
    return cache(lambda family: load_twin(family, folder(family)))


def random_pairs(
    count: int, seed: int = 0, *, lengths: Sequence[int] = (5, 8, 6)
) -> tuple[TokenizedPair, ...]:
    """Pairs of random prompts that differ from position A on; names are A (1), B (3) and END."""
    generator = torch.Generator().manual_seed(seed)
    pairs: list[TokenizedPair] = []
    for clean in random_prompts(count, seed, lengths=lengths):
        changed = torch.randint(2, 100, (len(clean.ids) - 1,), generator=generator).tolist()
        other = replace(
            clean, ids=(clean.ids[0], *changed), answers=clean.foils, foils=clean.answers
        )
        pairs.append(TokenizedPair(clean, align(clean, other), "random"))
    return tuple(pairs)
