"""Where each contrast lives: a map of its nodes, layer by head."""

from __future__ import annotations

from collections.abc import Iterator

from sage.nodes import parse_node
from sage.report.charts.node_map import MappedNode, node_map
from sage.report.figures.figure import Drawing, Figure
from sage.report.scored_run import ScoredRun
from sage.report.sources import slug
from sage.report.words import count
from sage.result import NodeRow

CAPTION = (
    "{contrast}: {nodes}, the strongest {strongest} ({statistic:.2f}). Colour: how much the task's"
    " metric changes when this node alone takes its counterfactual value (mean over directions of"
    " the absolute mean); yellow is most. Dark grey: patched, not confirmed. Light grey: ranked too"
    " low to be patched ({patched} of {candidates} were). Layers run upwards, heads across; kinds"
    " and positions without a confirmed node are left out."
)


def draw(run: ScoredRun) -> Iterator[Drawing]:
    """A map for each contrast with a confirmed node."""
    for contrast in run.contrasts:
        nodes = run.node_rows(contrast)
        canvas = node_map(
            [MappedNode(parse_node(row.node), row.statistic, row.kept) for row in nodes]
        )
        if canvas is None:
            continue
        confirmed = [row for row in nodes if row.kept]
        strongest = max(confirmed, key=lambda row: row.statistic or 0.0)
        statistic = strongest.statistic or 0.0
        yield Drawing(
            f"where-{slug(contrast)}",
            canvas,
            [_data(row) for row in nodes],
            alt=(
                f"Heat map of the nodes where {contrast} lives;"
                f" the strongest is {strongest.node} with {statistic:.2f}."
            ),
            caption=CAPTION.format(
                contrast=contrast,
                nodes=count(len(confirmed), "confirmed node"),
                strongest=strongest.node,
                statistic=statistic,
                patched=sum(row.statistic is not None for row in nodes),
                candidates=len(nodes),
            ),
            n=f"n = {run.result.run.prompts.get('discover', 0)} pairs",
        )


def _data(row: NodeRow) -> dict[str, object]:
    node = parse_node(row.node)
    return {
        "contrast": row.contrast,
        "node": row.node,
        "kind": node.kind,
        "layer": node.layer,
        "head": node.head,
        "position": node.position,
        "confirmed": row.kept,
        "statistic": row.statistic,
        "null": row.null,
        "effect": row.effect,
        "attribution": row.attribution,
    }


figure = Figure("Where each contrast lives", page="run", place="where", draw=draw)
