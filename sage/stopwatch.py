"""Where a run's time goes: seconds and tokens through the model, stage by stage."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Lap(NamedTuple):
    """What a stage took so far."""

    seconds: float
    tokens: float


@dataclass(frozen=True)
class Stopwatch:
    """Adds up what each stage takes; `tokens` says how many have gone through the model."""

    tokens: Callable[[], float]
    laps: dict[str, Lap] = field(default_factory=dict[str, Lap])

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Everything inside belongs to the stage, and where stages are nested to each of them."""
        started_at, tokens_before = time.perf_counter(), self.tokens()
        try:
            yield
        finally:
            seconds, tokens = self.laps.get(name, Lap(0.0, 0.0))
            self.laps[name] = Lap(
                seconds + time.perf_counter() - started_at,
                tokens + self.tokens() - tokens_before,
            )
