"""Cells that load nothing, and what workers do with them: for what concerns workers alone."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from sage.errors import SageError
from sage.progress import advance, expect, stage

PATIENCE = 60.0


@dataclass(frozen=True)
class LightCell:
    """A cell of a model, with a folder for notes."""

    name: str
    folder: str
    model: tuple[str, ...] = ("light",)


def double(cell: LightCell) -> str:
    """Its name, twice."""
    return 2 * cell.name


def surroundings_of(cell: LightCell) -> dict[str, object]:
    """Where a worker is, and how many threads torch takes there."""
    import torch

    del cell
    names = ("SAGE_CACHE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    told = {name: os.environ.get(name) for name in names}
    return {**told, "folder": str(Path.cwd()), "threads": torch.get_num_threads()}


def die_at_first(cell: LightCell) -> str:
    """Kill this process at a cell called `fatal`, but not a second time."""
    died = Path(cell.folder) / "died"
    if cell.name == "fatal" and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(cell)


def die(cell: LightCell) -> str:
    """Kill this process, always."""
    os.kill(os.getpid(), signal.SIGKILL)
    return double(cell)


def refuse(cell: LightCell) -> str:
    """Fail as what a user can put right does."""
    raise SageError(f"{cell.name} cannot be.\nGive another.")


def half_and_wait(cell: LightCell) -> str:
    """Do half, and the rest once somebody has seen that."""
    with stage("work"):
        expect(2)
        advance(1)
        deadline = time.monotonic() + PATIENCE
        while not (Path(cell.folder) / "seen").exists():
            if time.monotonic() > deadline:
                raise SageError("Nobody saw it.")
            time.sleep(0.02)
    return double(cell)
