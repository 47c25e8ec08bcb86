"""A stage of the work that learns how much there is to do as it goes along, and tells whoever
watches."""

from __future__ import annotations

from dataclasses import dataclass

from sage.progress import Progress, silent


@dataclass
class Stage:
    """Tells `progress` its name, how much is done and how much there is, so far as is known."""

    name: str = ""
    progress: Progress = silent
    done: int = 0
    total: int = 0

    def expect(self, count: int) -> None:
        """There is that much more to do."""
        self.total += count
        self.progress(self.name, self.done, self.total)

    def advance(self, count: int) -> None:
        """That much of it is done."""
        self.done += count
        self.progress(self.name, self.done, self.total)
