"""The figures of one task and model, each with the numbers behind it and a caption that says how to
read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.nodes import parse_node
from sage.report import captions
from sage.report.between import MARKS, MOST, Lane, Raw, RawLane, between_sheet, raw_sheet
from sage.report.cell import Cell, Matrix
from sage.report.curves import DRAWN, Budget, Curve, curves_sheet
from sage.report.drawing import Folio, Plate, beyond, short
from sage.report.maps import MOST_COLUMNS, Panel, confirmed_map, matched, matrix_sheet
from sage.report.score import Score, score_of
from sage.report.sources import slug
from sage.report.words import count, numbers, span, status
from sage.result import COMPONENTS, SUPERVISED, NodeRow

PANELS = {
    "control (T2)": "control",
    "T1 approximation": "T1 normalised",
    "T3 interpretability": "T3 normalised",
    "T4 geometry": "T4 normalised",
    "sage (mean of four)": "sage",
}
_RAW = {
    "T1 approximation": "T1",
    "T2 control": "T2",
    "T3 interpretability": "T3",
    "T4 geometry": "T4",
}
_NAMED = {"f1": "F1", "cosine": "cosines"}

Data = list[dict[str, object]]


def where_plates(cell: Cell, folio: Folio) -> Iterator[Plate]:
    """Where each contrast lives."""
    for contrast in cell.contrasts:
        evidence = cell.evidence(contrast)
        drawn = confirmed_map(evidence)
        if drawn is None:
            continue
        kept = sorted(
            (found for found in evidence if found.kept), key=lambda found: -(found.statistic or 0.0)
        )
        best, statistic = kept[0].node, kept[0].statistic or 0.0
        yield folio.add(
            f"where-{slug(contrast)}",
            drawn,
            [_place(found) for found in evidence],
            alt=f"Heat map of the nodes where {contrast} lives; the strongest is {best} with {statistic:.2f}.",
            caption=captions.WHERE.format(
                contrast=contrast,
                nodes=count(len(kept), "confirmed node"),
                best=best,
                statistic=statistic,
                patched=sum(found.statistic is not None for found in evidence),
                candidates=len(evidence),
            ),
            n=f"n = {cell.result.run.prompts.get('discover', 0)} pairs",
        )


def between_plate(cell: Cell, folio: Folio) -> Plate | None:
    """Each suite between floor and ceiling, over all contrasts."""
    suites = [suite.id for suite in cell.ranked()]
    if not suites:
        return None
    widest = cell.widest()
    lanes = [
        Lane(
            cell.label(suite),
            suite not in widest,
            {panel: _lane(cell, suite, metric) for panel, metric in PANELS.items()},
        )
        for suite in suites[:MOST]
    ]
    best = cell.score("control", suite=suites[0], dictionary=suites[0])
    left_out = f" The best {MOST} of {len(suites)} suites are drawn." if len(suites) > MOST else ""
    return folio.add(
        "between",
        between_sheet(lanes, list(PANELS)),
        [
            {
                "suite": suite,
                "dictionary": name,
                "score": metric,
                **numbers(cell.summary(metric, suite=suite, dictionary=name)),
            }
            for suite in suites
            for name in cell.dictionaries(suite)
            for metric in PANELS.values()
        ],
        alt=f"Dot plot of {count(len(lanes), 'suite')} between floor and ceiling; highest control: {cell.label(suites[0])}, {best}.",
        caption=captions.BETWEEN
        + (captions.HOLLOW if len(widest) < len(suites) else "")
        + left_out,
        n=_test_n(cell),
    )


def raw_plate(cell: Cell, folio: Folio) -> Plate | None:
    """The components as measured, contrast by contrast."""
    suites = [suite.id for suite in cell.ranked()]
    if not suites or not cell.contrasts:
        return None
    drawn = suites[: max(1, MOST * 2 // len(cell.contrasts))]
    lanes = [
        RawLane(
            cell.label(suite),
            contrast if suite == drawn[0] else "",
            {panel: _raw(cell, contrast, suite, component) for panel, component in _RAW.items()},
        )
        for contrast in cell.contrasts
        for suite in drawn
    ]
    ends = [
        end
        for lane in lanes
        for raw in lane.scores.values()
        for end in (raw.score.value, raw.floor, raw.ceiling)
    ]
    left_out = (
        f" The {len(drawn)} suites with the best control are drawn; the data has all {len(suites)}."
        if drawn != suites
        else ""
    )
    return folio.add(
        "raw",
        raw_sheet(lanes, list(_RAW)),
        [
            row
            for contrast in cell.contrasts
            for suite in suites
            for row in _raw_rows(cell, contrast, suite)
        ],
        alt=f"Raw scores of {count(len(drawn), 'suite')} on {count(len(cell.contrasts), 'contrast')}, between floor and ceiling.",
        caption=captions.RAW + (captions.CUT if beyond(ends) else "") + left_out,
        n=_test_n(cell),
    )


def curves_plate(cell: Cell, folio: Folio) -> Plate | None:
    """Control over k."""
    heads = cell.headliners()
    budgets = [
        budget
        for contrast in cell.contrasts
        if heads and (budget := _budget(cell, contrast, heads)).curves
    ]
    if not budgets:
        return None
    values = [
        score.value for budget in budgets for curve in budget.curves for _, score in curve.points
    ]
    whose = (
        ""
        if len(cell.result.suites) == 1
        else f" Supervised features and controls are those of the nodes that {cell.label(heads[0])} reaches."
    )
    return folio.add(
        "control-over-k",
        curves_sheet(budgets),
        [
            {
                "contrast": budget.contrast,
                "dictionary": curve.name,
                "measure": budget.measure,
                "k": k,
                "k max": budget.k_max,
                **numbers(score),
            }
            for budget in budgets
            for curve in budget.curves
            for k, score in curve.points
        ],
        alt=f"Success against k of {', '.join(map(cell.label, heads))} and controls on {count(len(budgets), 'contrast')}.",
        caption=captions.CURVES + (captions.CUT if beyond(values) else "") + whose,
        n=_test_n(cell),
    )


def feature_plate(cell: Cell, folio: Folio) -> Plate | None:
    """Cosines between supervised feature directions."""
    panels: list[Panel] = []
    rows: Data = []
    for contrast in cell.contrasts:
        matrix = next(
            filter(
                None,
                (cell.matrix(contrast, suite.id, SUPERVISED, "cosine") for suite in cell.ranked()),
            ),
            None,
        )
        if matrix is None:
            continue
        shown, columns = matched(matrix, one_to_one=True)
        names = [matrix.columns[column] for column in columns][: len(shown)]
        panels.append(_panel(contrast, matrix, shown, columns, sides=names))
        rows += [
            _entry(contrast, matrix, row, column, side=name, what="cosine")
            for row, name in zip(shown, names, strict=True)
            for column in columns
        ]
    if not panels:
        return None
    return folio.add(
        "features",
        matrix_sheet(panels, cosines=True),
        rows,
        alt=f"Heat maps of cosines between supervised feature directions of {count(len(panels), 'contrast')}.",
        caption=captions.FEATURES + _cut([len(panel.columns) for panel in panels]),
        n=f"n = {cell.result.run.prompts.get('fit', 0)} prompts that the features were fitted on",
    )


def matrix_plates(cell: Cell, folio: Folio, what: str) -> Iterator[Plate]:
    """F1 or cosines of the headline suites' best-matching latents."""
    for suite in cell.headliners():
        panels: list[Panel] = []
        rows: Data = []
        widths: list[int] = []
        for contrast in cell.contrasts:
            matrix = cell.matrix(contrast, suite, suite, what)
            if matrix is None:
                continue
            shown, columns = matched(matrix, one_to_one=what == "cosine")
            panels.append(
                _panel(
                    contrast,
                    matrix,
                    shown,
                    columns,
                    sides=[str(matrix.latents[row]) for row in shown],
                )
            )
            rows += [
                _entry(contrast, matrix, row, column, side=matrix.latents[row], what=what)
                for row in shown
                for column in columns
            ]
            widths.append(len(matrix.columns))
        if panels:
            yield folio.add(
                f"{what}-{slug(cell.label(suite))}",
                matrix_sheet(panels, cosines=what == "cosine"),
                rows,
                alt=f"Heat maps of {_NAMED[what]} of the best-matching latents of {cell.label(suite)} on {count(len(panels), 'contrast')}.",
                caption=f"{cell.label(suite)}. {captions.MATRIX[what]}" + _cut(widths),
                n=_test_n(cell)
                if what == "f1"
                else f"n = {cell.result.run.prompts.get('fit', 0)} prompts of fit",
            )


