"""The cache: computed once, never out of date, whole or not at all, and safe for two processes at
once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sage import evaluation
from sage.discovery import Discovery
from sage.errors import BadFile, SageError, UnknownName
from sage.models.base import Model
from sage.models.load import load_model
from sage.progress import silent
from sage.result import Gate
from sage.saes.sae import SageWarning
from sage.store import cache as module
from sage.store.cache import (
    Cache,
    cache_entries,
    cache_folder,
    cache_limit,
    clear_cache,
    code_version,
    user_cache,
)
from sage.store.checkpoints import Checkpoints, Part, read_part, write_part
from sage.store.run_keys import what_decides
from sage.task.catalog import load_task
from sage.task.task import Task

ARRAYS = {"codes": np.arange(6, dtype=np.float32).reshape(2, 3), "labels": np.array([1, 2])}


class Counted:
    """Makes a part, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Part:
        self.times += 1
        return Part({"times": self.times, "none": None}, dict(ARRAYS))


def test_the_same_is_computed_once(tmp_path: Path) -> None:
    made = Counted()
    first, second = (
        Cache(tmp_path).part("gate", "ioi on gpt2", made, depends=("a", 1)) for _ in range(2)
    )
    assert (first.data, second.data, made.times) == (
        {"times": 1, "none": None},
        {"times": 1, "none": None},
        1,
    )
    assert {name: array.tolist() for name, array in second.arrays.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }
    assert second.arrays["codes"].dtype == np.float32


def test_whatever_a_number_depends_on_makes_another_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, cache = Counted(), Cache(tmp_path)
    for kind, depends in (
        ("gate", ("a", 1)),
        ("gate", ("a", 2)),
        ("gate", ("a1",)),
        ("gate", ()),
        ("discovery", ("a", 1)),
    ):
        cache.part(kind, "ioi", made, depends=depends)
    assert made.times == 5
    monkeypatch.setattr(module, "code_version", lambda: "another source")
    cache.part("gate", "ioi", made, depends=("a", 1))
    assert made.times == 6


def test_the_code_version_is_that_of_the_sources() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == 64


@pytest.mark.parametrize(
    "spoil", ["an array", "the data", "cut off", "empty", "not a file of ours"]
)
def test_a_damaged_entry_is_computed_again_with_a_warning(tmp_path: Path, spoil: str) -> None:
    made, cache = Counted(), Cache(tmp_path)
    cache.part("gate", "ioi", made, depends=())
    (path,) = tmp_path.glob("gate/*")
    whole = path.read_bytes()
    damaged = {
        "an array": whole[:-1] + bytes([whole[-1] ^ 1]),
        "the data": whole.replace(b"times", b"tomes"),
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "not a file of ours": b"hello",
    }
    path.write_bytes(damaged[spoil])
    with pytest.warns(SageWarning, match=r"gate/ioi-.* is damaged.* computed again"):
        assert cache.part("gate", "ioi", made, depends=()).data["times"] == 2
    assert cache.part("gate", "ioi", made, depends=()).data["times"] == 2
    assert path.read_bytes() != damaged[spoil]


def test_a_part_reads_back_only_as_it_was_written(tmp_path: Path) -> None:
    write_part(tmp_path / "part", Part([1.5, "x", float("inf")], dict(ARRAYS)))
    data, arrays = read_part(tmp_path / "part")
    assert data == [1.5, "x", float("inf")]
    assert all(arrays[name].tobytes() == array.tobytes() for name, array in ARRAYS.items())
    with pytest.raises(BadFile, match="damaged"):
        read_part(tmp_path / "nothing")


def test_where_nothing_can_be_written_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("a file where the folder should be")
    with pytest.warns(SageWarning, match="could not be kept"):
        assert Cache(tmp_path).part("gate", "ioi", Counted(), depends=()).data["times"] == 1


