"""A score is one file, named nowhere else; so is what it is measured from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import sage.scores
from sage.result import HEADLINES, MAIN
from sage.scores.contest import SCOUT
from sage.scores.rows import collect, score_arrays, score_rows
from sage.scores.score import Measure, Score, headlines, measurements, scores
from sage.scores.summary import ContrastScores, summary_rows
from scores.contests import contenders, held
from scores.worlds import split_world

# What a newcomer writes: the number of latents, against a hundred of them.
COUNT = """
import numpy as np

from sage.scores.score import Columns, Detail, Score, mean_of


def measure(node_set, contenders, *, split):
    del split
    node = node_set.nodes[0]
    return {
        contender.name: len(contender.dictionary.directions(node)) for contender in contenders
    }


def columns(part, decisions):
    del decisions
    return Columns(np.full((3, 1), part / 100), None)


def details(part, decisions):
    del decisions
    yield Detail("latents", columns(part, None), lambda means: 100 * means[:, 0], k=1)


SCORE = Score(
    name="count",
    version=7,
    symbol="count",
    title="latents counted",
    zero="no latent",
    one="a hundred latents",
    measurement="count",
    columns=columns,
    statistic=mean_of(0),
    raw=mean_of(0),
    why_undefined=lambda decisions: None,
    details=details,
)
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A score whose one file has been put beside the others."""
    (tmp_path / "count.py").write_text(COUNT)
    monkeypatch.setattr(sage.scores, "__path__", [*sage.scores.__path__, str(tmp_path)])
    yield import_module("sage.scores.count")
    del sys.modules["sage.scores.count"]
    del sage.scores.count  # type: ignore[attr-defined]


def test_a_score_is_added_by_one_file(counting: ModuleType) -> None:
    assert scores()["count"] is counting.SCORE
    assert counting.SCORE in headlines()
    assert measurements()["count"] is counting.measure


@pytest.mark.usefixtures("counting")
def test_an_added_score_has_rows_columns_and_a_summary() -> None:
    world = split_world()
    node_set = world.node_set(copying=())
    found = collect(node_set, held(node_set, contenders(world)), id="a", suite="suite")
    rows = {(row.dictionary, row.metric): row for row in score_rows(found)}
    assert rows["suite", "count"].value == pytest.approx(0.02)
    assert rows["suite", "count"].version == 7
    assert rows["suite", "latents"].value == pytest.approx(2)
    assert rows["permuted", "count"].value == pytest.approx(0.04)
    assert score_arrays(found)["a|suite|suite|count"].shape == (3, 1)
    summaries = summary_rows(
        [ContrastScores("a", 1.0, found.place)], suite="suite", reach=1.0, seed=0
    )
    told = {row.dictionary: row.value for row in summaries if row.metric == "count"}
    assert told["suite"] == pytest.approx(0.02)
    assert told["mean only"] == 0


def test_every_file_offers_what_a_score_offers() -> None:
    for name, score in scores().items():
        assert isinstance(score, Score)
        assert score.name == name
        assert score.versioned == f"{name}@{score.version}"
        assert score.zero != score.one
    for name, measure in measurements().items():
        assert isinstance(measure, Measure), name


def test_a_score_is_named_by_its_file_and_measured_by_one() -> None:
    files = {path.stem for path in Path(sage.scores.__path__[0]).glob("*.py")}
    assert set(measurements()) <= files
    assert set(scores()) - {"coverage"} <= files


def test_tables_call_the_headline_scores_by_name_and_the_main_one_comes_first() -> None:
    assert [score.name for score in headlines()] == list(HEADLINES)
    assert next(iter(scores())) == MAIN
    assert SCOUT in HEADLINES


def test_scores_beside_the_headlines_are_in_no_table() -> None:
    beside = [score.name for score in scores().values() if not score.headline]
    assert beside == ["copying", "coverage"]
