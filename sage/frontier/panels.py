"""Panels of frontiers: the SAEs that share axes, a curve for each series that has enough of them,
which SAEs are dominated, and how the curves stand to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sage.errors import SageError
from sage.frontier.dominated import dominated
from sage.frontier.fit import Frontier, Over, fit_points, make_points
from sage.frontier.points import FrontierPoint
from sage.frontier.ratio import FrontierRatio, compare_frontiers


@dataclass(frozen=True)
class FrontierSettings:
    """How frontiers are fitted: `model` None takes the curve of lowest AICc, `relative` puts D/L0
    on the axis, `over` None takes all that there are draws over."""

    model: str | None = None
    over: Over | None = None
    relative: bool = False
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PlacedPoint:
    """A point on its axis: `sparsity` is x; `drawn` says whether its hit has a logarithm."""

    point: FrontierPoint
    sparsity: float
    dominated: bool
    drawn: bool


@dataclass(frozen=True, eq=False)
class FrontierPanel:
    """SAEs that share axes. `frontiers` are by series; `unfitted` says of each other series why it
    has no curve."""

    name: str
    points: tuple[PlacedPoint, ...]
    frontiers: dict[str, Frontier]
    unfitted: dict[str, str]
    ratios: tuple[FrontierRatio, ...]
    relative: bool

    @property
    def series(self) -> list[str]:
        """Every series, in the order of their names."""
        return sorted({placed.point.series for placed in self.points})


def make_panels(
    points: Sequence[FrontierPoint], settings: FrontierSettings | None = None
) -> list[FrontierPanel]:
    """The panels of all points, in their order; those without a defined hit are left out."""
    settings = settings or FrontierSettings()
    panels: dict[str, list[FrontierPoint]] = {}
    for point in points:
        if np.isfinite(point.hit_value) and point.l0_value > 0:
            panels.setdefault(point.panel, []).append(point)
    if not panels:
        raise SageError(
            "No SAE here has both an L0 above 0 and a performance hit that is defined. Measure "
            "where ablating the hook loses something: on text, or at another hook."
        )
    return [_make_panel(name, of_panel, settings) for name, of_panel in panels.items()]


def _make_panel(
    name: str, points: Sequence[FrontierPoint], settings: FrontierSettings
) -> FrontierPanel:
    sparsities = [
        (point.d_model if settings.relative else 1.0) / point.l0_value for point in points
    ]
    worse = dominated([1 / x for x in sparsities], [point.hit_value for point in points])
    placed = tuple(
        PlacedPoint(point, sparsity, is_dominated, 0 < point.hit_value < 1)
        for point, sparsity, is_dominated in zip(points, sparsities, worse, strict=True)
    )
    frontiers: dict[str, Frontier] = {}
    unfitted: dict[str, str] = {}
    for number, series in enumerate(sorted({point.series for point in points})):
        of_series = [point for point in points if point.series == series]
        try:
            frontiers[series] = _fit(of_series, settings, seed=settings.seed + number)
        except SageError as error:
            unfitted[series] = str(error)
    ratios = tuple(_ratios(frontiers))
    return FrontierPanel(name, placed, frontiers, unfitted, ratios, settings.relative)


def _fit(points: Sequence[FrontierPoint], settings: FrontierSettings, *, seed: int) -> Frontier:
    """The frontier of one series; seeds differ, as SAEs of two series stray independently."""
    width = [point.d_model for point in points] if settings.relative else None
    made = make_points([point.l0 for point in points], [point.hit for point in points], width)
    return fit_points(made, model=settings.model, over=settings.over, seed=seed)


def _ratios(frontiers: dict[str, Frontier]) -> Iterator[FrontierRatio]:
    for first, second in combinations(frontiers, 2):
        yield compare_frontiers((first, second), frontiers[first], frontiers[second])
