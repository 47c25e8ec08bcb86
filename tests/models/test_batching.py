"""Batching: results depend on no batch size, order or neighbour; what does not fit is halved."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sage.models.base import Model
from sage.models.batching import in_batches
from sage.nodes import parse_node
from sage.task.metric import logit_difference
from tests.models.nodes import some_nodes, without_padding
from tests.tiny import random_prompts

PROMPTS = random_prompts(6)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_batch_size_and_order_change_nothing(model: Model, rows: int) -> None:
    prompts = random_prompts(40, seed=2, lengths=(5, 8, 6, 8))
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0)).tolist()
    nodes = [parse_node(text) for text in ("1.1.z@B", "1.1.k@*", "2.mlp_in@END", "1.1.pattern@END")]
    small = replace(model, batch_size=rows)
    shuffled = [prompts[row] for row in order]
    values, again = model.read(nodes, prompts), small.read(nodes, shuffled)
    slopes = model.gradients(nodes, prompts, logit_difference)
    slopes_again = small.gradients(nodes, shuffled, logit_difference)
    edits = {node: values[node].roll(1, 0) for node in nodes[:3:2]}
    outcome = model.write(edits, prompts, logit_difference)
    shuffled_edits = {node: value[order] for node, value in edits.items()}
    outcome_again = small.write(shuffled_edits, shuffled, logit_difference)
    for node in nodes:
        assert torch.allclose(again[node], values[node][order], atol=1e-5)
        assert torch.allclose(slopes_again[node], slopes[node][order], atol=1e-5)
    assert torch.allclose(outcome_again.metric, outcome.metric[order], atol=1e-5)


def test_prompts_of_other_lengths_in_the_batch_change_nothing(model: Model) -> None:
    nodes = some_nodes(model, "END")
    together = model.read(nodes, PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        alone = model.read(nodes, [prompt])
        for node in nodes:
            value = without_padding(together[node][row], alone[node][0])
            assert torch.allclose(value, alone[node][0], atol=1e-5)


def test_a_batch_that_does_not_fit_is_halved(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    forward = type(model.engine).forward

    def scarce(self: object, ids: Tensor, **rest: object) -> object:
        tried.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, ids, **rest)

    node = parse_node("1.resid_post@END")
    prompts = random_prompts(8, lengths=(6,))
    expected = model.read([node], prompts)[node]
    monkeypatch.setattr(type(model.engine), "forward", scarce)
    assert torch.allclose(model.read([node], prompts)[node], expected, atol=1e-5)
    assert tried == [8, 4, 2, 2, 2, 2]


def test_an_error_that_is_not_about_memory_is_not_swallowed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, ids: Tensor, **rest: object) -> object:  # noqa: ARG001
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(model.engine), "forward", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        model.read([parse_node("1.resid_post@END")], PROMPTS)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_holds_three_halves_batches_until_they_fit_and_runs_each_item_once(
    error: Exception,
) -> None:
    """Ten by eights: 8, 4 and 2 are tried, and what fits is kept to for the rest."""
    tried: list[int] = []
    run: list[int] = []

    def scarce(items: list[int]) -> None:
        tried.append(len(items))
        if len(items) > 3:
            raise error
        run.extend(items)

    in_batches(list(range(10)), 8, scarce)
    assert run == list(range(10))
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    with pytest.raises(type(error)):
        in_batches([1], 8, lambda _: (_ for _ in ()).throw(error))
