"""Control over k: how success grows with the number of latents that may be moved at each site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sage.report import drawing
from sage.report.between import MARKS
from sage.report.drawing import Sheet, defined, limits, sheet, short
from sage.report.score import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JUDGED = (drawing.BLUE, drawing.GREEN)
DRAWN = ("PCA", "untrained", "random")
BEYOND = "#f1f3f5"
HALF = 0.5  # k = 0 has no logarithm: it stands one doubling to the left of 1


class Curve(NamedTuple):
    """One dictionary's success by k; `role` is judged, supervised, control or other."""

    name: str
    role: str
    points: list[tuple[int, Score]]


class Budget(NamedTuple):
    """The curves of one contrast: what success means, the largest k that counts, and why it has no
    score if it has none."""

    contrast: str
    measure: str
    k_max: int | None
    why: str
    curves: list[Curve]


def curves_sheet(budgets: Sequence[Budget]) -> Sheet:
    """A panel for each contrast, four in a line."""
    across = min(4, max(2, len(budgets)))
    lines = -(-len(budgets) // across)
    width, height, head = drawing.WIDE / across, 2.25, 0.3
    drawn = sheet(drawing.WIDE, head + lines * height)
    for place, budget in enumerate(budgets):
        left, top = (place % across) * width, head + (place // across) * height
        axes = drawn.axes(left + 0.38, top + 0.3, width - 0.52, height - 0.78)
        _panel(axes, budget)
    _legend(drawn, budgets)
    return drawn


def _panel(axes: Axes, budget: Budget) -> None:
    ks = sorted({k for curve in budget.curves for k, _ in curve.points})
    axes.set_title(f"{short(budget.contrast, 20)}  ({budget.measure})", color=drawing.INK, pad=5)
    axes.set_xscale("log", base=2)
    axes.set_xticks([k or HALF for k in ks], [str(k) for k in ks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(min(k or HALF for k in ks) / 1.25, max(ks[-1], 1) * 1.25)
    axes.set_xlabel("k, latents moved at each site", size=drawing.TINY, labelpad=2)
    axes.set_ylim(*limits([score.value for curve in budget.curves for _, score in curve.points]))
    axes.grid(axis="y", color=drawing.RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    if budget.k_max is not None:
        axes.axvspan(budget.k_max, axes.get_xlim()[1], color=BEYOND, linewidth=0, zorder=0)
        axes.axvline(
            budget.k_max, color=drawing.SOFT, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1
        )
    for curve in sorted(
        budget.curves,
        key=lambda curve: ("other", "control", "supervised", "judged").index(curve.role),
    ):
        _draw(axes, curve, budget)
    if budget.why:
        axes.annotate(
            "no control score",
            (0.98, 0.03),
            xycoords="axes fraction",
            ha="right",
            size=drawing.TINY,
            style="italic",
            color=drawing.SOFT,
        )


def _draw(axes: Axes, curve: Curve, budget: Budget) -> None:
    colour, shape, width = look(curve, budget)
    places, scores = [k or HALF for k, _ in curve.points], [score for _, score in curve.points]
    found = defined(places, scores)
    inside = colour if curve.role == "judged" else "white"
    axes.plot(
        [x for x, _ in found], [y for _, y in found], color=colour, linewidth=width, marker=shape, markersize=3.4, markerfacecolor=inside,
        markeredgewidth=0.9,
    )  # fmt: skip
    sure = [
        (k, score.low, score.high)
        for k, score in zip(places, scores, strict=True)
        if score.low is not None and score.high is not None
    ]
    if sure and curve.role in ("judged", "supervised"):
        k, low, high = zip(*sure, strict=True)
        axes.fill_between(k, low, high, color=colour, alpha=0.14, linewidth=0)


def look(curve: Curve, budget: Budget) -> tuple[str, str, float]:
    """Colour, marker and line width."""
    if curve.role == "judged":
        judged = [other.name for other in budget.curves if other.role == "judged"]
        place = judged.index(curve.name)
        return JUDGED[place], "os"[place], 1.8
    if curve.role == "other":
        return drawing.FAINT, "", 0.7
    colour, shape = MARKS[curve.name]
    return colour, shape, 1.2 if curve.role == "supervised" else 0.9


def _legend(drawn: Sheet, budgets: Sequence[Budget]) -> None:
    from matplotlib.lines import Line2D

    handles: dict[str, Line2D] = {}
    for budget in budgets:
        for curve in budget.curves:
            colour, shape, width = look(curve, budget)
            name = "other suites" if curve.role == "other" else short(curve.name)
            fill = colour if curve.role == "judged" else "white"
            handles.setdefault(
                name,
                Line2D(
                    [],
                    [],
                    color=colour,
                    marker=shape,
                    linewidth=width,
                    markersize=4,
                    markerfacecolor=fill,
                    label=name.lstrip("_") or "?",
                ),
            )
    drawn.figure.legend(
        handles=list(handles.values()), loc="upper left", bbox_to_anchor=(0, 1), ncols=len(handles), handletextpad=0.5, columnspacing=1.4,
        borderaxespad=0.2, fontsize=drawing.SMALL,
    )  # fmt: skip
