"""The QK fix against plain loops: every row of the pattern recomputed, in double precision."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sage.discovery.qk_fix import attention_of, key_effect, query_effect
from sage.models.anatomy import Anatomy
from sage.nodes import Node, parse_node
from tests import toy

HEADS, T = 4, 5


def softmax(logits: list[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(logit - largest) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def rows(q: Tensor, k: Tensor) -> list[list[float]]:
    """The causal pattern of one head, row by row."""
    return [softmax([float(q[t].double() @ k[s].double()) for s in range(t + 1)]) for t in range(T)]


def moved(before: list[list[float]], after: list[list[float]], gradient: Tensor) -> float:
    return sum(
        (after[t][s] - before[t][s]) * float(gradient[t, s]) for t in range(T) for s in range(t + 1)
    )


class Case:
    """One layer of grouped heads on two prompts; `size` is how saturated the softmax is."""

    def __init__(self, size: float) -> None:
        draw = toy.draw(3)
        self.anatomy: Anatomy = toy.anatomy("gemma2")
        self.q = torch.randn(2, HEADS, T, toy.D_HEAD, generator=draw) * size
        self.k = torch.randn(2, 2, T, toy.D_HEAD, generator=draw)
        self.gradient = torch.randn(2, HEADS, T, T, generator=draw)
        self.changed = torch.randn(2, toy.D_HEAD, generator=draw)
        self.values: dict[Node, Tensor] = {Node("k", 0, head): self.k[:, head] for head in range(2)}
        self.gradients: dict[Node, Tensor] = {}
        for head in range(HEADS):
            pattern = torch.zeros(2, T, T)
            for prompt in range(2):
                for t, row in enumerate(rows(self.q[prompt, head], self.k[prompt, head // 2])):
                    pattern[prompt, t, : t + 1] = torch.tensor(row)
            self.values |= {Node("q", 0, head): self.q[:, head], Node("pattern", 0, head): pattern}
            self.gradients[Node("pattern", 0, head)] = self.gradient[:, head]


def key_change(case: Case, heads: tuple[int, ...], changed: Tensor, at: int, prompt: int) -> float:
    """What the key of these query heads moves when it is patched at one position."""
    clean = case.k[prompt, heads[0] // 2]
    patched = clean.clone()
    patched[at] = changed
    total = 0.0
    for head in heads:
        q = case.q[prompt, head]
        total += moved(rows(q, clean), rows(q, patched), case.gradient[prompt, head])
    return total


@pytest.mark.parametrize("size", [0.3, 3, 10])
def test_a_key_moves_every_later_row_of_every_head_that_reads_it(size: float):
    case, at = Case(size), torch.tensor([1, 3])
    effect = key_effect(
        parse_node("0.1.k@A"), case.changed, at, case.anatomy, case.values, case.gradients
    )
    for prompt in range(2):
        expected = key_change(case, (2, 3), case.changed[prompt], int(at[prompt]), prompt)
        assert float(effect[prompt]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [0.3, 3, 30])
def test_a_query_moves_its_own_row(size: float):
    case, at = Case(1), torch.tensor([2, 4])
    changed = case.changed * size
    effect = query_effect(
        parse_node("0.3.q@A"), changed, at, case.anatomy, case.values, case.gradients
    )
    for prompt in range(2):
        q, k = case.q[prompt, 3].clone(), case.k[prompt, 1]
        q[at[prompt]] = changed[prompt]
        expected = moved(rows(case.q[prompt, 3], k), rows(q, k), case.gradient[prompt, 3])
        assert float(effect[prompt]) == pytest.approx(expected, abs=1e-4)


def test_a_query_sees_nothing_beyond_its_window():
    """With a window of two tokens the row of token 3 has weights at 2 and 3 alone."""
    case, at = Case(1), torch.tensor([3, 3])
    blocks = [replace(block, window=2) for block in case.anatomy.blocks]
    windowed = replace(case.anatomy, blocks=blocks)
    effect = query_effect(
        parse_node("0.0.q@A"), case.changed, at, windowed, case.values, case.gradients
    )
    for prompt in range(2):
        new = softmax([float(case.changed[prompt] @ case.k[prompt, 0, s]) for s in (2, 3)])
        old = case.values[Node("pattern", 0, 0)][prompt, 3]
        expected = sum(
            (weight - float(old[s])) * float(case.gradient[prompt, 0, 3, s])
            for s, weight in enumerate([0, 0, *new])
        )
        assert float(effect[prompt]) == pytest.approx(expected, abs=1e-5)


def test_a_token_that_sees_only_itself_cannot_attend_less_to_it():
    """Weight 1 and a logit that falls by hundreds: the row stays as it is."""
    case, at = Case(30), torch.tensor([0, 0])
    node, changed = parse_node("0.0.k@A"), -100 * case.k[:, 0, 0]
    falls = case.q[:, 0, 0] * (changed - case.k[:, 0, 0])
    assert falls.sum(-1).abs().min() > 100
    every_row = key_effect(node, changed, at, case.anatomy, case.values, case.gradients)
    assert torch.isfinite(every_row).all()
    case.gradient[:, :, 1:] = 0
    first_row = key_effect(node, changed, at, case.anatomy, case.values, case.gradients)
    assert first_row.tolist() == pytest.approx([0, 0])


def test_a_key_needs_all_queries_of_its_group_and_a_query_its_key():
    anatomy = toy.anatomy("gemma2")
    key = attention_of([parse_node("0.1.k@A")], anatomy)
    assert [str(node) for node in key.projections] == ["0.2.q@*", "0.3.q@*", "0.1.k@*"]
    assert [str(node) for node in key.patterns] == ["0.2.pattern@*", "0.3.pattern@*"]
    query = attention_of([parse_node("1.2.q@END")], anatomy)
    assert [str(node) for node in (*query.projections, *query.patterns)] == [
        "1.1.k@*",
        "1.2.pattern@*",
    ]
