"""A discovery held against a published circuit, or against the nodes a model was wired with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sage.circuits.circuit import Circuit
from sage.circuits.comparison import Comparison, compare, head_scores
from sage.discovery.discovery import Discovery
from sage.models.base import Model
from sage.nodes import Node


class NodeAgreement(NamedTuple):
    """A section against the true nodes of its contrast.

    `precision` is None where the section is empty, `recall` where there are no true nodes.
    """

    contrast: str
    precision: float | None
    recall: float | None
    missed: tuple[Node, ...]
    extra: tuple[Node, ...]


def check(circuit: Circuit, discovery: Discovery, model: Model) -> Comparison:
    """The nodes of all sections against the circuit's members.

    Heads are ranked by their best statistic over all contrasts; a node that was not patched ranks
    by the statistic of its attribution.
    """
    group = model.anatomy.group
    best: dict[Node, float] = {}
    for finding in discovery.findings.values():
        for node, value in finding.statistics.items():
            best[node] = max(value, best.get(node, 0.0))
    return compare(
        circuit,
        {contrast: section.nodes for contrast, section in discovery.sections.items()},
        head_scores(best, group=group),
        group=group,
        positions=discovery.positions,
    )


def check_nodes(
    truth: Mapping[str, Collection[Node]], discovery: Discovery
) -> dict[str, NodeAgreement]:
    """Every section against the nodes that are known to carry its contrast."""
    return {
        contrast: _agreement(contrast, set(truth[contrast]), set(section.nodes))
        for contrast, section in discovery.sections.items()
    }


def _agreement(contrast: str, true: set[Node], kept: set[Node]) -> NodeAgreement:
    hits = len(true & kept)
    return NodeAgreement(
        contrast,
        precision=hits / len(kept) if kept else None,
        recall=hits / len(true) if true else None,
        missed=tuple(sorted(true - kept)),
        extra=tuple(sorted(kept - true)),
    )
