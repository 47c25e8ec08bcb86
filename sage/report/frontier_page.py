"""The page of frontiers: pictures with their fits, what was measured, and with which commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from sage.errors import SageError
from sage.fidelity.measures import MEASURES
from sage.fidelity.result import LATENT_MEASURES, MEAN_OVER_HOOKS, FidelityResult, FidelityRow
from sage.fidelity.result_file import fidelity_files, join_fidelity, load_fidelity
from sage.frontier.panels import FrontierPanel, FrontierSettings
from sage.report.frontiers import (
    FIDELITY_NAME,
    FrontierPicture,
    WrittenFrontier,
    frontiers_of,
    remarks,
    summary_rows,
    write_pictures,
)
from sage.report.html import write_page
from sage.report.links import PageLinks
from sage.report.ranking import RankedSuite
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    text_entry,
)
from sage.report.words import count, span

# What the page's table shows of each suite.
SHOWN = (
    "l0", "loss_recovered_mean", "loss_recovered_zero", "nats_lost", "kl", "fvu", "cosine", "bias",
    "dead", "dense",
)  # fmt: skip
FIDELITY_CAPTION = (
    "What a model's performance loses with each SAE in place of the stream, as a share of what mean"
    " ablation loses, against sparsity. Both axes are logarithmic: down and to the right is better."
    " A colour for each architecture, bars and bands are 95 % intervals, hollow dots are dominated."
)
SCORE_CAPTION = (
    "What the score lacks of 1 against sparsity, over tasks; down and to the right is better. SAEs"
    " are compared only with others of their model."
)


class PicturePart(NamedTuple):
    """One picture on the page, with a table and remarks for each panel."""

    title: str
    caption: str
    n: str
    written: WrittenFrontier
    tables: list[ReportTable]
    remarks: list[str]


class MeasuredText(NamedTuple):
    """What was measured on one model and text, and the commands that measure it again."""

    title: str
    table: ReportTable
    commands: list[str]


def write_frontier_page(
    out: Path,
    name: str,
    pictures: Sequence[FrontierPicture],
    results: Sequence[FidelityResult],
    links: PageLinks | None = None,
) -> list[Path]:
    """Write a page of this name into `out`, its pictures and their CSV beside it, or, in a report
    (where `links` are given), below figures/frontiers. Returns the paths, the page last."""
    folder = Path() if links is None else Path("figures") / "frontiers"
    written = write_pictures(pictures, out, folder)
    sequences = [result.text.sequences for result in results]
    parts = [
        _part(picture, file, sequences) for picture, file in zip(pictures, written, strict=True)
    ]
    page = write_page(
        out / name,
        "frontiers.html",
        title="Frontiers",
        links=links,
        parts=parts,
        texts=[_measured(result) for result in results],
    )
    return [*(out / file for picture in written for file in picture.names), page]


def write_report_frontiers(
    out: Path, folders: Sequence[Path], suites: Sequence[RankedSuite], links: PageLinks
) -> Path:
    """The page of a report: frontiers of the scores of these suites, and of the fidelity that was
    measured into these folders."""
    results = join_fidelity([load_fidelity(file) for file in fidelity_files(folders)])
    try:
        pictures = frontiers_of(results, suites, FrontierSettings())
    except SageError:  # no suite has loss recovered that is defined: scores are drawn all the same
        pictures = frontiers_of([], suites, FrontierSettings())
    return write_frontier_page(out, "frontiers.html", pictures, results, links)[-1]


def fidelity_table(result: FidelityResult) -> ReportTable:
    """A row for each suite, the mean over its hooks: every measure with its standard error."""
    titles = {name: measure.title for name, measure in MEASURES.items()} | LATENT_MEASURES
    text = result.text
    asked = "every next token" if text.asked == "next tokens" else "the answer at END"
    caption = f"{result.model.name} on {text.source}: {text.sequences} sequences, {asked}"
    heads = [*columns("suite", "hooks"), *(TableColumn(titles[name]) for name in SHOWN)]
    table = ReportTable(caption, heads)
    several = {suite.id for suite in result.suites if len(suite.hooks) > 1}
    by_suite: dict[tuple[str, str], dict[str, FidelityRow]] = {}
    for row in result.rows():
        if (row.sae == MEAN_OVER_HOOKS) == (row.suite in several):
            by_suite.setdefault((row.suite, row.hook), {})[row.measure] = row
    for (suite, hook), rows in by_suite.items():
        where = f"mean over {len(hook.split())}" if suite in several else hook
        entries = [_entry(rows[name]) for name in SHOWN]
        table.rows.append([text_entry(suite), text_entry(where), *entries])
    return table


def _part(
    picture: FrontierPicture, written: WrittenFrontier, sequences: Sequence[int]
) -> PicturePart:
    fidelity = picture.name == FIDELITY_NAME
    points = sum(len(panel.points) for panel in picture.panels)
    over = f"{span(sequences)} sequences, {count(points, 'SAE')}" if fidelity else ""
    said = [remark for panel in picture.panels for remark in _remarks(panel, picture.panels)]
    return PicturePart(
        picture.y[0].upper() + picture.y[1:],
        FIDELITY_CAPTION if fidelity else SCORE_CAPTION,
        f"n = {over or count(points, 'suite')}",
        written,
        [_fits(panel) for panel in picture.panels if panel.frontiers],
        said,
    )


def _remarks(panel: FrontierPanel, panels: Sequence[FrontierPanel]) -> Iterator[str]:
    for remark in remarks(panel):
        yield remark if len(panels) == 1 else f"{panel.name}. {remark}"


def _fits(panel: FrontierPanel) -> ReportTable:
    rows = summary_rows(panel)
    table = ReportTable(f"Fitted curves: {panel.name}", columns(*rows[0]))
    for row in rows:
        table.rows.append([text_entry("-" if cell is None else str(cell)) for cell in row.values()])
    return table


def _entry(row: FidelityRow) -> TableEntry:
    if row.value is None:
        return TableEntry("undefined", None, why="the ablation is not seen to lose anything here")
    digits = 1 if row.measure == "l0" else 3
    beside = "" if row.stderr is None else f"± {row.stderr:.{digits}f}"
    return TableEntry(f"{row.value:.{digits}f}", row.value, beside)


def _measured(result: FidelityResult) -> MeasuredText:
    """The table, and the commands on a text and on the prompts of a task."""
    model = quote(result.model.name)
    suites = " ".join(f"--sae {quote(suite.id)}" for suite in result.suites)
    given = f"sage fidelity --model {model} {suites}"
    return MeasuredText(
        f"{result.model.name}, {result.text.source}",
        fidelity_table(result),
        [
            f"{given} --text FILE --out out/text",
            f"{given} --task TASK --out out/task",
            "sage frontier out/text --out out/frontier",
        ],
    )
