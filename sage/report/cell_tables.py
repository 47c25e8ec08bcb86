"""The tables of one task and model: contrasts, features, scores by contrast, budgets, reach and
provenance."""

from __future__ import annotations

from collections.abc import Sequence

from sage.report.cell import Cell
from sage.report.score import Score, score_of
from sage.report.tables import Column, Entry, Table, number, score, text
from sage.result import COMPONENTS, SUPERVISED, FeatureInfo

_OVER_ALL = {
    "control = T2": "control",
    "T1": "T1 normalised",
    "T3": "T3 normalised",
    "T4": "T4 normalised",
    "sage": "sage",
}
_PARTS = (
    "sufficiency",
    "necessity",
    "coverage",
    "decoding",
    "MCC",
    "MCC null",
    "uniqueness",
    "principal angle",
)
_SHUFFLED = ("T3", "T4")
_BUDGET = ("accuracy", "graded", "isolation", "magnitude")


def contrast_table(cell: Cell) -> Table:
    """What discovery found for each contrast."""
    columns = [
        Column("contrast"),
        Column("nodes", "confirmed by exact patching"),
        *map(Column, ("patched", "ranked", "strongest node", "its statistic")),
        Column(
            "null", "99th percentile of the statistic where only an irrelevant attribute changes"
        ),
        Column("summed effect"),
    ]
    table = Table("Contrasts and their sections", columns)
    for contrast in cell.contrasts:
        section = next(section for section in cell.result.sections if section.id == contrast)
        evidence = cell.evidence(contrast)
        best = max(
            (found for found in evidence if found.kept),
            key=lambda found: found.statistic or 0.0,
            default=None,
        )
        nulls = [found.null for found in evidence if found.null is not None]
        patched = sum(found.statistic is not None for found in evidence)
        table.rows.append([
            text(contrast, strong=True), number(len(section.nodes), digits=0), number(patched, digits=0), number(len(evidence), digits=0),
            text(best.node if best else "none confirmed"), number(best and best.statistic, why="no node was confirmed"),
            number(nulls[0] if nulls else None, digits=3, why="the task has no irrelevant pairs for a null"), number(section.effect),
        ])  # fmt: skip
    return table


def node_table(cell: Cell) -> Table:
    """Every confirmed node."""
    columns = [
        Column(name) for name in ("contrast", "node", "statistic", "effect", "attribution", "null")
    ]
    table = Table("Confirmed nodes", columns)
    for found in cell.result.discovery:
        if found.kept:
            numbers = [
                number(value, digits=3, why="no null")
                for value in (found.statistic, found.effect, found.attribution, found.null)
            ]
            table.rows.append([text(found.contrast), text(found.node), *numbers])
    return table


def strongest_features(cell: Cell) -> Table:
    """The supervised features at each contrast's strongest node."""
    rows: list[FeatureInfo] = []
    for contrast in cell.contrasts:
        own = [feature for feature in cell.result.features if feature.contrast == contrast]
        order = {found.node: found.statistic or 0.0 for found in cell.evidence(contrast)}
        best = max(
            (feature.node for feature in own), key=lambda node: order.get(node, 0.0), default=None
        )
        rows += [feature for feature in own if feature.node == best]
    return _features("Ground-truth features at each contrast's strongest node", rows)


def all_features(cell: Cell) -> Table:
    """The supervised features at every node."""
    return _features("Ground-truth features at every node", cell.result.features)


def _features(caption: str, features: Sequence[FeatureInfo]) -> Table:
    columns = [
        Column("contrast"), Column("node"), Column("attribute"), Column("values"),
        Column("share", "of the node's variance that this attribute's features carry"),
        Column("unexplained", "of the node's variance, by all supervised features together"), Column("fit"),
    ]  # fmt: skip
    rows = [
        [text(found.contrast), text(found.node), text(found.attribute), number(found.values, digits=0), _share(found.share),
         _share(found.unexplained), text(found.fit)]
        for found in features
    ]  # fmt: skip
    return Table(caption, columns, rows)


