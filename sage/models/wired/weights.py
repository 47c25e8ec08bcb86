"""The weights of the wired model, under the names that Hugging Face's GPT-2 gives them.

A part is written down as what it reads from and adds to the residual stream (W~ of the method,
section 4); the norm before it is then undone in its weights: with LN(x) = g P x / s + b, W = W~ / g
and b_W = bias - W b. So every norm is real, its weights are away from 1 and its biases away from 0,
and its scale s is almost constant because the ballast is most of every residual stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Float

from sage.errors import SageError
from sage.models.wired import language
from sage.models.wired.circuit import (
    HEADS,
    LOOKUPS,
    N_HEADS,
    N_LAYERS,
    Head,
    Placement,
    draw_placement,
)
from sage.models.wired.layout import (
    BALLAST,
    D_MODEL,
    ResidualLayout,
    Subspace,
    Variable,
    columns_of,
    draw_layout,
)

D_HEAD = D_MODEL // N_HEADS
D_MLP = 48
N_POSITIONS = 32
EPSILON = 1e-5

# The scale s that parts reckon with: beside the ballast about three features of length one are
# present.
SCALE = float(np.sqrt((BALLAST**2 + 3) / D_MODEL))

# The length of what an unused head or MLP adds where nobody reads.
_NOISE = 0.001
# Logits between a value that is said and one that is not.
_EVIDENCE = {"kind": 2.0, "colour": 4.0, "size": 4.0}
# Prior logits of the qualities (without any evidence the model is never in two minds), and of all
# other words.
_PRIORS = (-0.7, 0.7)
_PRIOR_ELSE = -2.0


class HeadWeights(NamedTuple):
    """q = q x/s + q_bias and so on, [d_head, d_model] each; the head adds out @ z, out [d_model,
    d_head]."""

    q: Float[np.ndarray, "d_head d_model"]
    q_bias: Float[np.ndarray, "d_head"]
    k: Float[np.ndarray, "d_head d_model"]
    v: Float[np.ndarray, "d_head d_model"]
    out: Float[np.ndarray, "d_model d_head"]


class MLPWeights(NamedTuple):
    """Neurons gelu(read x/s + bias), and what they add: write @ neurons + constant."""

    read: Float[np.ndarray, "neuron d_model"]
    bias: Float[np.ndarray, "neuron"]
    write: Float[np.ndarray, "d_model neuron"]
    constant: Float[np.ndarray, "d_model"]


@dataclass(frozen=True)
class Blueprint:
    """Everything a seed decides, before the norms are worked in."""

    seed: int
    layout: ResidualLayout
    placement: Placement
    heads: Mapping[Head, HeadWeights]
    mlps: tuple[MLPWeights, ...]
    norms: Float[np.ndarray, "norm weight_and_bias d_model"]
    offsets: Float[np.ndarray, "head k_and_v d_head"]

    def norm(
        self, layer: int, kind: str
    ) -> tuple[Float[np.ndarray, "d_model"], Float[np.ndarray, "d_model"]]:
        """Weight and bias of `ln_1`, `ln_2` or, with layer N_LAYERS, of the final norm."""
        weight, bias = self.norms[2 * layer + (kind == "ln_2")]
        return weight, bias


def draw(seed: int) -> Blueprint:
    """The blueprint of a seed, which must not be negative."""
    if seed < 0:
        raise SageError(f"There is no wired model of seed {seed}. Seeds are 0, 1, 2, ...")
    layout = draw_layout(np.random.default_rng([seed, 0]))
    placement = draw_placement(np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    heads = {head: _unused_head(layout, rng) for head in placement.unused}
    heads |= {placement.heads[name]: _turned(_head(name, layout), rng) for name in HEADS}
    parts = {layer: part for part, layer in placement.mlps.items()}
    mlps = tuple(_mlp(parts.get(layer), layout, rng) for layer in range(N_LAYERS))
    norm_weights = rng.uniform(1.2, 1.8, (2 * N_LAYERS + 1, D_MODEL))
    norm_biases = 0.2 * rng.standard_normal((2 * N_LAYERS + 1, D_MODEL))
    norms = np.stack([norm_weights, norm_biases], axis=1)
    offsets = 0.3 * rng.standard_normal((N_LAYERS * N_HEADS, 2, D_HEAD))
    return Blueprint(seed, layout, placement, heads, mlps, norms, offsets)


def tensors(blueprint: Blueprint) -> dict[str, Float[np.ndarray, "..."]]:
    """Every tensor of the model in float32, by its Hugging Face name."""
    W_E, W_pos = _embeddings(blueprint.layout)
    final_weight, final_bias = blueprint.norm(N_LAYERS, "ln_f")
    model: dict[str, Float[np.ndarray, "..."]] = {
        "transformer.wte.weight": W_E,
        "transformer.wpe.weight": W_pos,
    }
    for layer in range(N_LAYERS):
        for name, value in _block(blueprint, layer).items():
            model[f"transformer.h.{layer}.{name}"] = value
    model["transformer.ln_f.weight"] = final_weight
    model["transformer.ln_f.bias"] = final_bias
    model["lm_head.weight"] = _unembedding(blueprint)
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in model.items()}


# Parts


class Match(NamedTuple):
    """What a head attends to: its attention logit is strength * <query, key>.

    <query, key> is `peak` where they match; at <bos> the logit is that of a match less `gap`, and
    far below at what `avoid` reads.
    """

    query: Float[np.ndarray, "dim d_model"]
    key: Float[np.ndarray, "dim d_model"]
    strength: float
    peak: float
    gap: float
    avoid: Float[np.ndarray, "d_model"] | None = None


class Move(NamedTuple):
    """What a head carries from where it attends to: what it reads, where it writes that, and which
    share of it."""

    read: tuple[Subspace, ...]
    write: tuple[Subspace, ...]
    share: float = 1.0


def _head(name: str, layout: ResidualLayout) -> HeadWeights:
    if name == "previous":
        read = layout.at("token", "owner", "kind", "colour", "size")
        return _attend_back(layout, 1, Move(read, layout.at("previous")))
    if name == "clause":
        move = Move(layout.at("token", "owner"), layout.at("clause"))
        return _attend_back(layout, language.CLAUSE, move)
    if name == "mover":
        return _attend_back(layout, 1, Move(layout.at("found"), layout.at("wanted")))
    if name == "duplicate":
        return _duplicate(layout)
    return _lookup(layout)


def _attend_back(layout: ResidualLayout, back: int, move: Move) -> HeadWeights:
    """Attends `back` tokens back, to <bos> where there is no such token."""
    position = layout.subspace("token", "position")
    query = np.roll(position.variable.duals, back, axis=0).T @ position.readers
    match = Match(query, position.columns.T, strength=10.0, peak=position.variable.peak, gap=4.0)
    return _attend(layout, match, move)


def _duplicate(layout: ResidualLayout) -> HeadWeights:
    """Attends from a question for an animal to that animal, to <bos> where there is none, and never
    to the question itself."""
    asked, animal = layout.subspace("asked", "animal"), layout.subspace("token", "animal")
    match = Match(
        query=asked.variable.duals.T @ asked.readers,
        key=animal.columns.T,
        strength=10.0,
        peak=animal.variable.peak,
        gap=2.5,
        avoid=layout.subspace("token", "position").readers[language.QUESTION],
    )
    return _attend(layout, match, Move(layout.at("previous", "owner"), layout.at("found")))


def _lookup(layout: ResidualLayout) -> HeadWeights:
    """Attends to the end of the clause whose owner is wanted, to <bos> where none is; one of two
    that add half each."""
    wanted, ends = layout.subspace("wanted", "owner"), layout.subspace("clause", "owner")
    match = Match(wanted.columns.T, ends.columns.T, strength=8.0, peak=1.0, gap=2.2)
    read = layout.at("previous", "kind", "colour", "size")
    return _attend(layout, match, Move(read, layout.at("looked up"), share=1 / len(LOOKUPS)))


def _attend(layout: ResidualLayout, match: Match, move: Move) -> HeadWeights:
    """The head that attends to a match and moves what stands there."""
    dim, root = len(match.query), np.sqrt(D_HEAD)
    strength = match.strength
    q, k, v = (np.zeros((D_HEAD, D_MODEL)) for _ in range(3))
    q_bias, out = np.zeros(D_HEAD), np.zeros((D_MODEL, D_HEAD))
    q[:dim] = root * strength * SCALE * match.query
    k[:dim] = SCALE * match.key
    q_bias[dim] = root * (strength * match.peak - match.gap)
    k[dim] = SCALE * layout.subspace("token", "bos").readers[0]
    if match.avoid is not None:
        q_bias[dim + 1] = -root * 2 * strength
        k[dim + 1] = SCALE * match.avoid
    read = columns_of(move.read)
    width = read.shape[1]
    v[:width] = SCALE * read.T
    out[:, :width] = move.share * (1 + np.exp(-match.gap)) * columns_of(move.write)
    return HeadWeights(q, q_bias, k, v, out)


def _turned(head: HeadWeights, rng: np.random.Generator) -> HeadWeights:
    """The same head in another basis of its queries and keys, and of its values."""
    turn, twist = (np.linalg.qr(rng.standard_normal((D_HEAD, D_HEAD))).Q for _ in range(2))
    return HeadWeights(
        turn @ head.q, turn @ head.q_bias, turn @ head.k, twist @ head.v, head.out @ twist.T
    )


def _unused_head(layout: ResidualLayout, rng: np.random.Generator) -> HeadWeights:
    q, k, v = (_mixed(layout, D_HEAD, rng) for _ in range(3))
    return HeadWeights(q, rng.standard_normal(D_HEAD), k, v, _unread(layout, D_HEAD, rng))


def _mixed(
    layout: ResidualLayout, outputs: int, rng: np.random.Generator
) -> Float[np.ndarray, "output d_model"]:
    """Random weights that read every feature, and not the ballast: outputs of about 1."""
    ballast = layout.ballast / BALLAST
    read = 0.6 * rng.standard_normal((outputs, D_MODEL))
    return read - np.outer(read @ ballast, ballast)


def _unread(
    layout: ResidualLayout, inputs: int, rng: np.random.Generator
) -> Float[np.ndarray, "d_model inputs"]:
    """Random weights into the unread columns: inputs of about 1 each give a vector of length
    _NOISE."""
    dim = layout.unread.shape[1]
    return layout.unread @ rng.standard_normal((dim, inputs)) * (_NOISE / np.sqrt(dim * inputs))


def _mlp(part: str | None, layout: ResidualLayout, rng: np.random.Generator) -> MLPWeights:
    """The neurons of a part, if any, and random ones up to D_MLP that add what nobody reads."""
    idle = MLPWeights(
        _mixed(layout, D_MLP, rng),
        rng.standard_normal(D_MLP),
        _unread(layout, D_MLP, rng),
        np.zeros(D_MODEL),
    )
    if part is None:
        return idle
    used = _ask(layout) if part == "ask" else _say(layout)
    rest = len(used.bias)
    return MLPWeights(
        np.concatenate([used.read, idle.read[rest:]]),
        np.concatenate([used.bias, idle.bias[rest:]]),
        np.concatenate([used.write, idle.write[:, rest:]], axis=1),
        used.constant,
    )


def _ask(layout: ResidualLayout) -> MLPWeights:
    """One neuron per animal, which is about 10 for that animal and so far below zero otherwise that
    a GELU is silent."""
    animal, asked = layout.subspace("token", "animal"), layout.subspace("asked", "animal")
    threshold, slope = 0.4, 20.0
    return MLPWeights(
        read=slope * SCALE * animal.readers,
        bias=np.full(len(animal.readers), -slope * threshold),
        write=asked.directions.T / (slope * (animal.variable.peak - threshold)),
        constant=np.zeros(D_MODEL),
    )


def _say(layout: ResidualLayout) -> MLPWeights:
    """Neurons so far above zero that a GELU is the identity: a quality is copied as it is, however
    strong."""
    read, write, above = columns_of(layout.at("looked up")), columns_of(layout.at("said")), 10.0
    return MLPWeights(
        read=SCALE * read.T,
        bias=np.full(read.shape[1], above),
        write=write,
        constant=-above * write.sum(1),
    )


# Tensors


def _embeddings(
    layout: ResidualLayout,
) -> tuple[Float[np.ndarray, "vocab d_model"], Float[np.ndarray, "position d_model"]]:
    """Every token at the ballast and the features of its meaning, and every position."""
    directions = _by_value(
        [(subspace.variable, subspace.directions) for subspace in layout.at("token")]
    )
    tokens = [
        layout.ballast + sum(directions[pair] for pair in meaning)
        for meaning in language.vocabulary().values()
    ]
    positions = np.zeros((N_POSITIONS, D_MODEL))
    positions[: language.LENGTH] = layout.subspace("token", "position").directions
    return np.stack(tokens), positions


def _by_value(
    vectors: Sequence[tuple[Variable, Float[np.ndarray, "_ d_model"]]],
) -> dict[tuple[str, str], Float[np.ndarray, "d_model"]]:
    """A vector for each value of some variables, by the variable's name and the value."""
    by_value: dict[tuple[str, str], Float[np.ndarray, "d_model"]] = {}
    for variable, rows in vectors:
        for value, row in zip(variable.values, rows, strict=True):
            by_value[variable.name, value] = row
    return by_value


