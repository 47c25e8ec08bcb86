"""T4, geometry: do a dictionary's directions point where the supervised features point?

The mean maximum cosine similarity (MCC) of features and latents matched one to one (Hungarian),
against the same number of random residual directions pushed through the same weights (method,
section 5, T4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Dictionary
from sage.dictionaries.projected import ProjectedSuite, project_direction
from sage.dictionaries.supervised import FeatureDictionary
from sage.models.anatomy import Anatomy
from sage.nodes import Node, Section
from sage.stats import DRAWS, Sampled, combine

MIN_ACTIVE = 0.01
NULL_DRAWS = 20
SUBSPACE_VARIANCE = 0.9


@dataclass(frozen=True, eq=False)
class Targets:
    """The supervised features to be found at a node: their names, their directions, and on what
    share of `fit` each is active.

    `nulls` keeps the null of each (number of latents, signed, seed) that was asked for:
    dictionaries of one width share it.
    """

    names: tuple[str, ...]
    directions: Float[Tensor, "feature d"]
    share: Float[Tensor, "feature"]
    nulls: dict[tuple[int, bool, int], np.ndarray] = field(
        default_factory=dict[tuple[int, bool, int], np.ndarray], repr=False
    )


class NodeGeometry(NamedTuple):
    """One node: the `latents` that took part, their cosines with the features, and what follows
    from them.

    `null` has the MCC of each draw of random directions; `angles` are principal angles in radians,
    none where the features fill the space.
    """

    features: tuple[str, ...]
    latents: Int[Tensor, "latent"]
    cosines: Float[Tensor, "latent feature"]
    mcc: float
    null: Float[np.ndarray, "draw"]
    uniqueness: float
    angles: tuple[float, ...]


class Geometry(NamedTuple):
    """T4 of one dictionary: the mean over nodes, weighted by their statistic. `mcc` and `null` are
    raw.

    `angle` is the mean principal angle, None where no node has any; `n` prompts of `fit` say which
    latents are active.
    """

    score: Sampled
    mcc: float
    null: Sampled
    uniqueness: float
    angle: float | None
    n: int
    nodes: Mapping[Node, NodeGeometry]


def targets(
    supervised: FeatureDictionary, fit: Activations, *, attributes: Collection[str]
) -> dict[Node, Targets]:
    """The features of the attributes at each node that carries them, of the fit without coupling;
    other nodes are left out."""
    found: dict[Node, Targets] = {}
    for node in fit.nodes:
        own = supervised.additive(node)
        present = [
            column.name in attributes and supervised.carries(node, column.name)
            for column in own.columns
            for _ in column.keys
        ]
        kept = torch.tensor(present, device=own.features.device) & (own.features.norm(dim=-1) > 0)
        if kept.any():
            names = tuple(
                name for name, there in zip(own.names, kept.tolist(), strict=True) if there
            )
            found[node] = Targets(names, own.features[kept], own.shares[kept])
    return found


def score_geometry(
    dictionary: Dictionary,
    wanted: Mapping[Node, Targets],
    active: Mapping[Node, Float[Tensor, "latent"]],
    *,
    fit: Activations,
    section: Section,
    min_active: float = MIN_ACTIVE,
    seed: int = 0,
) -> Geometry:
    """Match a dictionary's directions with the supervised features at every node that has any.

    `active` is the share of `fit` on which each latent is active. Those take part that reach 1 %,
    or the share of the rarest feature, and are not zero at the node. The interval is that of the
    null's 20 draws: nothing else here is random once `fit` is given.
    """
    found: dict[Node, NodeGeometry] = {}
    for node, target in wanted.items():
        taking_part = active[node] >= min(min_active, float(target.share.min()))
        found[node] = _node_geometry(dictionary, node, taking_part, target, fit.anatomy, seed)
    return together(found, section=section, n=len(fit), seed=seed)


def together(
    nodes: Mapping[Node, NodeGeometry], *, section: Section, n: int, seed: int = 0
) -> Geometry:
    """T4 of a node set from what its nodes came to: the mean, weighted by their statistic."""
    weights = np.array([section.statistic[node] for node in nodes])
    weights = weights / weights.sum()
    every = list(nodes.values())
    mcc = float(weights @ [found.mcc for found in every])
    nulls = weights @ np.stack([found.null for found in every])
    angled = [
        (weight, np.mean(found.angles))
        for weight, found in zip(weights, every, strict=True)
        if found.angles
    ]
    null = _null_mean(nulls, n, seed)
    return Geometry(
        score=combine(
            lambda chance: (mcc - chance) / np.maximum(1 - chance, np.finfo(float).eps), null
        ),
        mcc=mcc,
        null=null,
        uniqueness=float(weights @ [found.uniqueness for found in every]),
        angle=float(
            np.average([angle for _, angle in angled], weights=[weight for weight, _ in angled])
        )
        if angled
        else None,
        n=n,
        nodes=nodes,
    )


class Beside(NamedTuple):
    """What stands beside the cosines of a node's latents: those of their encoders, and that of the
    SAE's decoder bias."""

    encoder: Float[Tensor, "latent feature"]
    bias: Float[Tensor, "feature"]


