"""Tables of scores, each beside its best control and the supervised features, with the gain."""

from __future__ import annotations

from collections.abc import Iterator

from sage.report.metrics import HEADLINES, headline_title
from sage.report.reported_score import ReportedScore, ScoreLine
from sage.report.scored_run import ScoredRun
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    count_entry,
    number_entry,
    score_entry,
    text_entry,
)
from sage.result import SuiteInfo

GAIN = TableColumn("gain", "over the best control, with its paired 95 % interval")
PAIRS = TableColumn("n", "test pairs per contrast; of geometry, shuffles of the labels")
BEST = TableColumn("best control", "the best on fit, contrast by contrast")


def line_heads(metric: str) -> list[TableColumn]:
    """The columns of a score with what stands beside it."""
    label = HEADLINES[metric]
    return [TableColumn(label, "with its 95 % interval"), BEST, GAIN, *columns("supervised")]


def line_entries(line: ScoreLine, *, strong: bool = False, named: bool = False) -> list[TableEntry]:
    """A score with what stands beside it, with the best control's name where it is one control;
    only the score itself says why it is undefined."""
    if line.score.value is None:
        return [score_entry(line.score), *[blank_entry() for _ in range(3)]]
    best = score_entry(line.best)
    return [
        score_entry(line.score, strong=strong),
        best._replace(beside=line.control) if named and not best.why else best,
        score_entry(line.gain),
        score_entry(line.supervised),
    ]


def blank_entry() -> TableEntry:
    """Where there is nothing to say."""
    return TableEntry("", None)


def score_tables(run: ScoredRun) -> dict[str, ReportTable]:
    """Every suite over all contrasts, a table for each score."""
    return {metric: _score_table(run, metric) for metric in HEADLINES}


def dictionary_table(run: ScoredRun) -> ReportTable:
    """Every dictionary on the nodes of every suite: all scores over all contrasts."""
    heads = columns("on the nodes of", "dictionary", "L0", *HEADLINES.values())
    table = ReportTable("Every dictionary, over all contrasts", heads)
    for suite in run.suites:
        l0 = {suite.id: suite.l0, **suite.controls_l0}
        for dictionary in run.dictionaries(suite.id):
            table.rows.append(
                [
                    text_entry(run.label(suite.id)),
                    text_entry(run.label(dictionary), strong=dictionary == suite.id),
                    _l0_entry(l0.get(dictionary)),
                    *(score_entry(run.score(metric, suite.id, dictionary)) for metric in HEADLINES),
                ]
            )
    return table


def contrast_table(run: ScoredRun) -> ReportTable:
    """Every suite on every contrast: each score with what stands beside it."""
    heads = [
        *columns("contrast", "suite", "score"),
        TableColumn("nodes", "all of the contrast's that the suite reaches, or a group of them"),
        *columns("form", "need", "sites", "value"),
        TableColumn("raw", "before it is clipped to 0 and 1"),
        BEST,
        GAIN,
        TableColumn("supervised"),
        PAIRS,
        TableColumn("resampled by", "what a bootstrap sample takes together"),
    ]
    rows = [
        _contrast_row(run, contrast, suite, metric)
        for contrast in run.contrasts
        for suite in run.suites
        for metric in HEADLINES
    ]
    return ReportTable("Every score by contrast", heads, rows)


def group_table(run: ScoredRun) -> ReportTable:
    """Every suite on each group of nodes (a kind at a position) that was scored."""
    heads = columns("contrast", "group", "nodes", "suite", *HEADLINES.values())
    table = ReportTable("By group of nodes", heads)
    for section in run.result.sections:
        for suite in run.suites if section.id != section.contrast else []:
            rows = [run.headline(metric, suite.id, section=section.id) for metric in HEADLINES]
            if not any(rows):
                continue
            scores = [run.score(metric, suite.id, section=section.id) for metric in HEADLINES]
            table.rows.append(
                [
                    text_entry(section.contrast),
                    text_entry(section.id.removeprefix(f"{section.contrast}/")),
                    count_entry(len(section.nodes)),
                    text_entry(run.label(suite.id)),
                    *map(score_entry, scores),
                ]
            )
    return table


