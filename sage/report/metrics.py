"""The scores that pages show, and what they are called there: those of every table of results."""

from __future__ import annotations

from sage.result import HEADLINES, MAIN

__all__ = ["HEADLINES", "MAIN", "headline_title", "panels"]


def headline_title(metric: str) -> str:
    """`T2: control`; what a table calls the score, and its name where that is another word."""
    label = HEADLINES[metric]
    return metric if label == metric else f"{label}: {metric}"


def panels() -> dict[str, str]:
    """Title of a panel -> the score in it."""
    return {headline_title(metric): metric for metric in HEADLINES}