def encoder_cosines(
    judged: ProjectedSuite, node: Node, found: NodeGeometry, target: Targets
) -> Beside:
    """Encoder directions and decoder bias seen through the same weights as the latents that took
    part."""
    sae = judged.suite.saes[judged.anatomy.source(node)]
    rows = torch.cat(
        [sae.encoder.tensors()["W_enc"].T[found.latents.to(sae.b_dec.device)], sae.b_dec[None]]
    )
    both = cosines(project_direction(judged.anatomy, node, rows.float()), target.directions).cpu()
    return Beside(both[:-1], both[-1])


def cosines(
    directions: Float[Tensor, "latent d"],
    features: Float[Tensor, "feature d"],
    *,
    signed: bool = True,
) -> Float[Tensor, "latent feature"]:
    """Cosines of every latent with every feature; absolute ones where the sign is free."""
    found = (
        torch.nn.functional.normalize(directions, dim=-1)
        @ torch.nn.functional.normalize(features, dim=-1).T
    )
    return found if signed else found.abs()


def matched(cosine: Float[Tensor, "latent feature"]) -> float:
    """MCC: the sum of one-to-one matched cosines over the number of features; a feature without a
    latent counts 0."""
    rows, columns = _matching(cosine)
    return float(cosine.cpu().numpy()[rows, columns].sum() / cosine.shape[1])


def _matching(
    cosine: Float[Tensor, "latent feature"],
) -> tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "pair"]]:
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(cosine.cpu().numpy(), maximize=True)


def _null_mean(nulls: Float[np.ndarray, "draw"], n: int, seed: int) -> Sampled:
    """The mean of the null's draws, resampled."""
    picks = np.random.default_rng(seed).integers(len(nulls), size=(DRAWS, len(nulls)))
    return Sampled(float(nulls.mean()), nulls[picks].mean(-1), n)


def _node_geometry(
    dictionary: Dictionary,
    node: Node,
    taking_part: Bool[Tensor, "latent"],
    target: Targets,
    anatomy: Anatomy,
    seed: int,
) -> NodeGeometry:
    directions = dictionary.directions(node).to(target.directions)
    latents = (
        (taking_part.to(directions.device) & (directions.norm(dim=-1) > 0)).nonzero().flatten()
    )
    cosine = cosines(directions[latents], target.directions, signed=dictionary.signed)
    if not len(latents):
        return NodeGeometry(
            target.names, latents.cpu(), cosine.cpu(), 0.0, np.zeros(NULL_DRAWS), 0.0, ()
        )
    return NodeGeometry(
        features=target.names,
        latents=latents.cpu(),
        cosines=cosine.cpu(),
        mcc=matched(cosine),
        null=_null(node, len(latents), target, anatomy, signed=dictionary.signed, seed=seed),
        uniqueness=len(set(cosine.argmax(0).tolist())) / len(target.names),
        angles=_angles(directions[latents], target, cosine),
    )


def _null(
    node: Node, count: int, target: Targets, anatomy: Anatomy, *, signed: bool, seed: int
) -> Float[np.ndarray, "draw"]:
    """MCC of as many random residual directions seen through the same weights, from a seed of their
    own; 20 draws."""
    if (count, signed, seed) in target.nulls:
        return target.nulls[count, signed, seed]
    found: list[float] = []
    for draw in range(NULL_DRAWS):
        digest = hashlib.sha256(f"sage geometry null/{seed}/{draw}/{node}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        random = torch.randn(count, anatomy.d_model, generator=generator).to(target.directions)
        found.append(
            matched(
                cosines(project_direction(anatomy, node, random), target.directions, signed=signed)
            )
        )
    target.nulls[count, signed, seed] = np.array(found)
    return target.nulls[count, signed, seed]


def _angles(
    directions: Float[Tensor, "latent d"], target: Targets, cosine: Float[Tensor, "latent feature"]
) -> tuple[float, ...]:
    """Principal angles, in radians, of the leading feature directions, 90 % of the features'
    variance, with as many matched latents.

    None where the features fill more than a quarter of the space, or fewer latents are matched.
    """
    from scipy.linalg import subspace_angles

    weighted = target.directions * target.share[:, None].sqrt()
    _, spread, basis = torch.linalg.svd(weighted.double().cpu(), full_matrices=False)
    share = spread.square().cumsum(0) / spread.square().sum()
    rank = int((share < SUBSPACE_VARIANCE).sum()) + 1
    rows, columns = _matching(cosine)
    if rank > target.directions.shape[1] / 4 or len(rows) < rank:
        return ()
    best = sorted(
        zip(rows.tolist(), columns.tolist(), strict=True), key=lambda pair: -float(cosine[pair])
    )[:rank]
    chosen = directions[[row for row, _ in best]].double().cpu()
    return tuple(
        float(angle) for angle in subspace_angles(basis[:rank].T.numpy(), chosen.T.numpy())
    )