def _place(found: NodeRow) -> dict[str, object]:
    node = parse_node(found.node)
    where = {"kind": node.kind, "layer": node.layer, "head": node.head, "position": node.position}
    measured = {
        "statistic": found.statistic,
        "null": found.null,
        "effect": found.effect,
        "attribution": found.attribution,
    }
    return {
        "contrast": found.contrast,
        "node": found.node,
        **where,
        "confirmed": found.kept,
        **measured,
    }


def _lane(cell: Cell, suite: str, metric: str) -> dict[str, Score]:
    """A suite's score under '', those of the dictionaries with a mark under their names."""
    shown = [name for name in cell.dictionaries(suite) if name in MARKS]
    return {
        "": cell.score(metric, suite=suite, dictionary=suite),
        **{name: cell.score(metric, suite=suite, dictionary=name) for name in shown},
    }


def _raw(cell: Cell, contrast: str, suite: str, component: str) -> Raw:
    """The raw score with its ends; undefined where the normalised one is."""
    found = cell.found(contrast, suite, suite, component)
    floor, ceiling = (found[0].floor, found[0].ceiling) if found else (None, None)
    normalised = cell.score(
        f"{component} normalised", suite=suite, dictionary=suite, section=contrast
    )
    own = cell.score(component, suite=suite, dictionary=suite, section=contrast)
    return Raw(Score(None, why=normalised.why) if normalised.value is None else own, floor, ceiling)


