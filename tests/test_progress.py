"""Stages that learn how much there is to do as they go along."""

from __future__ import annotations

from sage.progress import Stage, advance, expect


def test_what_runs_inside_a_stage_tells_who_watches_it() -> None:
    told: list[tuple[str | int, ...]] = []

    def progress(*news: str | int) -> None:
        told.append(news)

    first, second = Stage("first", progress), Stage("second", progress)
    expect(7)
    with first.under_way():
        expect(3)
        advance(2)
    with second.under_way():
        expect(1)
    with first.under_way():
        expect(1)
        advance(2)
    advance(7)
    assert told == [
        ("first", 0, 3),
        ("first", 2, 3),
        ("second", 0, 1),
        ("first", 2, 4),
        ("first", 4, 4),
    ]


def test_a_stage_inside_a_stage_gives_way_when_it_ends() -> None:
    outer, inner = Stage("outer", lambda *_: None), Stage("inner", lambda *_: None)
    with outer.under_way():
        with inner.under_way():
            advance(1)
        advance(10)
    assert (outer.done, inner.done) == (10, 1)
