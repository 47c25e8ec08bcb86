"""What is true of a wired model: the sections of its contrasts, its features, its dictionary.

All of it is computed from the constants of the constructor, none of it is measured on the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float

from sage.errors import SageError
from sage.models.wired.circuit import CARRIED, N_LAYERS, VARIABLES, Carried, Head, sections
from sage.models.wired.layout import D_MODEL, Subspace
from sage.models.wired.weights import Blueprint, draw
from sage.nodes import RESIDUAL_KINDS, Node

_THRESHOLD = 0.02


@dataclass(frozen=True)
class PlantedSAE:
    """A ReLU SAE with one latent per planted feature: f = relu(x @ W_enc + b_enc), x_hat = f @
    W_dec + b_dec.

    It does not matter whether b_dec is taken from x before: no encoder column reads it. A latent is
    about 1 where its feature is present; what is left out is the little that unused heads and MLPs
    add.
    """

    hook: Node
    meanings: tuple[str, ...]
    W_enc: Float[np.ndarray, "d_model latent"]
    b_enc: Float[np.ndarray, "latent"]
    W_dec: Float[np.ndarray, "latent d_model"]
    b_dec: Float[np.ndarray, "d_model"]


@dataclass(frozen=True)
class Wired:
    """The truth about the wired model of a seed, for the task `wired`.

    `sections[contrast]` are the nodes where it lives. `features[node][attribute, value]` is the
    planted feature there, [d]: the direction W~ d of the residual feature that the node reads, for
    the attributes that it carries; its length says nothing. They sum to zero over the values of an
    attribute; a fit's features do so over its prompts, which alone turns them by a cosine of about
    .998 with 2,000 prompts and of .9994 with 8,000. `heads` and `mlps` name the parts of the
    circuit, `unused` the heads without one.
    """

    seed: int
    heads: Mapping[str, Head]
    mlps: Mapping[str, int]
    unused: tuple[Head, ...]
    sections: Mapping[str, frozenset[Node]]
    features: Mapping[Node, Mapping[tuple[str, str], Float[np.ndarray, "d"]]]
    blueprint: Blueprint

    def planted_sae(self, hook: Node) -> PlantedSAE:
        """The planted dictionary of a residual stream (`3.resid_pre`), with a latent for each
        feature that can be present there."""
        subspaces = self.subspaces(hook)
        peaks = np.concatenate(
            [np.full(len(subspace.directions), subspace.variable.peak) for subspace in subspaces]
        )
        readers = np.concatenate([subspace.readers for subspace in subspaces])
        encoder = readers / (peaks * (1 - _THRESHOLD))[:, None]
        bias = np.full(len(encoder), -_THRESHOLD / (1 - _THRESHOLD))
        decoder = np.concatenate([subspace.directions for subspace in subspaces])
        meanings = tuple(chain.from_iterable(subspace.meanings for subspace in subspaces))
        arrays = (
            np.ascontiguousarray(array, dtype=np.float32)
            for array in (encoder.T, bias, decoder, self.blueprint.layout.ballast)
        )
        return PlantedSAE(hook, meanings, *arrays)

    def subspaces(self, hook: Node) -> tuple[Subspace, ...]:
        """What the residual stream can hold at a hook: what the parts below it have written, and
        the embeddings."""
        if hook.kind not in RESIDUAL_KINDS or not 0 <= hook.layer < N_LAYERS:
            raise SageError(
                f"The wired model has no residual stream at {hook}. "
                f"Hooks: {', '.join(RESIDUAL_KINDS)} of layers 0 to {N_LAYERS - 1}."
            )
        site = 2 * hook.layer + RESIDUAL_KINDS.index(hook.kind)
        return tuple(
            subspace
            for subspace in self.blueprint.layout.subspaces
            if self.blueprint.placement.written(subspace.stage) <= site
        )


def truth(seed: int) -> Wired:
    """The truth about the wired model of that seed."""
    blueprint = draw(seed)
    placement = blueprint.placement
    features = {placement.node(carried): _features(carried, blueprint) for carried in CARRIED}
    return Wired(
        seed,
        heads=placement.heads,
        mlps=placement.mlps,
        unused=placement.unused,
        sections=sections(placement),
        features=features,
        blueprint=blueprint,
    )


def _features(
    carried: Carried, blueprint: Blueprint
) -> dict[tuple[str, str], Float[np.ndarray, "d"]]:
    """The planted features at the node, by attribute and value."""
    reading = _reading(carried, blueprint)
    features: dict[tuple[str, str], Float[np.ndarray, "d"]] = {}
    for attribute in carried.attributes:
        for subspace in blueprint.layout.at(carried.stage, *VARIABLES[attribute]):
            for value, direction in zip(subspace.variable.values, subspace.directions, strict=True):
                features[attribute, value] = reading @ direction
    return features


def _reading(carried: Carried, blueprint: Blueprint) -> Float[np.ndarray, "d d_model"]:
    """W~ of the node: what its head reads (at z what it reads as v), or the weights of the norm
    before an MLP."""
    if carried.part in blueprint.placement.mlps:
        weight, _ = blueprint.norm(blueprint.placement.mlps[carried.part], "ln_2")
        return np.diag(weight) @ (np.eye(D_MODEL) - 1 / D_MODEL)
    head = blueprint.heads[blueprint.placement.heads[carried.part]]
    return {"q": head.q, "k": head.k, "v": head.v, "z": head.v}[carried.kind]
