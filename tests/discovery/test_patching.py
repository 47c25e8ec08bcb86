"""Exact patching against the patch made by hand with transformers alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest
import torch

from sage.discovery.patching import HeldValues, patch
from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.task.metric import logit_difference
from sage.task.tokens import Tokenized, TokenizedPair
from tests.discovery.conftest import BACKENDS, Ready, random_pairs
from tests.models.twin import Twin

KEY, VALUE, QUERY, MLP = map(parse_node, ("0.1.k@A", "1.1.v@B", "0.1.q@B", "1.mlp_in@END"))


def patched_by_hand(twin: Twin, nodes: list[Node], pair: TokenizedPair) -> float:
    patches = [(node, twin.read(node, pair.counterfactual)) for node in nodes]
    logits = twin.patched(patches, pair.clean)
    return float(logit_difference(logits[None], [pair.clean]))


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_exact_patching_is_the_patch_made_by_hand(
    family: str, ready: Callable[[str, str], Ready], twin: Callable[[str], Twin]
):
    """One key-value node of Gemma-2 moves both query heads that read it."""
    pairs, node_sets = random_pairs(2), [[], [KEY], [VALUE], [QUERY], [MLP], [KEY, VALUE]]
    metrics = patch(ready(family, BACKENDS[0]).model, node_sets, pairs, logit_difference)
    by_hand = [
        [patched_by_hand(twin(family), nodes, pair) for pair in pairs] for nodes in node_sets
    ]
    expected = torch.tensor(by_hand, dtype=torch.float64)
    assert torch.allclose(metrics, expected, atol=1e-4, rtol=0)
    assert ((expected[1:] - expected[0]).abs().amax(1) > 1e-3).all()


def test_many_sets_and_pairs_are_patched_in_slices(
    ready: Callable[[str, str], Ready], monkeypatch: pytest.MonkeyPatch
):
    """Values of two pairs are held at a time, and three sets are run at a time."""
    model, pairs = ready("gpt2", BACKENDS[0]).model, random_pairs(5)
    node_sets = [[], [KEY], [VALUE], [QUERY], [MLP], [KEY, VALUE], [MLP, QUERY]]
    at_once = patch(model, node_sets, pairs, logit_difference)
    width = sum(model.anatomy.width(node.kind) for node in (KEY, VALUE, QUERY, MLP))
    monkeypatch.setattr("sage.discovery.patching.PATCHED_VALUES_AT_ONCE", 2 * width)
    monkeypatch.setattr("sage.discovery.patching.PATCHED_SETS_AT_ONCE", 3)
    in_slices = patch(model, node_sets, pairs, logit_difference)
    assert torch.allclose(in_slices, at_once, atol=1e-5, rtol=0)


def test_values_are_read_once_where_they_fit_into_memory(
    ready: Callable[[str, str], Ready], monkeypatch: pytest.MonkeyPatch
):
    """All that is wanted is read at once, and what was not wanted when it is asked for. With too
    little memory for all five pairs, those of the rows asked for are read every time."""
    model, pairs, sizes = ready("gpt2", BACKENDS[0]).model, random_pairs(5), list[tuple[int, int]]()
    read = Model.read

    def watched(self: Model, nodes: Collection[Node], prompts: Sequence[Tokenized]):
        sizes.append((len(nodes), len(prompts)))
        return read(self, nodes, prompts)

    expected = patch(model, [[KEY, VALUE]], pairs, logit_difference, rows=[4, 1])
    monkeypatch.setattr(Model, "read", watched)
    held = HeldValues(model, pairs, wanted=(KEY, VALUE, QUERY))
    for sets in ([[KEY, VALUE]], [[QUERY]], [[MLP, KEY]]):
        metrics = patch(model, sets, pairs, logit_difference, rows=[4, 1], held=held)
        if sets == [[KEY, VALUE]]:
            assert torch.allclose(metrics, expected, atol=1e-5, rtol=0)
    assert sizes == [(3, 5), (1, 5)]
    sizes.clear()
    short = HeldValues(model, pairs, wanted=(KEY, VALUE, QUERY), most=1)
    for _ in range(2):
        metrics = patch(model, [[KEY, VALUE]], pairs, logit_difference, rows=[4, 1], held=short)
        assert torch.allclose(metrics, expected, atol=1e-5, rtol=0)
    assert sizes == [(2, 2), (2, 2)]
