"""Small runs of the wired model, whose features are known: what is drawn, and which suites."""

from __future__ import annotations

from dataclasses import replace

from sage.models.base import Model
from sage.models.load import load_model
from sage.run import Plan
from sage.saes.planted import planted_suite
from sage.saes.suite import Suite
from sage.task.catalog import load_task
from sage.task.task import Task

# As little as a run can do.
PLAN = Plan(
    "least",
    pairs=30,
    discover=30,
    decide=20,
    fit=200,
    detect=0,
    controls=("random",),
    thorough=False,
    copying=(),
    unbounded=False,
    apart=False,
)


def wired_model() -> Model:
    return load_model("wired", device="cpu")


def wired_task(*contrasts: str) -> Task:
    """The wired model's task with some of its contrasts."""
    return replace(load_task("wired"), contrasts=contrasts)


def planted(model: Model, name: str = "planted", *, hooks: int | None = None) -> Suite:
    """The model's own features at its first hooks, or at all."""
    return Suite(name, planted_suite(model.anatomy.hooks[:hooks]).saes)
