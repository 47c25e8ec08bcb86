"""A sweep on a Ray cluster: one actor for each worker, which keeps its model and suites warm.

An actor goes on with cells of the model that it holds; where these run out it takes the model with
the most work for each actor that is at it. What an actor that is lost was doing is run again by
another. Ray is imported here alone.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from sage.errors import SageError
from sage.files import cache_folder, first_line
from sage.progress import expect, watching
from sage.side_by_side import LOOK_EVERY, MOST_LOSSES, Job, Share, Told
from sage.sweep.cells import SweepCell
from sage.work_done import WorkDone

Made = TypeVar("Made")

LOCAL = "local"
# What workers must be told as this process was: where the cache is, and whether there is a network.
_TOLD = ("HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "SAGE_CACHE_GB", "HF_TOKEN")
# Seconds that asking a worker how far it is may take.
_ASKING = 5.0
# Seconds that reaching the head of a cluster may take.
_REACHING = 10.0


class RayWorker:
    """What runs in an actor: one cell at a time, while it can be asked how far it is."""

    def __init__(self) -> None:
        self.shares = [0.0]

    def ready(self, folder: str) -> bool:
        """Go to the folder that the sweep was started in; SageError where there is none here."""
        try:
            os.chdir(folder)
        except OSError as error:
            raise SageError(
                f"A node cannot go to {folder} ({first_line(error)}). Start the sweep in a folder "
                "that every node of the cluster sees under the same path."
            ) from error
        return True

    def share(self) -> float:
        """How much of its cell is done, from 0 to 1."""
        return self.shares[0]

    def run(self, run: Callable[[SweepCell], Made], job: Job[SweepCell]) -> Made:
        """Run a cell."""
        import torch

        torch.set_num_threads(1)
        self.shares[0] = 0.0
        work = WorkDone()
        work.expect((job.name,), job.stages)
        with watching(Share(self.shares, 0, work)):
            return run(job.given)


@dataclass(eq=False)
class WorkerActor:
    """An actor, the model that it holds, and the place of the job that it runs."""

    handle: Any
    beginning: Any
    model: tuple[str, ...] | None = None
    place: int | None = None


@dataclass
class RayWorkers:
    """Actors on a cluster, `count` at most; `lost` is how many were lost so far."""

    count: int
    gpus: float
    say: Callable[[str], None]
    actors: list[WorkerActor] = field(default_factory=list[WorkerActor])
    lost: int = 0

    def run(
        self,
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Made], None],
    ) -> list[Made]:
        """See `Workers`."""
        expect(sum(job.work for job in jobs))
        under_way = UnderWay(self, run, jobs, ended)
        while len(under_way.made) < len(jobs):
            under_way.give()
            under_way.wait()
        return [under_way.made[place] for place in range(len(jobs))]

    def begin(self) -> WorkerActor:
        """Start an actor; whether there is room for it the cluster says when it is ready."""
        import ray

        told = {name: os.environ[name] for name in _TOLD if name in os.environ}
        variables = {**told, "SAGE_CACHE": str(cache_folder().absolute()), "OMP_NUM_THREADS": "1"}
        if not self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ""
        remote: Any = ray.remote(RayWorker)
        # One thread runs cells, the other answers how far they are.
        handle = remote.options(
            num_cpus=1, num_gpus=self.gpus, max_concurrency=2, runtime_env={"env_vars": variables}
        ).remote()
        actor = WorkerActor(handle, handle.ready.remote(str(Path.cwd())))
        self.actors.append(actor)
        return actor

    def end(self) -> None:
        """End all actors."""
        import ray

        for actor in self.actors:
            ray.kill(actor.handle)
        self.actors.clear()


@contextmanager
def ray_workers(
    address: str,
    *,
    count: int | None = None,
    gpus: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Generator[RayWorkers]:
    """Workers on the cluster at an address, "auto" on a machine that is part of it; on one that is
    started here, for as long as they are used, at "local".

    Each has one core and so many `gpus`; `count` of them at most, by default as many as the
    cluster has room for. SageError where Ray is not installed or the cluster cannot be reached.
    """
    ray = _ray()
    at_once = count or os.cpu_count() or 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _connect(ray, address, at_once)
    room = _room(ray.cluster_resources(), gpus)
    if room < 1:
        ray.shutdown()
        raise SageError(f"The cluster at {address} has no room for a worker with {gpus:g} GPUs.")
    workers = RayWorkers(min(count or room, room), gpus, say)
    try:
        # Ray tells of lost workers on stdout, which is for results.
        with redirect_stdout(sys.stderr):
            yield workers
    finally:
        workers.end()
        ray.shutdown()


def _connect(ray: Any, address: str, processes: int) -> None:
    _check_reached(address)
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=processes, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise _unreached(address, error) from error


def _check_reached(address: str) -> None:
    """SageError where nothing listens at HOST:PORT: Ray itself would try for many minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACHING).close()
    except (OSError, OverflowError) as error:
        raise _unreached(address, error) from error


