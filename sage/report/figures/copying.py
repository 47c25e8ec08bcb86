"""Copying over k: Makelov's test, which reads the counterfactual's own codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.curves import (
    DRAWN_CONTROLS,
    BudgetCurve,
    ContrastCurves,
    Role,
    curve_plot,
)
from sage.report.figures.figure import Drawing, Figure, count_test_pairs, says_over
from sage.report.reported_score import score_in
from sage.report.scored_run import COPYING, ScoredRun
from sage.report.words import count
from sage.result import SUPERVISED

LEAST_KS = 2
CAPTION = (
    "Copying, with k latents moved at each site: how much of the ground-truth edit is made when"
    " codes and target are those of the other prompt itself. It compares with published numbers and"
    " is in no mean: a lookup table that remembers tokens wins it. Bands are 95 % intervals."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A panel for each contrast on which suites were copied with two k or more."""
    detailed = run.detailed()
    contrasts = [_curves(run, contrast, detailed) for contrast in run.contrasts]
    contrasts = [contrast for contrast in contrasts if len(contrast.ks) >= LEAST_KS]
    if not contrasts:
        return
    caption = f"{CAPTION} {says_over([score for entry in contrasts for score in entry.scores])}"
    if len(run.result.suites) > 1:
        first = run.label(detailed[0])
        caption += f" Supervised features and controls are those of the nodes of {first}."
    judged = ", ".join(map(run.label, detailed))
    yield Drawing(
        "copying",
        curve_plot(contrasts, y="copying"),
        list(_data(contrasts)),
        alt=f"Copying against k of {judged} and others on {count(len(contrasts), 'contrast')}.",
        caption=caption,
        n=count_test_pairs(run),
    )


def _curves(run: ScoredRun, contrast: str, detailed: Sequence[str]) -> ContrastCurves:
    """What is copied at each k on one contrast."""
    curves: list[BudgetCurve] = []
    for suite, dictionary, role in _roles(run, detailed):
        rows = run.beside.get((contrast, suite, dictionary), [])
        points = [
            (row.k, score_in(row)) for row in rows if row.metric == COPYING and row.k is not None
        ]
        if any(score.value is not None for _, score in points):
            curves.append(BudgetCurve(run.label(dictionary), role, points))
    return ContrastCurves(contrast, curves)


def _roles(run: ScoredRun, detailed: Sequence[str]) -> Iterator[tuple[str, str, Role]]:
    """Whose curves are drawn, as suite, dictionary and role.

    The supervised dictionary and the controls are those on the nodes of the first suite.
    """
    for suite in detailed:
        yield suite, suite, "judged"
    for first in detailed[:1]:
        yield first, SUPERVISED, "supervised"
        for control in DRAWN_CONTROLS:
            yield first, control, "control"
    for suite in run.suites:
        if suite.id not in detailed:
            yield suite.id, suite.id, "other"


def _data(contrasts: Sequence[ContrastCurves]) -> Iterator[dict[str, object]]:
    for contrast in contrasts:
        for curve in contrast.curves:
            for k, score in curve.points:
                yield {
                    "contrast": contrast.contrast,
                    "dictionary": curve.name,
                    "k": k,
                    **score.columns(),
                }


figure = Figure(
    "Copying over k",
    page="run",
    place="copying",
    draw=draw,
    needs="A suite that was copied with two k or more is needed for curves.",
)
