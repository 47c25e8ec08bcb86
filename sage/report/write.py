"""The report, start to end: a page for each task and model, then those that hold them together."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sage.arguments import a_path, paths
from sage.processes import worker_pool
from sage.progress import advance, expect, stage
from sage.report.claim import make_claim
from sage.report.compare import write_comparison
from sage.report.frontier_page import write_report_frontiers
from sage.report.html import write_assets
from sage.report.leaderboard import write_leaderboard
from sage.report.links import page_links
from sage.report.overview import write_overview
from sage.report.ranking import RankedSuite, RunSummary, over_tasks
from sage.report.run_page import write_run_page
from sage.report.sources import Source, find_sources

_WRITTEN = "A result is written by evaluate(..., folder=...), and that folder is given here."


class Report(NamedTuple):
    """Where a report begins, what it says first, and how every suite stands over the tasks."""

    page: Path
    claim: str
    suites: list[RankedSuite]


def write_report(
    folders: Path | str | Sequence[Path | str], out: Path | str, *, workers: int = 1
) -> Report:
    """Write a report on the results in `folders` into `out`.

    Each folder is that of a result, or is searched for results; suites of one cell that were scored
    into different folders stand on one page. The pages need nothing but each other: the folder can
    be moved, mailed and opened from disk. With more workers, pages are made in processes of their
    own, so the caller's main module must be importable. Raises SageError where there is no result,
    one is damaged, or two of one task, model, plan and seed differ in more than their suites.

        sage.write_report("out", "out/report").page
    """
    folders = paths("the folders of results", folders, how=_WRITTEN)
    out = a_path("out", out)
    found = find_sources(folders)
    sources = found.listed
    if found.left_out:
        logging.getLogger("sage").warning(found.left_out)
    out.mkdir(parents=True, exist_ok=True)
    write_assets(out)
    runs: list[RunSummary] = []
    with stage("report"):
        expect(len(sources))
        for run in _write_run_pages(sources, out, workers):
            runs.append(run)
            advance(1)
    suites = over_tasks(runs)
    claim = make_claim(suites, runs)
    write_comparison(out, claim, suites, runs)
    write_report_frontiers(out, folders, suites, page_links([run.source for run in runs]))
    write_leaderboard(out, suites, runs, left_out=found.left_out)
    page = write_overview(out, claim, suites, runs, left_out=found.left_out)
    return Report(page, claim.headline, suites)


def _write_run_pages(sources: Sequence[Source], out: Path, workers: int) -> Iterator[RunSummary]:
    """Pages in the order of their sources."""
    write = partial(write_run_page, out=out, sources=sources)
    if workers <= 1 or len(sources) <= 2:
        yield from map(write, sources)
        return
    from concurrent.futures.process import BrokenProcessPool

    written = 0
    try:
        with worker_pool(min(workers, len(sources))) as pool:
            for run in pool.map(write, sources):
                written += 1
                yield run
    except BrokenProcessPool:
        # A process was killed: what it had not written is written here.
        yield from map(write, sources[written:])
