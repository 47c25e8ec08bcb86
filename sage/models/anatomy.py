"""Anatomy: what projection and discovery must know of a model, in the same words for every family.

Which norm and which weights stand before and after each sublayer, whether the two sublayers of a
block run in parallel, rotary embeddings, grouped heads, soft caps and sliding windows. Weights are
views of the loaded module's parameters; nothing is copied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sage.errors import SageError, Unsupported
from sage.nodes import Node


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm or RMS norm: weight * (P x)/s(x) + bias, s = sqrt(|P x|^2/D + eps); P removes
    the mean for `layer` alone.

    `weight` is what multiplies, so Gemma's 1 + w.
    """

    kind: Literal["layer", "rms"]
    weight: Float[Tensor, " width"]
    bias: Float[Tensor, " width"]
    eps: float

    def centre(self, x: Float[Tensor, "*many width"]) -> Float[Tensor, "*many width"]:
        """P x."""
        return x - x.mean(-1, keepdim=True) if self.kind == "layer" else x

    def scale(self, x: Float[Tensor, "*many width"]) -> Float[Tensor, "*many 1"]:
        """s(x)."""
        return (self.centre(x).square().mean(-1, keepdim=True) + self.eps).sqrt()

    def apply(
        self, x: Float[Tensor, "*many width"], *, scale: Float[Tensor, "*many 1"] | None = None
    ) -> Float[Tensor, "*many width"]:
        """The norm of x; with `scale`, at that frozen scale."""
        s = self.scale(x) if scale is None else scale
        return self.weight * self.centre(x) / s + self.bias


def normalise(norm: Norm, x: Float[Tensor, "*many width"]) -> Float[Tensor, "*many width"]:
    """The norm of x, in float32 inside, by one kernel: `Norm.apply` in the type of x."""
    size = norm.weight.shape
    if norm.kind == "layer":
        return functional.layer_norm(x, size, norm.weight, norm.bias, norm.eps)
    return functional.rms_norm(x.float(), size, norm.weight.float(), norm.eps).to(x.dtype)


@dataclass(frozen=True)
class Stretch:
    """Longer wavelengths for longer contexts, as Llama 3.1 has them.

    Dimensions that turn fewer than `fewest` times within `context` positions turn `factor` times
    more slowly, those that turn more than `most` times as they are, and those between in
    proportion. Grattafiori et al. 2024, arXiv 2407.21783, section 3.4.1, as transformers does it.
    """

    factor: float
    fewest: float
    most: float
    context: int

    def slow(self, frequencies: Float[Tensor, " pair"]) -> Float[Tensor, " pair"]:
        """Radians per position, made fewer where they are few."""
        turns = self.context * frequencies / (2 * math.pi)
        kept = ((turns - self.fewest) / (self.most - self.fewest)).clamp(0, 1)
        return frequencies * (kept + (1 - kept) / self.factor)


@dataclass(frozen=True)
class Rotary:
    """Rotary position embedding of the first `dims` dimensions of a head, the first half of them
    paired with the second.

    Positions are divided by `factor`. Su et al. 2021, arXiv 2104.09864.
    """

    dims: int
    base: float
    factor: float = 1.0
    stretch: Stretch | None = None

    def frequencies(self, device: torch.device | None = None) -> Float[Tensor, " pair"]:
        """Radians by which each pair of dimensions turns from one position to the next."""
        exponents = torch.arange(0, self.dims, 2, device=device, dtype=torch.float32) / self.dims
        plain = self.base**-exponents / self.factor
        return plain if self.stretch is None else self.stretch.slow(plain)

    def rotate(
        self, x: Float[Tensor, "*many d_head"], positions: Int[Tensor, "*#many"]
    ) -> Float[Tensor, "*many d_head"]:
        """x turned by its position; `positions` broadcasts against x without its last axis."""
        angles = positions[..., None].float() * self.frequencies(x.device)
        cos, sin = angles.cos(), angles.sin()
        cos = torch.cat([cos, cos], -1).to(x.dtype)
        sin = torch.cat([sin, sin], -1).to(x.dtype)
        turning, rest = x[..., : self.dims], x[..., self.dims :]
        first, second = turning.chunk(2, -1)
        turned = turning * cos + torch.cat([-second, first], -1) * sin
        return torch.cat([turned, rest.expand(*turning.shape[:-1], rest.shape[-1])], -1)


