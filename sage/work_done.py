"""The share of the work that is done, in seconds of an estimate, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sage.progress import Stage, StagePath

# Of all the work: so much must be done before its own pace counts as much as the one expected.
TRUSTED_SHARE = 0.1


@dataclass
class WorkDone:
    """What an estimate expects of every stage, and how much of it is done.

    `pace` is seconds of the clock for one second of the estimate, as expected. Without an estimate
    the outermost stage says how much of it is done.
    """

    clock: Callable[[], float] = time.monotonic
    pace: float = 1.0
    expected: dict[StagePath, float] = field(default_factory=dict[StagePath, float])
    shares: dict[StagePath, float] = field(default_factory=dict[StagePath, float])
    started: float | None = None
    outermost: float = 0.0
    shown: float = 0.0

    def expect(self, start: StagePath, stages: Mapping[StagePath, float]) -> None:
        """The stages inside `start` take so many seconds each, and no others take any."""
        size = len(start)
        others = {path: s for path, s in self.expected.items() if path[:size] != start}
        # One assignment: another thread may be reading.
        self.expected = others | {(*start, *path): seconds for path, seconds in stages.items()}
        self.begin()

    def begin(self) -> None:
        """The clock runs, if it does not yet."""
        if self.started is None:
            self.started = self.clock()

    def moved(self, stage: Stage) -> None:
        """More of a stage is done, and so of those around it."""
        current: Stage | None = stage
        while current is not None:
            self.shares[current.path] = current.share
            if current.around is None:
                self.outermost = current.share
            current = current.around

    def left(self, stage: Stage) -> None:
        """All of a stage is done, and all that was expected inside it."""
        self.moved(stage)
        self.shares[stage.path] = 1.0
        if stage.around is None:
            self.outermost = 1.0
        size = len(stage.path)
        for path in self.expected:
            if path[:size] == stage.path:
                self.shares[path] = 1.0

    @property
    def seconds_done(self) -> float:
        """Of the estimate's."""
        stages = list(self.expected.items())
        return sum((self.shares.get(path, 0.0) * seconds for path, seconds in stages), 0.0)

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1; it never shrinks, even where more turns up."""
        whole = sum(self.expected.values())
        now = self.seconds_done / whole if whole else self.outermost
        self.shown = max(self.shown, min(1.0, now))
        return self.shown

    @property
    def seconds_left(self) -> float | None:
        """By the clock: at the pace so far, as far as there is one; None where nobody can tell."""
        if self.started is None:
            return None
        elapsed, whole = self.clock() - self.started, sum(self.expected.values())
        if whole:
            done, trusted = self.seconds_done, TRUSTED_SHARE * whole
            pace = (elapsed + trusted * self.pace) / (done + trusted)
            return max(0.0, (whole - done) * pace)
        return elapsed * (1 - self.share) / self.share if self.share else None


def tell_time(seconds: float) -> str:
    """`40 s`, `3 min`, `1.5 hours`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} hours"
