"""A sweep from its cells to a result folder that has all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sage.errors import SageError
from sage.progress import stage
from sage.side_by_side import Job
from sage.sweep.ahead import CellAhead, look_at, look_at_sweep
from sage.sweep.cells import SweepCell
from sage.sweep.parts import join_others, join_parts
from sage.sweep.scoring import CellEnd, score_sweep_cell
from sage.sweep.workers import Processes, Workers

SWEEP, LOOKING = "sweep", "looking ahead"


def run_sweep(
    ahead: Sequence[CellAhead],
    workers: Workers,
    *,
    again: bool = False,
    ended: Callable[[CellEnd], None] = lambda _: None,
) -> list[CellEnd]:
    """Score every cell into the result folder; one that fails is told, and the others go on.

    What stands there is left as it is, unless all is to be done `again`. `ended` is told of every
    cell as it ends, the last part of a divided one when all are joined. SageError where workers are
    lost again and again.
    """
    parts: dict[object, list[SweepCell]] = {}
    for of in ahead:
        parts.setdefault(of.cell.whole, []).append(of.cell)
    cells = {of.cell.title: of.cell for of in ahead}
    ends: dict[str, CellEnd] = {}

    def collect(end: CellEnd) -> None:
        ends[end.title] = end
        titles = [part.title for part in parts[cells[end.title].whole]]
        if all(title in ends for title in titles):
            ends[end.title] = end = _joined(end, [ends[title] for title in titles], again=again)
        ended(end)

    jobs = [Job(of.name or of.cell.title, of.cell, of.stages) for of in ahead]
    with stage(SWEEP):
        workers.run(partial(score_sweep_cell, again=again), jobs, collect)
    return [ends[of.cell.title] for of in ahead]


def _joined(end: CellEnd, parts: Sequence[CellEnd], *, again: bool) -> CellEnd:
    """Join the parts of a cell, the last of which has ended; where that fails its end says why."""
    whole = [part for part in parts if not part.why]
    if not whole:
        return end
    cell = Path(whole[0].folder)
    try:
        join_parts(cell, [Path(part.part) for part in whole if part.part], again=again)
        if len(whole) == len(parts):
            join_others(cell, again=again)
    except SageError as error:
        return end._replace(why=str(error))
    return end


def look_ahead_at(
    cells: Sequence[SweepCell], workers: Workers, *, again: bool = False
) -> list[CellAhead]:
    """What every cell will do and what it will take: looked up in this process where workers are
    processes beside it, else by the workers, where models will be."""

    def by_workers(some: Sequence[SweepCell]) -> list[CellAhead]:
        jobs = [Job(f"{LOOKING} at {cell.title}", cell) for cell in some]
        with stage(LOOKING, work=0):
            return workers.run(partial(look_at, again=again), jobs, lambda _: None)

    def here(some: Sequence[SweepCell]) -> list[CellAhead]:
        return [look_at(cell, again=again) for cell in some]

    if not isinstance(workers, Processes):
        return look_at_sweep(cells, by_workers, again=again)
    return _with_one_thread(lambda: look_at_sweep(cells, here, again=again))


def _with_one_thread(run: Callable[[], list[CellAhead]]) -> list[CellAhead]:
    """As a worker will run: prices are those of one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run()
    finally:
        torch.set_num_threads(threads)
