"""The actors of a sweep: begun while there is work, ended when they are lost or not needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sage.sweep.on_ray.actor import RayWorker, surroundings


@dataclass(eq=False)
class Actor:
    """An actor's handle; the reference that is done when it is ready, None when it is; the model
    that it holds, and the place of the job that it runs."""

    handle: Any
    beginning: Any = None
    model: tuple[str, ...] | None = None
    place: int | None = None


@dataclass
class ActorPool:
    """Actors of one core and so many `gpus` each, `count` at most; `lost` is how many were lost so
    far, and `say` is told of what a user should know."""

    count: int
    gpus: float
    say: Callable[[str], None]
    actors: list[Actor] = field(default_factory=list[Actor])
    lost: int = 0

    def begin(self) -> None:
        """Start an actor; it is ready when the cluster has room for it."""
        import ray

        remote: Any = ray.remote(RayWorker)
        # One thread runs cells, the other answers how far they are.
        handle = remote.options(num_cpus=1, num_gpus=self.gpus, max_concurrency=2).remote()
        beginning = handle.ready.remote(surroundings(gpus=self.gpus))
        self.actors.append(Actor(handle, beginning))

    def drop(self, actor: Actor) -> None:
        """One that is lost: ended for certain, since one out of reach might still write."""
        import ray

        self.actors.remove(actor)
        self.lost += 1
        ray.kill(actor.handle)

    def end(self) -> None:
        """End all actors, whatever they do."""
        import ray

        while self.actors:
            ray.kill(self.actors.pop().handle)
