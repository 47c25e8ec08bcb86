"""Frontiers as pictures, tables and data: fidelity against sparsity, and scores against sparsity.

Method, section 8. No two SAEs are compared at unequal sparsity without its being seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sage.errors import SageError
from sage.fidelity.result import FidelityResult
from sage.fidelity.result_file import fidelity_files, join_fidelity, load_fidelity
from sage.frontier.curves import CURVES
from sage.frontier.fit import LEAST_POINTS, REFERENCE_L0, Frontier
from sage.frontier.panels import FrontierPanel, FrontierSettings, make_panels
from sage.frontier.points import FrontierPoint, fidelity_points
from sage.report.charts.frontier_plot import frontier_plot
from sage.report.charts.look import look
from sage.report.html import write_file
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite, over_tasks, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import NoneOfToday, find_sources
from sage.report.tables.table import csv_text
from sage.result_file import RESULT

FIDELITY_NAME = "fidelity"
FIDELITY_HIT = "performance hit, 1 - loss recovered (mean ablation)"
# Scores that have a picture of their own, and what is lost where one is not 1.
SCORES = (MAIN, "control", "approximation", "geometry")
_TITLES = {MAIN: "interpretable control", "control": "control", "approximation": "approximation",
           "geometry": "geometry"}  # fmt: skip

Panels = Sequence[FrontierPanel]


class FrontierPicture(NamedTuple):
    """One picture: panels of one kind of hit, what it is called, and what stands on its y axis."""

    name: str
    y: str
    panels: Panels


class WrittenFrontier(NamedTuple):
    """A picture's files as a page refers to them, and its size in pixels; `curves` is empty where
    there is none."""

    image: str
    data: str
    curves: str
    width: int
    height: int

    @property
    def names(self) -> list[str]:
        """All files that were written."""
        return [name for name in (self.image, self.data, self.curves) if name]


class FoundFrontiers(NamedTuple):
    """The pictures that results give, and the fidelity results among them."""

    pictures: list[FrontierPicture]
    fidelity: list[FidelityResult]


def find_frontiers(paths: Sequence[Path], settings: FrontierSettings) -> list[FrontierPicture]:
    """The pictures that results in these paths give: of fidelity results one, of scores one for
    each score. SageError where there is no result of either kind."""
    return read_frontiers(paths, settings).pictures


def read_frontiers(paths: Sequence[Path], settings: FrontierSettings) -> FoundFrontiers:
    """The same, with the fidelity results that they were made of."""
    results = join_fidelity([load_fidelity(file) for file in fidelity_files(paths)])
    suites: list[RankedSuite] = []
    if scored := [path for path in paths if _has_scores(path)]:
        suites = _scored_suites(scored, alone=not results)
    pictures = frontiers_of(results, suites, settings)
    if not pictures:
        listed = ", ".join(map(str, paths))
        raise SageError(
            f"There is nothing to draw in {listed}. `sage fidelity ... --out DIR` measures "
            "fidelity, `sage score ... --out DIR` scores."
        )
    return FoundFrontiers(pictures, results)


def _scored_suites(paths: Sequence[Path], *, alone: bool) -> list[RankedSuite]:
    """The suites of score results. Those of other versions of the scores are left out, which is
    said; where nothing else is there, NoneOfToday if there is nothing else to draw."""
    try:
        found = find_sources(paths)
    except NoneOfToday as error:
        if alone:
            raise
        logging.getLogger("sage").warning(str(error))
        return []
    if found.left_out:
        logging.getLogger("sage").warning(found.left_out)
    return over_tasks([summarise_run(read_run(source)) for source in found.listed])


def frontiers_of(
    results: Sequence[FidelityResult],
    suites: Sequence[RankedSuite],
    settings: FrontierSettings,
) -> list[FrontierPicture]:
    """One picture of fidelity results, where there are any, and one for each score of suites."""
    pictures: list[FrontierPicture] = []
    if results:
        points = fidelity_points(results, each_hook=settings.each_hook, relative=settings.relative)
        pictures.append(FrontierPicture(FIDELITY_NAME, FIDELITY_HIT, make_panels(points, settings)))
    return [*pictures, *_score_pictures(suites, settings)]


def write_pictures(
    pictures: Sequence[FrontierPicture], out: Path, folder: Path
) -> list[WrittenFrontier]:
    """Write every picture into a folder below `out`, as SVG with its points and curves as CSV;
    names are as seen from `out`."""
    written: list[WrittenFrontier] = []
    with look():
        for picture in pictures:
            stem = f"frontier-{picture.name}"
            image, data, curves = (
                (folder / f"{stem}{ending}").as_posix()
                for ending in (".svg", ".csv", "-curves.csv")
            )
            canvas = frontier_plot(picture.panels, y=picture.y)
            write_file(out / image, canvas.svg())
            write_file(out / data, csv_text(point_rows(picture.panels)).encode())
            if rows := curve_rows(picture.panels):
                write_file(out / curves, csv_text(rows).encode())
            size = round(96 * canvas.width), round(96 * canvas.height)
            written.append(WrittenFrontier(image, data, curves if rows else "", *size))
    return written


def write_frontiers(pictures: Sequence[FrontierPicture], out: Path) -> list[Path]:
    """Write every picture as SVG with its points and its curves as CSV; returns the paths."""
    written = write_pictures(pictures, out, Path())
    return [out / name for picture in written for name in picture.names]


def score_points(
    suites: Sequence[RankedSuite], metric: str, *, relative: bool = False
) -> Iterator[FrontierPoint]:
    """A point for every suite that is compared with others of its model: its L0, and what its score
    lacks of 1."""
    for suite in suites:
        score = suite.score(metric)
        if score.value is None or not suite.compared or not suite.l0:
            continue
        ends = None
        if score.low is not None and score.high is not None:
            ends = (1 - score.high, 1 - score.low)
        yield FrontierPoint(
            "all models" if relative else suite.model,
            suite.architecture,
            f"{suite.architecture}, {suite.model}" if relative else suite.architecture,
            suite.suite,
            suite.suite,
            suite.model,
            suite.d_model,
            suite.l0,
            1 - score.value,
            ends,
        )


def point_rows(panels: Panels) -> list[dict[str, object]]:
    """Every SAE with its place, as rows of data."""
    rows: list[dict[str, object]] = []
    for panel in panels:
        for placed in panel.points:
            point = placed.point
            low, high = point.ends or (None, None)
            rows.append(
                {
                    "panel": panel.name,
                    "series": point.series,
                    "name": point.name,
                    "model": point.model,
                    "D": point.d_model,
                    "L0": point.l0_value,
                    "L0/D": point.l0_value / point.d_model,
                    "x": placed.sparsity,
                    "hit": point.hit_value,
                    "low": low,
                    "high": high,
                    "dominated": placed.dominated,
                    "fitted": placed.drawn and point.series in panel.frontiers,
                }
            )
    return rows


def curve_rows(panels: Panels) -> list[dict[str, object]]:
    """Every curve of every series, as rows of data: its AICc, and of the chosen one each parameter
    with its interval."""
    rows: list[dict[str, object]] = []
    for panel in panels:
        for series, frontier in panel.frontiers.items():
            for name, fit in frontier.fits.items():
                start: dict[str, object] = {
                    "panel": panel.name,
                    "series": series,
                    "curve": name,
                    "chosen": name == frontier.model,
                    "points": len(frontier.points.l0),
                    "left out": frontier.points.left_out,
                    "AICc": fit.aicc,
                    "over": frontier.over,
                }
                values = CURVES[name].values(fit.params)
                intervals = frontier.interval() if name == frontier.model else {}
                for parameter, value in values.items():
                    ends = intervals.get(parameter, (None, None))
                    told = {"parameter": parameter, "value": float(value[0])}
                    rows.append({**start, **told, "low": ends[0], "high": ends[1]})
    return rows


def summary_rows(panel: FrontierPanel) -> list[dict[str, object]]:
    """One row for each series, narrow enough for a terminal; the exponent where a curve has one
    that is fitted."""
    rows = [_summary_row(panel, series) for series in panel.series]
    if all(row[_EXPONENT] is None for row in rows):
        rows = [{name: row[name] for name in row if name not in _EXPONENTS} for row in rows]
    return rows


def remarks(panel: FrontierPanel) -> list[str]:
    """What must be said of a panel beside its table: curves compared, warnings with the hits at
    reference sparsities, why a series has no curve, ratios, who is dominated."""
    said: list[str] = []
    for series, frontier in panel.frontiers.items():
        scores = ", ".join(f"{name} {score:.1f}" for name, score in frontier.aicc.items())
        said.append(
            f"{series}: AICc {scores}; {frontier.model} is drawn, and SAEs "
            f"stray from it by a factor of {frontier.stray:.2f}."
        )
        if frontier.warning:
            said.append(f"{series}: {frontier.warning} {_reference_hits(panel, frontier)}")
    if panel.unfitted:
        names = "; ".join(panel.unfitted)
        said.append(f"No curve for {names}: one takes {LEAST_POINTS} SAEs at 2 sparsities or more.")
    said += [ratio.sentence for ratio in panel.ratios]
    if names := [placed.point.name for placed in panel.points if placed.dominated]:
        said.append(f"Dominated (another is as sparse and loses less): {', '.join(names)}.")
    return said


def _has_scores(path: Path) -> bool:
    if path.is_file():
        return path.name == RESULT
    return any(True for _ in path.rglob(RESULT))


def _score_pictures(
    suites: Sequence[RankedSuite], settings: FrontierSettings
) -> Iterator[FrontierPicture]:
    for metric in SCORES:
        points = list(score_points(suites, metric, relative=settings.relative))
        if points:
            title = f"1 - {_TITLES[metric]} ({HEADLINES[metric]})"
            yield FrontierPicture(metric, title, make_panels(points, settings))


_EXPONENT = "k"
_EXPONENTS = (_EXPONENT, "k 95 %")


def _summary_row(panel: FrontierPanel, series: str) -> dict[str, object]:
    frontier = panel.frontiers.get(series)
    saes = sum(placed.point.series == series for placed in panel.points)
    half_at = "half at L0/D" if panel.relative else "half at L0"
    if frontier is None:
        names = ("curve", half_at, "95 %", *_EXPONENTS)
        return {"series": series, "SAEs": str(saes), **dict.fromkeys(names)}
    intervals = frontier.interval()
    half, exponent = intervals["half"], intervals.get("exponent")
    fitted = len(frontier.points.l0)
    return {
        "series": series,
        "SAEs": str(saes) if fitted == saes else f"{fitted} of {saes}",
        "curve": frontier.model,
        half_at: _reciprocal(frontier.half),
        "95 %": f"{_reciprocal(half.high)} to {_reciprocal(half.low)}",
        _EXPONENT: None if exponent is None else f"{frontier.exponent:.2f}",
        "k 95 %": None if exponent is None else f"{exponent.low:.2f} to {exponent.high:.2f}",
    }


def _reciprocal(sparsity: float) -> str:
    return "inf" if sparsity == 0 else f"{1 / sparsity:.2g}"


def _reference_hits(panel: FrontierPanel, frontier: Frontier) -> str:
    """`Hit at L0 16: 0.051 (0.047 to 0.056); ...`: where there are SAEs, else everywhere."""
    if panel.relative:
        return ""
    low, high = frontier.points.l0.min(), frontier.points.l0.max()
    inside = [l0 for l0 in REFERENCE_L0 if low <= l0 <= high]
    told: list[str] = []
    for l0 in inside or REFERENCE_L0:
        hit = frontier.hit_at(l0)
        told.append(f"{l0}: {hit.value:.3g} ({hit.low:.2g} to {hit.high:.2g})")
    where = "" if inside else ", all of them outside the SAEs"
    return f"Hit at L0 {'; '.join(told)}{where}."
