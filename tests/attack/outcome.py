"""What comes of a bad input: a value, a refusal in one sentence, or a traceback: a defect."""

from __future__ import annotations

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import click

from sage.errors import SageError

# Prepares an input in a folder and reads it.
Attack = Callable[[Random, Path], Any]


class Wrong(Exception):
    """An input was taken, and what came of it is no number."""


@dataclass
class Tally:
    """What came of the inputs of one class."""

    counts: Counter[str] = field(default_factory=Counter[str])
    defects: list[str] = field(default_factory=list[str])

    def add(self, outcome: str, seed: int, error: BaseException | None = None) -> None:
        self.counts["tried"] += 1
        self.counts[outcome] += 1
        if outcome in ("traceback", "wrong") and error is not None:
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {str(error)[:120]!r}"
            self.defects.append(f"seed {seed}: {told} at {where.filename}:{where.lineno}")


def attack(strike: Attack, tally: Tally, *, seed: int, folder: Path) -> str:
    """One input of a class, by its seed: what came of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            strike(Random(seed), folder)
    except (SageError, click.ClickException) as error:
        outcome, told = "refused", str(error)
        if not told.strip():
            tally.add("traceback", seed, error)
            return "traceback"
        tally.add(outcome, seed)
        return outcome
    except Wrong as error:
        tally.add("wrong", seed, error)
        return "wrong"
    except (Exception, SystemExit) as error:
        tally.add("traceback", seed, error)
        return "traceback"
    tally.add("taken", seed)
    return "taken"
