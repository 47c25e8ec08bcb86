"""`sage export`, `sage report`: results as rows, and as pages to read."""

from __future__ import annotations

from pathlib import Path

import click

from sage.cli.options import existing_path, folder_path
from sage.cli.output import print_path
from sage.cli.telling import Telling, tell, telling_options
from sage.cli.values import MOST_WORKERS, WritablePath


@click.command()
@click.argument("results", nargs=-1, required=True, type=existing_path)
@click.option(
    "--out",
    required=True,
    type=WritablePath(path_type=Path),
    help="A .csv of all rows, a folder, or a .json of one suite.",
)
def export(results: tuple[Path, ...], out: Path) -> None:
    """Export results as CSV, or as SAEBench's files.

    A .csv holds every row; a folder gets a JSON file for each suite and task as SAEBench writes
    them, a .json that of the one suite there is. Each of RESULTS is the folder of one result, or is
    searched for results.
    """
    from sage.export import export_results

    print_path(export_results(results, out))


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=existing_path)
@click.option(
    "--out", required=True, type=folder_path, help="Where the pages go; open its index.html."
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=MOST_WORKERS),
    help="Processes that make pages.  [default: one per core]",
)
@telling_options
def report(folders: tuple[Path, ...], out: Path, workers: int | None, telling: Telling) -> None:
    """Write results as pages to read, whole without a network.

    HTML, figures as SVG with their data as CSV, and the tables as Markdown. Each DIR is the folder
    of one result, or is searched for results. Suites that were scored into different folders by the
    same plan and seed stand on one page.
    """
    import os

    from sage.report import write_report

    processes = workers or os.cpu_count() or 1
    with tell(telling):
        written = write_report(folders, out, workers=processes)
    click.echo(written.claim)
    print_path(written.page, telling)
