"""Jobs side by side, each in a process with one thread, whose progress is that of all together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

from sage.errors import SageError
from sage.processes import interrupts_later, worker_pool
from sage.progress import Stage, StagePath, Watcher, advance, expect, stage, watching
from sage.threads import one_thread
from sage.work_done import WorkDone

Given = TypeVar("Given")
Made = TypeVar("Made")

# Seconds between two looks at how far the jobs are.
LOOK_EVERY = 1.0
# Of a job that has not ended no more is told to be done.
MOST_TOLD = 0.99
# So often in a row a process may be lost without any job ending in between.
MOST_LOSSES = 3


@runtime_checkable
class Shares(Protocol):
    """How much of every job is done, from 0 to 1, in memory that all processes see."""

    def __getitem__(self, place: int, /) -> float: ...
    def __setitem__(self, place: int, share: float, /) -> None: ...


@dataclass(frozen=True)
class Job(Generic[Given]):
    """What a job is called, what it is given, and how long its stages are expected to take."""

    name: str
    given: Given
    stages: Mapping[StagePath, float] = field(default_factory=dict[StagePath, float])

    @property
    def work(self) -> float:
        """Seconds expected; 1 of a job of which nothing is."""
        return sum(self.stages.values()) or 1.0


def side_by_side(
    run: Callable[[Given], Made],
    jobs: Sequence[Job[Given]],
    *,
    processes: int,
    ended: Callable[[Made], None] | None = None,
) -> list[Made]:
    """What `run` makes of every job, in their order; the jobs that come first begin first.

    `run` and what it is given must be fit for pickling. `ended` is told of every job as it ends. A
    job that fails ends all of them; those of a process that is killed are run again. SageError
    where processes are killed again and again.
    """
    made: dict[int, Made] = {}
    shares = cast("Shares", get_context("spawn").RawArray("d", len(jobs)))
    told = Told(shares, jobs)
    expect(sum(job.work for job in jobs))
    losses = 0
    while len(made) < len(jobs):
        before = len(made)
        try:
            for place, what in _in_one_pool(run, jobs, made, told, processes):
                made[place] = what
                if ended is not None:
                    ended(what)
        except BrokenProcessPool as error:
            losses = losses + 1 if len(made) == before else 1
            if losses >= MOST_LOSSES:
                raise _lost([job for place, job in enumerate(jobs) if place not in made]) from error
    return [made[place] for place in range(len(jobs))]


def _in_one_pool(
    run: Callable[[Given], Made],
    jobs: Sequence[Job[Given]],
    made: Mapping[int, Made],
    told: Told[Given],
    processes: int,
) -> Iterator[tuple[int, Made]]:
    """What the jobs that are not made yet come to, as they end. BrokenProcessPool where a process
    is killed, after all that ended until then."""
    with worker_pool(processes, begin=_begin, given=(told.shares,)) as pool:
        with interrupts_later():
            places = {
                pool.submit(_run, run, place, job): place
                for place, job in enumerate(jobs)
                if place not in made
            }
        running: set[Future[Made]] = set(places)
        while running:
            with interrupts_later():
                done, running = wait(running, timeout=LOOK_EVERY)
            whole = sorted((places[f], f) for f in done if not f.exception())
            told.tell(ended=[place for place, _ in whole])
            for place, future in whole:
                yield place, future.result()
            for future in done:
                future.result()


def _lost(jobs: Sequence[Job[Given]]) -> SageError:
    names = ", ".join(job.name for job in jobs[:3]) + (", ..." if len(jobs) > 3 else "")
    return SageError(
        f"Processes were killed {MOST_LOSSES} times in a row, most likely for want of memory, with "
        f"{len(jobs)} still to do: {names}. Give fewer --workers; what is finished is kept."
    )


@dataclass
class Told(Generic[Given]):
    """How much of every job was told to whoever watches; `shares` says how much of it is done."""

    shares: Shares
    jobs: Sequence[Job[Given]]
    told: dict[int, float] = field(default_factory=dict[int, float])

    def tell(self, *, ended: Sequence[int] = ()) -> None:
        """What more of the jobs is done, and which of them ended."""
        for place, job in enumerate(self.jobs):
            before = self.told.get(place, 0.0)
            if place in ended:
                with stage(job.name, work=job.work - before):
                    self.told[place] = job.work
            elif (done := min(self.shares[place], MOST_TOLD) * job.work) > before:
                advance(done - before)
                self.told[place] = done


class Share(Watcher):
    """Puts how much of a job is done where the other process looks."""

    def __init__(self, shares: Shares, place: int, work: WorkDone) -> None:
        self.shares, self.place, self.work = shares, place, work

    def moved(self, stage: Stage) -> None:
        self.work.moved(stage)
        self.shares[self.place] = self.work.share

    def left(self, stage: Stage) -> None:
        self.work.left(stage)
        self.shares[self.place] = self.work.share


_SHARES: list[Shares] = []


def _begin(shares: Shares) -> None:
    one_thread()
    _SHARES[:] = [shares]


def _run(run: Callable[[Given], Made], place: int, job: Job[Given]) -> Made:
    work = WorkDone()
    work.expect((job.name,), job.stages)
    with watching(Share(_SHARES[0], place, work)):
        return run(job.given)
