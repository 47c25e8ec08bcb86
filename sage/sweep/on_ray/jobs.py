"""Jobs of a sweep, given to actors as these are free.

An actor goes on with cells of the model that it holds; where these run out it takes the model with
the most work for each actor that is at it. What a lost actor was doing is run again by another.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sage.errors import SageError
from sage.files import first_line
from sage.progress import expect
from sage.side_by_side import LOOK_EVERY, MOST_LOSSES, Job, Told
from sage.sweep.cells import SweepCell
from sage.sweep.on_ray.pool import Actor, ActorPool

Made = TypeVar("Made")

# Looks in a row at which no actor has begun, before it is said that all wait for room.
_LOOKS_WITHOUT_ROOM = 30


@dataclass(frozen=True)
class RayWorkers:
    """Workers on a Ray cluster, made by `ray_workers`."""

    pool: ActorPool

    @property
    def count(self) -> int:
        """How many cells are run at a time."""
        return self.pool.count

    def run(
        self,
        run: Callable[[SweepCell], Made],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Made], None],
    ) -> list[Made]:
        """See `Workers`."""
        expect(sum(job.work for job in jobs))
        under_way = JobsUnderWay(self.pool, run, jobs, ended)
        try:
            while len(under_way.made) < len(jobs):
                under_way.give()
                under_way.wait()
        except BaseException:
            self.pool.end()
            raise
        return [under_way.made[place] for place in range(len(jobs))]


class JobsUnderWay:
    """Which jobs wait, which are run by whom, what was made of the others; jobs are told apart by
    their place."""

    def __init__(
        self,
        pool: ActorPool,
        run: Callable[[SweepCell], Any],
        jobs: Sequence[Job[SweepCell]],
        ended: Callable[[Any], None],
    ) -> None:
        self.pool, self.run, self.jobs, self.ended = pool, run, jobs, ended
        self.waiting = list(range(len(jobs)))
        self.running: dict[Any, Actor] = {}
        self.made: dict[int, Any] = {}
        self.losses: Counter[int] = Counter()
        self.lost_beginnings = 0
        self.looks_without_room = 0
        self.told = Told([0.0] * len(jobs), jobs)

    def give(self) -> None:
        """Begin actors while there is work for them; give each that is free its next job.

        SageError where none is left and none can begin.
        """
        actors, wanted = self.pool.actors, len(self.waiting) + len(self.running)
        while self.lost_beginnings < MOST_LOSSES and len(actors) < min(self.pool.count, wanted):
            self.pool.begin()
        if not actors:
            raise SageError(
                f"{MOST_LOSSES} workers in a row were lost before they began. Look at Ray's log on "
                "the nodes. What is finished is kept."
            )
        for actor in actors:
            if actor.place is None and actor.beginning is None and self.waiting:
                place = self.next_for(actor)
                self.waiting.remove(place)
                job = self.jobs[place]
                actor.place, actor.model = place, job.given.model
                self.running[actor.handle.run.remote(self.run, job)] = actor

    def next_for(self, actor: Actor) -> int:
        """A job of the model that the actor holds; else one of the model with the most work for
        each actor at it."""
        work: defaultdict[tuple[str, ...], float] = defaultdict(float)
        for place in self.waiting:
            job = self.jobs[place]
            work[job.given.model] += job.work
        wanted = actor.model
        if wanted not in work:
            at_it = Counter(other.model for other in self.pool.actors if other.place is not None)
            wanted = max(work, key=lambda model: work[model] / (1 + at_it[model]))
        return next(place for place in self.waiting if self.jobs[place].given.model == wanted)

    def wait(self) -> None:
        """Wait until something ends, a second at most; tell how far all is."""
        import ray

        beginning = {a.beginning: a for a in self.pool.actors if a.beginning is not None}
        every = [*self.running, *beginning]
        done, _ = ray.wait(every, num_returns=1, timeout=LOOK_EVERY)
        for reference in done:
            if reference in beginning:
                self._begun(beginning[reference])
            else:
                self._ended(reference)
        if not done:
            self._look()

    def _begun(self, actor: Actor) -> None:
        import ray.exceptions

        try:
            ray.get(actor.beginning)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            if getattr(error, "actor_init_failed", False):
                raise _not_installed(error) from error
            self.pool.drop(actor)
            self.lost_beginnings += 1
            return
        actor.beginning = None
        self.lost_beginnings = 0

    def _ended(self, reference: Any) -> None:
        import ray.exceptions

        actor = self.running.pop(reference)
        place, actor.place = actor.place, None
        assert place is not None
        try:
            made = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            self._lost(actor, place, error)
            return
        self.made[place] = made
        self.lost_beginnings = 0
        self.told.tell(ended=[place])
        self.ended(made)

    def _lost(self, actor: Actor, place: int, error: Exception) -> None:
        """Put the job of a lost actor in front; SageError where it loses one after the other."""
        self.pool.drop(actor)
        self.waiting.insert(0, place)
        self.losses[place] += 1
        name = self.jobs[place].name
        if self.losses[place] >= MOST_LOSSES:
            raise SageError(
                f"{MOST_LOSSES} workers were lost at {name}, most likely for want of memory: "
                f"{first_line(error)} What is finished is kept."
            ) from error
        self.pool.say(f"A worker was lost; {name} is run again.")

    def _look(self) -> None:
        """Tell how far every job is that is being run, and where all wait for room."""
        import ray
        import ray.exceptions

        busy = list(self.running.values())
        asked = [actor.handle.share.remote() for actor in busy]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=LOOK_EVERY)
        for actor, reference in zip(busy, asked, strict=True):
            if reference in answered and actor.place is not None:
                try:
                    self.told.shares[actor.place] = ray.get(reference)
                except ray.exceptions.RayError:
                    # It is lost, which its job will say.
                    continue
        self.told.tell()
        self.looks_without_room = 0 if busy else self.looks_without_room + 1
        if self.looks_without_room == _LOOKS_WITHOUT_ROOM:
            self.pool.say("No worker could begin so far: the cluster has no room. Waiting for it.")


def _not_installed(error: Exception) -> SageError:
    last = str(error).strip().splitlines()[-1]
    return SageError(
        f"A node cannot start a worker ({last}). Install the same version of sage on every machine "
        "of the cluster."
    )
