"""Activations without a model: every node by its formula, from random streams.

Attention rows and weights are random too, and shaped like each family's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.models.anatomy import Anatomy, Layer, Norm
from sage.nodes import Node, parse_node
from sage.saes.architectures.relu import ReLU
from sage.saes.sae import SAE
from sage.saes.suite import Suite, assemble
from sage.task.task import Prompt
from sage.task.tokens import Tokenized

D, D_HEAD, HEADS = 12, 5, 4
NODES = tuple(
    map(
        parse_node,
        (
            "1.0.q@END",
            "1.0.k@A",
            "1.1.v@A",
            "1.1.z@END",
            "1.2.z@END",
            "1.2.z@A",
            "1.mlp_in@END",
            "0.3.z@END",
            "0.mlp_in@A",
        ),
    )
)


@dataclass(frozen=True)
class Shape:
    """What tells the families apart here."""

    norm: str
    kv_heads: int
    parallel: bool
    post: bool


FAMILIES = {
    "gpt2": Shape("layer", HEADS, parallel=False, post=False),
    "neox": Shape("layer", HEADS, parallel=True, post=False),
    "gemma2": Shape("rms", HEADS // 2, parallel=False, post=True),
}


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def anatomy(family: str, *, seed: int = 0, layers: int = 2) -> Anatomy:
    """Random weights; every norm weight away from 1, every bias away from 0 where the family has
    one."""
    shape, generator = FAMILIES[family], draw(seed)

    def some(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    def norm() -> Norm:
        bias = some(D) if shape.norm == "layer" else torch.zeros(D)
        return Norm("layer" if shape.norm == "layer" else "rms", 1 + some(D).abs(), bias, 1e-5)

    def layer() -> Layer:
        kv = shape.kv_heads
        return Layer(
            attention_norm=norm(),
            mlp_norm=norm(),
            W_Q=some(HEADS, D_HEAD, D),
            b_Q=some(HEADS, D_HEAD),
            W_K=some(kv, D_HEAD, D),
            b_K=some(kv, D_HEAD),
            W_V=some(kv, D_HEAD, D),
            b_V=some(kv, D_HEAD),
            W_O=some(HEADS, D, D_HEAD),
            b_O=some(D),
            attention_post=norm() if shape.post else None,
            mlp_post=norm() if shape.post else None,
        )

    return Anatomy(
        family=family,
        blocks=[layer() for _ in range(layers)],
        heads=HEADS,
        kv_heads=shape.kv_heads,
        d_model=D,
        d_head=D_HEAD,
        d_mlp=8,
        d_vocab=50,
        parallel=shape.parallel,
        attention_scale=1.0,
    )


def activations(
    family: str,
    nodes: Sequence[Node] = NODES,
    *,
    prompts: int = 7,
    seed: int = 0,
    bos: bool = True,
    extra: int = 0,
) -> Activations:
    """Clean activations of prompts of 5 to 8 tokens, A at token 2 (1 in every other prompt), END
    the last; the first token is large.

    `extra` tokens make them longer.
    """
    model, generator = anatomy(family), draw(seed + 100)
    lengths = [5 + extra + number % 4 for number in range(prompts)]
    place = {
        "A": [2 - number % 2 for number in range(prompts)],
        "END": [length - 1 for length in lengths],
    }
    streams: dict[Node, Tensor] = {}
    for hook in sorted({model.source(node) for node in nodes}):
        stream = torch.randn(prompts, max(lengths), D, generator=generator) + 0.5
        stream[:, 0] *= 6
        for row, length in enumerate(lengths):
            stream[row, length:] = 0
        streams[hook] = stream
    patterns = {
        node: _rows(place[node.position], max(lengths), generator)
        for node in nodes
        if node.kind == "z"
    }
    values = {
        node: value(
            model, node, streams[model.source(node)], patterns.get(node), place[node.position]
        )
        for node in nodes
    }
    tokenized = tuple(
        Tokenized(
            _prompt(seed, row), (0,) * length, {"A": place["A"][row], "END": length - 1}, (1,), (2,)
        )
        for row, length in enumerate(lengths)
    )
    return Activations(model, tokenized, values, streams, patterns, bos)


def value(
    model: Anatomy, node: Node, stream: Tensor, pattern: Tensor | None, place: list[int]
) -> Tensor:
    """What a node holds, by the model's own formulas."""
    block = model.blocks[node.layer]
    rows = torch.arange(len(stream))
    if node.kind == "mlp_in":
        return block.mlp_norm.apply(stream[rows, place])
    read = block.attention_norm.apply(stream)
    assert node.head is not None
    if node.kind == "z":
        kv = node.head // (model.heads // model.kv_heads)
        assert pattern is not None
        return torch.einsum("ps,psd->pd", pattern, read @ block.W_V[kv].T + block.b_V[kv])
    W, b = {"q": (block.W_Q, block.b_Q), "k": (block.W_K, block.b_K), "v": (block.W_V, block.b_V)}[
        node.kind
    ]
    return read[rows, place] @ W[node.head].T + b[node.head]


def relu_sae(hook: Node, *, width: int = 9, d: int = D, seed: int = 0, **changes: object) -> SAE:
    """A random ReLU SAE: about half of its latents are active on a token."""
    generator = draw(seed + 17 * hook.layer)
    encoder = ReLU(
        torch.randn(d, width, generator=generator) / d**0.5,
        0.3 * torch.randn(width, generator=generator),
    )
    decoder = torch.randn(width, d, generator=generator) / d**0.5
    sae = SAE(f"sae {hook}", encoder, decoder, torch.randn(d, generator=generator), hook)
    return replace(sae, **changes)  # type: ignore[arg-type]


def identity_sae(hook: Node, *, d: int = D, **changes: object) -> SAE:
    """x_hat = x: one latent for each sign of each dimension."""
    both = torch.cat([torch.eye(d), -torch.eye(d)])
    sae = SAE(
        f"identity {hook}",
        ReLU(both.T.contiguous(), torch.zeros(2 * d)),
        both,
        torch.zeros(d),
        hook,
    )
    return replace(sae, **changes)  # type: ignore[arg-type]


def suite(given: Activations, **changes: object) -> Suite:
    """A random SAE at every residual stream that was read."""
    return assemble("suite", [relu_sae(hook, **changes) for hook in given.streams])  # type: ignore[arg-type]


def _rows(last: list[int], positions: int, generator: torch.Generator) -> Tensor:
    """Random attention rows: positive up to the destination, 0 after it, summing to 1."""
    weights = torch.rand(len(last), positions, generator=generator) + 0.05
    weights *= torch.arange(positions) <= torch.tensor(last)[:, None]
    return weights / weights.sum(-1, keepdim=True)


def _prompt(seed: int, row: int) -> Prompt:
    labels = {"colour": ("red", "blue", "green")[row % 3], "place": row % 2}
    return Prompt(f"toy {seed}.{row}", "toy", "toy", {}, labels, {}, ("yes",), ("no",))