def _unreached(address: str, error: Exception) -> SageError:
    return SageError(
        f"No Ray cluster can be reached at {address} ({first_line(error)}). `ray start --head` "
        'starts one; "local" starts one for this sweep alone. Where a cluster asks for a token '
        "the same RAY_AUTH_TOKEN must be set here."
    )


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise SageError(
            "Ray is not installed. `pip install 'sage-eval[ray]'` installs it, on every machine of "
            "the cluster."
        ) from error
    return ray


def _room(resources: Mapping[str, float], gpus: float) -> int:
    """How many workers a cluster has room for."""
    cores = int(resources.get("CPU", 0))
    return min(cores, int(resources.get("GPU", 0) / gpus)) if gpus else cores


class UnderWay:
    """Jobs on their way: which wait, which are made, and what of them was told."""

    def __init__(
        self,
        workers: RayWorkers,
        run: Callable[[SweepCell], Any],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Any], None],
    ) -> None:
        self.workers, self.run, self.jobs, self.ended = workers, run, jobs, ended
        self.waiting = list(range(len(jobs)))
        self.made: dict[int, Any] = {}
        self.running: dict[Any, WorkerActor] = {}
        self.losses: dict[int, int] = {}
        self.told = Told([0.0] * len(jobs), jobs)

    def give(self) -> None:
        """Start actors while there is work for them; give each that is free its next cell."""
        actors = self.workers.actors
        while len(actors) < min(self.workers.count, len(self.waiting) + len(self.running)):
            self.workers.begin()
        for actor in actors:
            if actor.place is None and actor.beginning is None and self.waiting:
                place = self.next_for(actor)
                self.waiting.remove(place)
                job = self.jobs[place]
                actor.place, actor.model = place, job.given.model
                self.running[actor.handle.run.remote(self.run, job)] = actor

    def wait(self) -> None:
        """Wait until something ends, a second at most; tell how far all is."""
        import ray

        beginning = {a.beginning: a for a in self.workers.actors if a.beginning is not None}
        every = [*self.running, *beginning]
        done, _ = ray.wait(every, num_returns=1, timeout=LOOK_EVERY)
        for reference in done:
            if reference in beginning:
                self._begun(beginning[reference])
            else:
                self._ended(reference)
        if not done:
            self._look()
            self.told.tell()

    def next_for(self, actor: WorkerActor) -> int:
        """A cell of the model that the actor holds; else one of the model with the most work for
        each actor at it."""
        work: dict[tuple[str, ...], float] = {}
        for place in self.waiting:
            job = self.jobs[place]
            work[job.given.model] = work.get(job.given.model, 0.0) + job.work
        wanted = actor.model
        if wanted not in work:
            at_it = [other.model for other in self.workers.actors if other.place is not None]
            wanted = max(work, key=lambda model: work[model] / (1 + at_it.count(model)))
        return next(place for place in self.waiting if self.jobs[place].given.model == wanted)

    def _begun(self, actor: WorkerActor) -> None:
        import ray.exceptions

        try:
            ray.get(actor.beginning)
            actor.beginning = None
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from error
        except ray.exceptions.RayError as error:
            self._drop(actor)
            self._count_loss(-1, "no cell", error)

    def _ended(self, reference: Any) -> None:
        import ray.exceptions

        actor = self.running.pop(reference)
        place, actor.place = actor.place, None
        assert place is not None
        try:
            made = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from error
        except ray.exceptions.RayError as error:
            self._drop(actor)
            self.waiting.insert(0, place)
            self.workers.say(f"A worker was lost; {self.jobs[place].name} is run again.")
            self._count_loss(place, self.jobs[place].name, error)
            return
        self.made[place] = made
        self.told.tell(ended=[place])
        self.ended(made)

    def _drop(self, actor: WorkerActor) -> None:
        self.workers.actors.remove(actor)
        self.workers.lost += 1

    def _count_loss(self, place: int, name: str, error: Exception) -> None:
        self.losses[place] = self.losses.get(place, 0) + 1
        if self.losses[place] >= MOST_LOSSES:
            raise SageError(
                f"{MOST_LOSSES} workers were lost at {name}, most likely for want of memory: "
                f"{first_line(error)}. What is finished is kept."
            ) from error

    def _look(self) -> None:
        """How far every cell is that is being run."""
        import ray.exceptions

        busy = list(self.running.values())
        asked = [actor.handle.share.remote() for actor in busy]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_ASKING)
        for actor, reference in zip(busy, asked, strict=True):
            if reference in answered and actor.place is not None:
                try:
                    self.told.shares[actor.place] = ray.get(reference)
                except ray.exceptions.RayError:
                    continue
