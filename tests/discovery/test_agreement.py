"""A discovery held against the truth, worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from sage.circuits.circuit import Circuit, Group
from sage.discovery import Discovery, Finding, NodeAgreement, NodeEffect, check, check_nodes
from sage.nodes import Node, parse_node
from tests.discovery import made
from tests.discovery.conftest import BACKENDS, Ready

A, B, C, D = map(parse_node, ("0.0.z@END", "0.1.z@END", "1.0.q@END", "1.1.z@END"))


def finding(contrast: str, statistics: Mapping[Node, float], *kept: Node) -> Finding:
    evidence = tuple(
        NodeEffect(node, 0.5, 0.5, value, value, 0.01, node in kept)
        for node, value in statistics.items()
    )
    return replace(made.finding(contrast), evidence=evidence, shown=())


@pytest.fixture
def discovery() -> Discovery:
    return made.discovery(
        [
            finding("IO", {A: 3.0, B: 2.0, C: 1.0, D: 0.1}, A, B, C),
            finding("order", {A: 0.1, B: 4.0, C: 0.2, D: 0.3}),
        ]
    )


def test_precision_is_the_share_of_the_section_that_is_true_and_recall_of_the_truth_that_is_found(
    discovery: Discovery,
) -> None:
    assert check_nodes({"IO": [A, D], "order": [A]}, discovery) == {
        "IO": NodeAgreement("IO", 1 / 3, 1 / 2, missed=(D,), extra=(B, C)),
        "order": NodeAgreement("order", None, 0.0, missed=(A,), extra=()),
    }
    assert check_nodes({"IO": [], "order": []}, discovery)["order"].recall is None


def test_heads_are_ranked_by_their_best_statistic_over_all_contrasts(
    discovery: Discovery, ready: Callable[[str, str], Ready]
) -> None:
    """0.1 has 2 for IO and 4 for order. It beats 0.0 and 1.0, and 1.1 beats neither."""
    model = ready("gpt2", BACKENDS[0]).model
    circuit = Circuit("toy", "ioi", "tiny", "", "", 4, (Group("mover", ("0.1", "1.1")),))
    comparison = check(circuit, discovery, model)
    scores = {verdict.name: verdict.score for verdict in comparison.verdicts}
    assert scores == {"0.0": 3.0, "0.1": 4.0, "1.0": 1.0, "1.1": 0.3}
    assert comparison.heads[:3] == (1 / 3, 1 / 2, 2 / 4)
