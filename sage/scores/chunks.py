"""Dictionaries in parts: as many at a time as keep what is written for them in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.dictionaries.activations import Activations
from sage.memory import WRITTEN_NUMBERS_AT_ONCE


def in_parts(names: Sequence[str], given: Activations, *, copies: int) -> Iterator[list[str]]:
    """The dictionaries in parts whose writes, so many copies of the given values for each, are held
    in memory at once."""
    size = copies * sum(value.numel() for value in given.values.values())
    step = max(1, WRITTEN_NUMBERS_AT_ONCE // max(size, 1))
    for first in range(0, len(names), step):
        yield list(names[first : first + step])
