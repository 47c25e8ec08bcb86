"""Results are written whole or not at all, read back equal, and refused with the field at fault."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.errors import BadFile
from sage.files import write_atomically
from sage.result import (
    Gate,
    ModelInfo,
    NodeRow,
    Result,
    Row,
    RunInfo,
    SAEInfo,
    SectionInfo,
    StageInfo,
    SuiteInfo,
    TaskInfo,
    load,
    load_arrays,
    save,
    total_stages,
)

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
        None,
    ),
    gate=Gate(0.97, 3.25, 500, 0.75, True),
    sections=[
        SectionInfo("IO", "IO", ["3.1.z@END", "2.mlp_in@S2"], 1.5),
        SectionInfo("IO/z@END", "IO", ["3.1.z@END"], 1.0),
    ],
    suites=[
        SuiteInfo(
            "suite",
            [SAEInfo("sae", "topk", "3.resid_pre", 512, 15.9, 0.12)],
            {"IO": 0.75},
            {"PCA": 16.0},
        )
    ],
    discovery=[NodeRow("IO", "3.1.z@END", 0.1 + 0.2, -1e-17, 0.4, None, True)],
    rows=[
        Row(
            "IO",
            "suite",
            "suite",
            "accuracy",
            "IO",
            1 / 3,
            500,
            0.01,
            0.3,
            0.35,
            0.0,
            1.0,
            None,
            4,
            12,
            3.5,
        ),
        Row(
            "IO",
            "suite",
            "supervised",
            "T2",
            "IO",
            None,
            500,
            status="undefined: the patch changes nothing",
        ),
    ],
    notes=["a note"],
)
ARRAYS = {
    "IO|suite|suite|success": np.arange(6, dtype=np.float32).reshape(2, 3),
    "names": np.frombuffer(b'["a"]', dtype=np.uint8),
}


def test_a_result_is_read_back_equal(tmp_path: Path) -> None:
    path = save(RESULT, tmp_path / "new", arrays=ARRAYS)
    assert path == tmp_path / "new" / "result.json"
    assert load(path) == load(path.parent) == RESULT
    found = load_arrays(path)
    assert found.keys() == ARRAYS.keys()
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype
        for name, array in ARRAYS.items()
    )


def test_the_same_result_gives_the_same_bytes_one_line_a_row(tmp_path: Path) -> None:
    first = save(RESULT, tmp_path / "a").read_bytes()
    assert save(RESULT, tmp_path / "b").read_bytes() == first
    lines = [
        line for line in first.decode().splitlines() if '"accuracy"' in line and "metric" in line
    ]
    assert len(lines) == 1
    assert json.loads(lines[0].rstrip(","))["value"] == 1 / 3
    assert "“IOI”" in first.decode()


def test_files_are_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (save(RESULT, tmp_path), tmp_path / "plain")
    ]
    assert modes[0] == modes[1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gate": {"accuracy": "high"}}, "gate.accuracy"),
        ({"rows": [{"section": "IO"}]}, "rows.0.suite"),
        ({"suites": [{"id": 3}]}, "suites.0.id"),
        ({"run": None}, "run"),
        ({"rows": "none"}, "rows"),
        ({"schema": 99}, "schema 99; this version reads schema 1"),
        ({"schema": None}, "schema None"),
    ],
)
def test_an_invalid_field_is_named(tmp_path: Path, change: dict[str, object], field: str) -> None:
    path = save(RESULT, tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BadFile, match=field):
        load(path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = save(RESULT, tmp_path)
    data = json.loads(path.read_text())
    del data["task"]["sha256"]
    path.write_text(json.dumps(data))
    with pytest.raises(BadFile, match=r"task\.sha256"):
        load(path)


def test_a_truncated_or_foreign_file_is_refused_at_any_length(tmp_path: Path) -> None:
    path = save(RESULT, tmp_path, arrays=ARRAYS)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(BadFile, match=r"result\.json"):
            load(path)
    for foreign in (b"\xff\xfe\x00", b"[1, 2]", b"null", b'"text"'):
        path.write_bytes(foreign)
        with pytest.raises(BadFile, match="is not a result of sage"):
            load(path)
    arrays = tmp_path / "result.safetensors"
    whole = arrays.read_bytes()
    for length in range(0, len(whole), 31):
        arrays.write_bytes(whole[:length])
        with pytest.raises(BadFile, match="damaged"):
            load_arrays(path)


def test_a_result_that_is_not_there_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="sage score"):
        load(tmp_path)
    assert load_arrays(tmp_path) == {}


def test_numbers_that_json_cannot_hold_are_refused_and_leave_the_old_file(tmp_path: Path) -> None:
    path = save(RESULT, tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        save(replace(RESULT, rows=[replace(RESULT.rows[0], value=float("nan"))]), tmp_path)
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
    assert len(table) == 2
    assert table.loc[0, "value"] == 1 / 3
    assert table.loc[1, "status"].startswith("undefined")


def test_stages_add_up_over_runs_in_the_order_they_are_met() -> None:
    first = replace(RESULT.run, stages=[StageInfo("gate", 1.0, 2.0), StageInfo("scores", 5.0, 7.0)])
    second = replace(
        RESULT.run, stages=[StageInfo("scores", 0.5, 1.0), StageInfo("features", 3.0, 0.0)]
    )
    expected = [
        StageInfo("gate", 1.0, 2.0),
        StageInfo("scores", 5.5, 8.0),
        StageInfo("features", 3.0, 0.0),
    ]
    assert total_stages([first, second]) == expected
