"""The picture of a discovery: layer by head maps of the statistic, for each contrast one panel per
kind and position.

All panels of a contrast share one scale, the statistic as a share of E|m(p)|, so that panels
compare; kinds that are only shown may lie beyond it. Nodes of the section are outlined; grey ones
were ranked too low to be patched. Panels in which nothing reaches tau are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sage.discovery.attribution import EXACT
from sage.discovery.discovery import Discovery, Finding, NodeEffect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

COLOURS, UNPATCHED, OUTLINE = "magma_r", "#e6e9ec", "#0090d8"
KINDS = (
    "q",
    "k",
    "v",
    "z",
    "mlp_in",
    "mlp_out",
    "attn_out",
    "resid_pre",
    "resid_mid",
    "resid_post",
)


def draw(discovery: Discovery, path: Path | str) -> Path:
    """Write the picture (png, svg or pdf by the name's ending) and return its path."""
    from matplotlib.figure import Figure

    bands = [_Band.of(finding, discovery.tau) for finding in discovery.findings.values()]
    height = TOP + sum(band.height for band in bands) + BOTTOM
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    figure.text(
        LEFT / WIDTH,
        1 - 0.12 / height,
        f"{discovery.task} on {discovery.model}",
        size=12,
        weight="bold",
        va="top",
    )
    fix = " with the QK fix" if discovery.qk_fix else ""
    ranking = (
        "every candidate patched"
        if discovery.method == EXACT
        else f"ranked by {discovery.method}{fix}"
    )
    what = "colour: mean over directions of |E[change of m]|, as a share of E|m|, by exact patching"
    caption = (
        f"{what} · outlined: the section · grey: not patched · {ranking}, tau = {discovery.tau:g}"
    )
    figure.text(LEFT / WIDTH, 1 - 0.36 / height, caption, size=7.5, color="#444444", va="top")
    top = height - TOP
    for band in bands:
        band.draw(figure, top)
        top -= band.height
    target = Path(path)
    figure.savefig(target, dpi=200)
    return target


WIDTH, TOP, BOTTOM, LEFT, RIGHT = 11.0, 0.62, 0.1, 0.5, 0.95
HEADER, TITLE, TICKS, GAP, LEAST_SLOT = 0.34, 0.2, 0.34, 0.16, 0.55


@dataclass(frozen=True)
class _Panel:
    """One kind at one position: a map of layers by heads, or of layers alone."""

    kind: str
    position: str
    evidence: tuple[NodeEffect, ...]

    @property
    def title(self) -> str:
        return f"{self.kind} @ {self.position}"

    @property
    def columns(self) -> int:
        return 1 + max(found.node.head or 0 for found in self.evidence)


@dataclass(frozen=True)
class _Band:
    """The panels of one contrast in lines that fit the page, under one colour scale."""

    finding: Finding
    lines: tuple[tuple[_Panel, ...], ...]
    layers: int
    cell: float

    @staticmethod
    def of(finding: Finding, tau: float) -> _Band:
        evidence = (*finding.evidence, *finding.shown)
        layers = 1 + max(found.node.layer for found in evidence)
        cell = min(0.2, max(0.07, 1.3 / layers))
        return _Band(finding, tuple(_flow(_panels(finding, tau), cell)), layers, cell)

    @property
    def height(self) -> float:
        return HEADER + max(1, len(self.lines)) * self.line_height

    @property
    def line_height(self) -> float:
        return TITLE + self.layers * self.cell + TICKS

    def draw(self, figure: Figure, top: float) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        total = figure.get_figheight()
        figure.text(LEFT / WIDTH, (top - 0.1) / total, self._title, size=9, weight="bold", va="top")
        if not self.lines:
            figure.text(
                LEFT / WIDTH,
                (top - HEADER - 0.1) / total,
                "No node reaches tau.",
                size=8,
                color="#444444",
                va="top",
            )
            return
        largest = max(found.statistic or 0.0 for found in self.finding.evidence)
        scale = Normalize(0, largest / self.finding.baseline)
        for number, line in enumerate(self.lines):
            bottom = top - HEADER - number * self.line_height - TITLE - self.layers * self.cell
            left = LEFT
            for place, panel in enumerate(line):
                size = (panel.columns * self.cell / WIDTH, self.layers * self.cell / total)
                axes = figure.add_axes((left / WIDTH, bottom / total, *size))
                _heat(axes, panel, self, scale, first=place == 0)
                left += _slot(panel, self.cell)
        first = top - HEADER - TITLE - self.layers * self.cell
        right = LEFT + max(sum(_slot(panel, self.cell) for panel in line) for line in self.lines)
        bar = figure.add_axes(
            ((right + 0.1) / WIDTH, first / total, 0.1 / WIDTH, self.layers * self.cell / total)
        )
        figure.colorbar(ScalarMappable(scale, COLOURS), cax=bar, format="{x:.0%}")
        bar.tick_params(labelsize=6.5, length=2)

    @property
    def _title(self) -> str:
        finding = self.finding
        null = (
            "no null"
            if finding.null is None
            else f"null {finding.null / finding.baseline:.1%} of E|m|"
        )
        count = len(finding.section.nodes)
        nodes = f"{count} node{'' if count == 1 else 's'}"
        return f"{finding.contrast}   n = {finding.n} pairs · E|m| = {finding.baseline:.3g} · {null} · {nodes}"


def _panels(finding: Finding, tau: float) -> list[_Panel]:
    """The panels with something to show, positions in the order of the text."""
    groups: dict[tuple[str, str], list[NodeEffect]] = {}
    for found in (*finding.evidence, *finding.shown):
        groups.setdefault((found.node.kind, found.node.position), []).append(found)
    shown = {
        key
        for key, group in groups.items()
        if any((found.statistic or 0.0) >= tau * finding.baseline for found in group)
    }
    ordered = sorted(shown, key=lambda key: (KINDS.index(key[0]), finding.positions.index(key[1])))
    return [_Panel(kind, position, tuple(groups[kind, position])) for kind, position in ordered]


def _flow(panels: Sequence[_Panel], cell: float) -> Iterator[tuple[_Panel, ...]]:
    line: list[_Panel] = []
    for panel in panels:
        if (
            line
            and sum(_slot(other, cell) for other in (*line, panel)) > WIDTH - LEFT - RIGHT + GAP
        ):
            yield tuple(line)
            line = []
        line.append(panel)
    if line:
        yield tuple(line)


def _slot(panel: _Panel, cell: float) -> float:
    return max(panel.columns * cell, 0.068 * len(panel.title), LEAST_SLOT) + GAP


def _heat(axes: Axes, panel: _Panel, band: _Band, scale: Normalize, *, first: bool) -> None:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    values = np.full((band.layers, panel.columns), np.nan)
    for found in panel.evidence:
        if found.statistic is not None:
            values[found.node.layer, found.node.head or 0] = found.statistic / band.finding.baseline
    colours = colormaps[COLOURS].with_extremes(bad=UNPATCHED)
    axes.imshow(
        values, origin="lower", aspect="auto", cmap=colours, norm=scale, interpolation="nearest"
    )
    for found in panel.evidence:
        if found.kept:
            corner = ((found.node.head or 0) - 0.5, found.node.layer - 0.5)
            axes.add_patch(
                Rectangle(corner, 1, 1, fill=False, edgecolor=OUTLINE, linewidth=1.2, clip_on=False)
            )
    _label(axes, panel, band, first=first)


def _label(axes: Axes, panel: _Panel, band: _Band, *, first: bool) -> None:
    axes.set_title(panel.title, size=7.5, pad=3, loc="left")
    step = 1 if band.layers <= 6 else 3 if band.layers <= 14 else 5
    axes.set_yticks(range(0, band.layers, step))
    across = 1 if panel.columns <= 6 else 3
    axes.set_xticks(range(0, panel.columns, across) if panel.columns > 1 else [])
    axes.tick_params(labelsize=6, length=2, pad=1.5, labelleft=first)
    if first:
        axes.set_ylabel("layer", size=6.5, labelpad=2)
    if panel.columns > 1:
        axes.set_xlabel("head", size=6.5, labelpad=1)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
        spine.set_color("#888888")
