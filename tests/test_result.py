"""Results are written whole or not at all, read back equal, and refused with the field at fault."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.errors import BadFile, SageError, UnknownName
from sage.files import write_atomically
from sage.result import (
    SCHEMA,
    BestControl,
    Gate,
    ModelInfo,
    MovedLatent,
    NodeRow,
    Result,
    Row,
    RunInfo,
    SAEInfo,
    SectionInfo,
    SuiteInfo,
    TaskInfo,
)
from sage.result_file import load_arrays, load_result, names, save_result
from sage.run import make_plan

RESULT = Result(
    task=TaskInfo("ioi", "Wang et al. 2022, “IOI”", "ab12"),
    model=ModelInfo("tiny", "cd34", "nnsight 0.8", "float32", 64),
    run=RunInfo(
        "0.1.0",
        3,
        {"discover": 200, "fit": 2000, "test": 500},
        "2025-01-01T00:00:00+00:00",
        12.5,
        3.0,
        plan=make_plan("full", seed=3).facts,
        libraries={"torch": "2.0"},
    ),
    gate=Gate(0.97, 3.25, 500, 0.75, True, 0.9),
    sections=[
        SectionInfo("IO", "IO", ["3.1.z@END", "2.mlp_in@S2"], 1.5),
        SectionInfo("IO/z@END", "IO", ["3.1.z@END"], 1.0),
    ],
    suites=[
        SuiteInfo(
            "suite",
            [
                SAEInfo("first", "topk", "3.resid_pre", 512, 15.0, 0.12),
                SAEInfo("second", "topk", "4.resid_pre", 512, 16.0, 0.13),
            ],
            {"IO": 0.75, "S": 0.5},
            {"PCA": 16.0},
            "ef56",
        )
    ],
    discovery=[NodeRow("IO", "3.1.z@END", 0.1 + 0.2, -1e-17, 0.4, None, True)],
    rows=[
        Row(
            "IO", "suite", "suite", "interpretable", "IO", 1 / 3, 500,
            version=2, form="success", raw=-0.1, stderr=0.01, low=0.3, high=0.35,
            best_control=BestControl("PCA", 0.25), gain=1 / 12, gain_low=0.0, gain_high=0.2,
            picks=3.5, need=2.5, sites=4, seed=3,
        ),
        Row("IO", "suite", "suite", "control", "IO", 0.5, 500, version=2, budget="need", k=None),
        Row(
            "S", "suite", "suite", "interpretable", "S", None, 500,
            version=2, status="undefined: the patch changes nothing",
        ),
        Row("*", "suite", "suite", "reach", "*", 0.75, 0),
        Row(
            "*", "suite", "suite", "interpretable", "*", 1 / 3, 500, version=2, low=0.3, high=0.35,
            best_control=BestControl("best of each contrast", 0.25), gain=1 / 12, gain_low=-0.01,
            gain_high=0.2, contrasts=1,
        ),
        Row("*", "suite", "suite", "control", "*", 0.4, 500, version=2),
        Row("*", "suite", "supervised", "interpretable", "*", 0.9, 500, version=2),
    ],
    notes=["a note"],
)  # fmt: skip
ARRAYS = {
    "IO|suite|suite|control": np.arange(6, dtype=np.float32).reshape(2, 3),
    "names": np.frombuffer(b'["a", "b"]', dtype=np.uint8),
}
# As version 1 wrote it: a row has a floor and a ceiling, the k of all sites, and options.
SCHEMA_1 = {
    "schema": 1,
    "task": {"name": "ioi", "source": "by hand", "sha256": "ab12"},
    "model": {
        "name": "tiny", "revision": "cd34", "backend": "nnsight", "dtype": "float32", "d_model": 64,
    },
    "run": {
        "sage": "0.0.1", "seed": 5, "prompts": {"test": 500}, "started": "2024", "seconds": 1.5,
        "forwards": 3.0, "batch_size": None, "stages": [],
    },
    "gate": {
        "accuracy": 0.9, "mean_logit_difference": 3.0, "n": 500, "threshold": 0.75, "passed": True,
    },
    "sections": [{"id": "IO", "contrast": "IO", "nodes": ["3.1.z@END"], "effect": 1.0}],
    "suites": [
        {
            "id": "suite",
            "saes": [
                {
                    "id": "first", "architecture": "topk", "hook": "3.resid_pre", "width": 512,
                    "l0": 15.0, "fvu": 0.1,
                }
            ],
            "reach": {"IO": 1.0},
            "controls_l0": {},
        }
    ],
    "discovery": [],
    "rows": [
        {
            "section": "IO", "suite": "suite", "dictionary": "suite", "metric": "accuracy",
            "contrast": "IO", "value": 0.5, "n": 500, "stderr": 0.01, "low": 0.4, "high": 0.6,
            "floor": 0.1, "ceiling": 0.9, "at": None, "k": 4, "site_k": 12, "picks": 3.5,
            "choice": "joint", "option": "frozen", "status": "ok",
        },
        {
            "section": "IO", "suite": "suite", "dictionary": "suite", "metric": "accuracy",
            "contrast": "IO", "value": 0.4, "n": 500, "stderr": None, "low": None, "high": None,
            "floor": None, "ceiling": None, "at": None, "k": 4, "site_k": 12, "picks": 3.5,
            "choice": "per node", "option": "recomputed", "status": "ok",
        },
    ],
    "features": [],
    "notes": [],
}  # fmt: skip


def written(folder: Path, content: Mapping[str, object]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(json.dumps(content))
    return folder


def test_a_result_is_read_back_equal(tmp_path: Path) -> None:
    path = save_result(RESULT, tmp_path / "new", arrays=ARRAYS)
    assert path == tmp_path / "new" / "result.json"
    assert load_result(path) == load_result(path.parent) == load_result(str(path)) == RESULT
    arrays = load_arrays(path)
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype
    assert names(arrays["names"]) == ["a", "b"]


def test_the_same_result_gives_the_same_bytes_one_line_a_row(tmp_path: Path) -> None:
    first = save_result(RESULT, tmp_path / "a").read_bytes()
    assert save_result(RESULT, tmp_path / "b").read_bytes() == first
    (line,) = (line for line in first.decode().splitlines() if '"picks": 3.5' in line)
    assert json.loads(line.rstrip(","))["value"] == 1 / 3
    assert json.loads(first)["schema"] == SCHEMA == 2
    assert "“IOI”" in first.decode()


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    paths = (save_result(RESULT, tmp_path), tmp_path / "plain")
    first, second = (stat.S_IMODE(path.stat().st_mode) for path in paths)
    assert first == second


def test_a_result_of_schema_1_is_read_as_of_version_1(tmp_path: Path) -> None:
    result = load_result(written(tmp_path, SCHEMA_1))
    assert result.schema == 1
    plain, option = result.rows
    assert {(row.version, row.seed) for row in result.rows} == {(1, 5)}
    assert (plain.value, plain.low, plain.k, plain.picks) == (0.5, 0.4, 4, 3.5)
    assert plain.option is None
    assert option.option == "per node, recomputed"
    assert (result.run.plan, result.suites[0].digest) == ({}, "")
    assert result.gate.says_answer is None


@pytest.mark.parametrize("schema_1", [True, False])
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gate": {"accuracy": "high"}}, "gate.accuracy"),
        ({"rows": [{"section": "IO"}]}, "rows.0.suite"),
        ({"rows": [3]}, "rows.0"),
        ({"suites": [{"id": 3}]}, "suites.0.id"),
        ({"run": None}, "run"),
        ({"rows": "none"}, "rows"),
        ({"schema": 99}, "schema 99; this version reads schemas 1 and 2"),
        ({"schema": None}, "schema None"),
    ],
)
def test_an_invalid_field_is_named(
    tmp_path: Path, change: dict[str, object], field: str, schema_1: bool
) -> None:
    path = save_result(RESULT, tmp_path)
    content = SCHEMA_1 if schema_1 else json.loads(path.read_text())
    with pytest.raises(BadFile, match=field):
        load_result(written(tmp_path, {**content, **change}))


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    content = json.loads(save_result(RESULT, tmp_path).read_text())
    del content["task"]["sha256"]
    with pytest.raises(BadFile, match=r"task\.sha256"):
        load_result(written(tmp_path, content))


def test_a_truncated_or_foreign_file_is_refused_at_any_length(tmp_path: Path) -> None:
    path = save_result(RESULT, tmp_path, arrays=ARRAYS)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 197):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFile, match=r"result\.json"):
            load_result(path)
    for foreign in (b"\xff\xfe\x00", b"[1, 2]", b"null", b'"text"'):
        path.write_bytes(foreign)
        with pytest.raises(BadFile, match="is not a result of sage"):
            load_result(path)
    arrays = tmp_path / "result.safetensors"
    whole = arrays.read_bytes()
    for length in range(0, len(whole), 31):
        arrays.write_bytes(whole[:length])
        with pytest.raises(BadFile, match="damaged"):
            load_arrays(path)


def test_a_result_that_is_not_there_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="sage score"):
        load_result(tmp_path)
    assert load_arrays(tmp_path) == {}


def test_numbers_that_json_cannot_hold_are_refused_and_leave_the_old_file(tmp_path: Path) -> None:
    path = save_result(RESULT, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save_result(replace(RESULT, rows=[replace(RESULT.rows[0], value=float("nan"))]), tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = write_atomically(tmp_path / "file", b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the very step that puts the new file in place the old one is there, whole, and so it is
    for a run killed at any time."""
    path = write_atomically(tmp_path / "file", b"old")
    seen: list[bytes] = []
    flush, put = os.fsync, os.replace

    def look(action, *given: object) -> None:
        seen.append(path.read_bytes())
        action(*given)

    monkeypatch.setattr(os, "fsync", lambda *given: look(flush, *given))
    monkeypatch.setattr(os, "replace", lambda *given: look(put, *given))
    write_atomically(path, b"new")
    assert seen == [b"old", b"old"]
    assert path.read_bytes() == b"new"


