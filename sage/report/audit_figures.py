"""Pictures of an audit: metrics against L0 and against planted quality, probe against control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sage.audit.audit_result import AuditResult, PanelDot
from sage.audit.metrics import AuditedMetric, audited
from sage.audit.ordering import ordering
from sage.audit.peers.probing import NAME as PROBING
from sage.report.charts.canvas import Canvas, new_canvas
from sage.report.charts.look import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RULE,
    SKY,
    SMALL,
    SOFT,
    VERMILLION,
    WIDE,
    YELLOW,
)
from sage.report.figures.figure import Drawing
from sage.result import MAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_COLOURS = (
    BLUE, VERMILLION, GREEN, PURPLE, SKY, YELLOW, ORANGE, FAINT, SOFT, "#7b3294", "#8c510a", INK,
)  # fmt: skip
# Metrics of this project, and those of other benchmarks.
_MARKERS = {True: "o", False: "x"}
_ROLES: Mapping[str, tuple[str, str]] = {
    "trained": (BLUE, "o"),
    "built": (GREEN, "^"),
    "frozen": (PURPLE, "X"),
    "control": (VERMILLION, "s"),
}
_HEAD, _ACROSS = 0.32, 4


def against_l0(result: AuditResult) -> Drawing | None:
    """Every metric of the trained topk against their L0, one line a metric, the true L0 marked."""
    worlds = list(dict.fromkeys(dot.world for dot in result.panel if _in_curve(dot)))
    if not worlds:
        return None
    looks = dict(zip(_measured(result), _COLOURS, strict=False))
    canvas = new_canvas(WIDE, 3.6)
    width = WIDE / len(worlds)
    rows: list[dict[str, object]] = []
    for place, world in enumerate(worlds):
        axes = canvas.axes(place * width + 0.42, _HEAD + 0.4, width - 0.6, 2.4)
        _frame(axes, world, x="L0", y="metric" if place == 0 else "")
        _by_l0(axes, [dot.l0 for dot in result.panel if dot.world == world and _in_curve(dot)])
        axes.axvline(result.true_l0[world], color=FAINT, linestyle=(0, (3, 2)), linewidth=1)
        curve = [dot for dot in result.panel if dot.world == world and _in_curve(dot)]
        for metric, colour in looks.items():
            points = _means(curve, metric.name)
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=_MARKERS[metric.ours],
                markersize=3,
                linewidth=1.8 if metric.name == MAIN else 0.9,
            )
            rows += [_row(world, metric.name, *point) for point in points]
    _legend(canvas, {metric.title: (colour, _MARKERS[metric.ours])
                     for metric, colour in looks.items()})  # fmt: skip
    return Drawing(
        "metric-against-l0", canvas, rows,
        alt="Every metric of trained topk SAEs against their L0, in each planted world",
        caption="Trained topk SAEs of nine sparsities. The dashed line is the true L0, at which a "
        "metric of quality should peak. One that keeps rising rewards density.",
        n=f"n = {sum(map(_in_curve, result.panel))} SAEs",
    )  # fmt: skip


def against_quality(result: AuditResult) -> Drawing | None:
    """Every metric against planted quality, a panel a metric, a dot a dictionary."""
    metrics = _measured(result)
    if not metrics:
        return None
    across, lines = _ACROSS, -(-len(metrics) // _ACROSS)
    width, height = WIDE / across, 2.35
    canvas = new_canvas(WIDE, _HEAD + lines * height)
    for place, metric in enumerate(metrics):
        line, column = divmod(place, across)
        axes = canvas.axes(
            column * width + 0.38, _HEAD + line * height + 0.3, width - 0.52, height - 0.8
        )
        _frame(axes, metric.title, x="planted quality", y="")
        for role, (colour, marker) in _ROLES.items():
            dots = [dot for dot in result.panel if dot.role == role and metric.name in dot.scores]
            values = [float(dot.scores[metric.name] or 0.0) for dot in dots]
            axes.scatter([dot.quality for dot in dots], values, s=11, color=colour, marker=marker,
                         linewidths=0)  # fmt: skip
    _legend(canvas, _ROLES)
    rows: list[dict[str, object]] = [
        {"world": dot.world, "dictionary": dot.dictionary, "role": dot.role, "L0": dot.l0,
         "quality": dot.quality, **{m.name: dot.scores.get(m.name) for m in metrics}}
        for dot in result.panel
    ]  # fmt: skip
    return Drawing(
        "metric-against-quality", canvas, rows,
        alt="Every metric against planted quality, a dot for each dictionary of the panel",
        caption="Quality is the mean over planted features of cosine times F1 of the latent matched"
        " to each, on fresh draws with independent attributes. A metric to be trusted rises from "
        "left to right, in every world, whatever made the dictionary.",
        n=f"n = {len(result.panel)} dictionaries in all worlds",
    )  # fmt: skip


def probe_against_control(result: AuditResult) -> Drawing | None:
    """What a probe can read against what latents that mean it can steer, of trained SAEs."""
    dots = [dot for dot in result.panel
            if dot.role == "trained" and {PROBING, MAIN} <= {*dot.scores}]  # fmt: skip
    if len(dots) < 3:
        return None
    canvas = new_canvas(WIDE / 2, 3.6)
    axes = canvas.axes(0.5, _HEAD + 0.3, WIDE / 2 - 0.8, 2.5)
    probed = [float(dot.scores[PROBING] or 0.0) for dot in dots]
    steered = [float(dot.scores[MAIN] or 0.0) for dot in dots]
    told = ordering(probed, steered).spearman
    _frame(axes, f"Spearman {told}", x="k-sparse probing, mean AUC", y="T3, interpretable control")
    worlds = dict.fromkeys(dot.world for dot in dots)
    looks = dict(zip(worlds, ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^")), strict=False))
    for world, (colour, marker) in looks.items():
        here = [place for place, dot in enumerate(dots) if dot.world == world]
        axes.scatter([probed[n] for n in here], [steered[n] for n in here], s=16, color=colour,
                     marker=marker, linewidths=0)  # fmt: skip
    _legend(canvas, looks)
    rows: list[dict[str, object]] = [
            {"world": dot.world, "dictionary": dot.dictionary, "probe": dot.scores[PROBING],
             "control": dot.scores[MAIN]} for dot in dots]  # fmt: skip
    return Drawing(
        "probe-against-control", canvas, rows,
        alt="Interpretable control of trained SAEs against what a sparse probe can read",
        caption="Does what can be read also steer? Trained SAEs: how well a few latents tell a "
        "value, and how far latents that mean it make the model say another.",
        n=f"n = {len(dots)} SAEs",
    )  # fmt: skip


def _measured(result: AuditResult) -> list[AuditedMetric]:
    """The metrics that the panel was measured by."""
    names = {name for dot in result.panel for name in dot.scores}
    return [metric for metric in audited().values() if metric.name in names]


def _in_curve(dot: PanelDot) -> bool:
    return (
        dot.role == "trained" and dot.dictionary.startswith("topk") and "wide" not in dot.dictionary
    )


def _row(world: str, metric: str, l0: float, value: float) -> dict[str, object]:
    return {"world": world, "metric": metric, "L0": l0, "value": value}


def _means(curve: Sequence[PanelDot], metric: str) -> list[tuple[float, float]]:
    """The mean over seeds at every L0, the sparsest first."""
    by_l0: dict[float, list[float]] = {}
    for dot in curve:
        value = dot.scores.get(metric)
        if value is not None:
            by_l0.setdefault(round(dot.l0, 1), []).append(value)
    return [(l0, sum(values) / len(values)) for l0, values in sorted(by_l0.items())]


def _frame(axes: Axes, title: str, *, x: str, y: str) -> None:
    axes.set_title(title, color=INK, pad=5)
    axes.set_xlabel(x, size=SMALL, labelpad=2)
    axes.set_ylabel(y, size=SMALL, labelpad=2)
    axes.grid(color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)


def _by_l0(axes: Axes, l0: Sequence[float]) -> None:
    """A logarithmic axis with a tick for every doubling."""
    axes.set_xscale("log")
    ticks = [2.0**power for power in range(1, 7) if min(l0) / 1.3 <= 2.0**power <= max(l0) * 1.3]
    axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _legend(canvas: Canvas, looks: Mapping[str, tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Line2D] = [
        Line2D([], [], linestyle="", marker=marker, color=colour, markersize=4, label=name)
        for name, (colour, marker) in looks.items()
    ]
    canvas.legend(handles, handletextpad=0.3, columnspacing=0.9)
