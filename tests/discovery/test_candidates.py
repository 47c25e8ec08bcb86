"""Which nodes a contrast can live at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable
from sage.task.tokens import TokenizedPair
from tests.discovery.conftest import BACKENDS, Ready, random_pairs


def test_grouped_heads_give_one_node_for_a_key_and_a_value(ready: Callable[[str, str], Ready]):
    anatomy = ready("gemma2", BACKENDS[0]).model.anatomy
    nodes = nodes_at(("END",), SECTION_KINDS, anatomy)
    heads = {
        kind: [node.head for node in nodes if node.kind == kind and node.layer == 0]
        for kind in SECTION_KINDS
    }
    assert heads == {
        "q": [0, 1, 2, 3],
        "z": [0, 1, 2, 3],
        "k": [0, 1],
        "v": [0, 1],
        "mlp_in": [None],
    }
    assert len(nodes) == 4 * 13


def test_nodes_come_in_the_order_of_a_forward_pass(ready: Callable[[str, str], Ready]):
    anatomy = ready("gpt2", BACKENDS[0]).model.anatomy
    nodes = nodes_at(("S2", "END"), ("mlp_in", "v"), anatomy)
    assert [str(node) for node in nodes[:8]] == [
        *("0.0.v@END", "0.0.v@S2", "0.1.v@END", "0.1.v@S2", "0.2.v@END", "0.2.v@S2"),
        *("0.mlp_in@END", "0.mlp_in@S2"),
    ]


def test_a_position_is_reached_when_at_least_one_pair_differs_there(
    ready: Callable[[str, str], Ready],
):
    """One pair differs from IO on, one at its end only; S1+1 is in neither prompt, place in one
    prompt of a pair."""
    task = ready("gpt2", "nnsight").task
    early, late = pair((1, 2, 3, 4), (1, 9, 3, 4)), pair((1, 2, 3, 4), (1, 2, 3, 9))
    assert reachable([late], task) == ("END",)
    assert reachable([early, late], task) == ("IO", "S2", "END")


def pair(clean: Sequence[int], counterfactual: Sequence[int]) -> TokenizedPair:
    (template,) = random_pairs(1)
    index = {"S1": 0, "IO": 1, "S2": 2, "END": 3}
    first = replace(template.clean, ids=tuple(clean), index={**index, "place": 3})
    second = replace(template.counterfactual, ids=tuple(counterfactual), index=index)
    return TokenizedPair(first, second, "random")
