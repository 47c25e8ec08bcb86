"""Means over contrasts, worked by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from sage.result import Row
from sage.scores.levels import Decisions
from sage.scores.rows import PlaceScores
from sage.scores.score import headlines
from sage.scores.summary import ContrastScores, summary_rows
from sage.stats import Sampled

# (value, draws) of a score
Number = tuple[float, list[float]]


def place(
    scores: Mapping[str, Number], *, best: str = "PCA", why: str | None = None, id: str = "x"
) -> PlaceScores:
    """What these dictionaries score in control, of which `best` is the best control on fit. `why`
    control is undefined."""
    sampled = {name: Sampled(value, np.array(draws), 30) for name, (value, draws) in scores.items()}
    decisions = Decisions("nothing", why, "nothing", "success", 0.0, 1.0, 1.0)
    empty: dict[str, Sampled] = {}
    every = {score.name: empty for score in headlines()}
    return PlaceScores(id, decisions, {**every, "control": sampled}, {"control": best})


def summary(*contrasts: ContrastScores) -> dict[str, Row]:
    """The control of every dictionary over these contrasts."""
    rows = summary_rows(contrasts, suite="suite", reach=0.75, seed=3)
    return {row.dictionary: row for row in rows if row.metric == "control"}


def contrast(name: str, union: PlaceScores | None, stand_in: PlaceScores | None = None):
    return ContrastScores(name, 1.0, union, stand_in)


def test_a_summary_is_the_mean_over_contrasts_draw_by_draw() -> None:
    first = place({"suite": (0.8, [0.7, 1.0]), "PCA": (0.2, [0.1, 0.4])})
    second = place({"suite": (0.4, [0.3, 0.6]), "PCA": (0.1, [0.1, 0.0])})
    rows = summary(contrast("IO", first), contrast("S", second))
    row = rows["suite"]
    assert row.value == pytest.approx(0.6)
    assert (row.contrasts, row.n, row.seed, row.status) == (2, 30, 3, "ok")
    low, high = np.quantile([0.5, 0.8], [0.025, 0.975])
    assert (row.low, row.high) == pytest.approx((low, high))
    assert rows["PCA"].value == pytest.approx(0.15)


def test_the_gain_is_over_the_best_control_of_each_contrast_paired() -> None:
    """PCA is best at IO, random at S: .2 and .3. Draws of the gain are .4 and .5."""
    first = place({"suite": (0.8, [0.7, 1.0]), "PCA": (0.2, [0.1, 0.4]), "random": (0.1, [0, 0])})
    second = place(
        {"suite": (0.4, [0.3, 0.6]), "PCA": (0.1, [0.1, 0.0]), "random": (0.3, [0.1, 0.2])},
        best="random",
    )
    row = summary(contrast("IO", first), contrast("S", second))["suite"]
    assert row.best_control is not None
    assert row.best_control.value == pytest.approx(0.25)
    assert row.gain == pytest.approx(0.35)
    low, high = np.quantile([0.4, 0.5], [0.025, 0.975])
    assert (row.gain_low, row.gain_high) == pytest.approx((low, high))


def test_without_a_best_control_everywhere_there_is_no_gain() -> None:
    first = place({"suite": (0.8, [0.8, 0.8]), "PCA": (0.2, [0.2, 0.2])})
    second = place({"suite": (0.4, [0.4, 0.4])})
    row = summary(contrast("IO", first), contrast("S", second))["suite"]
    assert row.value == pytest.approx(0.6)
    assert (row.best_control, row.gain) == (None, None)


def test_contrasts_without_the_score_are_left_out_for_all_and_named() -> None:
    scores: dict[str, Number] = {"suite": (0.8, [0.8, 0.8]), "supervised": (1.0, [1.0, 1.0])}
    lost = place({}, why="too little")
    rows = summary(contrast("IO", place(scores)), contrast("order", lost), contrast("S", None))
    for name in ("suite", "supervised"):
        assert rows[name].contrasts == 1
        assert rows[name].status == "ok; without order, S"
    assert rows["suite"].value == pytest.approx(0.8)


def test_a_group_stands_in_where_the_union_has_no_score() -> None:
    stand_in = place({"suite": (0.5, [0.5, 0.5])}, id="order/z@END")
    undefined = place({}, why="too little")
    row = summary(contrast("order", undefined, stand_in))["suite"]
    assert (row.value, row.contrasts, row.status) == (0.5, 1, "ok")
    union = place({"suite": (0.9, [0.9, 0.9])})
    assert summary(contrast("order", union, stand_in))["suite"].value == pytest.approx(0.9)


def test_a_dictionary_measured_at_fewer_contrasts_has_no_summary() -> None:
    first = place({"suite": (0.8, [0.8, 0.8]), "random": (0.2, [0.2, 0.2])})
    second = place({"suite": (0.4, [0.4, 0.4])})
    rows = summary(contrast("IO", first), contrast("S", second))
    assert rows["suite"].value == pytest.approx(0.6)
    assert rows["random"].value is None
    assert rows["random"].status == "undefined: measured at 1 of 2 contrasts"


def test_where_no_contrast_has_a_score_the_suite_alone_says_so() -> None:
    rows = summary(contrast("IO", place({}, why="too little")), contrast("S", None))
    assert list(rows) == ["suite"]
    row = rows["suite"]
    assert (row.value, row.contrasts) == (None, 0)
    assert row.status == "undefined: no contrast has this score"


def test_every_headline_score_and_the_reach_have_a_row() -> None:
    rows = summary_rows([contrast("IO", None)], suite="suite", reach=0.75, seed=0)
    assert [row.metric for row in rows] == ["reach", *(score.name for score in headlines())]
    assert rows[0].value == 0.75
    assert {row.section for row in rows} == {"*"}
    assert [row.version for row in rows[1:]] == [score.version for score in headlines()]
