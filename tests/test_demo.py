"""The demo on one small run: what is scored, what its tables say, what the whole would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.demo import (
    MODELS,
    QUICK,
    SUITES,
    TASKS,
    THOROUGH,
    Demo,
    DemoRun,
    demo_runs,
    score_run,
    stage_rows,
    suite_rows,
)
from sage.dictionaries.controls import CONTROLS
from sage.dictionaries.supervised import MIN_CARRIED
from sage.report import write_report
from sage.result import load, load_arrays

SPARSE, DENSE = "tiny-neox/topk4", "tiny-neox/topk16"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, as it would be with one task, one model and two suites."""
    out = tmp_path_factory.mktemp("demo")
    run = DemoRun("gendered_pronoun", "tiny-neox", (SPARSE, DENSE))
    folder = score_run(run, out=out, plan=QUICK)
    return Demo([load(folder)], write_report([folder], out / "report"))


def test_every_task_is_scored_on_every_model_with_three_suites_or_with_all_there_are() -> None:
    quick, thorough = demo_runs(), demo_runs(thorough=True)
    assert len(quick) == len(thorough) == len(TASKS) * len(MODELS) == 21
    assert {len(run.suites) for run in quick} == {len(SUITES)}
    assert {run.model: len(run.suites) for run in thorough} == {
        "tiny-neox": 7,
        "tiny-gpt2": 12,
        "tiny-gemma2": 7,
    }
    assert set(QUICK.controls) < set(THOROUGH.controls) == set(CONTROLS)


def test_a_sparser_suite_controls_gender_better_than_a_denser_one_and_than_pca(demo: Demo) -> None:
    result = demo.results[0]

    def control(suite: str, dictionary: str) -> float:
        row = result.value("control", suite=suite, dictionary=dictionary)
        assert row is not None
        assert row.value is not None
        return row.value

    assert control(SPARSE, SPARSE) > max(control(DENSE, DENSE), control(SPARSE, "PCA"))


def test_a_quick_plan_scores_unions_only_up_to_k_4_with_the_controls_that_may_be_floors(
    demo: Demo,
) -> None:
    rows = demo.results[0].rows
    assert {row.k for row in rows if row.metric == "accuracy"} == {0, 1, 2, 4}
    assert not [row for row in rows if "/" in row.section]
    dictionaries = {row.dictionary for row in rows} - {SPARSE, DENSE}
    always = {"*", "supervised", "identity", "mean only", "shuffled labels"}
    assert dictionaries == always | set(QUICK.controls)


def test_the_supervised_features_are_told_node_by_node(demo: Demo) -> None:
    result = demo.results[0]
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
    assert all(0 <= feature.unexplained < 1 for feature in result.features)


def test_matrices_are_kept_of_the_suites_and_of_the_supervised_dictionary_only(demo: Demo) -> None:
    folder = Path(demo.report.page).parents[1] / "gendered_pronoun--tiny-neox"
    matrices = [name for name in load_arrays(folder) if "|f1|" in name or "|cosine|" in name]
    assert {name.split("|")[2] for name in matrices} == {SPARSE, DENSE, "supervised"}


def test_the_tables_say_how_suites_stand_and_where_the_time_went(demo: Demo) -> None:
    assert [row["suite"] for row in suite_rows(demo)] == [SPARSE, DENSE]
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
