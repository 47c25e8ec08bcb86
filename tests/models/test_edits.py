"""Edits of many runs: which are alike, which share a batch, and where their values stand in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sage.models.base import Model
from sage.models.edits import (
    EditBucket,
    EditedRuns,
    EditSet,
    edit_bucket,
    every_set_itself,
    find_first_alike,
    scatter_edits,
)
from sage.models.partial.batches import batches
from sage.models.steps import HookPoint
from sage.nodes import parse_node
from tests.tiny import random_prompts

PROMPTS = random_prompts(4, seed=1, lengths=(7,))


def test_a_set_is_alike_the_first_of_all_earlier_ones_that_say_the_same() -> None:
    """The third set is the first but for its last prompt; the fifth is the third there and the
    first elsewhere; the last is the first again."""
    node, other = parse_node("1.1.z@END"), parse_node("1.0.z@END")
    value = torch.zeros(4, 2)
    partly = torch.cat([value[:3], value[3:] + 1])
    edits = [
        {node: value},
        {node: value.clone()},
        {node: partly},
        {},
        {node: partly.clone()},
        {other: value},
        {node: value, other: value},
        {node: value},
    ]
    first_alike = [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 2],
        [3, 3, 3, 3],
        [0, 0, 0, 2],
        [5, 5, 5, 5],
        [6, 6, 6, 6],
        [0, 0, 0, 0],
    ]
    assert find_first_alike(edits, 4).tolist() == first_alike


def test_zeros_of_either_sign_are_alike_and_the_smallest_difference_is_not() -> None:
    node = parse_node("1.1.z@END")
    value = torch.tensor([[0.0], [1.0]])
    above = torch.tensor([[-0.0], [1.0000001]])
    assert find_first_alike([{node: value}, {node: above}], 2).tolist() == [[0, 0], [0, 1]]


def test_runs_with_like_cones_share_a_batch(model: Model) -> None:
    edits = [
        {parse_node("0.resid_pre@A"): torch.zeros(4, 1)},
        {parse_node("1.1.z@END"): torch.zeros(4, 1)},
        {parse_node("1.mlp_in@END"): torch.zeros(4, 1)},
    ]
    bucket = _bucket(edits)
    low = [(0, row) for row in range(4)]
    high = [(number, row) for row in range(4) for number in (1, 2)]

    def batched(overhead: float) -> list[tuple[int, list[tuple[int, int]]]]:
        return [
            (batch.positions, _pairs(batch.runs))
            for batch in batches(bucket, anatomy=model.anatomy, overhead=overhead)
        ]

    assert batched(0.0) == [(6, low), (1, high)]
    assert batched(1e9) == [(6, low + high)]


def test_a_scatter_names_every_value_by_its_run_position_and_head() -> None:
    edits = [
        {parse_node("1.1.z@B"): torch.arange(8.0).reshape(4, 2)},
        {parse_node("1.0.z@END"): -torch.ones(4, 2)},
    ]
    runs = EditedRuns(torch.tensor([1, 0, 0]), torch.tensor([2, 3, 1]))
    scatter = scatter_edits(_bucket(edits), runs)[HookPoint("z", 1)]
    expected = torch.zeros(3, 7, 2, 2)
    expected[0, 6, 0] = torch.tensor([-1.0, -1.0])
    expected[1, 3, 1] = torch.tensor([6.0, 7.0])
    expected[2, 3, 1] = torch.tensor([2.0, 3.0])
    assert scatter(torch.zeros(3, 7, 2, 2)).equal(expected)
    assert scatter.restrict((3, 5))(torch.zeros(3, 2, 2, 2)).equal(expected[:, [3, 5]])


def _bucket(edits: Sequence[EditSet]) -> EditBucket:
    """The edits on all prompts, every run to be made."""
    return edit_bucket(edits, PROMPTS, range(4), every_set_itself(len(edits), 4))


def _pairs(runs: EditedRuns) -> list[tuple[int, int]]:
    """(set, prompt) of every run."""
    return list(zip(runs.set_index.tolist(), runs.prompt_index.tolist(), strict=True))