def _raw_rows(cell: Cell, contrast: str, suite: str) -> Iterator[dict[str, object]]:
    for component in COMPONENTS:
        found = cell.found(contrast, suite, suite, component)
        own = cell.score(component, suite=suite, dictionary=suite, section=contrast)
        normalised = cell.score(
            f"{component} normalised", suite=suite, dictionary=suite, section=contrast
        )
        ends = {
            "floor": found[0].floor if found else None,
            "ceiling": found[0].ceiling if found else None,
            "normalised": normalised.value,
        }
        yield {
            "contrast": contrast,
            "suite": suite,
            "component": component,
            **numbers(own),
            **ends,
            "status": status(normalised),
        }


def _budget(cell: Cell, contrast: str, heads: Sequence[str]) -> Budget:
    """What succeeds at each k: the judged, the supervised dictionary and some controls on the first
    one's nodes, the other suites."""
    base = heads[0]
    areas = cell.found(contrast, base, base, "area")
    form = areas[0].at if len(areas) == 1 else None
    metric = "graded" if form == "graded" else "accuracy"
    normalised = cell.score("T2 normalised", suite=base, dictionary=base, section=contrast)
    others = [suite.id for suite in cell.result.suites if suite.id not in heads]
    roles = [(suite, suite, "judged") for suite in heads] + [(base, SUPERVISED, "supervised")]
    roles += [(base, name, "control") for name in DRAWN] + [
        (suite, suite, "other") for suite in others
    ]
    curves = [
        Curve(
            cell.label(name), role, [(row.k, score_of(row)) for row in found if row.k is not None]
        )
        for suite, name, role in roles
        if (found := cell.found(contrast, suite, name, metric))
    ]
    return Budget(
        contrast,
        metric,
        areas[0].k if areas else None,
        normalised.why if normalised.value is None else "",
        curves,
    )


def _panel(
    contrast: str,
    matrix: Matrix,
    shown: Sequence[int],
    columns: Sequence[int],
    *,
    sides: Sequence[str],
) -> Panel:
    """The part of a matrix that is shown; an attribute that all columns share is left out of their
    names."""
    names = [matrix.columns[column] for column in columns]
    shared = (
        {name.partition("=")[0] for name in names}
        if all("=" in name for name in names)
        else set[str]()
    )

    def named(name: str) -> str:
        return short(
            name.partition("=")[2]
            if len(shared) == 1 and name.startswith(f"{min(shared)}=")
            else name,
            18,
        )

    values = matrix.values[list(shown)][:, list(columns)]
    return Panel(
        f"{short(contrast, 18)}  {short(str(matrix.node), 24)}",
        values,
        list(map(named, sides)),
        list(map(named, names)),
    )


def _entry(
    contrast: str, matrix: Matrix, row: int, column: int, *, side: str | int, what: str
) -> dict[str, object]:
    number = float(matrix.values[row, column])
    return {
        "contrast": contrast,
        "node": str(matrix.node),
        "row": side,
        "column": matrix.columns[column],
        what: number,
    }


def _cut(widths: Sequence[int]) -> str:
    most = max(widths)
    return (
        f" Of up to {most} columns the first {MOST_COLUMNS} are drawn."
        if most > MOST_COLUMNS
        else ""
    )


def _test_n(cell: Cell) -> str:
    counts = {
        row.n
        for contrast in cell.contrasts
        for suite in cell.result.suites
        for row in cell.found(contrast, suite.id, suite.id, "T1")
    }
    return f"n = {span(sorted(counts - {0}) or [cell.result.run.prompts.get('test', 0)])} test pairs per contrast"
