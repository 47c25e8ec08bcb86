"""What a figure is: where it stands in a report, what it needs, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from sage.report.charts.canvas import Canvas
from sage.report.ranking import RankedSuite
from sage.report.scored_run import ScoredRun
from sage.report.words import plural, span

Subject = TypeVar("Subject")
Page = Literal["run", "overview", "compare"]

# Captions of several figures end with these.
HOLLOW = (
    " Hollow: a suite that reaches fewer nodes than others of its model; its score is for those"
    " nodes, and not to be ranked with theirs."
)
CUT = " What lies below -1 or above 2 is not drawn; the data has it."


@dataclass(frozen=True)
class Drawing:
    """A figure as drawn: a canvas, the numbers behind it as rows, and what it shows in words.

    `name` is that of its files, without an ending. `alt` stands for the picture where it cannot be
    seen, `caption` says how to read it, `n` how many prompts it rests on.
    """

    name: str
    canvas: Canvas
    rows: Sequence[Mapping[str, object]]
    alt: str
    caption: str
    n: str


@dataclass(frozen=True)
class Figure(Generic[Subject]):
    """A figure of one of the pages.

    The page of a run draws from its ScoredRun, the others from the RankedSuites of all runs.
    `draw` yields one drawing, several (one for each contrast, say), or none where there is nothing
    to show: then the page says what the figure `needs`, if it says anything. `place` is where it
    stands, as the page's template names it.
    """

    title: str
    page: Page
    place: str
    draw: Callable[[Subject], Iterable[Drawing]]
    needs: str = ""


def count_test_pairs(run: ScoredRun) -> str:
    """How many test pairs the scores of a run rest on."""
    counts: set[int] = set()
    for contrast in run.contrasts:
        for suite in run.result.suites:
            counts |= {row.n for row in run.metric_rows("T1", suite.id, section=contrast)}
    planned = run.result.run.prompts.get("test", 0)
    return f"n = {span(sorted(counts - {0}) or [planned])} test pairs per contrast"


def count_pairs_and_tasks(suites: Sequence[RankedSuite], metric: str) -> str:
    """How many test pairs and tasks a score of several suites rests on."""
    scores = [suite.score(metric) for suite in suites]
    pairs = span([score.n for score in scores if score.value is not None])
    tasks = sorted({score.tasks for score in scores} - {0})
    return f"n = {pairs} test pairs per contrast, {span(tasks)} {_noun(tasks)}"


def hollow_caption(suites: Sequence[RankedSuite]) -> str:
    """What hollow dots are, where there are any."""
    return "" if all(suite.widest for suite in suites) else HOLLOW


def _noun(tasks: Sequence[int]) -> str:
    return plural(1, "task") if tasks == [1] else plural(2, "task")
