"""Small results by hand: suites of one cell, with a row each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sage.result import (
    Gate,
    ModelInfo,
    Result,
    Row,
    RunInfo,
    SAEInfo,
    SectionInfo,
    StageInfo,
    SuiteInfo,
    TaskInfo,
)
from sage.run import make_plan
from sage.scores.score import versions

RUN = RunInfo(
    "0.1.0", 0, {"test": 50}, "first", 10.0, 4.0, None, [StageInfo("scores", 9.0, 4.0)],
    make_plan("quick").facts, "cpu", {"torch": "2.0"}, versions(),
)  # fmt: skip

SAE = SAEInfo("s", "topk", "1.resid_pre", 8, 4.0, 0.2)


def row(suite: str, value: float) -> Row:
    return Row("IO", suite, suite, "control", "IO", value, 50, version=2)


def result(*suites: str, value: float = 0.5, **changes: Any) -> Result:
    """A result of these suites, with one row each; a suite's digest is its name."""
    made = Result(
        task=TaskInfo("ioi", "by hand", "ab12"),
        model=ModelInfo("tiny", "cd34", "nnsight", "float32", 64),
        run=RUN,
        gate=Gate(0.9, 3.0, 500, 0.75, True),
        sections=[SectionInfo("IO", "IO", ["3.1.z@END"], 1.0)],
        suites=[SuiteInfo(name, [SAE], {"IO": 1.0}, digest=name) for name in suites],
        discovery=[],
        rows=[row(name, value) for name in suites],
        notes=["plan quick", *(f"note of {name}" for name in suites)],
    )
    return replace(made, **changes)
