"""Who runs the cells of a sweep: processes of this machine, or (`on_ray`) actors of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from sage.side_by_side import Job, side_by_side
from sage.sweep.cells import SweepCell

Made = TypeVar("Made")


@runtime_checkable
class Workers(Protocol):
    """Workers that lose no cell: those of a worker that is lost are run again by another."""

    @property
    def count(self) -> int:
        """How many cells are run at a time."""
        ...

    def run(
        self,
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Made], None],
    ) -> list[Made]:
        """What `run` makes of every cell, in their order; `ended` is told of each as it ends.

        SageError where workers are lost again and again.
        """
        ...


@dataclass(frozen=True)
class Processes:
    """So many processes of this machine, each with one thread."""

    count: int

    def run(
        self,
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Made], None],
    ) -> list[Made]:
        """See `Workers`."""
        return side_by_side(run, jobs, processes=min(self.count, len(jobs)), ended=ended)
