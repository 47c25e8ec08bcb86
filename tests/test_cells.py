"""A result folder grows: cells are added to, never replaced; what stands there is recognised."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sage.cells
import sage.evaluation
from beside import Beside
from sage.cells import (
    ScoredCell,
    cell_in,
    cell_name,
    load_results,
    result_folders,
    results_of_today,
)
from sage.errors import BadFile, SageWarning
from sage.evaluation import Evaluation
from sage.models.base import Model
from sage.progress import Stage, Watcher, watching
from sage.result import Result
from sage.result_file import load_arrays, load_result, save_result
from sage.run import make_plan
from sage.saes.suite import Suite
from sage.store.store import Store
from sage.task.task import Task
from small_results import result as small_result
from wired_runs import PLAN, planted, wired_model, wired_task

Score = Callable[..., ScoredCell]


class Stopped(Exception):
    """A run is stopped, as by a signal."""


@pytest.fixture(scope="module")
def model() -> Model:
    return wired_model()


@pytest.fixture(scope="module")
def task() -> Task:
    return wired_task("kind")


@pytest.fixture(scope="module")
def first(model: Model) -> Suite:
    return planted(model, "first", hooks=3)


@pytest.fixture(scope="module")
def second(model: Model) -> Suite:
    return planted(model, "second")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that knows what no SAE enters, once any cell was scored."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def score(model: Model, task: Task, warm: Store) -> Score:
    """Score suites into a folder."""

    def run(out: Path, *suites: Suite, **how: Any) -> ScoredCell:
        settings = {"store": warm, **how}
        plan = settings.pop("plan", PLAN)
        return cell_in(out, model, task, plan).score(suites, **settings)

    return run


@pytest.fixture(scope="module")
def alone(
    first: Suite, second: Suite, score: Score, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, ScoredCell]:
    """Each suite scored by itself, into folders of their own."""
    folder = tmp_path_factory.mktemp("alone")
    return {suite.id: score(folder / suite.id, suite) for suite in (first, second)}


@pytest.fixture
def out(tmp_path: Path, alone: dict[str, ScoredCell]) -> Path:
    """A result folder in which the first suite stands."""
    return Path(shutil.copytree(alone["first"].folder.parent, tmp_path / "out"))


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scores anything fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was scored")

    monkeypatch.setattr(sage.cells, "evaluate", refuse)


def rows_of(result: Result, suite: str) -> str:
    """The rows of a suite, to the last bit."""
    return json.dumps([asdict(row) for row in result.rows if row.suite == suite])


def assert_same(result: Result, other: Result) -> None:
    """Equal but for the time that it took."""
    assert replace(result, run=other.run) == other


def test_another_suite_is_added_and_nothing_is_replaced(
    out: Path, second: Suite, score: Score, alone: dict[str, ScoredCell]
) -> None:
    before = load_arrays(alone["first"].folder)
    cell = score(out, second)
    assert (cell.found, cell.scored) == ((), ("second",))
    result = load_result(cell.folder)
    assert [suite.id for suite in result.suites] == ["first", "second"]
    for name, own in alone.items():
        assert rows_of(result, name) == rows_of(own.result, name)
    arrays = load_arrays(cell.folder)
    assert arrays.keys() == before.keys() | load_arrays(alone["second"].folder).keys()
    assert all(np.array_equal(arrays[name], array) for name, array in before.items())
    assert sorted(path.name for path in cell.folder.iterdir()) == [
        "result.json", "result.safetensors",
    ]  # fmt: skip
    assert result.run.seconds > alone["first"].result.run.seconds


@pytest.mark.parametrize(
    ("name", "found", "scored"), [("first", ("first",), ()), ("second", (), ("second",))]
)
def test_two_processes_may_score_into_one_cell_at_once(
    name: str, found: tuple[str, ...], scored: tuple[str, ...], model: Model, task: Task,
    first: Suite, second: Suite, tmp_path: Path, alone: dict[str, ScoredCell],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The other begins when this one has seen that nothing stands there, and has not written yet:
    another suite is not lost, the same one is not scored again."""
    cell = cell_in(tmp_path, model, task, PLAN)
    other = Beside(lambda: cell.score([{"first": first, "second": second}[name]]))
    begun: list[str] = []

    def evaluated(_model: Model, _task: Task, suites: Sequence[Suite], **_how: Any) -> Evaluation:
        (suite,) = suites
        begun.append(suite.id)
        if len(begun) == 1:
            other.start()
        return Evaluation(alone[suite.id].result, load_arrays(alone[suite.id].folder))

    monkeypatch.setattr(sage.cells, "evaluate", evaluated)
    assert cell.score([first]).scored == ("first",)
    ended = other.end()
    assert isinstance(ended, ScoredCell)
    assert (ended.found, ended.scored) == (found, scored)
    assert begun == ["first", *scored]
    result, arrays = load_result(cell.folder), load_arrays(cell.folder)
    for suite in begun:
        assert rows_of(result, suite) == rows_of(alone[suite].result, suite)
        assert load_arrays(alone[suite].folder).keys() <= arrays.keys()


