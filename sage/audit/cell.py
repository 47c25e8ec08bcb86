"""A cell of the audit's table: a metric under a lens in one place, and the figures behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """`passed` is None where there is nothing to judge; `said` are the figures in words, `failed`
    what it fails by."""

    metric: str
    lens: str
    where: str
    passed: bool | None
    said: str
    figures: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    failed: tuple[str, ...] = ()

    def command(self, *, quick: bool) -> str:
        """What makes it anew."""
        metric = f"'{self.metric}'" if " " in self.metric else self.metric
        return f"sage audit --metric {metric} --lens {self.lens}{' --quick' if quick else ''}"
