"""Panels of frontiers: the SAEs that share axes, and a curve for each series with enough of them.

Also which SAEs are dominated, and how the curves stand to each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
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
    on the axis, `over` None takes all that there are draws over. `each_hook` gives every hook a
    panel of its own; suites whose names match a pattern of `without` are left out."""

    model: str | None = None
    over: Over | None = None
    relative: bool = False
    each_hook: bool = False
    without: tuple[str, ...] = ()
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
    """The panels of all points, in the order of their names.

    Points without a defined hit, and those that the settings leave out, have no place. SageError
    where no point is left.
    """
    settings = settings or FrontierSettings()
    panels: dict[str, list[FrontierPoint]] = {}
    for point in points:
        left_out = any(fnmatchcase(point.suite, pattern) for pattern in settings.without)
        if np.isfinite(point.hit_value) and point.l0_value > 0 and not left_out:
            panels.setdefault(point.panel, []).append(point)
    if not panels:
        raise SageError(
            "No SAE here has both an L0 above 0 and a performance hit that is defined. Measure "
            "where ablating the hook loses something: on text, or at another hook."
        )
    return [_make_panel(name, panels[name], settings) for name in sorted(panels, key=_in_order)]


def _in_order(name: str) -> list[tuple[int, str]]:
    """Numbers in a name by their size: layer 2 comes before layer 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def _make_panel(
    name: str, points: Sequence[FrontierPoint], settings: FrontierSettings
) -> FrontierPanel:
    sparsities = [
        (point.d_model if settings.relative else 1.0) / point.l0_value for point in points
    ]
    placed = tuple(
        PlacedPoint(point, sparsity, _is_dominated(point, points), 0 < point.hit_value < 1)
        for point, sparsity in zip(points, sparsities, strict=True)
    )
    frontiers: dict[str, Frontier] = {}
    unfitted: dict[str, str] = {}
    for number, series in enumerate(sorted({point.series for point in points})):
        of_series = [point for point in points if point.series == series]
        try:
            frontiers[series] = _fit(of_series, settings, seed=settings.seed + number)
        except SageError as error:
            unfitted[series] = str(error)
    model_of = {point.series: point.model for point in points}
    ratios = tuple(_ratios(frontiers, model_of))
    return FrontierPanel(name, placed, frontiers, unfitted, ratios, settings.relative)


def _fit(points: Sequence[FrontierPoint], settings: FrontierSettings, *, seed: int) -> Frontier:
    """The frontier of one series; seeds differ, as SAEs of two series stray independently."""
    width = [point.d_model for point in points] if settings.relative else None
    made = make_points([point.l0 for point in points], [point.hit for point in points], width)
    return fit_points(made, model=settings.model, over=settings.over, seed=seed)


def _ratios(
    frontiers: Mapping[str, Frontier], model_of: Mapping[str, str]
) -> Iterator[FrontierRatio]:
    """Two architectures of one model at a time: models are not ranked."""
    for first, second in combinations(frontiers, 2):
        if model_of[first] == model_of[second]:
            yield compare_frontiers((first, second), frontiers[first], frontiers[second])


def _is_dominated(point: FrontierPoint, points: Sequence[FrontierPoint]) -> bool:
    """Whether an SAE of the same model is better than this one."""
    rivals = [other for other in points if other.model == point.model]
    marks = dominated([rival.l0_value for rival in rivals], [rival.hit_value for rival in rivals])
    return marks[rivals.index(point)]
