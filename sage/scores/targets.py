"""Targets of geometry: the supervised features to be found, and those of shuffled labels.

Method, section 5.8. Features are centred per attribute and latents are not, so that even an exact
orthonormal dictionary attains a cosine below 1 with them; `attainable` says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.design import Column, unnest
from sage.dictionaries.supervised import FeatureDictionary, NodeFeatures
from sage.nodes import Node
from sage.scores.node_set import Contender, NodeSet

SHUFFLES = 20


class Targets(NamedTuple):
    """The supervised features to be found at a node.

    `share` is that of `fit` on which each is active, `attainable` the cosine that an exact
    orthonormal dictionary attains with each, `shuffled` the directions of the same features fitted
    to shuffled labels.
    """

    names: tuple[str, ...]
    directions: Float[Tensor, "feature d"]
    share: Float[Tensor, "feature"]
    attainable: Float[Tensor, "feature"]
    shuffled: Float[Tensor, "shuffle feature d"]


def targets_at(node_set: NodeSet) -> dict[Node, Targets]:
    """The supervised features that T4 is about at a node set."""
    if "targets" not in node_set.memo:
        data = node_set.data
        node_set.memo["targets"] = find_targets(
            data.supervised, node_set.fit, attributes=data.changed, seed=node_set.settings.seed
        )
    return node_set.memo["targets"]


def targets_of(node_set: NodeSet, contender: Contender) -> dict[Node, Targets]:
    """The features that a contender is held against: those fitted to the labels it was told."""
    targets = targets_at(node_set)
    if contender.features is node_set.data.supervised:
        return targets
    return find_targets(
        contender.features,
        contender.fit,
        attributes=node_set.data.changed,
        among=targets,
        seed=node_set.settings.seed,
    )


def find_targets(
    supervised: FeatureDictionary,
    fit: Activations,
    *,
    attributes: Collection[str],
    among: Mapping[Node, Targets] | None = None,
    seed: int,
) -> dict[Node, Targets]:
    """The features of the attributes at each node that carries them, of the fit without coupling;
    other nodes are left out. With `among` the same nodes and features as there, refitted."""
    orders = [_shuffle(len(fit), seed, number) for number in range(SHUFFLES)]
    targets: dict[Node, Targets] = {}
    for node in fit.nodes:
        features = supervised.fits[node].additive
        names = features.names
        if among is None:
            carried = [
                column.name in attributes and supervised.carries(node, column.name)
                for column in features.columns
                for _ in column.keys
            ]
            kept = torch.tensor(carried, device=features.features.device)
        else:
            wanted = among[node].names if node in among else ()
            kept = torch.tensor([name in wanted for name in names], device=features.features.device)
        kept &= features.features.norm(dim=-1) > 0
        if kept.any():
            targets[node] = Targets(
                tuple(name for name, keep in zip(names, kept.tolist(), strict=True) if keep),
                features.features[kept],
                features.shares[kept],
                attainable_cosines(features)[kept],
                _shuffled_directions(features, fit, node, orders)[:, kept],
            )
    return targets


def attainable_cosines(features: NodeFeatures) -> Float[Tensor, "feature"]:
    """The cosine of every feature with the latent of its value in an exact orthonormal dictionary:
    (1 - p)/sqrt((1 - p)^2 + sum of the other values' p^2), p within the coarser value where the
    attribute is nested."""
    cosines: list[float] = []
    shares = features.shares.tolist()
    start = 0
    for column in features.columns:
        cosines += _attained(column, shares[start : start + len(column.keys)])
        start += len(column.keys)
    return torch.tensor(cosines, device=features.features.device)


def _attained(column: Column, shares: Sequence[float]) -> list[float]:
    """The same for one column; `coarse` is what each value is nested in."""
    coarse = [key[:-1] for key in column.keys]
    total = dict.fromkeys(coarse, 0.0)
    for key, share in zip(coarse, shares, strict=True):
        total[key] += share
    p = [share / (total[key] or 1.0) for key, share in zip(coarse, shares, strict=True)]
    attained: list[float] = []
    for number, key in enumerate(coarse):
        others = sum(p[n] ** 2 for n, other in enumerate(coarse) if other == key and n != number)
        rest = 1 - p[number]
        length = (rest**2 + others) ** 0.5
        attained.append(rest / length if length else 1.0)
    return attained


def _shuffle(count: int, seed: int, number: int) -> Int[Tensor, "prompt"]:
    """An order of the prompts' labels, from a stream that no training uses."""
    digest = hashlib.sha256(f"sage shuffled labels/{seed}/{number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.randperm(count, generator=generator)


def _shuffled_directions(
    features: NodeFeatures, fit: Activations, node: Node, orders: Sequence[Int[Tensor, "prompt"]]
) -> Float[Tensor, "shuffle feature d"]:
    """The features' directions when each prompt's labels are another's. The design stays what it is
    up to the order of its rows, so that only the activations are dealt out anew."""
    values = fit.values[node].double().cpu()
    centred = values - values.mean(0)
    design = features.design
    # Taking nested attributes apart is linear in the features: one matrix serves every shuffle.
    eye = torch.eye(design.size, dtype=torch.float64)
    apart = unnest(design.columns, eye, fit.prompt_labels)[1]
    directions = [apart @ design.solver(centred[order])[: design.size] for order in orders]
    return torch.stack(directions).to(features.features)
