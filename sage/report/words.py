"""Words: how counts and statuses are said, on pages and in data alike."""

from __future__ import annotations

from collections.abc import Sequence

from sage.report.score import Score


def numbers(score: Score) -> dict[str, object]:
    """A score as columns of data."""
    return {
        "value": score.value,
        "low": score.low,
        "high": score.high,
        "stderr": score.stderr,
        "n": score.n,
        "status": status(score),
    }


def status(score: Score) -> str:
    """`ok`, or undefined and why."""
    return "ok" if score.value is not None else f"undefined: {score.why}"


def span(counts: Sequence[int]) -> str:
    """`6`, or `6 to 7`."""
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low} to {high}"


def label(suite: str, model: str) -> str:
    """A suite's name beside its model's: an embedded suite is named after its model,
    `tiny-gpt2/topk4`, which need not be said twice."""
    return suite.removeprefix(f"{model}/") or suite


def count(number: int, what: str) -> str:
    """`1 suite`, `2 suites`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
