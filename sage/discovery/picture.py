"""The picture of a discovery: per contrast, layer by head maps of the statistic.

There is one panel per kind and position. All panels of a contrast share one scale, the statistic as
a share of E|m(p)|, so that panels compare; kinds that are only shown may lie beyond it. Nodes of
the section are outlined; grey ones were ranked too low to be patched. Panels in which nothing
reaches tau are left out.
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

# In inches.
WIDTH, TOP, BOTTOM, LEFT, RIGHT = 11.0, 0.62, 0.1, 0.5, 0.95
HEADER, TITLE, TICKS, GAP, LEAST_SLOT = 0.34, 0.2, 0.34, 0.16, 0.55


def draw(discovery: Discovery, path: Path | str) -> Path:
    """Write the picture (png, svg or pdf by the name's ending) and return its path."""
    from matplotlib.figure import Figure

    bands = [_band(finding, discovery.tau) for finding in discovery.findings.values()]
    height = TOP + sum(band.height for band in bands) + BOTTOM
    figure = Figure(figsize=(WIDTH, height), facecolor="white")
    title = f"{discovery.task} on {discovery.model}"
    figure.text(LEFT / WIDTH, 1 - 0.12 / height, title, size=12, weight="bold", va="top")
    caption = _caption(discovery)
    figure.text(LEFT / WIDTH, 1 - 0.36 / height, caption, size=7.5, color="#444444", va="top")
    top = height - TOP
    for band in bands:
        _draw_band(figure, band, top)
        top -= band.height
    target = Path(path)
    figure.savefig(target, dpi=200)
    return target


def _caption(discovery: Discovery) -> str:
    if discovery.method == EXACT:
        ranking = "every candidate patched"
    else:
        ranking = f"ranked by {discovery.method}"
        ranking += " with the QK fix" if discovery.qk_fix else ""
    return (
        "colour: mean over directions of |E[change of m]|, as a share of E|m|, by exact patching · "
        f"outlined: the section · grey: not patched · {ranking}, tau = {discovery.tau:g}"
    )


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
        """How many heads there are; 1 for kinds without heads."""
        return 1 + max(_column(effect) for effect in self.evidence)

    def slot(self, cell: float) -> float:
        """How many inches of a line the panel takes, with its title and the gap to the next."""
        return max(self.columns * cell, 0.068 * len(self.title), LEAST_SLOT) + GAP


@dataclass(frozen=True)
class _Band:
    """The panels of one contrast in lines that fit the page; `cell` is the side of a node's square.

    Sizes are in inches.
    """

    finding: Finding
    lines: tuple[tuple[_Panel, ...], ...]
    layers: int
    cell: float

    @property
    def panel_height(self) -> float:
        return self.layers * self.cell

    @property
    def line_height(self) -> float:
        return TITLE + self.panel_height + TICKS

    @property
    def height(self) -> float:
        return HEADER + max(1, len(self.lines)) * self.line_height

    @property
    def right(self) -> float:
        """Where the longest line ends."""
        return LEFT + max(sum(panel.slot(self.cell) for panel in line) for line in self.lines)

    @property
    def title(self) -> str:
        finding = self.finding
        if finding.null is None:
            null = "no null"
        else:
            null = f"null {finding.null / finding.baseline:.1%} of E|m|"
        count = len(finding.kept)
        nodes = f"{count} node{'' if count == 1 else 's'}"
        numbers = f"n = {finding.n} pairs · E|m| = {finding.baseline:.3g} · {null} · {nodes}"
        return f"{finding.contrast}   {numbers}"


def _band(finding: Finding, tau: float) -> _Band:
    layers = 1 + max(effect.node.layer for effect in (*finding.evidence, *finding.shown))
    cell = min(0.2, max(0.07, 1.3 / layers))
    return _Band(finding, tuple(_lines(_panels(finding, tau), cell)), layers, cell)


def _panels(finding: Finding, tau: float) -> list[_Panel]:
    """The panels in which a node reaches tau, by kind, then by position as in the text."""
    by_panel: dict[tuple[str, str], list[NodeEffect]] = {}
    for effect in (*finding.evidence, *finding.shown):
        by_panel.setdefault((effect.node.kind, effect.node.position), []).append(effect)
    panels = [
        _Panel(kind, position, tuple(effects))
        for (kind, position), effects in by_panel.items()
        if max(effect.statistic or 0.0 for effect in effects) >= tau * finding.baseline
    ]

    def place(panel: _Panel) -> tuple[int, int]:
        return KINDS.index(panel.kind), finding.positions.index(panel.position)

    return sorted(panels, key=place)


def _lines(panels: Sequence[_Panel], cell: float) -> Iterator[tuple[_Panel, ...]]:
    """The panels in lines as wide as the page allows."""
    line: list[_Panel] = []
    for panel in panels:
        width = sum(other.slot(cell) for other in (*line, panel))
        if line and width > WIDTH - LEFT - RIGHT + GAP:
            yield tuple(line)
            line = []
        line.append(panel)
    if line:
        yield tuple(line)


def _draw_band(figure: Figure, band: _Band, top: float) -> None:
    from matplotlib.colors import Normalize

    height = figure.get_figheight()
    figure.text(LEFT / WIDTH, (top - 0.1) / height, band.title, size=9, weight="bold", va="top")
    if not band.lines:
        nothing, below = "No node reaches tau.", (top - HEADER - 0.1) / height
        figure.text(LEFT / WIDTH, below, nothing, size=8, color="#444444", va="top")
        return
    largest = max(effect.statistic or 0.0 for effect in band.finding.evidence)
    scale = Normalize(0, largest / band.finding.baseline)
    for number, line in enumerate(band.lines):
        bottom = top - HEADER - number * band.line_height - TITLE - band.panel_height
        left = LEFT
        for place, panel in enumerate(line):
            size = (panel.columns * band.cell / WIDTH, band.panel_height / height)
            axes = figure.add_axes((left / WIDTH, bottom / height, *size))
            _draw_panel(axes, panel, band, scale)
            _label(axes, panel, band, first=place == 0)
            left += panel.slot(band.cell)
    _draw_scale(figure, band, scale, bottom=top - HEADER - TITLE - band.panel_height)


def _draw_scale(figure: Figure, band: _Band, scale: Normalize, *, bottom: float) -> None:
    from matplotlib.cm import ScalarMappable

    height = figure.get_figheight()
    size = (0.1 / WIDTH, band.panel_height / height)
    axes = figure.add_axes(((band.right + 0.1) / WIDTH, bottom / height, *size))
    figure.colorbar(ScalarMappable(scale, COLOURS), cax=axes, format="{x:.0%}")
    axes.tick_params(labelsize=6.5, length=2)


def _draw_panel(axes: Axes, panel: _Panel, band: _Band, scale: Normalize) -> None:
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    shares = np.full((band.layers, panel.columns), np.nan)
    for effect in panel.evidence:
        if effect.statistic is not None:
            shares[effect.node.layer, _column(effect)] = effect.statistic / band.finding.baseline
    colours = colormaps[COLOURS].with_extremes(bad=UNPATCHED)
    axes.imshow(
        shares, origin="lower", aspect="auto", cmap=colours, norm=scale, interpolation="nearest"
    )
    for effect in panel.evidence:
        if effect.kept:
            corner = (_column(effect) - 0.5, effect.node.layer - 0.5)
            axes.add_patch(
                Rectangle(corner, 1, 1, fill=False, edgecolor=OUTLINE, linewidth=1.2, clip_on=False)
            )


def _label(axes: Axes, panel: _Panel, band: _Band, *, first: bool) -> None:
    """Title, ticks and frame; only the first panel of a line says that rows are layers."""
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


def _column(effect: NodeEffect) -> int:
    return effect.node.head or 0
