"""How much a command tells of what it is doing: nothing but results, its progress, every stage."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import Enum
from functools import wraps
from typing import Any

import click

from sage.progress import Stage, StagePath, Watcher, watching
from sage.work_done import WorkDone, tell_time

# Room for `63 % of the work, about 25 s left`.
STANDING_WIDTH = 33
# Seconds after which a line is printed, where stderr is no terminal.
QUIET_SECONDS = 30.0
# How deep a stage may stand to have a line of its own, unless all have.
TOLD_DEPTH = 3

Revise = Callable[[object], None]


class Telling(Enum):
    """`-q`, neither, `-v`."""

    QUIET = "quiet"
    PROGRESS = "progress"
    EVERYTHING = "everything"


def telling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-q` and `-v`; the command gets them as `telling`."""

    @wraps(command)
    def with_telling(*, quiet: bool, verbose: bool, **others: Any) -> Any:
        if quiet and verbose:
            raise click.UsageError("Give --quiet or --verbose, not both.")
        telling = Telling.QUIET if quiet else Telling.PROGRESS
        return command(telling=Telling.EVERYTHING if verbose else telling, **others)

    decorated = with_telling
    for option in (
        click.option("--verbose", "-v", is_flag=True, help="Tell every stage and its seconds."),
        click.option("--quiet", "-q", is_flag=True, help="Print nothing but results and errors."),
    ):
        decorated = option(decorated)
    return decorated


class Teller(Watcher):
    """Tells what is done, how much of the work that is, and about how long the rest will take.

    `revisions` are told, by the outermost stage that they are of, what turns up on the way.
    """

    says = True

    def __init__(self, work: WorkDone | None = None) -> None:
        self.work = work or WorkDone()
        self.revisions: dict[str, Revise] = {}
        self.current = ""

    def say(self, line: str) -> None:
        """Print a line on stderr."""
        click.echo(line, err=True)

    def entered(self, stage: Stage) -> None:
        self.work.begin()
        self.current = _name(stage.path)

    def moved(self, stage: Stage) -> None:
        self.work.moved(stage)

    def left(self, stage: Stage) -> None:
        self.work.left(stage)

    def learned(self, stage: Stage, fact: object) -> None:
        if revise := self.revisions.get(stage.path[0]):
            revise(fact)

    @property
    def standing(self) -> str:
        """`43 % of the work, about 3 min left`."""
        left = self.work.seconds_left
        share = f"{100 * self.work.share:.0f} % of the work"
        return (
            share
            if left is None or self.work.share >= 1
            else f"{share}, about {tell_time(left)} left"
        )


class Silent(Teller):
    """Says nothing at all."""

    says = False

    def say(self, line: str) -> None:
        del line


class LogLines(Teller):
    """A line when a stage ends, and one whenever none was printed for half a minute; with
    `everything`, one for every stage, with its seconds and what was found of earlier runs."""

    def __init__(
        self,
        work: WorkDone | None = None,
        *,
        everything: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(work)
        self.everything = everything
        self.clock = clock
        self.printed_at = clock()
        self.started: dict[StagePath, float] = {}
        self.kept: dict[StagePath, int] = {}

    def say(self, line: str) -> None:
        self.printed_at = self.clock()
        super().say(line)

    def entered(self, stage: Stage) -> None:
        super().entered(stage)
        self.started[stage.path] = self.clock()
        self.kept[stage.path] = 0

    def left(self, stage: Stage) -> None:
        super().left(stage)
        kept = self.kept.pop(stage.path, 0)
        seconds = self.clock() - self.started.pop(stage.path, self.clock())
        if stage.around is not None:
            self.kept[stage.around.path] = self.kept.get(stage.around.path, 0) + kept
        if not self.everything and (len(stage.path) > TOLD_DEPTH or stage.work == 0):
            return
        found = f", {kept} found in the cache" if kept and self.everything else ""
        taken = f" in {seconds:.1f} s" if self.everything else ""
        self.say(f"{_name(stage.path)} done{taken}{found}; {self.standing}")

    def found(self, stage: Stage, kind: str) -> None:
        del kind
        self.kept[stage.path] = self.kept.get(stage.path, 0) + 1

    def tick(self) -> None:
        """Called again and again: says where it stands, where that was not said for long."""
        if self.current and self.clock() - self.printed_at >= QUIET_SECONDS:
            self.say(f"{self.current}: {self.standing}")


class Bar(Teller):
    """One line on a terminal: the share of the work, the time left, the time gone, and as much as
    fits of the stage under way."""

    def __init__(self, work: WorkDone | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        super().__init__(work)
        columns = (
            BarColumn(bar_width=12),
            TextColumn("{task.fields[standing]}", table_column=Column(min_width=STANDING_WIDTH)),
            TimeElapsedColumn(),
            TextColumn(
                "{task.description}",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
        )
        self.bars = Progress(*columns, console=Console(stderr=True), expand=True)
        self.task = self.bars.add_task("", total=1.0, standing="")

    def say(self, line: str) -> None:
        from rich.markup import escape

        self.bars.console.print(escape(line), highlight=False)

    def entered(self, stage: Stage) -> None:
        super().entered(stage)
        self.tick()

    def moved(self, stage: Stage) -> None:
        super().moved(stage)
        self.tick()

    def left(self, stage: Stage) -> None:
        super().left(stage)
        self.tick()

    def tick(self) -> None:
        """Draw it as it stands."""
        self.bars.update(
            self.task,
            description=self.current.rpartition(": ")[2],
            completed=self.work.share,
            standing=self.standing,
        )


@contextmanager
def tell(telling: Telling) -> Generator[Teller]:
    """Whatever is done inside is told, on stderr, as much as is wanted: as a bar on a terminal, as
    lines elsewhere."""
    if telling is Telling.QUIET:
        teller = Silent()
        with watching(teller):
            yield teller
    elif telling is Telling.PROGRESS and sys.stderr.isatty():
        bar = Bar()
        with bar.bars, watching(bar):
            yield bar
    else:
        lines = LogLines(everything=telling is Telling.EVERYTHING)
        with _ticking(lines.tick), watching(lines):
            yield lines


@contextmanager
def _ticking(tick: Callable[[], None], *, every: float = 1.0) -> Generator[None]:
    """Something is called every second, whatever else is done."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            tick()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _name(path: StagePath) -> str:
    """`ioi--tiny-gpt2--seed0: scores: IO, topk8`."""
    return ": ".join(path)
