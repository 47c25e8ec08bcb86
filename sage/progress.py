"""Progress: what is being done, how much of it is done, and when it will be over."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
    del stage, done, total


@dataclass
class Stage:
    """A stage of the work that learns how much there is to do as it goes along.

    While it is `under_way`, what runs inside says how much there is to do and how much is done, by
    `expect` and `advance`, and knows nothing of who watches.
    """

    name: str
    progress: Progress
    done: int = 0
    total: int = 0

    @contextmanager
    def under_way(self) -> Generator[None]:
        """The stage that what runs inside belongs to; may be entered again, to go on with it."""
        token = _STAGE.set(self)
        try:
            yield
        finally:
            _STAGE.reset(token)


def expect(count: int) -> None:
    """There is that much more to do in the stage under way, if any is."""
    if stage := _STAGE.get():
        stage.total += count
        stage.progress(stage.name, stage.done, stage.total)


def advance(count: int) -> None:
    """That much more is done of the stage under way, if any is."""
    if stage := _STAGE.get():
        stage.done += count
        stage.progress(stage.name, stage.done, stage.total)


_STAGE: ContextVar[Stage | None] = ContextVar("stage under way", default=None)


@contextmanager
def progress_bar() -> Generator[Progress]:
    """A callback that draws one line per stage on stderr, with the time left."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    stages: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage)
            bars.update(stages[stage], completed=done, total=total)

        yield show
