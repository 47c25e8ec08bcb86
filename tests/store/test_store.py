"""The store: kept once, whole or not at all, found under its own name alone, by several at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sage.errors import SageError, SageWarning, UnknownName
from sage.files import _machine, cache_folder, file_digest
from sage.store.key import Key, digest
from sage.store.store import Store, StoredEntry, cache_limit, user_store

KEY = Key("ioi on gpt2", digest("a", 1))
CODES = np.arange(6, dtype=np.float32).reshape(2, 3)


class Counted:
    """Makes a value, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        return {"times": self.times, "none": None, "codes": CODES}


def the_file(folder: Path) -> Path:
    """The only entry of a store."""
    (path,) = folder.glob("*/*.safetensors")
    return path


def test_the_same_is_made_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    make = Counted()
    first, second = (Store(tmp_path).once("gate", KEY, make) for _ in range(2))
    assert make.times == 1
    for value in (first, second):
        assert (value["times"], value["none"]) == (1, None)
        assert value["codes"].dtype == np.float32
        assert value["codes"].tobytes() == CODES.tobytes()


def test_what_was_kept_goes_on_as_it_will_be_found(tmp_path: Path) -> None:
    columns = torch.arange(12.0).reshape(3, 4).T
    kept = Store(tmp_path).keep("features", KEY, columns)
    found = Store(tmp_path).find("features", KEY)
    assert kept.equal(columns)
    assert found.equal(columns)
    assert kept.stride() == found.stride() == (3, 1)


def test_another_kind_or_key_is_another_entry(tmp_path: Path) -> None:
    make, store = Counted(), Store(tmp_path)
    store.once("gate", KEY, make)
    store.once("discovery", KEY, make)
    store.once("gate", KEY.about("IO"), make)
    store.once("gate", KEY.about("S"), make)
    assert make.times == 4
    assert store.find("gate", KEY.about("IO"))["times"] == 3
    assert store.find("features", KEY) is None


def test_a_value_kept_again_replaces_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep("scores", KEY, 1.5)
    store.keep("scores", KEY, 2.5)
    assert store.find("scores", KEY) == 2.5
    assert len(store.entries()) == 1


def test_without_a_folder_nothing_is_found_and_nothing_kept() -> None:
    make, nowhere = Counted(), Store(None)
    assert nowhere.keep("gate", KEY, [2]) == [2]
    assert nowhere.find("gate", KEY) is None
    assert [nowhere.once("gate", KEY, make)["times"] for _ in range(2)] == [1, 2]
    assert (nowhere.entries(), nowhere.clear()) == ([], 0)


