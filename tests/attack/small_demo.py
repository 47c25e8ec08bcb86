"""The demo with one suite on one task of two models, by a plan as small as a plan can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sage import demo
from sage.cli import main
from sage.run import PLANS

MODELS = ("tiny-neox", "tiny-gemma2")
score_demo_cell = demo.score_demo_cell


def score_small_cell(cell: demo.DemoCell, *, out: Path, plan_name: str, again: bool) -> Path:
    """What the demo does of a cell, with fewer pairs."""
    least = replace(
        PLANS["quick"], pairs=30, discover=30, decide=20, fit=200, controls=("random",), copying=()
    )
    PLANS["quick"] = least  # pyright: ignore[reportIndexIssue]
    return score_demo_cell(cell, out=out, plan_name=plan_name, again=again)


if __name__ == "__main__":
    demo.SUITES = ("topk4",)
    demo.QUICK_TASKS = {
        name: ("gendered_pronoun",) if name in MODELS else () for name in demo.MODELS
    }
    demo.score_demo_cell = score_small_cell
    main()
