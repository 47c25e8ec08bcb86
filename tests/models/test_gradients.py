"""Gradients in both backends and all three families: finite differences of transformers itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.task.metric import logit_difference
from sage.task.tokens import Tokenized
from tests.models.nodes import some_nodes, without_padding
from tests.models.twin import Twin
from tests.tiny import random_prompts

PROMPTS = random_prompts(6)


@pytest.mark.parametrize("position", ["B", "*"])
def test_gradients_equal_finite_differences(model: Model, twin: Twin, position: str) -> None:
    """Central differences of the double-precision twin along a random direction; its norms and
    softmax are float32, hence steps of 5e-3."""
    nodes = some_nodes(model, position)
    prompts = [PROMPTS[1], PROMPTS[0]]
    gradients = model.gradients(nodes, prompts, logit_difference)
    for node in nodes:
        for row, prompt in enumerate(prompts):
            value = twin.read(node, prompt)
            slope = without_padding(gradients[node][row], value).double()
            assert slope.norm() > 0, node
            _assert_slope(twin, node, prompt, value, slope, [])


def test_without_a_layers_outputs_the_gradient_is_that_of_a_model_where_they_are_frozen(
    model: Model, twin: Twin
) -> None:
    frozen = [Node("attn_out", 1), Node("mlp_out", 1)]
    nodes = [
        parse_node(text)
        for text in (
            "embed@B",
            "0.1.z@B",
            "0.mlp_out@B",
            "1.resid_pre@A",
            "1.resid_post@B",
            "2.1.v@A",
            "2.mlp_in@END",
        )
    ]
    dropped = model.gradients(nodes, PROMPTS[:2], logit_difference, drop=1)
    whole = model.gradients(nodes, PROMPTS[:2], logit_difference)
    for row, prompt in enumerate(PROMPTS[:2]):
        clean = [(node, twin.read(node, prompt)) for node in frozen]
        for node in nodes:
            value, slope = twin.read(node, prompt), dropped[node][row].double()
            _assert_slope(twin, node, prompt, value, slope, clean)
    assert not torch.allclose(dropped[nodes[0]], whole[nodes[0]], rtol=1e-2)
    assert torch.allclose(dropped[nodes[-1]], whole[nodes[-1]], atol=1e-6)


def test_nothing_flows_through_the_dropped_layer_itself(model: Model) -> None:
    nodes = [
        parse_node(text)
        for text in ("1.1.z@B", "1.1.q@END", "1.attn_out@B", "1.mlp_in@B", "1.mlp_out@B")
    ]
    gradients = model.gradients(nodes, PROMPTS, logit_difference, drop=1)
    assert all(gradient.count_nonzero() == 0 for gradient in gradients.values())
    assert set(gradients) == set(nodes)


def test_a_gradient_at_other_embeddings_is_taken_there(model: Model, twin: Twin) -> None:
    embed = Node("embed", -1)
    other = random_prompts(len(PROMPTS), seed=9)
    start = (model.read([embed], PROMPTS)[embed] + model.read([embed], other)[embed]) / 2
    nodes = [embed, parse_node("1.1.z@B"), parse_node("1.mlp_in@END")]
    gradients = model.gradients(nodes, PROMPTS, logit_difference, at=start)
    for row, prompt in enumerate(PROMPTS[:2]):
        point = start[row, : len(prompt.ids)].double()
        slope = without_padding(gradients[embed][row], point).double()
        _assert_slope(twin, embed, prompt, point, slope, [])
        for node in nodes[1:]:
            value = twin.read(node, prompt, [(embed, point)])
            slope = gradients[node][row].double()
            _assert_slope(twin, node, prompt, value, slope, [(embed, point)])


def _assert_slope(
    twin: Twin,
    node: Node,
    prompt: Tokenized,
    value: Tensor,
    slope: Tensor,
    patches: list[tuple[Node, Tensor]],
) -> None:
    """The metric's central difference along a random direction is the direction's product with the
    gradient."""
    direction = torch.randn(
        value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ends = [
        twin.patched([*patches, (node, value + step * direction)], prompt) for step in (5e-3, -5e-3)
    ]
    above, below = ((logits[prompt.answers[0]] - logits[prompt.foils[0]]).item() for logits in ends)
    expected = (above - below) / 1e-2
    tolerance = 2e-3 * (slope.norm() * direction.norm()).item() + 2e-4
    assert (slope * direction).sum().item() == pytest.approx(expected, abs=tolerance), node