@pytest.mark.usefixtures("no_run")
def test_what_stands_there_is_recognised_and_not_scored_again(
    out: Path, first: Suite, score: Score, alone: dict[str, ScoredCell]
) -> None:
    cell = score(out, first)
    assert (cell.found, cell.scored) == (("first",), ())
    assert cell.result == alone["first"].result


def test_again_scores_anew_and_leaves_the_other_suites(
    out: Path, first: Suite, second: Suite, score: Score, alone: dict[str, ScoredCell]
) -> None:
    score(out, second)
    cell = score(out, first, again=True)
    assert (cell.found, cell.scored) == ((), ("first",))
    assert {suite.id for suite in cell.result.suites} == {"first", "second"}
    for name, own in alone.items():
        assert rows_of(cell.result, name) == rows_of(own.result, name)


def changed(suite: Suite) -> Suite:
    """A suite of that name with another decoder bias."""
    saes = {hook: replace(sae, b_dec=sae.b_dec + 0.5) for hook, sae in suite.saes.items()}
    return replace(suite, saes=saes)


@pytest.mark.usefixtures("no_run")
def test_another_suite_of_the_same_name_is_refused_before_anything_is_run(
    out: Path, first: Suite, score: Score
) -> None:
    with pytest.raises(BadFile, match="scores of another suite called 'first'"):
        score(out, changed(first))


def test_again_may_replace_a_suite_by_another_of_its_name(
    out: Path, first: Suite, second: Suite, score: Score, alone: dict[str, ScoredCell]
) -> None:
    score(out, second)
    cell = score(out, changed(first), again=True)
    digests = {suite.id: suite.digest for suite in cell.result.suites}
    assert digests["first"] != alone["first"].result.suites[0].digest
    assert rows_of(cell.result, "second") == rows_of(alone["second"].result, "second")
    assert len(cell.result.suites) == 2


@pytest.mark.usefixtures("no_run")
@pytest.mark.parametrize("same_suite", [True, False])
@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("model", "revision"), "ffff", "model"),
        (("run", "sage"), "9.9", "run's sage"),
        (("run", "plan", "pairs"), 41, "run's plan"),
        (("run", "device"), "cuda", "run's device"),
        (("run", "scores", "interpretable"), 2, "version of the scores"),
    ],
)
def test_a_cell_of_another_state_is_refused_before_anything_is_run(
    out: Path, first: Suite, second: Suite, score: Score, same_suite: bool,
    path: tuple[str, ...], value: object, name: str,
) -> None:  # fmt: skip
    file = next(out.rglob("result.json"))
    content = json.loads(file.read_text())
    place = content
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(BadFile, match=f"the {name} differs"):
        score(out, first if same_suite else second)


def test_a_cell_with_other_prompts_is_refused_and_left_as_it_is(
    out: Path, second: Suite, score: Score
) -> None:
    """That is known only when they are drawn."""
    file = next(out.rglob("result.json"))
    content = json.loads(file.read_text())
    content["task"]["sha256"] = "ffff"
    file.write_text(json.dumps(content))
    before = file.read_bytes()
    with pytest.raises(BadFile, match="the task differs"):
        score(out, second)
    assert file.read_bytes() == before
    cell = score(out, second, again=True)
    assert [suite.id for suite in cell.result.suites] == ["second"]


def test_a_damaged_cell_is_refused_and_may_be_scored_again(
    out: Path, first: Suite, score: Score, alone: dict[str, ScoredCell]
) -> None:
    next(out.rglob("result.json")).write_text("{}")
    with pytest.raises(BadFile, match="schema None"):
        score(out, first)
    assert_same(score(out, first, again=True).result, alone["first"].result)


def test_another_seed_and_another_plan_are_cells_of_their_own(
    out: Path, first: Suite, score: Score
) -> None:
    names = [
        score(out, first, plan=plan).folder.name
        for plan in (PLAN, replace(PLAN, seed=1), replace(PLAN, name="other"))
    ]
    assert names == [
        "wired--wired--least--seed0", "wired--wired--least--seed1", "wired--wired--other--seed0",
    ]  # fmt: skip
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == sorted(names)


