"""What a figure is: where it stands in a report, what it needs, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from sage.report.charts.canvas import Canvas
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite
from sage.report.reported_score import ReportedScore, covers
from sage.report.scored_run import ScoredRun
from sage.report.words import plural, span

Subject = TypeVar("Subject")
Page = Literal["run", "overview", "compare"]

# Captions of several figures end with these.
HOLLOW = (
    " Hollow: a suite that reaches fewer nodes than others of its model; its score is for those"
    " nodes, and not to be ranked with theirs."
)
INTERPRETABLE = (
    f"Interpretable control ({HEADLINES[MAIN]}): how much of the way to what the model says for the"
    " other prompt the latents take it that mean something, told its labels alone."
)
AMONG_LINES = (
    "Dots are suites, up and to the left is better. Lines are what stands beside them on the same"
    " nodes: supervised features, the best that labels can buy; lookup tables of an ordinary text"
    " and of the task's own prompts, which only remember tokens; PCA with as many components per"
    " token; crosses are nulls whose directions hardly left where they began. A suite near them has"
    " shown nothing."
)
PCA_IS_T2 = (
    " A line marked T2 is control with all its components, as the quick plan did not measure"
    " interpretable control of it."
)


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
            row = run.headline(MAIN, suite.id, section=contrast)
            counts |= {row.n} if row is not None else set()
    planned = run.result.run.prompts.get("test", 0)
    return f"n = {span(sorted(counts - {0}) or [planned])} test pairs per contrast"


def count_pairs_and_tasks(suites: Sequence[RankedSuite], metric: str) -> str:
    """How many test pairs and tasks a score of several suites rests on."""
    scores = [suite.score(metric) for suite in suites]
    pairs = span([score.n for score in scores if score.value is not None])
    tasks = sorted({score.tasks for score in scores} - {0})
    noun = plural(1, "task") if tasks == [1] else plural(2, "task")
    return f"n = {pairs} test pairs per contrast, {span(tasks)} {noun}"


def hollow_caption(suites: Sequence[RankedSuite]) -> str:
    """What hollow dots are, where there are any."""
    return HOLLOW if any(suite.hollow for suite in suites) else ""


def says_over(scores: Iterable[ReportedScore]) -> str:
    """What the 95 % intervals of a figure are over."""
    return f"95 % intervals are {covers(scores)}."
