"""`sage compare`: models of different size, suites at matched sparsity."""

from __future__ import annotations

from pathlib import Path

import click

from sage.cli.options import existing_path, folder_path, json_option
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Telling, tell, telling_options


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...", type=existing_path)
@click.option("--out", type=folder_path, help="Write the report too; open its compare.html.")
@json_option
@telling_options
def compare(results: tuple[Path, ...], out: Path | None, as_json: bool, telling: Telling) -> None:
    """Compare models of different size, suites at matched L0/D.

    Each RESULT is a folder that `sage score` wrote, or is searched for such. Suites of one
    architecture are matched by L0 for each dimension of the stream, over the tasks that all models
    do; where they were asked the same prompts, prompt by prompt. The first line is the claim, with
    its interval, or says why there is none.
    """
    from sage.report import write_report
    from sage.report.sizes import compare as compare_results

    comparison = compare_results(results)
    if as_json:
        data = {"claim": comparison.claim, "beside": comparison.beside, "rows": comparison.table()}
        print_json(data)
    else:
        click.echo(comparison.claim)
        for sentence in comparison.beside:
            click.echo(sentence)
        if comparison.matches:
            print_rows(comparison.table(), title="Suites at matched L0/D")
        _print_noise(results)
    if out is not None:
        with tell(telling):
            page = write_report(results, out).page
        print_path(page.with_name("compare.html"), telling)


def _print_noise(results: tuple[Path, ...]) -> None:
    """How far suites are apart, and, of several seeds, how much of a score is the draw."""
    from sage.report.differences import suite_differences
    from sage.report.noise import noise_rows
    from sage.report.ranking import over_tasks, summarise_run
    from sage.report.scored_run import read_run
    from sage.report.sources import find_sources

    sources, _ = find_sources(results)
    runs = [summarise_run(read_run(source)) for source in sources]
    if rows := noise_rows(runs):
        print_rows(rows, title="\nNoise of sage over seeds, everything but the SAE redrawn")
    if pairs := suite_differences(over_tasks(runs), runs):
        rows = [pair.columns() for pair in pairs]
        print_rows(rows, title="\nDifferences of sage, in pairs: over seeds, of one over prompts")
