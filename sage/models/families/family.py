"""What a family tells of its Hugging Face module: its anatomy, and where activations stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from sage.models.anatomy import Anatomy, Norm, Rotary, Stretch
from sage.models.network import MLP, Network, activation_function

Layout = Literal["whole", "heads", "qkv heads", "heads qkv"]


class Location(NamedTuple):
    """Where an activation stands: a submodule of a block (nothing for the block itself), its input
    or output, and how heads are laid out there.

    `element` is the index in a tuple output, None for a tensor. Layouts: `whole`, no heads;
    `heads`, [head * d_head]; `qkv heads`, [3 * head * d_head]; `heads qkv`, [head * 3 * d_head].
    """

    module: str
    side: Literal["input", "output"]
    layout: Layout = "whole"
    element: int | None = None


@dataclass(frozen=True)
class Family:
    """One model family. `blocks` is the path of its blocks, `locations` where each kind of node
    stands in a block, in the order of computation.

    `bos` is whether prompts begin with the BOS token where neither the model's configuration nor
    its tokenizer says so; `only` the fields of the configuration that must have one value, or one
    of a tuple, because the anatomy describes no other; `network` gives all the weights, for a
    forward pass of our own.
    """

    model_type: str
    example: str
    bos: bool
    only: Mapping[str, object]
    blocks: str
    locations: dict[str, Location]
    anatomy: Callable[[Any], Anatomy]
    network: Callable[[Any, Anatomy], Network]


def layer_norm(module: Any) -> Norm:
    """A torch LayerNorm."""
    return Norm("layer", module.weight, module.bias, float(module.eps))


def rms_norm(module: Any, *, offset: float = 0.0) -> Norm:
    """An RMS norm, which multiplies by its weight; with `offset` 1 one of Gemma, by 1 + w."""
    eps = module.eps if hasattr(module, "eps") else module.variance_epsilon
    weight = offset + module.weight.float() if offset else module.weight
    return Norm("rms", weight, torch.zeros_like(weight), float(eps))


def projections(attention: Any, *, heads: int, kv_heads: int) -> dict[str, Any]:
    """Weights and biases of q, k, v and o, by their names in `Layer`, of modules q_proj to o_proj;
    0 for a bias that is not there."""
    weights: dict[str, Any] = {}
    for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
        module = getattr(attention, f"{name}_proj")
        per_head = "(head d_head) d_model -> head d_head d_model"
        weight = rearrange(module.weight, per_head, head=count)
        bias = _bias(module, len(module.weight)).unflatten(0, weight.shape[:2])
        weights |= {f"W_{name.upper()}": weight, f"b_{name.upper()}": bias}
    out = attention.o_proj
    W_O = rearrange(out.weight, "d_model (head d_head) -> head d_model d_head", head=heads)
    return {**weights, "W_O": W_O, "b_O": _bias(out, len(out.weight))}


def gated_network(hf: Any, anatomy: Anatomy, *, act: str, final_norm: Norm) -> Network:
    """The network of a module with gated MLPs and no learned positions, as Llama names its
    parts."""
    mlps = [
        MLP(
            W_in=mlp.up_proj.weight,
            b_in=mlp.up_proj.bias,
            W_out=mlp.down_proj.weight,
            b_out=mlp.down_proj.bias,
            act=activation_function(act),
            W_gate=mlp.gate_proj.weight,
            b_gate=mlp.gate_proj.bias,
        )
        for mlp in (block.mlp for block in hf.model.layers)
    ]
    return Network(
        anatomy,
        mlps,
        W_E=hf.model.embed_tokens.weight,
        W_pos=None,
        final_norm=final_norm,
        W_U=hf.get_output_embeddings().weight,
    )


def rotary(rope: Mapping[str, Any], dims: int) -> Rotary:
    """What a configuration's rope parameters say: of rope_type default, linear or llama3."""
    base = float(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        return Rotary(dims, base, factor=float(rope["factor"]))
    if rope["rope_type"] == "llama3":
        stretch = Stretch(
            factor=float(rope["factor"]),
            fewest=float(rope["low_freq_factor"]),
            most=float(rope["high_freq_factor"]),
            context=int(rope["original_max_position_embeddings"]),
        )
        return Rotary(dims, base, stretch=stretch)
    return Rotary(dims, base)


def _bias(module: Any, width: int) -> Tensor:
    return module.weight.new_zeros(()).expand(width) if module.bias is None else module.bias
