"""The QK fix: queries and keys are attributed through the exact change of the attention pattern.

Softmax saturates, so its gradient at q or k says little about what a patch does. Instead the
pattern is recomputed with the patched query or key, and its change is multiplied by dm/dA at the
post-softmax pattern (AtP*, Kramár et al. 2024, section 3.1.1; method, section 2, point 1). A
patched key changes one logit of every later query, for which the new pattern has a closed form.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.nodes import Node


class Attention(NamedTuple):
    """What the fix needs of the clean run: the other side's activations, and the patterns, which
    are differentiated too."""

    projections: tuple[Node, ...]
    patterns: tuple[Node, ...]


def attention_of(nodes: Collection[Node], anatomy: Anatomy) -> Attention:
    """For queries the keys they meet, for keys the clean keys and all queries that meet them, at
    all positions."""
    projections: set[Node] = set()
    patterns: set[Node] = set()
    for node in nodes:
        heads = _query_heads(node, anatomy)
        projections.add(_key(node, anatomy))
        projections.update(Node("q", node.layer, head) for head in heads if node.kind == "k")
        patterns.update(Node("pattern", node.layer, head) for head in heads)
    return Attention(tuple(sorted(projections)), tuple(sorted(patterns)))


def query_effect(
    node: Node,
    changed: Float[Tensor, "pair d_head"],
    at: Int[Tensor, "pair"],
    anatomy: Anatomy,
    values: Mapping[Node, Tensor],
    gradients: Mapping[Node, Tensor],
) -> Float[Tensor, "pair"]:
    """sum_s [softmax(q'K)_s - A_s] dm/dA_s, at position `at` of each clean prompt."""
    keys = values[_key(node, anatomy)]
    rows, places = (
        torch.arange(len(at), device=at.device),
        torch.arange(keys.shape[1], device=at.device)[None, :],
    )
    pattern = Node("pattern", node.layer, node.head)
    A, gradient = values[pattern][rows, at], gradients[pattern][rows, at]
    logits = anatomy.attention_logits(
        changed[:, None, :].expand_as(keys), keys, at[:, None], places
    )
    seen = anatomy.visible(node.layer, at[:, None], places)
    return ((logits.masked_fill(~seen, -torch.inf).softmax(-1) - A) * gradient).sum(-1)


def key_effect(
    node: Node,
    changed: Float[Tensor, "pair d_head"],
    at: Int[Tensor, "pair"],
    anatomy: Anatomy,
    values: Mapping[Node, Tensor],
    gradients: Mapping[Node, Tensor],
) -> Float[Tensor, "pair"]:
    """The change of every later query's pattern, in all query heads of the key-value head, times
    dm/dA.

    With d the change of the logit (t, s) and e = exp(d) - 1, dA_s = A_s (1 - A_s) e / (1 + A_s e),
    and the other weights of the row share -dA_s in proportion. So a row adds dA_s (dm/dA_s - the
    others' mean dm/dA, weighted by A). 1 - A_s is the sum of the others, which keeps its digits
    where A_s is nearly 1.
    """
    heads = _query_heads(node, anatomy)
    patterns = [Node("pattern", node.layer, head) for head in heads]
    queries = torch.stack([values[Node("q", node.layer, head)] for head in heads], 1)
    A, gradient = (
        torch.stack([source[pattern] for pattern in patterns], 1) for source in (values, gradients)
    )
    rows, query = (
        torch.arange(len(at), device=at.device),
        torch.arange(queries.shape[2], device=at.device)[None, None, :],
    )
    clean = values[_key(node, anatomy)][rows, at]
    after, before = (
        anatomy.attention_logits(
            queries, k[:, None, None, :].expand_as(queries), query, at[:, None, None]
        )
        for k in (changed, clean)
    )

    own, others = A[rows, :, :, at], A.clone()
    others[rows, :, :, at] = 0
    rest, tiny = others.sum(-1), torch.finfo(A.dtype).tiny
    raised = own * (after - before).clamp(-_LARGEST, _LARGEST).exp()
    change = raised / (raised + rest).clamp(min=tiny) - own
    elsewhere = (others * gradient).sum(-1) / rest.clamp(min=tiny)
    return (change * (gradient[rows, :, :, at] - elsewhere)).sum((1, 2))


_LARGEST = 85.0


def _query_heads(node: Node, anatomy: Anatomy) -> range:
    assert node.head is not None
    return range(node.head, node.head + 1) if node.kind == "q" else anatomy.query_heads(node.head)


def _key(node: Node, anatomy: Anatomy) -> Node:
    assert node.head is not None
    return Node("k", node.layer, anatomy.kv_head(node.head) if node.kind == "q" else node.head)
