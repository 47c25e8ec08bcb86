"""What to make of a metric: a word, and why in a few more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Word = Literal["use", "use with care", "do not use", "not audited"]
USE: Word = "use"
CARE: Word = "use with care"
NOT: Word = "do not use"
UNKNOWN: Word = "not audited"


@dataclass(frozen=True)
class Verdict:
    """What to make of a metric of this version, and why in a few words."""

    metric: str
    version: int
    word: Word
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = f": {'; '.join(self.why)}" if self.why else ""
        return f"{self.word}{reasons}"
