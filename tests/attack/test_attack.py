"""Whatever is done to an input, it is read, or refused in a sentence; `make attack` tries ten
thousand, these are 2,136 of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sage.cli.failures import told_failure
from tests.attack.inputs import CLASSES, run
from tests.attack.outcome import Tally, attack

CASES = {
    "SAE files": 1000,
    "prompt pairs": 500,
    "circuits and run files": 400,
    "task files": 120,
    "results": 80,
    "command lines": 30,
    "model folders": 6,
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_is_read_or_refused_in_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally()

    @settings(max_examples=CASES[name], suppress_health_check=list(HealthCheck), database=None)
    @given(seed=st.integers(0, 2**32 - 1))
    def strike(seed: int) -> None:
        attack(CLASSES[name], tally, seed=seed, folder=tmp_path / "input")

    strike()
    capsys.readouterr()
    assert tally.defects == []
    assert tally.counts["tried"] >= CASES[name]
    assert tally.counts["refused"] + tally.counts["taken"] > 0


def test_what_no_attack_changed_is_taken(tmp_path: Path) -> None:
    """Else refusing everything would pass."""
    for name in ("SAE files", "prompt pairs", "results", "task files"):
        tally = Tally()
        for seed in range(60):
            attack(CLASSES[name], tally, seed=seed, folder=tmp_path / "input")
        assert tally.counts["taken"] >= 2, name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["score", "ioi", "--seed", "-1"], "--seed"),
        (["score", "ioi", "--seed", "18446744073709551616"], "--seed"),
        (["score", "ioi", "--pairs", "1000000000"], "--pairs"),
        (["score", "ioi", "--pairs", "20"], "--pairs"),
        (["discover", "ioi", "--model", "x", "--tau", "nan"], "--tau"),
        (["discover", "ioi", "--model", "x", "--tau", "-1"], "--tau"),
        (["train-sae", "--model", "x", "--hook", "1.resid_pre", "--penalty", "inf"], "--penalty"),
        (["train-sae", "--model", "x", "--hook", "1.resid_pre", "--width", "0"], "--width"),
        (["score", "ioi", "--out", "file/below"], "cannot be written"),
        (["export", "here", "--out", "file/x.csv"], "cannot be written"),
        (["report", "here", "--out", "n" * 300], "File name too long"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(
    words: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "here").mkdir()
    status, said = run(words, tmp_path)
    assert status == 2
    assert says in said


def test_a_folder_of_everything_is_not_searched_for_saes(tmp_path: Path) -> None:
    status, said = run(
        ["score", "ioi", "--model", "tiny-gpt2", "--sae", "/", "--out", "o"], tmp_path
    )
    assert status == 1
    assert "/ has more than" in said or "no SAE in it" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    status, said = run(["report", "x", "--out", "locked/out"], tmp_path)
    assert status == 2
    assert "read-only" in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("could not create a primitive"),
    ],
)
def test_memory_that_gives_out_is_told_whichever_library_says_so(error: Exception) -> None:
    assert (told_failure(error) or "").startswith("There is not enough memory")
    assert told_failure(RuntimeError("shapes do not fit")) is None
