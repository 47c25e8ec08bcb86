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
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor

from sage.models.anatomy import Anatomy
from sage.nodes import Node

# Logits rise and fall by no more than this, so that exp is neither infinite nor 0 in float32.
LARGEST_CHANGE = 85.0


class Attention(NamedTuple):
    """What the fix needs of the clean run, all of it at all positions.

    `projections` are the other side's activations; `patterns` are differentiated too.
    """

    projections: tuple[Node, ...]
    patterns: tuple[Node, ...]


def attention_of(nodes: Collection[Node], anatomy: Anatomy) -> Attention:
    """For queries the keys they meet, for keys the clean keys and all queries that meet them."""
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
    """sum_s [softmax(q'K)_s - A_s] dm/dA_s, at position `at` of each clean prompt.

    `changed` is q', `values` are activations and patterns of the clean run, `gradients` dm/dA.
    """
    keys = values[_key(node, anatomy)]
    pattern = Node("pattern", node.layer, node.head)
    pairs = torch.arange(len(at), device=at.device)
    A, gradient = values[pattern][pairs, at], gradients[pattern][pairs, at]

    query_position = repeat(at, "pair -> pair 1")
    key_positions = repeat(torch.arange(keys.shape[1], device=at.device), "key -> 1 key")
    queries = repeat(changed, "pair d_head -> pair key d_head", key=keys.shape[1])
    logits = anatomy.attention_logits(node.layer, queries, keys, query_position, key_positions)
    seen = anatomy.visible(node.layer, query_position, key_positions)
    patched = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    return ((patched - A) * gradient).sum(-1)


def key_effect(
    node: Node,
    changed: Float[Tensor, "pair d_head"],
    at: Int[Tensor, "pair"],
    anatomy: Anatomy,
    values: Mapping[Node, Tensor],
    gradients: Mapping[Node, Tensor],
) -> Float[Tensor, "pair"]:
    """The change of every later query's pattern, in all heads that read the key, times dm/dA.

    `changed` is the key that is patched in at position s = `at`; `values` and `gradients` as for
    `query_effect`. With d the change of the logit (t, s) and e = exp(d) - 1,
    dA_s = A_s (1 - A_s) e / (1 + A_s e), and the other weights of the row share -dA_s in
    proportion. So a row adds dA_s (dm/dA_s - the others' mean dm/dA, weighted by A). 1 - A_s is the
    sum of the others, which keeps its digits where A_s is nearly 1.
    """
    heads = _query_heads(node, anatomy)
    patterns = [Node("pattern", node.layer, head) for head in heads]
    A = torch.stack([values[pattern] for pattern in patterns], 1)
    gradient = torch.stack([gradients[pattern] for pattern in patterns], 1)
    pairs = torch.arange(len(at), device=at.device)

    queries = torch.stack([values[Node("q", node.layer, head)] for head in heads], 1)
    count, length = queries.shape[1:3]
    query_positions = repeat(torch.arange(length, device=at.device), "query -> 1 1 query")
    key_position = repeat(at, "pair -> pair 1 1")

    def logits_at(key: Float[Tensor, "pair d_head"]) -> Float[Tensor, "pair head query"]:
        keys = repeat(key, "pair d_head -> pair head query d_head", head=count, query=length)
        return anatomy.attention_logits(node.layer, queries, keys, query_positions, key_position)

    clean = values[_key(node, anatomy)][pairs, at]
    rise = logits_at(changed) - logits_at(clean)

    weight = A[pairs, :, :, at]
    others = A.clone()
    others[pairs, :, :, at] = 0
    rest, tiny = others.sum(-1), torch.finfo(A.dtype).tiny
    raised = weight * rise.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp()
    change = raised / (raised + rest).clamp(min=tiny) - weight
    elsewhere = (others * gradient).sum(-1) / rest.clamp(min=tiny)
    return (change * (gradient[pairs, :, :, at] - elsewhere)).sum((1, 2))


def _query_heads(node: Node, anatomy: Anatomy) -> range:
    """The query heads whose patterns a query or key is part of."""
    assert node.head is not None
    return range(node.head, node.head + 1) if node.kind == "q" else anatomy.query_heads(node.head)


def _key(node: Node, anatomy: Anatomy) -> Node:
    """The key, at all positions, that a query reads or that a key node is."""
    assert node.head is not None
    return Node("k", node.layer, anatomy.kv_head(node.head) if node.kind == "q" else node.head)