def score_table(cell: Cell) -> Table:
    """Every suite over all contrasts."""
    columns = [
        Column("suite"),
        Column("L0"),
        Column("FVU"),
        Column("reach"),
        *map(Column, _OVER_ALL),
    ]
    table = Table("Suites over all contrasts, between floor and ceiling", columns)
    heads = cell.headliners()
    for suite in cell.ranked():
        scores = [
            cell.summary(metric, suite=suite.id, dictionary=suite.id)
            for metric in _OVER_ALL.values()
        ]
        l0, fvu = (_mean([getattr(sae, name) for sae in suite.saes]) for name in ("l0", "fvu"))
        sparsity = [
            number(l0, digits=1),
            number(fvu, digits=3),
            number(_mean(list(suite.reach.values()))),
        ]
        table.rows.append(
            [
                text(cell.label(suite.id), strong=suite.id in heads[:1]),
                *sparsity,
                *map(score, scores),
            ]
        )
    return table


def control_table(cell: Cell) -> Table:
    """The controls on the first headline suite's nodes."""
    heads = cell.headliners()
    columns = [Column("dictionary"), Column("L0"), *map(Column, _OVER_ALL)]
    if not heads:
        return Table("Controls", columns)
    table = Table(f"Controls on the nodes that {cell.label(heads[0])} reaches", columns)
    own = next(suite for suite in cell.result.suites if suite.id == heads[0])
    l0 = {heads[0]: _mean([sae.l0 for sae in own.saes]), **own.controls_l0}
    for name in cell.dictionaries(heads[0]):
        scores = [
            cell.summary(metric, suite=heads[0], dictionary=name) for metric in _OVER_ALL.values()
        ]
        sparsity = number(
            l0.get(name),
            digits=1,
            why="not a dictionary of the residual stream, so it has no L0 there",
        )
        table.rows.append(
            [text(cell.label(name), strong=name == heads[0]), sparsity, *map(score, scores)]
        )
    return table


def by_contrast_table(cell: Cell) -> Table:
    """Every suite on every contrast, raw between floor and ceiling, with the reason where a
    component is undefined."""
    columns = [
        Column(name)
        for name in ("contrast", "suite", "component", "raw", "floor", "ceiling", "normalised", "n")
    ]
    table = Table("Components by contrast", columns)
    for contrast in cell.contrasts:
        for suite in cell.ranked():
            for component in COMPONENTS:
                found = cell.found(contrast, suite.id, suite.id, component)
                own = cell.score(component, suite=suite.id, dictionary=suite.id, section=contrast)
                whole = cell.score(
                    f"{component} normalised", suite=suite.id, dictionary=suite.id, section=contrast
                )
                ends = [
                    number(end, why=whole.why or "not measured")
                    for end in ((found[0].floor, found[0].ceiling) if found else (None, None))
                ]
                table.rows.append([
                    text(contrast), text(cell.label(suite.id)), text(component), score(own), *ends, score(whole), number(own.n, digits=0)
                ])  # fmt: skip
    return table


def group_table(cell: Cell) -> Table:
    """The headline suites on each group of a section's nodes: a kind at a position."""
    table = Table(
        "Control by group of nodes",
        [
            Column("contrast"),
            Column("group"),
            Column("nodes"),
            Column("suite"),
            *map(Column, COMPONENTS),
        ],
    )
    for section in cell.result.sections:
        for suite in cell.headliners() if section.id != section.contrast else []:
            scores = [
                cell.score(f"{name} normalised", suite=suite, dictionary=suite, section=section.id)
                for name in COMPONENTS
            ]
            group = section.id.removeprefix(f"{section.contrast}/")
            table.rows.append(
                [
                    text(section.contrast),
                    text(group),
                    number(len(section.nodes), digits=0),
                    text(cell.label(suite)),
                    *map(score, scores),
                ]
            )
    return table


def budget_table(cell: Cell) -> Table:
    """What moving k max latents does: success, effect, what else moves, how large the moves are."""
    columns = [
        Column("contrast"),
        Column("dictionary"),
        Column("k", "the largest that counts"),
        Column("picks", "mean latents moved over all sites"),
    ]
    table = Table("At the largest budget that counts", [*columns, *map(Column, _BUDGET)])
    for contrast, suite, name in _judged(cell):
        areas = cell.found(contrast, suite, name, "area")
        if not areas:
            continue
        at = {
            metric: [
                row for row in cell.found(contrast, suite, name, metric) if row.k == areas[0].k
            ]
            for metric in _BUDGET
        }
        picks = at["accuracy"][0].picks if at["accuracy"] else None
        scores = [
            score_of(rows[0]) if rows else Score(None, why="not measured") for rows in at.values()
        ]
        table.rows.append(
            [
                text(contrast),
                text(cell.label(name)),
                number(areas[0].k, digits=0),
                number(picks, digits=1),
                *map(score, scores),
            ]
        )
    return table


