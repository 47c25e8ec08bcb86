"""Runs with a store: warm or cold, alone or after another suite, killed or not, the same numbers to
the last bit; and none of another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.evaluation import Evaluation, evaluate
from sage.models.base import Model
from sage.models.load import load_model
from sage.progress import Stage, Watcher, watching
from sage.run import Plan
from sage.saes.planted import planted_suite
from sage.saes.suite import Suite
from sage.store.store import Store
from wired_runs import wired_task

PLAN = Plan(
    pairs=40,
    discover=40,
    decide=40,
    fit=300,
    detect=20,
    controls=("mean only", "random", "PCA"),
    thorough=False,
    copying=(4,),
    unbounded=False,
    apart=False,
)


class Stopped(Exception):
    """A run is stopped, as by a signal."""


class StopsWhenScored(Watcher):
    """Stops a run when all is scored."""

    def left(self, stage: Stage) -> None:
        if stage.name == "scores":
            raise Stopped


@pytest.fixture(scope="module")
def wired() -> Model:
    return load_model("wired", device="cpu")


@pytest.fixture(scope="module")
def first(wired: Model) -> Suite:
    return Suite("first", planted_suite(wired.anatomy.hooks[:2]).saes)


@pytest.fixture(scope="module")
def second(wired: Model) -> Suite:
    return Suite("second", planted_suite(wired.anatomy.hooks[:3]).saes)


def run(
    model: Model,
    suite: Suite,
    *,
    plan: Plan = PLAN,
    store: Path | None = None,
    out: Path | None = None,
) -> Evaluation:
    """A run of a model that has forgotten its clean runs."""
    model.clean_runs.runs.clear()
    kept = Store(store) if store else None
    return evaluate(model, wired_task("kind", "animal"), [suite], plan=plan, folder=out, store=kept)


def stopped_run(model: Model, suite: Suite, *, out: Path, store: Path, plan: Plan = PLAN) -> None:
    """A run that is stopped when all is scored, and nothing of it is written but its parts."""
    task, kept = wired_task("kind", "animal"), Store(store)
    with pytest.raises(Stopped), watching(StopsWhenScored()):
        evaluate(model, task, [suite], plan=plan, folder=out, store=kept)
    assert len(list((out / ".unfinished").rglob("*.safetensors"))) >= 3
    assert not (out / "result.json").exists()


def spent(evaluation: Evaluation) -> dict[str, float]:
    """The forward passes that every stage took."""
    return {stage.stage: stage.forwards for stage in evaluation.result.run.stages}


def assert_same(one: Evaluation, other: Evaluation) -> None:
    """Every number is, to the last bit."""
    kept, again = (replace(run.result, run=one.result.run) for run in (one, other))
    assert kept == again
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        assert np.ascontiguousarray(array).tobytes() == other.arrays[name].tobytes(), name


@pytest.fixture(scope="module")
def alone(wired: Model, second: Suite) -> Evaluation:
    """The second suite by itself, without a store."""
    return run(wired, second)


@pytest.fixture(scope="module")
def kept(wired: Model, first: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that knows all but the second suite."""
    folder = tmp_path_factory.mktemp("store")
    run(wired, first, store=folder)
    return folder


def test_warm_and_cold_runs_and_those_without_a_store_have_the_same_numbers(
    wired: Model, second: Suite, alone: Evaluation, tmp_path: Path
) -> None:
    cold, warm = (run(wired, second, store=tmp_path) for _ in range(2))
    assert_same(alone, cold)
    assert_same(cold, warm)
    assert {spent(warm)[stage] for stage in ("gate", "discovery", "features")} == {0}
    assert 0 < spent(warm)["scores"] < 0.7 * spent(alone)["scores"]


def test_a_suite_scores_after_another_as_it_would_alone(
    wired: Model, second: Suite, alone: Evaluation, kept: Path
) -> None:
    after = run(wired, second, store=kept)
    assert_same(alone, after)
    kinds = {entry.kind for entry in Store(kept).entries()}
    before_suites = {"gate", "discovery", "sections", "roles", "activations", "features"}
    assert kinds == before_suites | {"scores"}
    assert {spent(after)[stage] for stage in ("gate", "discovery")} == {0}


def test_a_run_that_was_stopped_goes_on_where_it_was(
    wired: Model, second: Suite, alone: Evaluation, kept: Path, tmp_path: Path
) -> None:
    stopped_run(wired, second, out=tmp_path, store=kept)
    goes_on = run(wired, second, out=tmp_path, store=kept)
    assert_same(alone, goes_on)
    assert [spent(goes_on).get(stage, 0) for stage in ("discovery", "scores")] == [0, 0]
    assert not (tmp_path / ".unfinished").exists()


def test_no_part_of_a_run_with_another_plan_is_taken_up(
    wired: Model, second: Suite, alone: Evaluation, kept: Path, tmp_path: Path
) -> None:
    other = replace(PLAN, controls=("mean only", "random"))
    stopped_run(wired, second, out=tmp_path, store=kept, plan=other)
    assert_same(alone, run(wired, second, out=tmp_path, store=kept))


def test_no_part_of_a_suite_with_another_bias_is_taken_up(
    wired: Model, second: Suite, alone: Evaluation, kept: Path, tmp_path: Path
) -> None:
    """Of the same name, with another b_dec alone."""
    moved = {hook: replace(sae, b_dec=sae.b_dec + 0.5) for hook, sae in second.saes.items()}
    stopped_run(wired, replace(second, saes=moved), out=tmp_path, store=kept)
    assert_same(alone, run(wired, second, out=tmp_path, store=kept))
