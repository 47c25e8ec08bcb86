"""Tables of what was found in the model: sections, nodes and ground-truth features."""

from __future__ import annotations

from collections.abc import Sequence

from sage.report.scored_run import ScoredRun
from sage.report.tables.scores import blank_entry
from sage.report.tables.table import (
    ReportTable,
    TableColumn,
    TableEntry,
    columns,
    count_entry,
    number_entry,
    text_entry,
)
from sage.result import FeatureInfo, HeadInfo

_NULL = "99th percentile of the statistic where only an irrelevant attribute changes"
_SHARE = "of the node's variance that this attribute's features carry"
_UNEXPLAINED = "of the node's variance, by all supervised features together, cross-validated"
_NUISANCE = "the same by what is irrelevant and the template alone: features must lower it by 1 %"
_DIRECT = (
    "how far its output alone, through the final norm, moves the logit of the answer above that of "
    "the foil, and the standard error; at END alone"
)
MOST_POSITIONS, LEAST_ATTENTION = 4, 0.1
_FEATURES = "where there are none, the node is left out for all dictionaries alike"


def contrast_table(run: ScoredRun) -> ReportTable:
    """What the discovery found for each contrast."""
    heads = [
        TableColumn("contrast"),
        TableColumn("nodes", "confirmed by exact patching"),
        *columns("patched", "ranked", "strongest node", "its statistic"),
        TableColumn("null", _NULL),
        TableColumn("summed effect"),
    ]
    rows = [_contrast_row(run, contrast) for contrast in run.contrasts]
    return ReportTable("Contrasts and their sections", heads, rows)


def node_table(run: ScoredRun) -> ReportTable:
    """Every confirmed node."""
    heads = columns("contrast", "node", "statistic", "effect", "attribution", "null")
    table = ReportTable("Confirmed nodes", heads)
    for node in run.result.discovery:
        if node.kept:
            numbers = (node.statistic, node.effect, node.attribution, node.null)
            measured = [number_entry(number, digits=3, why="no null") for number in numbers]
            table.rows.append([text_entry(node.contrast), text_entry(node.node), *measured])
    return table


def head_table(run: ScoredRun) -> ReportTable:
    """What every confirmed head does: where it attends, and what it says directly."""
    heads = [
        TableColumn("head", "the output z of a head at a position"),
        TableColumn("contrasts", "in whose sections it is"),
        TableColumn("attends to", "mean attention from its position, the most first"),
        TableColumn("direct effect", _DIRECT),
    ]
    rows = [
        [
            text_entry(head.node),
            text_entry(", ".join(head.contrasts)),
            text_entry(_attention(head)),
            _direct(head),
        ]
        for head in sorted(run.result.heads, key=lambda head: -abs(head.direct or 0.0))
    ]
    counted = run.result.heads[0].n if rows else 0
    return ReportTable(f"What heads do, on {counted} prompts of the fit", heads, rows)


def strongest_features_table(run: ScoredRun) -> ReportTable:
    """The supervised features at each contrast's strongest node."""
    features: list[FeatureInfo] = []
    for contrast in run.contrasts:
        at_nodes = [feature for feature in run.result.features if feature.contrast == contrast]
        statistics = {row.node: row.statistic or 0.0 for row in run.node_rows(contrast)}
        nodes = [feature.node for feature in at_nodes]
        strongest = max(nodes, key=lambda node: statistics.get(node, 0.0), default=None)
        features += [feature for feature in at_nodes if feature.node == strongest]
    return _feature_table("Ground-truth features at each contrast's strongest node", features)


def all_features_table(run: ScoredRun) -> ReportTable:
    """The supervised features at every node."""
    return _feature_table("Ground-truth features at every node", run.result.features)


def _attention(head: HeadInfo) -> str:
    """The positions that get most of the attention: all from a tenth on, and the first in any
    case."""
    shares = list(head.attends.items())
    shown = [entry for entry in shares[:MOST_POSITIONS] if entry[1] >= LEAST_ATTENTION]
    return ", ".join(f"{name} {share:.2f}" for name, share in shown or shares[:1])


def _direct(head: HeadInfo) -> TableEntry:
    if head.direct is None or head.stderr is None:
        return blank_entry()
    return number_entry(head.direct)._replace(beside=f"± {head.stderr:.2f}")


def _contrast_row(run: ScoredRun, contrast: str) -> list[TableEntry]:
    section, nodes = run.section(contrast), run.node_rows(contrast)
    confirmed = [node for node in nodes if node.kept]
    strongest = max(confirmed, key=lambda node: node.statistic or 0.0, default=None)
    nulls = [node.null for node in nodes if node.null is not None]
    return [
        text_entry(contrast, strong=True),
        count_entry(len(section.nodes)),
        count_entry(sum(node.statistic is not None for node in nodes)),
        count_entry(len(nodes)),
        text_entry(strongest.node if strongest else "none confirmed"),
        number_entry(strongest and strongest.statistic, why="no node was confirmed"),
        number_entry(
            nulls[0] if nulls else None,
            digits=3,
            why="the task has no irrelevant pairs for a null",
        ),
        number_entry(section.effect),
    ]


def _feature_table(caption: str, features: Sequence[FeatureInfo]) -> ReportTable:
    heads = [
        *columns("contrast", "node", "attribute", "values"),
        TableColumn("share", _SHARE),
        TableColumn("unexplained", _UNEXPLAINED),
        TableColumn("without features", _NUISANCE),
        TableColumn("fit"),
        TableColumn("features", _FEATURES),
    ]
    rows = [
        [
            text_entry(feature.contrast),
            text_entry(feature.node),
            text_entry(feature.attribute),
            count_entry(feature.values),
            _share(feature.share),
            _share(feature.unexplained),
            _share(feature.nuisance_unexplained),
            text_entry(feature.fit),
            text_entry("yes" if feature.has_features else "none: left out"),
        ]
        for feature in features
    ]
    return ReportTable(caption, heads, rows)


def _share(value: float | None) -> TableEntry:
    """A share to three digits; what lies below them is rounding."""
    return TableEntry("", None) if value is None else TableEntry(f"{value:.3f}", value)
