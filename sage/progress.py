"""Progress: what is being done, how much of it is done, and what turned up on the way.

Work is done in stages, one inside another. What runs in a stage says how much there is to do and
how much is done, by `expect` and `advance`, and knows nothing of who watches.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

StagePath = tuple[str, ...]
"""The names of a stage and of those around it, outermost first."""


@dataclass(eq=False)
class Stage:
    """A stage of the work; `work` is what all of it counts in the stage around it.

    It learns how much there is to do as it goes along: `done` of `total`, in units of its own.
    """

    name: str
    around: Stage | None = None
    work: int | float = 1
    done: float = 0.0
    total: float = 0.0
    inside: float = 0.0

    @property
    def path(self) -> StagePath:
        """Its name, after those of the stages around it."""
        return (self.name,) if self.around is None else (*self.around.path, self.name)

    @property
    def share(self) -> float:
        """How much of it is done, from 0 to 1: what it counted, and the stage inside it."""
        done = self.done + self.inside
        return min(1.0, done / max(self.total, done)) if done else 0.0


class Watcher:
    """Who is told what is being done; this one takes no notice."""

    def entered(self, stage: Stage) -> None:
        """A stage begins."""

    def moved(self, stage: Stage) -> None:
        """More of a stage is done, or is known to be left."""

    def left(self, stage: Stage) -> None:
        """A stage ends, done or not."""

    def learned(self, stage: Stage, fact: object) -> None:
        """Something turned up that decides how much there is to do."""

    def found(self, stage: Stage, kind: str) -> None:
        """Something of this kind need not be computed, since it was kept."""


@contextmanager
def watching(watcher: Watcher) -> Generator[None]:
    """Whatever is done inside is told to the watcher, and to no other."""
    watched, under_way = _WATCHER.set(watcher), _STAGE.set(None)
    try:
        yield
    finally:
        _STAGE.reset(under_way)
        _WATCHER.reset(watched)


@contextmanager
def stage(name: str, *, work: int | float = 1) -> Generator[Stage]:
    """A stage of the work, inside the one under way; `work` in units of that one."""
    around = _STAGE.get()
    inner = Stage(name, around, work)
    token = _STAGE.set(inner)
    _tell("entered", inner)
    try:
        yield inner
    finally:
        if around is not None:
            around.inside = 0.0
            around.done += work
        _STAGE.reset(token)
        _tell("left", inner)


def expect(count: int | float) -> None:
    """There is that much more to do in the stage under way, if any is."""
    _count(0, count)


def advance(count: int | float) -> None:
    """That much more is done of the stage under way, if any is."""
    _count(count, 0)


def learned(fact: object) -> None:
    """What turned up in the stage under way, if any is, decides how much there is to do."""
    if (current := _STAGE.get()) and (watcher := _WATCHER.get()):
        watcher.learned(current, fact)


def found(kind: str) -> None:
    """Something that the stage under way needs, if any is, was kept and need not be computed."""
    if (current := _STAGE.get()) and (watcher := _WATCHER.get()):
        watcher.found(current, kind)


def _count(done: int | float, total: int | float) -> None:
    current = _STAGE.get()
    if current is None:
        return
    current.done += done
    current.total += total
    outer = current
    while outer.around is not None:
        outer.around.inside = outer.share * outer.work
        outer = outer.around
    _tell("moved", current)


def _tell(what: str, current: Stage) -> None:
    if watcher := _WATCHER.get():
        getattr(watcher, what)(current)


_STAGE: ContextVar[Stage | None] = ContextVar("stage under way", default=None)
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