def test_a_run_that_is_stopped_goes_on_where_it_was_and_ends_with_the_same_bytes(
    model: Model, task: Task, first: Suite, second: Suite, warm: Store, tmp_path: Path,
    alone: dict[str, ScoredCell], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One contrast of two suites, stopped after the first of both parts. Scored together they come
    to what they come to alone."""
    scored: list[str] = []
    score_suite = sage.evaluation.score_suite

    def count(node_sets: Any, suite: Suite, wanted: Any) -> Any:
        scored.append(f"{node_sets.data.section.contrast} {suite.id}")
        return score_suite(node_sets, suite, wanted)

    class StopsAfterTheFirst(Watcher):
        def left(self, stage: Stage) -> None:
            if stage.name == "kind, first":
                raise Stopped

    monkeypatch.setattr(sage.evaluation, "score_suite", count)
    cell = cell_in(tmp_path, model, task, PLAN)
    with pytest.raises(Stopped), watching(StopsAfterTheFirst()):
        cell.score([first, second], store=warm)
    assert not list(tmp_path.glob("*/result.json"))
    goes_on = cell.score([first, second], store=warm)
    assert scored == ["kind first", "kind second"]
    arrays = load_arrays(goes_on.folder)
    for name, whole in alone.items():
        assert rows_of(goes_on.result, name) == rows_of(whole.result, name)
        expected = load_arrays(whole.folder)
        assert all(arrays.pop(key).tobytes() == array.tobytes() for key, array in expected.items())
    assert not arrays
    assert not list(tmp_path.rglob(".scoring"))


def test_a_warm_store_gives_what_none_gives(
    model: Model,
    task: Task,
    first: Suite,
    alone: dict[str, ScoredCell],
    score: Score,
    tmp_path: Path,
) -> None:
    none = cell_in(tmp_path / "none", model, task, PLAN).score([first])
    warm = score(tmp_path / "warm", first)
    assert {stage.forwards for stage in warm.result.run.stages if stage.stage != "scores"} == {0}
    for cell in (none, warm):
        assert_same(cell.result, alone["first"].result)
        files = [c.folder / "result.safetensors" for c in (cell, alone["first"])]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_model_that_fails_the_gate_is_recognised_too(
    model: Model, task: Task, first: Suite, second: Suite, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hard = replace(task, gate=1.01)
    where = cell_in(tmp_path, model, hard, PLAN)
    cell = where.score([first])
    assert not cell.result.gate.passed
    monkeypatch.setattr(sage.cells, "evaluate", None)
    again = where.score([second])
    assert (again.result, again.scored) == (cell.result, ())


@pytest.mark.parametrize(
    ("name", "plan", "expected"),
    [
        ("tiny-gpt2", make_plan(), "ioi--tiny-gpt2--seed0"),
        ("tiny-gpt2", make_plan("quick", seed=3), "ioi--tiny-gpt2--quick--seed3"),
        ("google/gemma-2-2b", make_plan(), "ioi--google--gemma-2-2b--seed0"),
        ("/somewhere/models/mine/", make_plan(), "ioi--mine-abcdef--seed0"),
        ("./mine", make_plan(), "ioi--mine-abcdef--seed0"),
        ("~/mine", make_plan(), "ioi--mine-abcdef--seed0"),
        ("m", make_plan(pairs=100), "ioi--m--standard-pairs-100--seed0"),
    ],
)
def test_a_cell_is_named_by_task_model_plan_and_seed_and_holds_no_path(
    model: Model, task: Task, name: str, plan: Any, expected: str
) -> None:
    other = replace(model, name=name, revision="abcdefgh")
    assert cell_name(replace(task, name="ioi"), other, plan) == expected


def test_long_plan_names_are_cut_and_told_apart(model: Model, task: Task) -> None:
    plans = [
        make_plan(controls=("random", "permuted", "untrained", "text lookup", last))
        for last in ("PCA", "neurons")
    ]
    names = [cell_name(task, model, plan) for plan in plans]
    assert len(set(names)) == 2
    assert all(len(name) < 80 for name in names)


def test_results_below_folders_are_found_once_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for place in ("a", "b/c", ".hidden", "b/.scoring"):
        save_result(small_result("x"), tmp_path / place)
    folders = [tmp_path / "a", tmp_path / "b" / "c"]
    assert result_folders([tmp_path]) == folders
    assert result_folders([tmp_path / "a", tmp_path, tmp_path / "a" / "result.json"]) == folders
    with pytest.raises(BadFile, match="no result in"):
        result_folders([tmp_path, tmp_path / "nothing"])


def test_results_of_one_cell_in_several_folders_are_loaded_as_one(tmp_path: Path) -> None:
    other = small_result("b")
    other_seed = replace(small_result("a"), run=replace(other.run, seed=1))
    for place, result in {"1": small_result("a"), "2": other, "3": other_seed}.items():
        save_result(result, tmp_path / place)
    loaded = load_results(tmp_path / "1", str(tmp_path / "2"), tmp_path / "3")
    suites = [[suite.id for suite in result.suites] for result in loaded]
    assert suites == [["a", "b"], ["a"]]


def test_results_of_other_versions_are_told_apart(tmp_path: Path) -> None:
    today = small_result("a")
    before = {**today.run.scores, "interpretable": today.run.scores["interpretable"] - 1}
    save_result(today, tmp_path / "today")
    assert results_of_today(tmp_path) == [today]
    save_result(replace(today, run=replace(today.run, scores=before)), tmp_path / "before")
    with pytest.warns(SageWarning, match="Some of these results are of other versions"):
        assert len(load_results(tmp_path)) == 2
    with pytest.warns(SageWarning, match="Left out: 1 of 2 results"):
        assert results_of_today(tmp_path) == [today]
