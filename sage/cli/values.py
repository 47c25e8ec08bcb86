"""Values on the command line: numbers in a range, finite ones, and places that can be written."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import click

# As many prompts, steps or sequences as anybody waits for.
MOST = 1_000_000
MOST_SEEDS = 1000
# Each worker is a process that holds the libraries.
MOST_WORKERS = 256
# Seeds are shifted and multiplied on their way to generators that take 64 bits.
MOST_SEED = 2**32 - 1

count = click.IntRange(min=1, max=MOST)
seed = click.IntRange(min=0, max=MOST_SEED)


class FiniteRange(click.FloatRange):
    """A number of a range, which NaN and infinity are not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; a usage error where it is none."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class WritablePath(click.Path):
    """A file or folder to write, refused before anything is done where it cannot be written."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error says what stands in its way."""
        path = super().convert(value, param, ctx)
        why = why_not_writable(Path(str(path)))
        if why:
            self.fail(f"{path} cannot be written: {why}.", param, ctx)
        return path


def why_not_writable(path: Path) -> str:
    """What stands in the way of writing at a path; nothing where nothing is seen to."""
    place = Path(os.path.abspath(path))
    try:
        while not place.exists():
            place = place.parent
    except OSError as error:
        return error.strerror or str(error)
    if not place.is_dir() and place != Path(os.path.abspath(path)):
        return f"{place} is no folder"
    if not os.access(place, os.W_OK):
        return f"{place} is read-only, or belongs to somebody else"
    return ""
