"""The report, start to end: find results, write a page for each task and model, then the pages that
hold them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sage.progress import Progress, silent
from sage.report.compare import write_comparison
from sage.report.overview import write_overview
from sage.report.page import write_cell_page
from sage.report.pages import write_assets
from sage.report.sources import Source, find_sources
from sage.report.standing import CellSummary, Standing, claim, standings


class Report(NamedTuple):
    """Where a report begins, what it says first, and how every suite stands over the tasks."""

    page: Path
    claim: str
    suites: list[Standing]


def write_report(
    folders: Sequence[Path], out: Path, *, workers: int = 1, progress: Progress = silent
) -> Report:
    """Write a report on the results in `folders` (result folders, or folders searched for them)
    into `out`.

    The pages need nothing but each other: the folder can be moved, mailed and opened from disk.
    With more workers, pages are made in processes of their own, so the caller's main module must be
    importable. Raises SageError where there is no result, one is damaged, or two are of the same
    task, model and seed.
    """
    sources = find_sources(folders)
    out.mkdir(parents=True, exist_ok=True)
    write_assets(out)
    cells: list[CellSummary] = []
    for cell in _pages(sources, out, workers):
        cells.append(cell)
        progress("report: pages", len(cells), len(sources))
    suites = standings(cells)
    found = claim(suites, cells)
    write_comparison(out, suites, cells)
    return Report(write_overview(out, found, suites, cells), found.headline, suites)


def _pages(sources: Sequence[Source], out: Path, workers: int) -> Iterator[CellSummary]:
    """Pages in the order of their sources."""
    if workers <= 1 or len(sources) <= 2:
        for source in sources:
            yield write_cell_page(source, out, sources)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(min(workers, len(sources)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(
            write_cell_page, sources, [out] * len(sources), [sources] * len(sources)
        )