def lost_table(run: ScoredRun) -> ReportTable:
    """The contrasts without a score, with the reason; scores and suites of one reason stand
    together."""
    table = ReportTable(
        "Contrasts without a score, which are in no mean",
        columns("contrast", "scores", "suites", "why"),
    )
    for contrast in run.contrasts:
        labels: dict[tuple[str, str], list[str]] = {}
        for metric, label in HEADLINES.items():
            for why, suites in _lost(run, metric, contrast).items():
                told = "all" if len(suites) == len(run.suites) else ", ".join(suites)
                labels.setdefault((told, why), []).append(label)
        for (told, why), scores in labels.items():
            words = (contrast, ", ".join(scores), told, why)
            table.rows.append([text_entry(word) for word in words])
    return table


def _score_table(run: ScoredRun, metric: str) -> ReportTable:
    heads = [*columns("suite"), *line_heads(metric), *columns("L0", "FVU", "reach", "contrasts")]
    table = ReportTable(headline_title(metric), [*heads, PAIRS])
    for suite in run.suites:
        line = run.line(metric, suite.id)
        table.rows.append(
            [
                text_entry(run.label(suite.id)),
                *line_entries(line),
                *_suite_entries(run, suite),
                _contrasts_entry(run, line.score),
                count_entry(line.score.n),
            ]
        )
    return table


def _suite_entries(run: ScoredRun, suite: SuiteInfo) -> list[TableEntry]:
    """L0, FVU and reach."""
    fvu = sum(sae.fvu for sae in suite.saes) / len(suite.saes)
    return [
        number_entry(suite.l0, digits=1),
        number_entry(fvu, digits=3),
        number_entry(run.reach(suite.id)),
    ]


def _contrasts_entry(run: ScoredRun, score: ReportedScore) -> TableEntry:
    """On how many of the contrasts the score is a mean."""
    counted = 0 if score.value is None else score.contrasts
    return TableEntry(f"{counted} of {len(run.contrasts)}", counted)


def _contrast_row(run: ScoredRun, contrast: str, suite: SuiteInfo, metric: str) -> list[TableEntry]:
    place = run.place(metric, suite.id, contrast) or contrast
    line = run.line(metric, suite.id, section=place)
    row = run.headline(metric, suite.id, section=place)
    group = place.removeprefix(f"{contrast}/")
    value, *beside = line_entries(line, named=True)
    return [
        text_entry(contrast),
        text_entry(run.label(suite.id)),
        text_entry(HEADLINES[metric]),
        text_entry("all" if place == contrast else group),
        text_entry((row.form if row else None) or ""),
        number_entry(row.need, digits=1) if row and row.need is not None else blank_entry(),
        count_entry(row.sites) if row and row.sites is not None else blank_entry(),
        value,
        number_entry(row.raw) if row and row.raw is not None else blank_entry(),
        *beside,
        count_entry(line.score.n),
        text_entry((row.clusters if row else None) or "shared prompts"),
    ]


def _lost(run: ScoredRun, metric: str, contrast: str) -> dict[str, list[str]]:
    """Why a score of a contrast is lost -> the suites that lost it so."""
    by_reason: dict[str, list[str]] = {}
    for suite in run.suites:
        why = run.lost(metric, suite.id).get(contrast)
        if why is not None:
            by_reason.setdefault(why, []).append(run.label(suite.id))
    return by_reason


def _l0_entry(l0: float | None) -> TableEntry:
    why = "not a dictionary of the residual stream, so it has no L0 there"
    return number_entry(l0, digits=1, why=why)


def shown_scores(run: ScoredRun) -> Iterator[ReportedScore]:
    """Every headline score that a run's page shows of its suites."""
    for suite in run.suites:
        for metric in HEADLINES:
            yield run.score(metric, suite.id)
