"""Jobs in processes of their own: what they make, and how much of all of them is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sage.errors import SageError
from sage.processes import interrupts_later
from sage.progress import Stage, Watcher, advance, stage, watching
from sage.side_by_side import Job, Told, side_by_side


class Shares(Watcher):
    """The shares of the outermost stage as they were told."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self.ended: list[str] = []

    def moved(self, stage: Stage) -> None:
        self.told.append(stage.share)

    def left(self, stage: Stage) -> None:
        self.ended.append(stage.name)


def test_every_job_is_done_in_a_process_of_its_own_and_counts_by_its_work() -> None:
    jobs = [Job("minus", -3, {("scores",): 3.0}), Job("plus", 4, {("scores",): 1.0})]
    shares = Shares()
    with watching(shares), stage("demo") as demo:
        assert side_by_side(abs, jobs, processes=2) == [3, 4]
    assert sorted(shares.ended) == ["demo", "minus", "plus"]
    assert (demo.total, demo.done) == (4, 4)


def test_a_job_that_fails_says_why() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        side_by_side(int, [Job("number", "7"), Job("word", "seven")], processes=1)


def test_a_job_that_fails_ends_those_that_wait(tmp_path: Path) -> None:
    file = tmp_path / "begun"
    codes = ("1 / 0", "__import__('time').sleep(60)", f"open({str(file)!r}, 'w').close()")
    jobs = [Job(code, code) for code in codes]
    with pytest.raises(ZeroDivisionError):
        side_by_side(eval, jobs, processes=1)
    assert not file.exists()


def test_jobs_of_a_process_that_is_killed_are_run_again(tmp_path: Path) -> None:
    """The first process to see the file removes it and ends, as if it had been killed."""
    file = tmp_path / "kills"
    file.touch()
    code = f"import os; os.path.exists({str(file)!r}) and (os.remove({str(file)!r}), os._exit(9))"
    ended: list[object] = []
    jobs = [Job("kills", code), Job("lives", "1 + 1")]
    assert side_by_side(exec, jobs, processes=2, ended=ended.append) == [None, None]
    assert ended == [None, None]
    assert not file.exists()


def test_a_job_that_kills_every_process_is_given_up_and_what_ended_is_told() -> None:
    ended: list[object] = []
    jobs = [Job("sum", "1 + 1"), Job("heavy", "__import__('os')._exit(9)")]
    with pytest.raises(SageError, match=r"3 times in a row, .* with 1 still to do: heavy"):
        side_by_side(eval, jobs, processes=1, ended=ended.append)
    assert ended == [2]


def test_one_thread_is_all_that_a_job_gets() -> None:
    (threads,) = side_by_side(os.getenv, [Job("threads", "OMP_NUM_THREADS")], processes=1)
    assert threads == "1"


def test_what_is_done_of_a_job_is_told_once() -> None:
    """Of 4 seconds in all: half of the first's 3, then all of them, and .99 of the second's 1; an
    end counts what is left."""
    jobs = [Job("first", "", {(): 3.0}), Job("second", "", {(): 1.0})]
    shares = [0.5, 0.0]
    told = Told(shares, jobs)
    with stage("demo") as demo:
        told.tell()
        told.tell()
        assert demo.done == 1.5
        shares[1] = 1.0
        told.tell(ended=[0])
        assert demo.done == 3.99
        told.tell(ended=[0, 1])
        assert demo.done == 4
        advance(0)


def test_ctrl_c_in_a_librarys_bookkeeping_takes_effect_when_that_is_done() -> None:
    done: list[str] = []

    def interrupted() -> None:
        with interrupts_later():
            signal.raise_signal(signal.SIGINT)
            done.append("bookkeeping")
        done.append("what came after")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["bookkeeping"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_every_process_at_once_and_a_killed_parent_leaves_none(tmp_path: Path) -> None:
    """Two jobs that would run for ten minutes; each says its process once it runs."""
    say = "import os, pathlib, time; pathlib.Path(f'{os.getpid()}.pid').touch(); time.sleep(600)"
    code = (
        "from sage.side_by_side import Job, side_by_side\n"
        "if __name__ == '__main__':\n"
        f"    side_by_side(exec, [Job('a', {say!r}), Job('b', {say!r})], processes=2)\n"
    )
    (tmp_path / "parent.py").write_text(code)
    for end in (signal.SIGINT, signal.SIGKILL):
        for file in tmp_path.glob("*.pid"):
            file.unlink()
        parent = subprocess.Popen(
            [sys.executable, "parent.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        while len(list(tmp_path.glob("*.pid"))) < 2:
            assert parent.poll() is None
            time.sleep(0.1)
        parent.send_signal(end)
        _, said = parent.communicate(timeout=60)
        assert parent.returncode != 0
        assert said.count("Traceback") <= 1  # the parent's; its workers say nothing
        workers = [int(file.stem) for file in tmp_path.glob("*.pid")]
        until = time.monotonic() + 60
        while any(map(is_running, workers)):
            assert time.monotonic() < until
            time.sleep(0.1)


def is_running(process: int) -> bool:
    """Whether there is such a process, and not only what is left of it until somebody asks."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