def test_the_table_has_a_column_for_every_field_and_says_which_task_and_model() -> None:
    table = RESULT.table()
    assert list(table.columns[:4]) == ["task", "model", "section", "suite"]
    assert len(table) == len(RESULT.rows)
    assert table.loc[0, "value"] == 1 / 3
    assert table.loc[2, "status"].startswith("undefined")


def test_the_overview_has_every_headline_score_beside_best_control_and_supervised() -> None:
    (row,) = RESULT.overview()
    assert row == {
        "task": "ioi",
        "suite": "suite",
        "L0": 15.5,
        "reach": 0.75,
        "sage": 1 / 3,
        "low": 0.3,
        "high": 0.35,
        "best control": 0.25,
        "gain": 1 / 12,
        "gain low": -0.01,
        "gain high": 0.2,
        "supervised": 0.9,
        "T2": 0.4,
        "T1": None,
        "T4": None,
        "move": None,
        "contrasts": 1,
        "n": 500,
    }


def test_the_overview_of_nothing_scored_says_why_in_the_same_columns() -> None:
    failed = replace(RESULT, suites=[], rows=[], notes=["tiny does not do this task"])
    (row,) = failed.overview()
    assert list(row) == list(RESULT.overview()[0])
    assert row["suite"] == "tiny does not do this task"
    assert row["sage"] is None


