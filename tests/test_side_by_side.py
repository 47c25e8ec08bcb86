"""Jobs in processes of their own: what they make, and how much of all of them is done."""

from __future__ import annotations

import os

import pytest

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


def test_one_thread_is_all_that_a_job_gets() -> None:
    (threads,) = side_by_side(os.getenv, [Job("threads", "OMP_NUM_THREADS")], processes=1)
    assert threads == "1"


def test_what_is_done_of_a_job_is_told_once() -> None:
    """Of 4 seconds in all: half of the first's 3, then all of them; an end counts what is left."""
    jobs = [Job("first", "", {(): 3.0}), Job("second", "", {(): 1.0})]
    shares = [0.5, 0.0]
    told = Told(shares, jobs)
    with stage("demo") as demo:
        told.tell()
        told.tell()
        assert demo.done == 1.5
        shares[1] = 1.0
        told.tell(ended=[0])
        assert demo.done == 4
        told.tell(ended=[0, 1])
        assert demo.done == 4
        advance(0)
