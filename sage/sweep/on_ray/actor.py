"""What runs on a node of the cluster: an actor that runs one cell at a time.

It is made ready before it loads anything heavy, so that libraries find threads, cache and network
as they are set for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sage.errors import SageError
from sage.files import cache_folder, first_line
from sage.progress import watching
from sage.side_by_side import Job, Share
from sage.threads import one_thread
from sage.version import __version__
from sage.work_done import WorkDone

if TYPE_CHECKING:
    from sage.sweep.cells import SweepCell

Made = TypeVar("Made")

# What workers are told of the network and the cache.
_PASSED_ON = (
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_TOKEN",
    "SAGE_CACHE_GB",
)


@dataclass(frozen=True)
class Surroundings:
    """What a worker has in common with the process that gives the command: its folder, variables
    of its environment, and the versions of what decides numbers."""

    folder: str
    variables: dict[str, str]
    versions: dict[str, str]


def surroundings(*, gpus: float) -> Surroundings:
    """Those of this process, for workers with so many GPUs each."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    variables = {**passed_on, "SAGE_CACHE": str(cache_folder().absolute())}
    if not gpus:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return Surroundings(str(Path.cwd()), variables, _versions())


class RayWorker:
    """One cell at a time, while it can be asked how far it is."""

    def __init__(self) -> None:
        self.shares = [0.0]

    def ready(self, common: Surroundings) -> None:
        """Take over what is common; SageError where this node cannot."""
        if (here := _versions()) != common.versions:
            raise SageError(
                f"A node has {_told(here)}; the sweep was started with {_told(common.versions)}. "
                "Install the same versions on every machine of the cluster."
            )
        try:
            os.chdir(common.folder)
        except OSError as error:
            raise SageError(
                f"A node cannot go to {common.folder} ({first_line(error)}). Start the sweep in a "
                "folder that every node of the cluster sees under the same path."
            ) from error
        os.environ.update(common.variables)
        one_thread()
        if torch := sys.modules.get("torch"):  # Ray may have loaded it, with a pool of threads
            torch.set_num_threads(1)

    def share(self) -> float:
        """How much of its cell is done, from 0 to 1."""
        return self.shares[0]

    def run(self, run: Callable[[SweepCell], Made], job: Job[SweepCell]) -> Made:
        """What `run` makes of a cell."""
        self.shares[0] = 0.0
        work = WorkDone()
        work.expect((job.name,), job.stages)
        with watching(Share(self.shares, 0, work)):
            return run(job.given)


def _versions() -> dict[str, str]:
    return {"sage": __version__, "torch": version("torch")}


def _told(versions: dict[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())