def test_two_processes_may_use_it_at_once(tmp_path: Path) -> None:
    """Both write and read the same twenty entries, again and again; neither ever sees half of one
    (warnings are errors)."""
    code = f"""
import numpy as np
from sage.store.cache import Cache
from sage.store.checkpoints import Part
for turn in range(3):
    for number in range(20):
        part = Cache(__import__("pathlib").Path({str(tmp_path)!r})).part(
            "gate", "ioi", lambda: Part({{"n": number}}, {{"a": np.full(5000, number)}}), depends=(number,))
        assert part.data["n"] == number and (part.arrays["a"] == number).all()
"""
    running = [
        subprocess.Popen([sys.executable, "-W", "error::UserWarning", "-c", code]) for _ in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert len(list(tmp_path.glob("gate/*"))) == 20
    assert len(list(tmp_path.glob("gate/.*"))) == 0


def test_what_is_kept_is_listed_with_its_size_and_cleared(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.part("gate", "ioi on gpt2-small", Counted(), depends=())
    cache.part("discovery", "ioi on gpt2-small", Counted(), depends=())
    (tmp_path / "notes.txt").write_text("mine")
    entries = cache_entries(tmp_path)
    assert {(entry.kind, entry.of) for entry in entries} == {
        ("gate", "ioi-on-gpt2-small"),
        ("discovery", "ioi-on-gpt2-small"),
    }
    assert all(entry.bytes == entry.path.stat().st_size > 0 for entry in entries)
    gate = next(entry for entry in entries if entry.kind == "gate")
    assert clear_cache(tmp_path, kind="gate") == gate.bytes
    assert [entry.kind for entry in cache_entries(tmp_path)] == ["discovery"]
    clear_cache(tmp_path)
    assert (cache_entries(tmp_path), (tmp_path / "notes.txt").read_text()) == ([], "mine")
    assert (cache_entries(tmp_path / "nothing"), clear_cache(tmp_path / "nothing")) == ([], 0)


def test_it_lies_where_sage_cache_says_or_where_the_platform_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "mine"))
    assert user_cache().folder == cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SAGE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sage"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "sage"


def test_the_least_recently_used_go_first_when_there_is_no_more_room(tmp_path: Path) -> None:
    for number in range(3):
        Cache(tmp_path).part("gate", f"task {number}", Counted(), depends=())
        (path,) = tmp_path.glob(f"gate/task-{number}-*")
        os.utime(path, (1000 + number, 1000 + number))
    size = cache_entries(tmp_path)[0].bytes
    cache = Cache(tmp_path, limit=3 * size)
    assert cache.find("gate", "task 0", depends=()) is not None
    cache.part("gate", "task 3", Counted(), depends=())
    assert {entry.of for entry in cache_entries(tmp_path)} == {"task-0", "task-2", "task-3"}
    Cache(tmp_path, limit=0).part("gate", "task 4", Counted(), depends=())
    assert cache_entries(tmp_path) == []


def test_its_size_is_what_sage_cache_gb_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGE_CACHE_GB", raising=False)
    assert user_cache().limit == cache_limit() == 20 * 10**9
    monkeypatch.setenv("SAGE_CACHE_GB", "1.5")
    assert user_cache().limit == 1_500_000_000
    for wrong in ("much", "-1", "inf", "nan"):
        monkeypatch.setenv("SAGE_CACHE_GB", wrong)
        with pytest.raises(
            SageError, match=f"SAGE_CACHE_GB is '{wrong}'. Set it to a number of gigabytes"
        ):
            cache_limit()


def test_a_kind_that_nothing_is_of_is_named(tmp_path: Path) -> None:
    Cache(tmp_path).part("gate", "ioi", Counted(), depends=())
    with pytest.raises(
        UnknownName, match=r"No kind of entry is named 'gates'\. Did you mean 'gate'\?"
    ):
        clear_cache(tmp_path, kind="gates")


def test_a_second_run_measures_no_gate_and_discovers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, task, found = load_model("wired", device="cpu"), load_task("wired"), []

    def discovered(model: Model, task: Task, *_: object, seed: int, progress: object) -> Discovery:  # noqa: ARG001
        found.append(seed)
        return Discovery(task.name, model.name, task.position_names, "exact", True, 0.02, seed, {})

    monkeypatch.setattr(evaluation, "discover", discovered)
    task, splits = evaluation.prepare(model, task, test=40)

    def run(seed: int) -> tuple[Gate, Discovery]:
        plan = evaluation.Plan(seed=seed)
        depends, nothing = (
            what_decides(model, task, "these prompts", seed=seed),
            Checkpoints(None, ""),
        )
        recall = evaluation._recalls(model, task, depends, Cache(tmp_path)).task
        return evaluation._gate(model, task, splits, recall), evaluation._discovery(
            model, task, splits, plan, nothing, recall, silent
        )

    first, tokens = run(0), model.counter.tokens
    assert (run(0), model.counter.tokens, found) == (first, tokens, [0])
    assert sorted(entry.kind for entry in cache_entries(tmp_path)) == ["discovery", "gate"]
    run(1)
    assert found == [0, 1]
