"""Stages of the work: how much of each is done, and who is told."""

from __future__ import annotations

import pytest

from sage.progress import Stage, Watcher, advance, expect, found, learned, stage, watching


class Notes(Watcher):
    """Writes down all that is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def entered(self, stage: Stage) -> None:
        self.told.append(f"{'/'.join(stage.path)} begins")

    def moved(self, stage: Stage) -> None:
        self.told.append(f"{'/'.join(stage.path)} {stage.done:g} of {stage.total:g}")

    def left(self, stage: Stage) -> None:
        self.told.append(f"{'/'.join(stage.path)} ends")

    def learned(self, stage: Stage, fact: object) -> None:
        self.told.append(f"{stage.name} learned {fact}")

    def found(self, stage: Stage, kind: str) -> None:
        self.told.append(f"{stage.name} found {kind}")


def test_what_runs_inside_a_stage_tells_who_watches_it() -> None:
    notes = Notes()
    expect(7)
    with watching(notes):
        advance(1)
        with stage("read"):
            expect(3)
            advance(2)
            found("activations")
            learned("a section")
        with stage("fit"):
            expect(1)
    with stage("unwatched"):
        advance(1)
    assert notes.told == [
        "read begins",
        "read 0 of 3",
        "read 2 of 3",
        "read found activations",
        "read learned a section",
        "read ends",
        "fit begins",
        "fit 0 of 1",
        "fit ends",
    ]


def test_a_stage_counts_what_its_work_is_in_the_stage_around_it() -> None:
    """Half of a stage that is 6 of 10 is 3 of 10; all of it is done when it ends, whatever it
    counted."""
    with stage("outer") as outer:
        expect(10)
        with stage("inner", work=6) as inner:
            assert inner.path == ("outer", "inner")
            expect(4)
            advance(2)
            assert (inner.share, outer.share) == (0.5, 0.3)
        assert outer.share == 0.6
        advance(4)
        assert outer.share == 1
    assert (outer.done, outer.total) == (10, 10)


def test_more_may_turn_up_than_was_expected() -> None:
    with stage("patching") as patching:
        assert patching.share == 0
        advance(2)
        assert patching.share == 1
        expect(8)
        assert patching.share == 0.25


def test_a_stage_that_fails_ends_too() -> None:
    notes = Notes()
    with pytest.raises(ValueError, match="no"), watching(notes), stage("read"):
        raise ValueError("no")
    assert notes.told == ["read begins", "read ends"]


def test_one_who_watches_inside_is_told_alone_and_knows_of_no_stage_around() -> None:
    outer, inner = Notes(), Notes()
    with watching(outer), stage("demo"):
        with watching(inner), stage("cell"):
            advance(1)
        advance(1)
    assert inner.told == ["cell begins", "cell 1 of 0", "cell ends"]
    assert outer.told == ["demo begins", "demo 1 of 0", "demo ends"]
