"""The demo with one suite on one task of two models, by a plan as small as a plan can be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sage.cli import INTERRUPTED, main

if TYPE_CHECKING:
    from sage.demo import DemoCell

MODELS = ("tiny-neox", "tiny-gemma2")
# What a cell is scored by in a process in which the demo was made small.
WHOLE: dict[str, Callable[..., Path]] = {}


def score_small_cell(cell: DemoCell, *, out: Path, plan_name: str, again: bool) -> Path:
    """What the demo does of a cell, with fewer pairs."""
    from sage import demo
    from sage.run import PLANS

    least = replace(
        PLANS["quick"], pairs=30, discover=30, decide=20, fit=200, controls=("random",), copying=()
    )
    PLANS["quick"] = least  # pyright: ignore[reportIndexIssue]
    score = WHOLE.get("cell", demo.score_demo_cell)
    return score(cell, out=out, plan_name=plan_name, again=again)


def _make_small() -> None:
    """The real command imports the demo where an interrupt is told in a sentence; so does this."""
    from sage import demo

    demo.SUITES = ("topk4",)
    demo.QUICK_TASKS = {
        name: ("gendered_pronoun",) if name in MODELS else () for name in demo.MODELS
    }
    WHOLE["cell"] = demo.score_demo_cell
    demo.score_demo_cell = score_small_cell


if __name__ == "__main__":
    try:
        _make_small()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    main()
