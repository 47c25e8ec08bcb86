"""What latents point at: an atom, a composite, or neither; cosines with the planted features.

A latent is told by the nearest of all atoms and composites. Of several attributes a composite has
one value each, so that its direction is the sum of these atoms; the nearest one takes the values of
largest cosine, and as many attributes as bring it nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from sage.toy.planted import World

ATOMIC, COMPOSITE, MIXED, DEAD = "atomic", "composite", "mixed", "dead"
KINDS = (ATOMIC, COMPOSITE, MIXED, DEAD)
BIAS = "bias only"

# Below this cosine with the nearest atom or composite a latent is mixed. One of n values of every
# attribute is always active, so a bias may hold the mean of an attribute's atoms, which its latents
# then lack: that alone leaves a cosine of sqrt(1 - 1/n), .816 of three values.
NEAR = 0.8


class Latent(NamedTuple):
    """One latent: its number, kind and nearest atom or composite, their cosine, on which share of
    activations it is active, and mean and standard deviation of its cosines with all atoms."""

    number: int
    kind: str
    nearest: str
    cosine: float
    active: float
    mean: float
    sd: float


@dataclass(frozen=True, eq=False)
class LatentTable:
    """Every latent of an SAE in the order of its kind and of what it is near to; `cosines` has a
    row for each in this order, `bias` is that of the decoder bias."""

    features: tuple[str, ...]
    latents: tuple[Latent, ...]
    cosines: Float[np.ndarray, "latent feature"]
    bias: Float[np.ndarray, " feature"]

    def count(self, kind: str) -> int:
        """How many latents are of a kind."""
        return sum(latent.kind == kind for latent in self.latents)

    def share(self, kind: str) -> float:
        """The share of a kind among the latents that are ever active; NaN where none is."""
        alive = len(self.latents) - self.count(DEAD)
        return self.count(kind) / alive if alive else float("nan")

    def rows(self) -> list[dict[str, object]]:
        """The heat map as rows of data: what is said of a latent, its cosines; the bias last."""
        rows: list[dict[str, object]] = []
        for latent, cosines in zip(self.latents, self.cosines, strict=True):
            rows.append({**latent._asdict(), **self._columns(cosines)})
        said = dict.fromkeys(Latent._fields)
        told = {"kind": BIAS, "mean": float(self.bias.mean()), "sd": float(self.bias.std())}
        return [*rows, {**said, **told, **self._columns(self.bias)}]

    def _columns(self, cosines: Float[np.ndarray, " feature"]) -> dict[str, float]:
        return dict(zip(self.features, map(float, cosines), strict=True))


class _Nearest(NamedTuple):
    """For every latent the cosine of the nearest atom or composite, and the atoms in it."""

    cosine: Float[Tensor, " latent"]
    atoms: list[list[int]]


def describe_latents(
    world: World,
    directions: Float[Tensor, "latent d"],
    bias: Float[Tensor, " d"],
    active: Bool[Tensor, "prompt latent"],
) -> LatentTable:
    """Every latent by what its direction is near to; one that is never active is dead."""
    features = world.directions[: world.features]
    names = [
        f"{name}={value}" for name, block in world.blocks.items() for value in range(len(block))
    ]
    cosines = normalize(directions, dim=-1) @ features.T
    nearest = _nearest(world, cosines)
    share = active.float().mean(0)
    latents = [
        Latent(
            number,
            _kind(float(cosine), len(atoms), alive=bool(share[number] > 0)),
            " + ".join(names[atom] for atom in atoms),
            float(cosine),
            float(share[number]),
            float(cosines[number].mean()),
            float(cosines[number].std(correction=0)),
        )
        for number, (cosine, atoms) in enumerate(zip(nearest.cosine, nearest.atoms, strict=True))
    ]
    order = sorted(latents, key=lambda latent: _place(latent, nearest.atoms[latent.number]))
    rows = cosines[[latent.number for latent in order]]
    of_bias = normalize(bias, dim=0) @ features.T
    return LatentTable(tuple(names), tuple(order), rows.numpy(), of_bias.numpy())


def _nearest(world: World, cosines: Float[Tensor, "latent feature"]) -> _Nearest:
    """The cosine with m orthogonal atoms is the sum of cosines over sqrt(m); the largest first."""
    blocks = [cosines[:, block.start : block.stop].max(-1) for block in world.blocks.values()]
    largest = torch.stack([block.values for block in blocks], -1).sort(-1, descending=True)
    starts = torch.tensor([block.start for block in world.blocks.values()])
    values = torch.stack([block.indices for block in blocks], -1) + starts
    counts = torch.arange(1, len(blocks) + 1)
    best = (largest.values.cumsum(-1) / counts.sqrt()).max(-1)
    in_order = values.gather(-1, largest.indices).tolist()
    sizes = (best.indices + 1).tolist()
    atoms = [sorted(islice(row, size)) for row, size in zip(in_order, sizes, strict=True)]
    return _Nearest(best.values, atoms)


def _kind(cosine: float, atoms: int, *, alive: bool) -> str:
    if not alive:
        return DEAD
    if cosine < NEAR:
        return MIXED
    return ATOMIC if atoms == 1 else COMPOSITE


def _place(latent: Latent, atoms: list[int]) -> tuple[int, list[int], int]:
    return KINDS.index(latent.kind), atoms, latent.number
