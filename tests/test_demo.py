"""The demo on one small cell: what is scored, what its tables say, what the whole would be."""

from __future__ import annotations

from pathlib import Path

import pytest

import sage.demo
from sage.demo import (
    JUDGED,
    MODELS,
    NULL,
    SUITES,
    TASKS,
    Demo,
    DemoCell,
    demo_cells,
    gate_rows,
    look_ahead_at_demo,
    score_demo_cell,
    stage_rows,
    suite_rows,
)
from sage.dictionaries.supervised import MIN_CARRIED
from sage.report import write_report
from sage.report.ranking import LEAST_TASKS
from sage.result import HEADLINES, Result
from sage.result_file import load_arrays, load_result
from sage.run import make_plan

SPARSE, DENSE = "tiny-neox/topk4", "tiny-neox/topk16"
CELL = DemoCell("gendered_pronoun", "tiny-neox", (SPARSE, DENSE))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, as it would be with one task, one model and two suites."""
    out = tmp_path_factory.mktemp("demo")
    folder = score_demo_cell(CELL, out=out, plan_name="quick")
    return Demo([load_result(folder)], write_report([folder], out / "report"))


@pytest.fixture(scope="module")
def result(demo: Demo) -> Result:
    return demo.results[0]


def test_three_tasks_are_scored_on_each_model_and_every_task_but_the_longest_on_one() -> None:
    """IOI alone would take a fifth of the time."""
    quick, thorough = demo_cells(), demo_cells(thorough=True)
    assert len(thorough) == len(TASKS) * len(MODELS) == 21
    assert {cell.task for cell in quick} == set(TASKS) - {"ioi"}
    for model in MODELS:
        tasks = [cell.task for cell in quick if cell.model == model]
        assert len(tasks) == len(set(tasks)) == LEAST_TASKS


def test_a_few_suites_are_scored_or_all_there_are() -> None:
    quick, thorough = demo_cells(), demo_cells(thorough=True)
    assert {cell.model: len(cell.suites) for cell in quick} == {
        "tiny-neox": len(SUITES),
        "tiny-gpt2": len(SUITES) + 1,
        "tiny-gemma2": len(SUITES),
    }
    assert {cell.model: len(cell.suites) for cell in thorough} == {
        "tiny-neox": 7,
        "tiny-gpt2": 17,
        "tiny-gemma2": 7,
    }


def test_a_null_is_scored_beside_the_suite_that_it_is_the_null_of() -> None:
    suites = next(cell.suites for cell in demo_cells() if cell.model == "tiny-gpt2")
    assert suites[-2:] == (f"tiny-gpt2/{JUDGED}", f"tiny-gpt2/{NULL}")
    assert NULL.startswith(f"{JUDGED}-soft-frozen")


def test_a_sparser_suite_controls_gender_better_than_a_denser_one_and_than_pca(
    result: Result,
) -> None:
    def score(metric: str, suite: str, dictionary: str) -> float:
        row = result.value(metric, suite=suite, dictionary=dictionary)
        assert row is not None
        assert row.value is not None
        return row.value

    sparse = score("interpretable", SPARSE, SPARSE)
    assert sparse > score("interpretable", DENSE, DENSE)
    assert score("control", SPARSE, SPARSE) > score("control", SPARSE, "PCA")


def test_the_quick_plan_scores_unions_only_with_its_controls_and_says_what_it_saved(
    result: Result,
) -> None:
    assert not [row for row in result.rows if "/" in row.section]
    dictionaries = {row.dictionary for row in result.rows} - {SPARSE, DENSE}
    always = {"*", "supervised", "shuffled labels"}
    assert dictionaries == always | set(make_plan("quick").controls)
    assert set(make_plan("quick").savings()) <= {
        note.removeprefix("plan quick: ") for note in result.notes
    }


def test_the_text_lookup_remembers_the_models_own_corpus(result: Result) -> None:
    row = result.value("interpretable", suite=SPARSE, dictionary="text lookup")
    assert row is not None
    assert row.value is not None


def test_the_supervised_features_are_told_node_by_node(result: Result) -> None:
    unions = [section for section in result.sections if "/" not in section.id]
    nodes = {(section.contrast, node) for section in unions for node in section.nodes}
    assert {(feature.contrast, feature.node) for feature in result.features} == nodes
    attributes = {(feature.attribute, feature.values) for feature in result.features}
    assert attributes == {("gender", 2), ("name", 56)}
    shares = [
        feature.share
        for feature in result.features
        if (feature.contrast, feature.attribute) == ("gender", "gender")
    ]
    assert min(shares) > MIN_CARRIED
    assert all(feature.unexplained >= 0 for feature in result.features)


def test_matrices_are_kept_of_the_suites_and_of_the_supervised_dictionary_only(demo: Demo) -> None:
    folder = Path(demo.report.page).parents[1] / "gendered_pronoun--tiny-neox--quick--seed0"
    matrices = [name for name in load_arrays(folder) if "|f1|" in name or "|cosine|" in name]
    assert {name.split("|")[2] for name in matrices} == {SPARSE, DENSE, "supervised"}


def test_the_tables_say_how_suites_stand_and_where_the_time_went(demo: Demo) -> None:
    rows = suite_rows(demo)
    assert [row["suite"] for row in rows] == [SPARSE, DENSE]
    assert {*HEADLINES.values(), "best control", "gain", "supervised", "L0", "reach"} <= set(
        rows[0]
    )
    (gate,) = gate_rows(demo)
    assert gate == {"task": CELL.task, CELL.model: demo.results[0].gate.accuracy}
    stages = stage_rows(demo)
    assert [row["stage"] for row in stages] == [
        "prompts",
        "gate",
        "discovery",
        "features",
        "scores",
    ]
    shares = [row["share"] for row in stages if isinstance(row["share"], float)]
    assert sum(shares) == pytest.approx(1)
    run = demo.results[0].run
    assert sum(stage.seconds for stage in run.stages) <= run.seconds
    assert demo.report.page.is_file()
    assert demo.report.claim.startswith("Nothing is ranked here")


def test_what_the_demo_will_do_is_said_of_the_cells_that_do_not_stand_there(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sage.demo, "demo_cells", lambda **_: [CELL])
    out = Path(demo.report.page).parents[1]
    (stands,) = look_ahead_at_demo(out)
    assert (stands.found, stands.suites) == (CELL.suites, ())
    (new,) = look_ahead_at_demo(tmp_path)
    assert (new.found, [suite.id for suite in new.suites]) == ((), list(CELL.suites))
    assert new.estimate.seconds > 0


def test_a_cell_that_stands_there_is_not_scored_again(demo: Demo) -> None:
    out = Path(demo.report.page).parents[1]
    folder = score_demo_cell(CELL, out=out, plan_name="quick")
    assert load_result(folder).run.started == demo.results[0].run.started
