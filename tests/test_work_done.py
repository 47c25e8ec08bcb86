"""The share of the work that is done, in an estimate's seconds, and the time left."""

from __future__ import annotations

import pytest

from sage.progress import Stage, Watcher, advance, expect, stage, watching
from sage.work_done import WorkDone, tell_time


class Follower(Watcher):
    def __init__(self, work: WorkDone) -> None:
        self.work = work

    def moved(self, stage: Stage) -> None:
        self.work.moved(stage)

    def left(self, stage: Stage) -> None:
        self.work.left(stage)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


STAGES = {("discovery", "IO"): 10.0, ("discovery", "S"): 10.0, ("scores",): 60.0}


def test_the_share_is_of_the_seconds_expected_and_not_of_the_stages() -> None:
    work = WorkDone()
    work.expect(("cell",), STAGES)
    with watching(Follower(work)), stage("cell"):
        with stage("discovery"):
            with stage("IO"):
                expect(4)
                advance(1)
                assert work.share == 2.5 / 80
            assert work.share == 10 / 80
        assert work.share == 20 / 80
        with stage("scores"):
            expect(2)
            with stage("suite"):
                expect(2)
                advance(1)
                assert work.share == (20 + 60 / 4) / 80


def test_what_was_kept_is_done_at_once() -> None:
    work = WorkDone()
    work.expect(("cell",), STAGES)
    with watching(Follower(work)):
        with stage("cell"):
            with stage("discovery"):
                pass
            assert work.seconds_done == 20
        assert work.seconds_done == 80


def test_the_share_never_shrinks_when_more_turns_up() -> None:
    work = WorkDone()
    work.expect(("cell",), {("discovery",): 10.0, ("scores",): 10.0})
    with watching(Follower(work)), stage("cell"):
        with stage("discovery"):
            pass
        assert work.share == 0.5
        work.expect(("cell",), {("discovery",): 10.0, ("scores",): 90.0})
        assert work.seconds_done == 10
        assert work.share == 0.5


def test_the_time_left_begins_at_the_pace_expected_and_goes_over_to_that_measured() -> None:
    """80 seconds of the estimate, of which 8 count as trust in the pace expected (2): 160 seconds
    at first. When 20 took 96 seconds the pace is (96 + 16)/(20 + 8) = 4 for the other 60."""
    clock = Clock()
    work = WorkDone(clock, pace=2.0)
    work.expect(("cell",), STAGES)
    assert work.seconds_left == 160
    with watching(Follower(work)), stage("cell"):
        with stage("discovery"):
            pass
        clock.now = 96.0
        assert work.seconds_left == pytest.approx(4 * 60)


def test_without_an_estimate_the_outermost_stage_says_how_much_is_done() -> None:
    clock = Clock()
    work = WorkDone(clock)
    assert work.seconds_left is None
    work.begin()
    with watching(Follower(work)), stage("training"):
        expect(4)
        assert work.seconds_left is None
        advance(1)
        clock.now = 10.0
        assert (work.share, work.seconds_left) == (0.25, 30)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, "1 s"),
        (40.0, "40 s"),
        (89.0, "89 s"),
        (100.0, "2 min"),
        (1800.0, "30 min"),
        (6000.0, "1.7 hours"),
    ],
)
def test_times_are_told_in_round_numbers(seconds: float, told: str) -> None:
    assert tell_time(seconds) == told
