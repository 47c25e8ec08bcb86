"""The whole path on the wired model, whose circuit and features are known: what must come out of
the scores comes out."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sage.errors import SageError
from sage.evaluation import Evaluation, Plan, evaluate, measure_gate, prepare
from sage.models.base import Model
from sage.models.load import load_model
from sage.result import Result, Row, load, load_arrays, save
from sage.saes.formats import load_file
from sage.saes.planted import planted_suite, save_planted
from sage.saes.suite import Suite, assemble
from sage.task.catalog import load_task

COMPONENTS = ("T1 normalised", "T2 normalised", "T3 normalised", "T4 normalised")
_SCRIPT = """
from pathlib import Path
from sage.task.catalog import load_task
from sage.evaluation import Plan, evaluate
from sage.models.load import load_model
from sage.saes.planted import planted_suite

wired = load_model("wired")
evaluate(wired, load_task("wired"), [planted_suite(wired.anatomy.hooks)], plan={plan}, folder=Path({out!r}))
"""
PLAN = Plan(prompts=60, discover=40, fit=400)


@pytest.fixture(scope="module")
def wired() -> Model:
    return load_model("wired")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, wired: Model) -> Suite:
    folders = save_planted(wired.anatomy.hooks, tmp_path_factory.mktemp("planted"))
    return assemble("planted", [load_file(folder) for folder in folders])


@pytest.fixture(scope="module")
def scored(wired: Model, planted: Suite, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return evaluate(
        wired, load_task("wired"), [planted], plan=PLAN, folder=tmp_path_factory.mktemp("scored")
    )


def test_the_planted_dictionary_scores_one_everywhere(scored: Evaluation) -> None:
    found = _summary(scored.result, "planted")
    for component in COMPONENTS:
        assert found[component].value == pytest.approx(1, abs=0.01), component
    assert found["sage"].value == pytest.approx(1, abs=0.01)
    for row in _unions(scored.result, "planted"):
        assert row.status != "ok" or row.value == pytest.approx(1, abs=0.02), row


def test_the_supervised_ceiling_scores_one_everywhere(scored: Evaluation) -> None:
    found = _summary(scored.result, "supervised")
    assert [found[component].value for component in COMPONENTS] == pytest.approx(
        [1, 1, 1, 1], abs=0.01
    )


def test_random_directions_leave_interpretability_alone_and_take_control_and_geometry_away(
    scored: Evaluation,
) -> None:
    found = _summary(scored.result, "random")
    assert found["control"].value == pytest.approx(0, abs=0.02)
    assert found["T4 normalised"].value == pytest.approx(0, abs=0.15)
    assert _raw(scored.result, "random", "T3") == _raw(scored.result, "planted", "T3")


def test_a_permuted_decoder_leaves_what_only_the_encoder_decides(scored: Evaluation) -> None:
    assert _raw(scored.result, "permuted", "T3") == _raw(scored.result, "planted", "T3")
    assert _summary(scored.result, "permuted")["control"].value == pytest.approx(0, abs=0.02)
    for contrast, value in _raw(scored.result, "permuted", "sufficiency").items():
        assert value < 0.5 * _raw(scored.result, "planted", "sufficiency")[contrast]


def test_the_mean_alone_is_neither_sufficient_nor_necessary_and_controls_nothing(
    scored: Evaluation,
) -> None:
    for metric in ("sufficiency", "necessity"):
        assert all(
            value == pytest.approx(0, abs=1e-5)
            for value in _raw(scored.result, "mean only", metric).values()
        )
    assert _summary(scored.result, "mean only")["control"].value == 0


def test_identity_is_sufficient_and_necessary(scored: Evaluation) -> None:
    for metric in ("sufficiency", "necessity"):
        assert all(
            value == pytest.approx(1, abs=1e-6)
            for value in _raw(scored.result, "identity", metric).values()
        )


def test_shuffled_labels_score_nothing_after_correction(scored: Evaluation) -> None:
    """A share of the labels stays right by chance, which the correction takes away up to the noise
    of 60 prompts."""
    for value in _raw(scored.result, "shuffled labels", "T3").values():
        assert value < 0.25


def test_every_number_has_its_n_and_every_undefined_one_its_reason(scored: Evaluation) -> None:
    for row in scored.result.rows:
        assert (row.value is None) == row.status.startswith("undefined: "), row
        assert row.n > 0 or row.section == "*" or row.status != "ok" or row.value is not None
    scores = [
        row
        for row in scored.result.rows
        if row.metric in ("control", "sage", *COMPONENTS) and row.value is not None
    ]
    assert all(
        row.low is not None
        and row.high is not None
        and row.low - 1e-9 <= row.value <= row.high + 1e-9
        for row in scores
    )


def test_a_result_is_read_back_equal_with_its_arrays(tmp_path: Path, scored: Evaluation) -> None:
    save(scored.result, tmp_path, arrays=scored.arrays)
    assert load(tmp_path) == scored.result
    arrays = load_arrays(tmp_path)
    assert arrays.keys() == scored.arrays.keys()
    assert all(np.array_equal(arrays[name], scored.arrays[name]) for name in arrays)


def test_a_run_that_is_killed_and_repeated_ends_with_the_same_numbers(
    scored: Evaluation, tmp_path: Path
) -> None:
    out, script = tmp_path / "out", tmp_path / "score.py"
    script.write_text(_SCRIPT.format(plan=PLAN, out=str(out)))
    command = [sys.executable, str(script)]
    unfinished = out / ".unfinished"
    with subprocess.Popen(command) as running:
        _wait(
            lambda: (
                len(list(unfinished.rglob("[!.]*.safetensors"))) >= 2 or running.poll() is not None
            )
        )
        running.send_signal(signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in unfinished.rglob("[!.]*.safetensors")}
    assert kept
    subprocess.run(command, check=True)
    assert not unfinished.exists()
    again = load(out)
    assert again.rows == scored.result.rows
    assert again.discovery == scored.result.discovery


def test_a_model_below_the_gate_is_reported_and_not_scored(wired: Model, planted: Suite) -> None:
    task = replace(load_task("wired"), gate=1.01)
    result = evaluate(wired, task, [planted], plan=PLAN).result
    assert not result.gate.passed
    assert (result.rows, result.discovery) == ([], [])
    assert "does not do this task" in result.notes[0]


def test_the_gate_counts_prompts_on_which_the_answer_beats_the_foil(wired: Model) -> None:
    prepared = prepare(wired, load_task("wired"), test=60, discover=20)
    gate = measure_gate(wired, prepared.task, prepared.splits.fit[:50])
    assert (gate.accuracy, gate.n, gate.passed) == (1.0, 50, True)


def test_an_sae_of_another_width_is_refused_before_anything_runs(wired: Model) -> None:
    from sage.errors import BadFile

    suite = planted_suite(wired.anatomy.hooks[:1])
    hook, sae = next(iter(suite.saes.items()))
    narrow = replace(sae, W_dec=sae.W_dec[:, :-1], b_dec=sae.b_dec[:-1])
    with pytest.raises(BadFile, match="W_dec"):
        evaluate(wired, load_task("wired"), [Suite("narrow", {hook: narrow})], plan=PLAN)


def _summary(result: Result, dictionary: str) -> dict[str, Any]:
    return {
        row.metric: row
        for row in result.rows
        if row.section == "*" and row.dictionary == dictionary
    }


def _unions(result: Result, dictionary: str) -> list[Row]:
    sections = {section.contrast for section in result.sections}
    return [
        row
        for row in result.rows
        if row.section in sections and row.dictionary == dictionary and row.metric in COMPONENTS
    ]


def _raw(result: Result, dictionary: str, metric: str) -> dict[str, float]:
    sections = {section.contrast for section in result.sections}
    rows = [
        row
        for row in result.rows
        if row.section in sections and row.dictionary == dictionary and row.metric == metric
    ]
    return {row.contrast: row.value for row in rows if row.value is not None}


def _wait(done: Any, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)


def test_suites_whose_rows_could_not_be_told_apart_are_refused(
    wired: Model, planted: Suite
) -> None:
    for suites, said in (
        ([replace(planted, id="PCA")], "a control has that name"),
        ([planted, planted], "Two suites are called 'planted'"),
    ):
        with pytest.raises(SageError, match=said):
            evaluate(wired, load_task("wired"), suites)
