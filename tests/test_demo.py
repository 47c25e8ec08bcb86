"""The demo on one small cell: what is scored, what stands in its tables, and what the whole of it
would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.demo import (
    MODELS,
    QUICK,
    SUITES,
    TASKS,
    THOROUGH,
    Cell,
    Demo,
    cells,
    run_cell,
    spent,
    suites,
)
from sage.dictionaries.controls import CONTROLS
from sage.dictionaries.supervised import MIN_CARRIED
from sage.report import write_report
from sage.result import load, load_arrays


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    out = tmp_path_factory.mktemp("demo")
    folder = run_cell(
        Cell("gendered_pronoun", "tiny-neox", ("tiny-neox/topk4", "tiny-neox/topk16")),
        out=out,
        plan=QUICK,
    )
    return Demo([load(folder)], write_report([folder], out / "report"))


def test_every_task_is_scored_on_every_model_with_three_suites_or_with_all_there_are() -> None:
    quick, thorough = list(cells()), list(cells(thorough=True))
    assert len(quick) == len(thorough) == len(TASKS) * len(MODELS) == 21
    assert {len(cell.suites) for cell in quick} == {len(SUITES)}
    assert {cell.model: len(cell.suites) for cell in thorough} == {
        "tiny-neox": 7,
        "tiny-gpt2": 12,
        "tiny-gemma2": 7,
    }
    assert set(QUICK.controls) < set(THOROUGH.controls) == set(CONTROLS)


def test_a_sparser_suite_controls_gender_better_than_a_denser_one_and_than_pca(found: Demo) -> None:
    result = found.results[0]
    control = {
        name: result.value("control", suite=f"tiny-neox/{name}", dictionary=f"tiny-neox/{name}")
        for name in ("topk4", "topk16")
    }
    pca = result.value("control", suite="tiny-neox/topk4", dictionary="PCA")
    values = [
        row.value
        for row in (control["topk4"], control["topk16"], pca)
        if row and row.value is not None
    ]
    assert len(values) == 3
    assert values[0] > max(values[1:])


def test_a_quick_plan_scores_unions_only_up_to_k_4_with_the_controls_that_may_be_floors(
    found: Demo,
) -> None:
    rows = found.results[0].rows
    assert {row.k for row in rows if row.metric == "accuracy"} == {0, 1, 2, 4}
    assert not [row for row in rows if "/" in row.section]
    named = {row.dictionary for row in rows} - {"tiny-neox/topk4", "tiny-neox/topk16"}
    assert named == {"*", "supervised", "identity", "mean only", "shuffled labels", *QUICK.controls}


def test_the_supervised_features_are_told_node_by_node(found: Demo) -> None:
    result = found.results[0]
    nodes = {
        (section.contrast, node)
        for section in result.sections
        if "/" not in section.id
        for node in section.nodes
    }
    assert {(feature.contrast, feature.node) for feature in result.features} == nodes
    assert {(feature.attribute, feature.values) for feature in result.features} == {
        ("gender", 2),
        ("name", 56),
    }
    gender = [
        feature.share
        for feature in result.features
        if (feature.contrast, feature.attribute) == ("gender", "gender")
    ]
    assert min(gender) > MIN_CARRIED
    assert all(0 <= feature.unexplained < 1 for feature in result.features)


def test_matrices_are_kept_of_the_suites_and_of_the_supervised_dictionary_only(found: Demo) -> None:
    folder = Path(found.report.page).parents[1] / "gendered_pronoun--tiny-neox"
    kept = {
        name.split("|")[2] for name in load_arrays(folder) if "|f1|" in name or "|cosine|" in name
    }
    assert kept == {"tiny-neox/topk4", "tiny-neox/topk16", "supervised"}


def test_the_tables_say_how_suites_stand_and_where_the_time_went(found: Demo) -> None:
    assert [row["suite"] for row in suites(found)] == ["tiny-neox/topk4", "tiny-neox/topk16"]
    stages = spent(found)
    assert [row["stage"] for row in stages] == [
        "prompts",
        "gate",
        "discovery",
        "features",
        "scores",
    ]
    assert sum(row["share"] for row in stages if isinstance(row["share"], float)) == pytest.approx(
        1
    )
    assert (
        sum(stage.seconds for stage in found.results[0].run.stages) <= found.results[0].run.seconds
    )
    assert found.report.page.is_file()