def parts_table(cell: Cell) -> Table:
    """What the components are made of, as measured, for the headline suites and the supervised
    dictionary; and with shuffled labels."""
    columns = [
        *map(Column, ("contrast", "dictionary", *_PARTS)),
        *(Column(f"{name}, labels shuffled", "chance: should be 0") for name in _SHUFFLED),
    ]
    table = Table("Parts of the components, as measured", columns)
    for contrast, suite, name in _judged(cell):
        scores = [
            cell.score(metric, suite=suite, dictionary=name, section=contrast) for metric in _PARTS
        ]
        chance = [
            cell.score(metric, suite=suite, dictionary="shuffled labels", section=contrast)
            for metric in _SHUFFLED
        ]
        alone = Score(None, why="measured for suites only")
        table.rows.append(
            [
                text(contrast),
                text(cell.label(name)),
                *map(score, scores),
                *(score(found if name == suite else alone) for found in chance),
            ]
        )
    return table


def causal_table(cell: Cell) -> Table:
    """T1 and T2 with only the latents whose F1 reaches a level."""
    columns = [
        Column(name) for name in ("contrast", "dictionary", "latents with", "latents", "T1", "T2")
    ]
    table = Table("With interpretable latents only", columns)
    for contrast, suite, name in _judged(cell):
        found = {
            metric: cell.found(contrast, suite, name, metric)
            for metric in ("interpretable latents", "causal T1", "causal T2")
        }
        for row in found["interpretable latents"]:
            same = [
                next(
                    (score_of(other) for other in found[metric] if other.at == row.at),
                    score_of(None),
                )
                for metric in ("causal T1", "causal T2")
            ]
            table.rows.append(
                [
                    text(contrast),
                    text(cell.label(name)),
                    text(row.at or ""),
                    number(row.value, digits=0),
                    *map(score, same),
                ]
            )
    return table


def reach_table(cell: Cell) -> Table:
    """How much of each contrast's section a suite reads."""
    table = Table(
        "Reach: share of each section's summed effect at nodes that read an SAE of the suite",
        [Column("suite"), *map(Column, cell.contrasts)],
    )
    for suite in cell.ranked():
        shares = [
            number(suite.reach.get(contrast), why="the section was not scored")
            for contrast in cell.contrasts
        ]
        table.rows.append([text(cell.label(suite.id)), *shares])
    return table


def sae_table(cell: Cell) -> Table:
    """Every SAE of every suite."""
    columns = [
        Column(name) for name in ("suite", "SAE", "architecture", "hook", "width", "L0", "FVU")
    ]
    rows = [
        [
            *map(text, (cell.label(suite.id), sae.id, sae.architecture, sae.hook)),
            number(sae.width, digits=0),
            number(sae.l0, digits=1),
            number(sae.fvu, digits=3),
        ]
        for suite in cell.result.suites
        for sae in suite.saes
    ]
    return Table("SAEs, with L0 and FVU on the prompts of fit", columns, rows)


def option_table(cell: Cell) -> Table | None:
    """Components under options that were scored beside the headline."""
    found = [row for row in cell.others if row.metric in COMPONENTS]
    if not found:
        return None
    columns = [
        Column(name) for name in ("contrast", "suite", "component", "choice", "option", "raw")
    ]
    rows: list[list[Entry]] = [
        [
            text(row.section),
            text(cell.label(row.suite)),
            text(row.metric),
            text(row.choice),
            text(row.option),
            score(score_of(row)),
        ]
        for row in found
    ]
    return Table("Options scored beside the headline", columns, rows)


def _judged(cell: Cell) -> list[tuple[str, str, str]]:
    """Contrast, suite and dictionary: the headline suites, and the supervised dictionary on the
    first one's nodes."""
    heads = cell.headliners()
    whose = [(suite, suite) for suite in heads] + [(suite, SUPERVISED) for suite in heads[:1]]
    return [(contrast, suite, name) for contrast in cell.contrasts for suite, name in whose]


def _share(value: float) -> Entry:
    """A share to three digits; what lies below them is rounding."""
    return Entry(f"{value:.3f}", value)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
