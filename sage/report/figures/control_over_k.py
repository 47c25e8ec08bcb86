"""Control over k: how success grows with the number of latents that may be moved at each site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.report.charts.canvas import is_cut
from sage.report.charts.curves import (
    DRAWN_CONTROLS,
    BudgetCurve,
    ContrastCurves,
    Role,
    curve_plot,
)
from sage.report.figures.figure import CUT, Drawing, Figure, count_test_pairs
from sage.report.metrics import NORMALISED
from sage.report.reported_score import score_in
from sage.report.scored_run import ScoredRun
from sage.report.words import count
from sage.result import SUPERVISED

CAPTION = (
    "How much of the ground-truth edit is made when k latents may be moved at each site: accuracy"
    " is the share of prompts on which the model answers as under the ground-truth patch, graded"
    " the share of its effect on the metric. Read a suite against supervised features at the same"
    " k: the control score is the area from k = 1 to k max (dashed; what lies beyond is shaded and"
    " does not count), above what k = 0 gives, relative to theirs. Bands are 95 % intervals."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A panel for each contrast on which a suite was edited with."""
    headliners = run.headliners()
    if not headliners:
        return
    contrasts = [_curves(run, contrast, headliners) for contrast in run.contrasts]
    contrasts = [contrast for contrast in contrasts if contrast.curves]
    if not contrasts:
        return
    caption = CAPTION
    if is_cut([score.value for contrast in contrasts for score in contrast.scores]):
        caption += CUT
    if len(run.result.suites) > 1:
        caption += (
            " Supervised features and controls are those of the nodes that"
            f" {run.label(headliners[0])} reaches."
        )
    judged = ", ".join(map(run.label, headliners))
    yield Drawing(
        "control-over-k",
        curve_plot(contrasts),
        list(_data(contrasts)),
        alt=(f"Success against k of {judged} and controls on {count(len(contrasts), 'contrast')}."),
        caption=caption,
        n=count_test_pairs(run),
    )


def _curves(run: ScoredRun, contrast: str, headliners: Sequence[str]) -> ContrastCurves:
    """What succeeds at each k on one contrast, by the measure that its control score takes."""
    best = headliners[0]
    areas = run.metric_rows("area", best, section=contrast)
    measure = "graded" if len(areas) == 1 and areas[0].at == "graded" else "accuracy"
    normalised = run.score(NORMALISED["T2"], best, section=contrast)
    curves: list[BudgetCurve] = []
    for suite, dictionary, role in _roles(run, headliners):
        rows = run.metric_rows(measure, suite, dictionary, section=contrast)
        points = [(row.k, score_in(row)) for row in rows if row.k is not None]
        if rows:
            curves.append(BudgetCurve(run.label(dictionary), role, points))
    return ContrastCurves(
        contrast,
        measure,
        k_max=areas[0].k if areas else None,
        why=normalised.why if normalised.value is None else "",
        curves=curves,
    )


def _roles(run: ScoredRun, headliners: Sequence[str]) -> Iterator[tuple[str, str, Role]]:
    """Whose curves are drawn, as suite, dictionary and role.

    The supervised dictionary and the controls are those on the best suite's nodes.
    """
    best = headliners[0]
    for suite in headliners:
        yield suite, suite, "judged"
    yield best, SUPERVISED, "supervised"
    for control in DRAWN_CONTROLS:
        yield best, control, "control"
    for suite in run.result.suites:
        if suite.id not in headliners:
            yield suite.id, suite.id, "other"


def _data(contrasts: Sequence[ContrastCurves]) -> Iterator[dict[str, object]]:
    for contrast in contrasts:
        for curve in contrast.curves:
            for k, score in curve.points:
                yield {
                    "contrast": contrast.contrast,
                    "dictionary": curve.name,
                    "measure": contrast.measure,
                    "k": k,
                    "k max": contrast.k_max,
                    **score.columns(),
                }


figure = Figure(
    "Control over k",
    page="run",
    place="control",
    draw=draw,
    needs="A suite that reaches a node of a section is needed here.",
)
