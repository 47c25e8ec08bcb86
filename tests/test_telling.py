"""What a command tells of its work: a line a stage and every half minute, all of it, or nothing."""

from __future__ import annotations

import pytest

from sage.cli.telling import LogLines, Teller, Telling, tell
from sage.errors import SageError
from sage.progress import advance, expect, found, learned, stage, watching
from sage.work_done import WorkDone


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(clock: Clock) -> WorkDone:
    """A cell that is expected to take 100 seconds."""
    work = WorkDone(clock)
    work.expect(("ioi",), {("discovery",): 40.0, ("scores", "IO, topk8"): 60.0})
    return work


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_every_stage_has_a_line_when_it_ends_and_what_lies_deeper_has_none(
    work: WorkDone, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 seconds of the 100 took 40: 60 are left."""
    with watching(LogLines(work, clock=clock)), stage("ioi"):
        with stage("discovery"):
            clock.now = 40.0
        with stage("scores"), stage("IO, topk8"):
            with stage("control"), stage("random"):
                pass
            clock.now = 100.0
    assert told(capsys) == [
        "ioi: discovery done; 40 % of the work, about 60 s left",
        "ioi: scores: IO, topk8 done; 100 % of the work",
        "ioi: scores done; 100 % of the work",
        "ioi done; 100 % of the work",
    ]


def test_half_a_minute_without_a_line_is_the_longest(
    work: WorkDone, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = LogLines(work, clock=clock)
    with watching(lines), stage("ioi"), stage("discovery"):
        expect(4)
        for now in (10.0, 29.0, 30.0, 31.0, 59.0):
            clock.now = now
            lines.tick()
        advance(3)
        clock.now = 61.0
        lines.tick()
        assert told(capsys) == [
            "ioi: discovery: 0 % of the work, about 7 min left",
            "ioi: discovery: 30 % of the work, about 2 min left",
        ]


def test_everything_has_seconds_and_what_was_found_of_earlier_runs(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with watching(LogLines(WorkDone(clock), everything=True, clock=clock)), stage("ioi"):
        expect(2)
        with stage("features"):
            with stage("read", work=0):
                found("activations")
                clock.now = 1.5
            found("features")
            clock.now = 2.0
    lines = [line.partition(";")[0] for line in told(capsys)]
    assert lines == [
        "ioi: features: read done in 1.5 s, 1 found in the cache",
        "ioi: features done in 2.0 s, 2 found in the cache",
        "ioi done in 2.0 s, 2 found in the cache",
    ]


def test_what_turns_up_is_told_to_the_revision_of_the_outermost_stage() -> None:
    facts: list[object] = []
    teller = Teller()
    teller.revisions["ioi"] = facts.append
    with watching(teller):
        with stage("ioi"), stage("discovery"):
            learned("sections")
        with stage("other"):
            learned("nothing")
    assert facts == ["sections"]


def test_quiet_says_nothing_and_a_file_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with tell(Telling.QUIET) as teller, stage("ioi"):
        teller.say("never")
        assert not teller.says
    assert told(capsys) == []
    with tell(Telling.PROGRESS), stage("ioi"):
        pass
    assert told(capsys) == ["ioi done; 100 % of the work"]


def test_a_terminal_gets_one_line_that_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with tell(Telling.PROGRESS) as teller, stage("ioi"):
        teller.say("what it will do")
        expect(4)
        advance(1)
    printed = capsys.readouterr().err
    assert "what it will do" in printed
    assert "ioi" in printed
    assert "100 % of the work" in printed


def test_a_mistake_ends_what_is_told() -> None:
    with pytest.raises(SageError, match="no"), tell(Telling.EVERYTHING), stage("ioi"):
        raise SageError("no")