def _block(blueprint: Blueprint, layer: int) -> dict[str, Float[np.ndarray, "..."]]:
    """One block, with its norms undone in what reads their outputs."""
    heads = [blueprint.heads[Head(layer, head)] for head in range(N_HEADS)]
    mlp = blueprint.mlps[layer]
    k_bias, v_bias = rearrange(
        blueprint.offsets[layer * N_HEADS : (layer + 1) * N_HEADS],
        "head kind d_head -> kind (head d_head)",
    )
    (g_1, b_1), (g_2, b_2) = blueprint.norm(layer, "ln_1"), blueprint.norm(layer, "ln_2")
    q = np.concatenate([head.q for head in heads])
    q_bias = np.concatenate([head.q_bias for head in heads])
    k, v = np.concatenate([head.k for head in heads]), np.concatenate([head.v for head in heads])
    out = np.concatenate([head.out for head in heads], axis=1)
    qkv = np.concatenate([q, k, v]) / g_1
    qkv_bias = np.concatenate([q_bias, k_bias, v_bias]) - qkv @ b_1
    read = mlp.read / g_2
    return {
        "ln_1.weight": g_1,
        "ln_1.bias": b_1,
        "attn.c_attn.weight": qkv.T,
        "attn.c_attn.bias": qkv_bias,
        "attn.c_proj.weight": out.T,
        "attn.c_proj.bias": -out @ v_bias,
        "ln_2.weight": g_2,
        "ln_2.bias": b_2,
        "mlp.c_fc.weight": read.T,
        "mlp.c_fc.bias": mlp.bias - read @ b_2,
        "mlp.c_proj.weight": mlp.write.T,
        "mlp.c_proj.bias": mlp.constant,
    }


def _unembedding(blueprint: Blueprint) -> Float[np.ndarray, "vocab d_model"]:
    """Logits of the qualities as far as they are said; a prior for each, read off the ballast."""
    layout, (weight, bias) = blueprint.layout, blueprint.norm(N_LAYERS, "ln_f")
    evidence = [
        (subspace.variable, _EVIDENCE[subspace.variable.name] * subspace.readers)
        for subspace in layout.at("said")
    ]
    reader_of = _by_value(evidence)
    read = np.zeros((len(language.vocabulary()), D_MODEL))
    for row, meaning in zip(read, language.vocabulary().values(), strict=True):
        for pair in meaning:
            row += reader_of.get(pair, 0)
    qualities = np.flatnonzero(read.any(1))
    priors = np.full(len(read), _PRIOR_ELSE)
    rng = np.random.default_rng([blueprint.seed, 3])
    priors[qualities] = rng.permutation(np.linspace(*_PRIORS, len(qualities)))
    rows = SCALE * read / weight
    constant = layout.ballast / weight
    worth = BALLAST**2 / SCALE + constant @ bias
    return rows + ((priors - rows @ bias) / worth)[:, None] * constant
