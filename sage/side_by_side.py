"""Jobs side by side, each in a process with one thread, whose progress is that of all together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

from sage.progress import Stage, StagePath, Watcher, advance, expect, stage, watching
from sage.threads import one_thread
from sage.work_done import WorkDone

Given = TypeVar("Given")
Made = TypeVar("Made")

# Seconds between two looks at how far the jobs are.
LOOK_EVERY = 1.0


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
    run: Callable[[Given], Made], jobs: Sequence[Job[Given]], *, processes: int
) -> list[Made]:
    """What `run` makes of every job, in their order; the jobs that come first begin first.

    `run` and what it is given must be fit for pickling. A job that fails ends all of them.
    """
    context = get_context("spawn")
    shares = cast("Shares", context.RawArray("d", len(jobs)))
    expect(sum(job.work for job in jobs))
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(shares,)
    ) as pool:
        places = {
            pool.submit(_run, run, place, job): place for place, job in enumerate(jobs)
        }  # fmt: skip
        told = Told(shares, jobs)
        running: set[Future[Made]] = set(places)
        while running:
            done, running = wait(running, timeout=LOOK_EVERY)
            told.tell(ended=sorted(places[future] for future in done if not future.exception()))
            for future in done:
                future.result()
    return [future.result() for future in places]


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
            elif (done := self.shares[place] * job.work) > before:
                advance(done - before)
                self.told[place] = done


class _Share(Watcher):
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
    with watching(_Share(_SHARES[0], place, work)):
        return run(job.given)
