"""The weights of the wired model, under the names that Hugging Face's GPT-2 gives them.

A part is written down as what it reads from and adds to the residual stream (W~ of the method,
section 4); the norm before it is then undone in its weights: with LN(x) = g P x / s + b, W = W~ / g
and b_W = bias - W b. So every norm is real, its weights are away from 1 and its biases away from 0,
and its scale s is almost constant because the ballast is most of every residual stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.errors import SageError
from sage.models.wired import language
from sage.models.wired.circuit import HEADS, LOOKUPS, N_HEADS, N_LAYERS, Head, Placement, place
from sage.models.wired.geometry import BALLAST, D_MODEL, Geometry, Place, columns_of, lay_out

D_HEAD = D_MODEL // N_HEADS
D_MLP = 48
N_POSITIONS = 32
EPSILON = 1e-5

# The scale s that parts reckon with: beside the ballast about three features of length one are
# present.
SCALE = float(np.sqrt((BALLAST**2 + 3) / D_MODEL))

_NOISE = 0.001  # length of what an unused head or MLP adds where nobody reads
_EVIDENCE = {
    "kind": 2.0,
    "colour": 4.0,
    "size": 4.0,
}  # logits between a value that is said and one that is not
_PRIORS = (-0.7, 0.7)  # of the qualities: without any evidence the model is never in two minds
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
    geometry: Geometry
    placement: Placement
    heads: Mapping[Head, HeadWeights]
    mlps: tuple[MLPWeights, ...]
    norms: Float[np.ndarray, "norm two d_model"]
    offsets: Float[np.ndarray, "head two d_head"]

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
    geometry = lay_out(np.random.default_rng([seed, 0]))
    placement = place(np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    heads = {head: _unused_head(geometry, rng) for head in placement.unused}
    heads |= {placement.heads[name]: _turned(_head(name, geometry), rng) for name in HEADS}
    parts = {layer: part for part, layer in placement.mlps.items()}
    mlps = tuple(_mlp(parts.get(layer), geometry, rng) for layer in range(N_LAYERS))
    norms = np.stack(
        [
            rng.uniform(1.2, 1.8, (2 * N_LAYERS + 1, D_MODEL)),
            0.2 * rng.standard_normal((2 * N_LAYERS + 1, D_MODEL)),
        ],
        axis=1,
    )
    offsets = 0.3 * rng.standard_normal((N_LAYERS * N_HEADS, 2, D_HEAD))
    return Blueprint(seed, geometry, placement, heads, mlps, norms, offsets)


def tensors(blueprint: Blueprint) -> dict[str, Float[np.ndarray, "..."]]:
    """Every tensor of the model in float32, by its Hugging Face name."""
    found: dict[str, Float[np.ndarray, "..."]] = {}
    found["transformer.wte.weight"], found["transformer.wpe.weight"] = _embeddings(
        blueprint.geometry
    )
    for layer in range(N_LAYERS):
        found |= {
            f"transformer.h.{layer}.{name}": value
            for name, value in _block(blueprint, layer).items()
        }
    weight, bias = blueprint.norm(N_LAYERS, "ln_f")
    found |= {"transformer.ln_f.weight": weight, "transformer.ln_f.bias": bias}
    found["lm_head.weight"] = _unembedding(blueprint)
    return {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in found.items()}


# Parts


def _head(name: str, geometry: Geometry) -> HeadWeights:
    if name == "previous":
        return _by_position(
            geometry,
            1,
            geometry.at("token", "owner", "kind", "colour", "size"),
            geometry.at("previous"),
        )
    if name == "clause":
        return _by_position(
            geometry, language.CLAUSE, geometry.at("token", "owner"), geometry.at("clause")
        )
    if name == "mover":
        return _by_position(geometry, 1, geometry.at("found"), geometry.at("wanted"))
    if name == "duplicate":
        return _duplicate(geometry)
    return _lookup(geometry)


def _by_position(
    geometry: Geometry, back: int, read: tuple[Place, ...], write: tuple[Place, ...]
) -> HeadWeights:
    """Attends `back` tokens back, to <bos> where there is no such token."""
    position = geometry.place("token", "position")
    query = np.roll(position.variable.duals, back, axis=0).T @ position.readers
    return _attend(
        geometry,
        query,
        position.columns.T,
        strength=10.0,
        peak=position.variable.peak,
        gap=4.0,
        read=read,
        write=write,
    )


def _duplicate(geometry: Geometry) -> HeadWeights:
    """Attends from a question for an animal to that animal, to <bos> where there is none, and never
    to the question itself."""
    asked, named = geometry.place("asked", "animal"), geometry.place("token", "animal")
    query = asked.variable.duals.T @ asked.readers
    question = geometry.place("token", "position").readers[language.QUESTION]
    return _attend(
        geometry, query, named.columns.T, strength=10.0, peak=named.variable.peak, gap=2.5, avoid=question,
        read=geometry.at("previous", "owner"), write=geometry.at("found"),
    )  # fmt: skip


def _lookup(geometry: Geometry) -> HeadWeights:
    """Attends to the end of the clause whose owner is wanted, to <bos> where none is; one of two
    that add half each."""
    wanted, ends = geometry.place("wanted", "owner"), geometry.place("clause", "owner")
    return _attend(
        geometry, wanted.columns.T, ends.columns.T, strength=8.0, peak=1.0, gap=2.2, gain=1 / len(LOOKUPS),
        read=geometry.at("previous", "kind", "colour", "size"), write=geometry.at("looked up"),
    )  # fmt: skip


def _attend(
    geometry: Geometry,
    query: Float[np.ndarray, "dim d_model"],
    key: Float[np.ndarray, "dim d_model"],
    *,
    strength: float,
    peak: float,
    gap: float,
    read: tuple[Place, ...],
    write: tuple[Place, ...],
    gain: float = 1.0,
    avoid: Float[np.ndarray, "d_model"] | None = None,
) -> HeadWeights:
    """A head whose attention logit is strength * <query, key>, at <bos> that of a match less `gap`,
    and far below at `avoid`."""
    dim, root = len(query), np.sqrt(D_HEAD)
    q, k, v = (np.zeros((D_HEAD, D_MODEL)) for _ in range(3))
    q_bias, out = np.zeros(D_HEAD), np.zeros((D_MODEL, D_HEAD))
    q[:dim], k[:dim] = root * strength * SCALE * query, SCALE * key
    q_bias[dim], k[dim] = (
        root * (strength * peak - gap),
        SCALE * geometry.place("token", "bos").readers[0],
    )
    if avoid is not None:
        q_bias[dim + 1], k[dim + 1] = -root * 2 * strength, SCALE * avoid
    width = columns_of(read).shape[1]
    v[:width] = SCALE * columns_of(read).T
    out[:, :width] = gain * (1 + np.exp(-gap)) * columns_of(write)
    return HeadWeights(q, q_bias, k, v, out)


def _turned(head: HeadWeights, rng: np.random.Generator) -> HeadWeights:
    """The same head in another basis of its queries and keys, and of its values."""
    turn, twist = (np.linalg.qr(rng.standard_normal((D_HEAD, D_HEAD))).Q for _ in range(2))
    return HeadWeights(
        turn @ head.q, turn @ head.q_bias, turn @ head.k, twist @ head.v, head.out @ twist.T
    )


def _unused_head(geometry: Geometry, rng: np.random.Generator) -> HeadWeights:
    q, k, v = (_mixed(geometry, D_HEAD, rng) for _ in range(3))
    return HeadWeights(q, rng.standard_normal(D_HEAD), k, v, _unread(geometry, D_HEAD, rng))


def _mixed(
    geometry: Geometry, outputs: int, rng: np.random.Generator
) -> Float[np.ndarray, "output d_model"]:
    """Random weights that read every feature, and not the ballast: outputs of about 1."""
    ballast = geometry.ballast / BALLAST
    read = 0.6 * rng.standard_normal((outputs, D_MODEL))
    return read - np.outer(read @ ballast, ballast)


def _unread(
    geometry: Geometry, inputs: int, rng: np.random.Generator
) -> Float[np.ndarray, "d_model inputs"]:
    """Random weights into the unread columns: inputs of about 1 each give a vector of length
    _NOISE."""
    dim = geometry.unread.shape[1]
    return geometry.unread @ rng.standard_normal((dim, inputs)) * (_NOISE / np.sqrt(dim * inputs))


def _mlp(part: str | None, geometry: Geometry, rng: np.random.Generator) -> MLPWeights:
    """The neurons of a part, if any, and random ones up to D_MLP that add what nobody reads."""
    idle = MLPWeights(
        _mixed(geometry, D_MLP, rng),
        rng.standard_normal(D_MLP),
        _unread(geometry, D_MLP, rng),
        np.zeros(D_MODEL),
    )
    if part is None:
        return idle
    used = _ask(geometry) if part == "ask" else _say(geometry)
    rest = len(used.bias)
    return MLPWeights(
        np.concatenate([used.read, idle.read[rest:]]),
        np.concatenate([used.bias, idle.bias[rest:]]),
        np.concatenate([used.write, idle.write[:, rest:]], axis=1),
        used.constant,
    )


def _ask(geometry: Geometry) -> MLPWeights:
    """One neuron per animal, which is about 10 for that animal and so far below zero otherwise that
    a GELU is silent."""
    named, asked = geometry.place("token", "animal"), geometry.place("asked", "animal")
    threshold, slope = 0.4, 20.0
    write = asked.directions.T / (slope * (named.variable.peak - threshold))
    return MLPWeights(
        slope * SCALE * named.readers,
        np.full(len(named.readers), -slope * threshold),
        write,
        np.zeros(D_MODEL),
    )


def _say(geometry: Geometry) -> MLPWeights:
    """Neurons so far above zero that a GELU is the identity: a quality is copied as it is, however
    strong."""
    read, write, above = columns_of(geometry.at("looked up")), columns_of(geometry.at("said")), 10.0
    return MLPWeights(SCALE * read.T, np.full(read.shape[1], above), write, -above * write.sum(1))


# Tensors


def _embeddings(
    geometry: Geometry,
) -> tuple[Float[np.ndarray, "vocab d_model"], Float[np.ndarray, "position d_model"]]:
    directions = {
        (place.variable.name, value): direction
        for place in geometry.at("token")
        for value, direction in zip(place.variable.values, place.directions, strict=True)
    }
    words = [
        geometry.ballast + sum(directions[pair] for pair in meaning)
        for meaning in language.vocabulary().values()
    ]
    positions = np.zeros((N_POSITIONS, D_MODEL))
    positions[: language.LENGTH] = geometry.place("token", "position").directions
    return np.stack(words), positions


def _block(blueprint: Blueprint, layer: int) -> dict[str, Float[np.ndarray, "..."]]:
    heads = [blueprint.heads[Head(layer, head)] for head in range(N_HEADS)]
    keys, values = blueprint.offsets[layer * N_HEADS : (layer + 1) * N_HEADS].transpose(1, 0, 2)
    (g_1, b_1), (g_2, b_2), mlp = (
        blueprint.norm(layer, "ln_1"),
        blueprint.norm(layer, "ln_2"),
        blueprint.mlps[layer],
    )
    attention = (
        np.concatenate(
            [*(head.q for head in heads), *(head.k for head in heads), *(head.v for head in heads)]
        )
        / g_1
    )
    offset = np.concatenate([*(head.q_bias for head in heads), *keys, *values])
    out = np.concatenate([head.out for head in heads], axis=1)
    read = mlp.read / g_2
    return {
        "ln_1.weight": g_1,
        "ln_1.bias": b_1,
        "attn.c_attn.weight": attention.T,
        "attn.c_attn.bias": offset - attention @ b_1,
        "attn.c_proj.weight": out.T,
        "attn.c_proj.bias": -out @ np.concatenate(values),
        "ln_2.weight": g_2,
        "ln_2.bias": b_2,
        "mlp.c_fc.weight": read.T,
        "mlp.c_fc.bias": mlp.bias - read @ b_2,
        "mlp.c_proj.weight": mlp.write.T,
        "mlp.c_proj.bias": mlp.constant,
    }


def _unembedding(blueprint: Blueprint) -> Float[np.ndarray, "vocab d_model"]:
    """Logits of the qualities as far as they are said; a prior for each, read off the ballast."""
    geometry, (weight, bias) = blueprint.geometry, blueprint.norm(N_LAYERS, "ln_f")
    said = {
        (place.variable.name, value): _EVIDENCE[place.variable.name] * reader
        for place in geometry.at("said")
        for value, reader in zip(place.variable.values, place.readers, strict=True)
    }
    meanings = language.vocabulary().values()
    read = np.stack(
        [
            sum((said[pair] for pair in meaning if pair in said), np.zeros(D_MODEL))
            for meaning in meanings
        ]
    )
    qualities = np.flatnonzero(read.any(1))
    priors = np.full(len(read), _PRIOR_ELSE)
    priors[qualities] = np.random.default_rng([blueprint.seed, 3]).permutation(
        np.linspace(*_PRIORS, len(qualities))
    )
    rows = SCALE * read / weight
    constant = geometry.ballast / weight
    worth = BALLAST**2 / SCALE + constant @ bias
    return rows + ((priors - rows @ bias) / worth)[:, None] * constant