@pytest.mark.parametrize(
    "spoil", ["an array", "the data", "cut off", "no end", "empty", "not a file of ours"]
)
def test_a_damaged_entry_is_made_again_with_a_warning(tmp_path: Path, spoil: str) -> None:
    make, store = Counted(), Store(tmp_path)
    store.once("gate", KEY, make)
    path = the_file(tmp_path)
    whole = path.read_bytes()
    damaged = {
        "an array": whole[:-1] + bytes([whole[-1] ^ 1]),
        "the data": whole.replace(b"times", b"tomes"),
        "cut off": whole[: len(whole) // 2],
        "no end": whole[:-1],
        "empty": b"",
        "not a file of ours": b"hello",
    }
    path.write_bytes(damaged[spoil])
    with pytest.warns(SageWarning, match=r"gate/ioi-.* is damaged.* computed again"):
        assert store.once("gate", KEY, make)["times"] == 2
    assert store.once("gate", KEY, make)["times"] == 2
    assert path.read_bytes() != damaged[spoil]


def test_no_flipped_bit_is_overlooked(tmp_path: Path) -> None:
    """One bit in every 16th byte of the file, from its first to its last."""
    store = Store(tmp_path)
    store.keep("gate", KEY, {"accuracy": 0.5, "codes": CODES})
    path = the_file(tmp_path)
    whole = path.read_bytes()
    for place in (*range(0, len(whole), 16), len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        with pytest.warns(SageWarning, match="computed again"):
            assert store.find("gate", KEY) is None, place


@pytest.mark.parametrize("moved", ["to another key", "to another kind"])
def test_an_entry_under_anothers_name_is_refused(tmp_path: Path, moved: str) -> None:
    store = Store(tmp_path)
    store.keep("gate", KEY, "right")
    right = the_file(tmp_path)
    other = ("gate", KEY.about("other")) if moved == "to another key" else ("discovery", KEY)
    store.keep(*other, "wrong")
    (wrong,) = {entry.path for entry in store.entries()} - {right}
    right.write_bytes(wrong.read_bytes())
    with pytest.warns(SageWarning, match=r"holds another entry, (gate|discovery).* computed again"):
        assert store.find("gate", KEY) is None


@pytest.mark.parametrize("forged", ["key", "kind"])
def test_an_entry_that_is_given_anothers_name_inside_too_is_refused(
    tmp_path: Path, forged: str
) -> None:
    """The checksum covers key and kind."""
    store, other = Store(tmp_path), KEY.about("other")
    store.keep("gate", KEY, "right")
    right = the_file(tmp_path)
    store.keep("gate" if forged == "key" else "rate", other if forged == "key" else KEY, "wrong")
    (wrong,) = {entry.path for entry in store.entries()} - {right}
    renamed = wrong.read_bytes().replace(other.digest.encode(), KEY.digest.encode())
    right.write_bytes(renamed.replace(b"rate ", b"gate "))
    with pytest.warns(SageWarning, match="is damaged.* computed again"):
        assert store.find("gate", KEY) is None


def test_where_nothing_can_be_written_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "gate").write_text("a file where the folder should be")
    with pytest.warns(SageWarning, match="could not be kept"):
        assert Store(tmp_path).once("gate", KEY, Counted())["times"] == 1


def test_what_has_no_packed_form_is_no_entry(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="is not one of sage's data types"):
        Store(tmp_path).keep("gate", KEY, {1, 2})
    with pytest.raises(ValueError, match="no kind of entry"):
        Store(tmp_path).keep("../gate", KEY, 1)
    assert list(tmp_path.iterdir()) == []


def test_processes_may_use_it_at_once(tmp_path: Path) -> None:
    """Three write and read twenty entries again and again, in a store that has room for half of
    them: none ever sees half an entry or one of another name (warnings are errors)."""
    Store(tmp_path).keep("gate", KEY.about(-1), (-1, np.full(5000, -1)))
    room = 10 * the_file(tmp_path).stat().st_size
    code = f"""
import pathlib
import numpy as np
from sage.store.key import Key
from sage.store.store import Store

store = Store(pathlib.Path({str(tmp_path)!r}), limit={room})
for turn in range(3):
    for number in range(20):
        key = Key("ioi", {KEY.digest!r}).about(number)
        found, array = store.once("gate", key, lambda: (number, np.full(5000, number)))
        assert found == number and (array == number).all()
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert 0 < len(Store(tmp_path).entries()) <= 10
    assert list(tmp_path.glob("gate/.*")) == []


def test_what_is_kept_is_listed_with_its_size_and_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    store.keep("gate", KEY, 1)
    store.keep("discovery", KEY, 2)
    entries = store.entries()
    assert {(entry.kind, entry.of) for entry in entries} == {
        ("gate", "ioi-on-gpt2"),
        ("discovery", "ioi-on-gpt2"),
    }
    assert all(entry.bytes == entry.path.stat().st_size > 0 for entry in entries)
    gate = next(entry for entry in entries if entry.kind == "gate")
    assert store.entries(kind="gate") == [gate]
    assert store.clear(kind="gate") == gate.bytes
    assert [entry.kind for entry in store.entries()] == ["discovery"]
    store.clear()
    assert (list(tmp_path.iterdir()), store.entries(), store.clear()) == ([], [], 0)


def test_files_that_are_none_of_its_own_are_left_alone(tmp_path: Path) -> None:
    """A model's weights lie in the same cache; they are neither listed nor deleted for room."""
    weights = tmp_path / "wired-0" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    (tmp_path / "notes.txt").write_text("mine")
    store = Store(tmp_path, limit=0)
    store.keep("gate", KEY, 1)
    store.clear()
    assert store.entries() == []
    assert (weights.read_bytes(), (tmp_path / "notes.txt").read_text()) == (b"weights", "mine")


def test_a_kind_that_nothing_is_of_is_named(tmp_path: Path) -> None:
    Store(tmp_path).keep("gate", KEY, 1)
    with pytest.raises(UnknownName, match=r"named 'gates'\. Did you mean 'gate'\?"):
        Store(tmp_path).clear(kind="gates")


def test_the_least_recently_used_go_first_when_there_is_no_more_room(tmp_path: Path) -> None:
    keys = [Key(f"task {number}", digest(number)) for number in range(5)]
    for number, key in enumerate(keys[:3]):
        Store(tmp_path).keep("gate", key, number)
        (path,) = tmp_path.glob(f"gate/task-{number}-*")
        os.utime(path, (1000 + number, 1000 + number))
    store = Store(tmp_path, limit=3 * Store(tmp_path).entries()[0].bytes)
    assert store.find("gate", keys[0]) == 0
    store.keep("gate", keys[3], 3)
    assert {entry.of for entry in store.entries()} == {"task-0", "task-2", "task-3"}
    Store(tmp_path, limit=0).keep("gate", keys[4], 4)
    assert store.entries() == []


def test_a_large_store_is_not_measured_whenever_something_small_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first, and when a hundredth of its limit was written since."""
    size = _size_of_an_entry(tmp_path / "other")
    store, measured = Store(tmp_path, limit=250 * size), []
    entries = Store.entries
    monkeypatch.setattr(Store, "entries", lambda own: measured.append(turn) or entries(own))
    for turn in range(8):
        store.keep("gate", KEY.about(turn), 1)
    assert measured == [0, 3, 6]


def _size_of_an_entry(folder: Path) -> int:
    Store(folder).keep("gate", KEY, 1)
    return the_file(folder).stat().st_size


def test_what_killed_runs_left_half_written_goes(tmp_path: Path) -> None:
    """At once where the process that wrote it was of this machine; after a day where it was not."""
    Store(tmp_path).keep("gate", KEY, 1)
    mine, other, gone = _machine(), "0" * 8, 2**22 + 1
    names = {
        "written now": f"{mine}-{os.getpid()}",
        "of a process that is gone": f"{mine}-{gone}",
        "of another machine": f"{other}-{gone}",
        "of another machine, two days old": f"{other}-{gone + 1}",
    }
    files = {
        what: the_file(tmp_path).with_name(f".a-{KEY.digest}.safetensors.{owner}-{'0' * 12}")
        for what, owner in names.items()
    }
    for path in files.values():
        path.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(files["of another machine, two days old"], (two_days_ago, two_days_ago))
    Store(tmp_path, limit=10**9).keep("gate", KEY, 2)
    left = [what for what, path in files.items() if path.exists()]
    assert left == ["written now", "of another machine"]


def test_the_users_lies_where_sage_cache_says_or_where_the_platform_keeps_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "mine"))
    assert user_store().folder == cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SAGE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sage"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "sage"


def test_the_users_size_is_what_sage_cache_gb_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAGE_CACHE_GB", raising=False)
    assert user_store().limit == cache_limit() == 20 * 10**9
    monkeypatch.setenv("SAGE_CACHE_GB", "1.5")
    assert user_store().limit == 1_500_000_000
    for wrong in ("much", "-1", "inf", "nan"):
        monkeypatch.setenv("SAGE_CACHE_GB", wrong)
        with pytest.raises(
            SageError, match=f"SAGE_CACHE_GB is '{wrong}'. Set it to a number of gigabytes"
        ):
            cache_limit()


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_an_entry_is_plain_facts(tmp_path: Path) -> None:
    Store(tmp_path).keep("gate", KEY, 1)
    path = the_file(tmp_path)
    os.utime(path, (5, 5))
    assert Store(tmp_path).entries() == [
        StoredEntry("gate", "ioi-on-gpt2", path, path.stat().st_size, 5.0)
    ]