@dataclass(frozen=True, eq=False)
class Layer:
    """One block: norms, and weights per head.

    q, k, v are W [head, d_head, d_model] with biases [head, d_head]; O is [head, d_model, d_head].
    `attention_post` and `mlp_post` are norms of the sublayers' outputs (Gemma-2), `q_norm` and
    `k_norm` those of one head's query and key before they are turned (Qwen 3, Gemma 3). `window` is
    how many positions attention sees, None for all.
    """

    attention_norm: Norm
    mlp_norm: Norm
    W_Q: Float[Tensor, "head d_head d_model"]
    b_Q: Float[Tensor, "head d_head"]
    W_K: Float[Tensor, "kv_head d_head d_model"]
    b_K: Float[Tensor, "kv_head d_head"]
    W_V: Float[Tensor, "kv_head d_head d_model"]
    b_V: Float[Tensor, "kv_head d_head"]
    W_O: Float[Tensor, "head d_model d_head"]
    b_O: Float[Tensor, " d_model"]
    attention_post: Norm | None = None
    mlp_post: Norm | None = None
    window: int | None = None
    rotary: Rotary | None = None
    q_norm: Norm | None = None
    k_norm: Norm | None = None

    def query(
        self, q: Float[Tensor, "*many d_head"], positions: Int[Tensor, "*#many"]
    ) -> Float[Tensor, "*many d_head"]:
        """What meets keys of a projected query: normed, then turned by its position."""
        return self._place(q, self.q_norm, positions)

    def key(
        self, k: Float[Tensor, "*many d_head"], positions: Int[Tensor, "*#many"]
    ) -> Float[Tensor, "*many d_head"]:
        """What queries meet of a projected key: normed, then turned by its position."""
        return self._place(k, self.k_norm, positions)

    def _place(self, x: Tensor, norm: Norm | None, positions: Tensor) -> Tensor:
        normed = x if norm is None else normalise(norm, x)
        return normed if self.rotary is None else self.rotary.rotate(normed, positions)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A model's parts. `attention_scale` multiplies q.k; caps are those of tanh(x/cap) * cap, None
    where there is none."""

    family: str
    blocks: Sequence[Layer]
    heads: int
    kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    parallel: bool
    attention_scale: float
    attention_cap: float | None = None
    logit_cap: float | None = None
    embedding_scale: float = 1.0

    @property
    def layers(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def group(self) -> int:
        """Query heads per key-value head."""
        return self.heads // self.kv_heads

    @property
    def hooks(self) -> tuple[Node, ...]:
        """The residual streams that sublayers read, at all positions: what a judged SAE reads."""
        kinds = ("resid_pre",) if self.parallel else ("resid_pre", "resid_mid")
        return tuple(Node(kind, layer) for layer in range(self.layers) for kind in kinds)

    def kv_head(self, head: int) -> int:
        """The key-value head that a query head reads."""
        return head // self.group

    def query_heads(self, kv_head: int) -> range:
        """The query heads that read a key-value head."""
        return range(kv_head * self.group, (kv_head + 1) * self.group)

    def heads_of(self, kind: str) -> int:
        """How many heads a kind of node counts."""
        return self.kv_heads if kind in ("k", "v") else self.heads

    def width(self, kind: str) -> int:
        """The dimension of a node of that kind."""
        return self.d_head if kind in ("q", "k", "v", "z") else self.d_model

    def norm_before(self, node: Node) -> Norm:
        """The norm between the residual stream and the sublayer that the node belongs to."""
        block = self.blocks[node.layer]
        return block.mlp_norm if node.kind in ("mlp_in", "mlp_out") else block.attention_norm

    def source(self, node: Node) -> Node:
        """The residual stream, at all positions, that the node's sublayer reads: resid_pre for
        attention, resid_mid for the MLP of a sequential block, resid_pre for that of a parallel
        one."""
        if node.kind in ("q", "k", "v", "z", "attn_out", "pattern"):
            return Node("resid_pre", node.layer)
        if node.kind in ("mlp_in", "mlp_out"):
            return Node("resid_pre" if self.parallel else "resid_mid", node.layer)
        raise SageError(
            f"{node} reads no residual stream through a norm; "
            "nodes of kinds q, k, v, z, attn_out, mlp_in and mlp_out do."
        )

    def projection(
        self, kind: str, layer: int, head: int
    ) -> tuple[Float[Tensor, "d_head d_model"], Float[Tensor, " d_head"]]:
        """W and b of q, k or v of one head (of one key-value head for k and v)."""
        block = self.blocks[layer]
        weight, bias = {
            "q": (block.W_Q, block.b_Q),
            "k": (block.W_K, block.b_K),
            "v": (block.W_V, block.b_V),
        }[kind]
        return weight[head], bias[head]

    def output(self, layer: int, head: int) -> Float[Tensor, "d_model d_head"]:
        """W_O of one head."""
        return self.blocks[layer].W_O[head]

    def output_bias(self, layer: int) -> Float[Tensor, " d_model"]:
        """b_O: what attention adds whatever the heads say."""
        return self.blocks[layer].b_O

    def attention_logits(
        self,
        layer: int,
        q: Float[Tensor, "*many d_head"],
        k: Float[Tensor, "*many d_head"],
        query: Int[Tensor, "*#many"],
        key: Int[Tensor, "*#many"],
    ) -> Float[Tensor, "*many"]:
        """The attention logit of q at position `query` and k at position `key`, both as projected:
        normed where the layer does, rotated, scaled, soft-capped; no mask."""
        block = self.blocks[layer]
        logits = (block.query(q, query) * block.key(k, key)).sum(-1) * self.attention_scale
        cap = self.attention_cap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def visible(
        self, layer: int, query: Int[Tensor, "*#many"], key: Int[Tensor, "*#many"]
    ) -> Tensor:
        """Whether attention at position `query` sees position `key`: not the future, and not beyond
        the layer's window."""
        window = self.blocks[layer].window
        past = key <= query
        return past if window is None else past & (query - key < window)

    def check(self, node: Node) -> None:
        """SageError unless the model has such a node; says what it has."""
        if node.kind == "embed":
            return
        if not 0 <= node.layer < self.layers:
            raise SageError(f"{node}: the model has layers 0 to {self.layers - 1}.")
        heads = self.heads_of(node.kind)
        if node.head is not None and not 0 <= node.head < heads:
            name = "key-value heads" if node.kind in ("k", "v") else "heads"
            raise SageError(f"{node}: the model has {name} 0 to {heads - 1}.")
        if node.kind == "resid_mid" and self.parallel:
            raise Unsupported(
                f"{node}: blocks of {self.family} run attention and MLP in parallel. "
                "There is no resid_mid; use resid_pre."
            )