LATENT = MovedLatent(
    "IO", "IO", "suite", "first", "3.resid_pre@END", 7, "IO=Mary", 0.9, "IO=John", 0.5, 0.25, 3, 500
)


def test_a_result_tells_itself_in_a_few_lines() -> None:
    assert repr(RESULT).splitlines() == [
        f"Result: ioi on tiny, plan full, seed {RESULT.run.seed}",
        "  suite: L0 15.5, sage 0.33 [0.30, 0.35], best control 0.25 (best of each contrast)",
    ]
    failed = replace(RESULT, suites=[], rows=[], notes=["tiny does not do this task"])
    assert repr(failed).splitlines()[1] == "  tiny does not do this task"
    many = replace(RESULT, suites=RESULT.suites * 20)
    assert repr(many).splitlines()[-1] == "  ... and 12 more suites: .overview()"


def test_the_latents_behind_a_contrast_are_told_by_attribute_and_suite(tmp_path: Path) -> None:
    other = replace(LATENT, latent=8, value="S=Tom", page="https://example.org/8")
    result = replace(RESULT, moved=[LATENT, other, replace(LATENT, contrast="S")])
    assert list(result.latents("IO").latent) == [7, 8]
    (row,) = result.latents("IO", "S", suite="suite").to_dict("records")
    assert (row["latent"], row["page"], row["share"]) == (8, "https://example.org/8", 0.25)
    save_result(result, tmp_path)
    assert load_result(tmp_path) == result
    with pytest.raises(UnknownName, match="Did you mean 'IO'"):
        result.latents("OI")
    with pytest.raises(UnknownName, match="attribute with latents"):
        result.latents("IO", "order")
    with pytest.raises(UnknownName, match="suite of this result"):
        result.latents("IO", suite="siute")
    with pytest.raises(SageError, match="no record of the latents"):
        RESULT.latents("IO")


def test_every_dictionary_has_its_line() -> None:
    lines = {row["dictionary"]: row for row in RESULT.controls()}
    assert list(lines) == ["suite", "supervised"]
    assert (lines["suite"]["sage"], lines["suite"]["T2"]) == (1 / 3, 0.4)
    assert (lines["supervised"]["sage"], lines["supervised"]["T2"]) == (0.9, None)


def test_contrasts_without_the_main_score_are_lost_with_the_reason() -> None:
    assert RESULT.lost_contrasts("suite") == {"S": "the patch changes nothing"}


def test_a_contrast_with_a_group_that_stands_in_is_not_lost() -> None:
    stand_in = replace(RESULT.rows[0], section="S/z@END", contrast="S")
    assert replace(RESULT, rows=[*RESULT.rows, stand_in]).lost_contrasts("suite") == {}


def test_of_a_suite_that_was_not_scored_nothing_is_said_to_be_lost() -> None:
    with pytest.raises(UnknownName, match="'suit'"):
        RESULT.lost_contrasts("suit")


def test_headline_rows_have_no_budget_level_or_k() -> None:
    told = [(row.section, row.metric) for row in RESULT.headlines("suite", "suite")]
    assert told == [("IO", "interpretable"), ("S", "interpretable")]
