"""`sage frontier`: how performance falls with sparsity, a curve for each architecture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.options import existing_path, folder_path, json_option, seed_option
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Telling, telling_options

if TYPE_CHECKING:
    from sage.report.frontiers import FrontierPicture

CURVE_NAMES = ("hill", "hill1", "line", "power")
_WIDTH = 80


@click.command()
@click.argument("results", nargs=-1, required=True, metavar="RESULT...", type=existing_path)
@click.option("--out", type=folder_path, required=True, help="Where pictures and CSV go.")
@click.option(
    "--curve",
    type=click.Choice(CURVE_NAMES),
    help="Hill, Hill with k = 1, a line or a power law.  [default: the lowest AICc]",
)
@click.option(
    "--over",
    type=click.Choice(("sequences", "SAEs", "both"), case_sensitive=False),
    help="What intervals are over.  [default: both, of scores SAEs]",
)
@click.option(
    "--without",
    multiple=True,
    metavar="NAME",
    help="Leave out suites of this name; * stands for anything. Nulls are left out anyway.",
)
@click.option("--each-hook", is_flag=True, help="A panel for each hook, not the mean over hooks.")
@click.option("--relative", is_flag=True, help="Draw against L0/D, all models on the same axes.")
@seed_option
@json_option
@telling_options
def frontier(
    results: tuple[Path, ...],
    out: Path,
    each_hook: bool,
    as_json: bool,
    telling: Telling,
    **how: Any,
) -> None:
    """Draw performance against sparsity.

    And fit a curve to each architecture. Each RESULT is a folder that `sage fidelity` or `sage
    score` wrote, or is searched for such. Fidelity is drawn as 1 - loss recovered (mean ablation),
    scores as 1 - score, both against 1/L0.
    """
    from sage.frontier.panels import FrontierSettings
    from sage.report.frontier_page import write_frontier_page
    from sage.report.frontiers import curve_rows, point_rows, read_frontiers
    from sage.report.html import write_assets

    settings = FrontierSettings(
        how["curve"], how["over"], how["relative"], each_hook, how["without"], how["seed"]
    )
    pictures, measured = read_frontiers(results, settings)
    if as_json:
        print_json(
            {
                picture.name: {
                    "points": _finite(point_rows(picture.panels)),
                    "curves": _finite(curve_rows(picture.panels)),
                }
                for picture in pictures
            }
        )
    else:
        for picture in pictures:
            _print(picture)
    write_assets(out)
    for path in write_frontier_page(out, "index.html", pictures, measured):
        print_path(path, telling)


def _print(picture: FrontierPicture) -> None:
    from sage.report.frontiers import remarks, summary_rows

    click.echo(f"{picture.y[0].upper()}{picture.y[1:]}")
    for panel in picture.panels:
        print_rows(summary_rows(panel), title=panel.name)
        for remark in remarks(panel):
            click.echo(
                textwrap.fill(remark, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            )
        click.echo()


def _finite(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Rows as JSON can say them: what is infinite or undefined is null."""
    return [
        {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]
