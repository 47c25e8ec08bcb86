"""A stopwatch adds up time and tokens stage by stage."""

from __future__ import annotations

import pytest

from sage.stopwatch import Stopwatch


def test_tokens_and_time_add_up_stage_by_stage() -> None:
    tokens = 0
    watch = Stopwatch(lambda: tokens)
    for step in (3, 4):
        with watch.stage("whole"), watch.stage("read"):
            tokens += step
        with watch.stage("whole"):
            tokens += 10
    assert {name: lap.tokens for name, lap in watch.laps.items()} == {"read": 7, "whole": 27}
    assert 0 <= watch.laps["read"].seconds <= watch.laps["whole"].seconds


def test_a_stage_that_fails_has_taken_its_time() -> None:
    watch = Stopwatch(iter([2.0, 7.0]).__next__)
    with pytest.raises(ValueError, match="no"), watch.stage("read"):
        raise ValueError("no")
    assert watch.laps["read"].tokens == 5
