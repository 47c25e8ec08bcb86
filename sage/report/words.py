"""Words: how counts and suites are said, on pages and in data alike."""

from __future__ import annotations

from collections.abc import Sequence

# In the names of suites whose decoder may hardly leave where it began.
SOFT_FROZEN = "soft-frozen"


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


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def told_notes(notes: Sequence[str]) -> list[str]:
    """Notes that open with the same words and a colon as one: `plan quick: this; that`."""
    told: dict[str, list[str]] = {}
    for note in notes:
        opening, colon, rest = note.partition(": ")
        if colon and opening.startswith("plan "):
            told.setdefault(f"{opening[0].upper()}{opening[1:]}", []).append(rest)
        else:
            told.setdefault(note, [])
    return [
        f"{key}: {'; '.join(dict.fromkeys(rest))}." if rest else key for key, rest in told.items()
    ]


def suite_label(suite: str, model: str) -> str:
    """A suite's name where its model's stands beside it.

    An embedded suite is named after its model, `tiny-gpt2/topk4`, which need not be said twice.
    """
    return suite.removeprefix(f"{model}/") or suite


def is_null(suite: str) -> bool:
    """Whether a suite is a null of another one: a line beside the judged, never ranked."""
    return SOFT_FROZEN in suite
