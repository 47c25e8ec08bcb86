"""Words: how counts and suites are said, on pages and in data alike."""

from __future__ import annotations

from collections.abc import Sequence


def count(number: int, noun: str) -> str:
    """`1 suite`, `2 suites`."""
    return f"{number} {plural(number, noun)}"


def plural(number: int, noun: str) -> str:
    """`suite` of one, else `suites`."""
    return noun if number == 1 else f"{noun}s"


def span(counts: Sequence[int]) -> str:
    """`6`, or `6 to 7`."""
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low} to {high}"


def suite_label(suite: str, model: str) -> str:
    """A suite's name where its model's stands beside it.

    An embedded suite is named after its model, `tiny-gpt2/topk4`, which need not be said twice.
    """
    return suite.removeprefix(f"{model}/") or suite
