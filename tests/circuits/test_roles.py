"""Roles of heads against their definitions, on random models with and without post-norms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sage.circuits.roles import head_roles
from sage.models.load import load_model
from sage.nodes import Node
from tests.tiny import random_prompts, save_random_model

PROMPTS = random_prompts(3, lengths=(6,))


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_direct_effects_of_a_layers_heads_add_up_to_that_of_its_attention(
    tmp_path: Path, family: str
) -> None:
    """The logit difference is linear in what is added to the stream once the final norm's scale is
    held: what attention adds moves it by as much as its heads do, its bias aside."""
    model = load_model(str(save_random_model(tmp_path, family)), device="cpu")
    anatomy, network = model.anatomy, model.partial.network if model.partial else None
    assert network is not None
    heads = [Node("z", 1, head, "END") for head in range(anatomy.heads)]
    total = sum(role.direct or 0.0 for role in head_roles(model, heads, PROMPTS))
    attn_out = Node("attn_out", 1, None, "END")
    last = Node("resid_post", anatomy.layers - 1, None, "END")
    values = model.read([attn_out, last], PROMPTS)
    norm, expected = network.final_norm, 0.0
    added = values[attn_out] - (anatomy.output_bias(1) if family == "gpt2" else 0)
    for row, prompt in enumerate(PROMPTS):
        scale = norm.scale(values[last][row])
        moved = norm.weight * norm.centre(added[row]) / scale
        said = network.W_U[prompt.answers[0]] - network.W_U[prompt.foils[0]]
        expected += (moved @ said).item() / len(PROMPTS)
    assert total == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_attention_is_that_from_the_heads_position_to_every_name(tmp_path: Path) -> None:
    model = load_model(str(save_random_model(tmp_path, "llama")), device="cpu")
    node = Node("z", 1, 2, "B")
    (role,) = head_roles(model, [node], PROMPTS)
    pattern = model.read([Node("pattern", 1, 2, "B")], PROMPTS)[Node("pattern", 1, 2, "B")]
    means = {"A": pattern[:, 1].mean().item(), "B": pattern[:, 3].mean().item(), "END": 0.0}
    assert dict(role.attends) == pytest.approx(means)
    weights = [weight for _, weight in role.attends]
    assert weights == pytest.approx(sorted(means.values(), reverse=True))
    assert (role.direct, role.n) == (None, 3)
    assert not torch.allclose(pattern[:, 1], pattern[:, 3])


def test_a_token_counts_once_for_its_own_name(tmp_path: Path) -> None:
    """In the first prompt the token behind A is B: what it gets is B's. In the second it is its
    own."""
    model = load_model(str(save_random_model(tmp_path, "llama")), device="cpu")
    first, second = (
        replace(PROMPTS[0], index={"A": 1, "A+1": place, "B": 3, "END": 3}) for place in (3, 2)
    )
    (role,) = head_roles(model, [Node("z", 1, 2, "B")], [first, second])
    node = Node("pattern", 1, 2, "B")
    pattern = model.read([node], [first, second])[node]
    attends = dict(role.attends)
    assert attends["A+1"] == pytest.approx(pattern[1, 2].item() / 2)
    assert attends["B"] == pytest.approx(pattern[:, 3].mean().item())
    assert sum(attends.values()) <= 1.001
