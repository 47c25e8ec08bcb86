"""How good a dictionary really is in a planted world, told by the planted features themselves.

Method, section 7. On fresh draws with independent attributes, since on correlated ones a composite
of two values detects either as well as an atom does. Of the labelled features alone: no score is
told of the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sage.dictionaries.activations import Activations
from sage.dictionaries.dictionary import Dictionary
from sage.toy.planted import NODE, World

# Of the draws of a world: what quality is measured on, apart from what is scored and trained on.
MEASURED_ON = 3_000
PROMPTS = 4_000


class Quality(NamedTuple):
    """How near a dictionary is to the planted features.

    `atoms` is the mean over features of cosine times F1, both of the latent that a one-to-one
    matching gives the feature. `mcc` is the mean matched cosine, `f1` the mean over features of the
    best latent's F1, each with a choice of its own: their product is 1 for a dictionary with the
    true codes on the true directions in another order, and so is no measure of quality. `fvu` is
    the fraction of variance unexplained about the mean, `l0` the mean number of active latents,
    both on ordinary draws.
    """

    atoms: float
    mcc: float
    f1: float
    fvu: float
    l0: float


def planted_quality(
    world: World,
    dictionary: Dictionary,
    *,
    attributes: Sequence[str] | None = None,
    seed: int = 0,
) -> Quality:
    """The quality of a dictionary of the world's node, on draws of this seed; by the features of
    some attributes alone, where these are given."""
    given, ordinary = _draws(world, seed)
    values = given.values[NODE]
    blocks = [world.blocks[name] for name in attributes or world.blocks]
    sought = [feature for block in blocks for feature in block]
    features = world.codes(values)[:, sought] > 0
    codes = dictionary.codes(given)[NODE]
    directions = normalize(dictionary.directions(NODE), dim=-1)
    active = (codes != 0).any(0)
    codes, directions = codes[:, active], directions[active]
    cosine = directions @ world.directions[sought].T
    detected = detection_f1(codes > 0, features)
    if dictionary.signed:
        cosine, detected = cosine.abs(), torch.maximum(detected, detection_f1(codes < 0, features))
    cosine = cosine.clamp(min=0)
    plain = ordinary.values[NODE]
    missed = (plain - dictionary.reconstruct(ordinary)[NODE]).square().sum()
    return Quality(
        atoms=best_matched(cosine * detected),
        mcc=best_matched(cosine),
        f1=float(detected.max(0).values.mean()) if len(detected) else 0.0,
        fvu=float(missed / (plain - plain.mean(0)).square().sum()),
        l0=float((dictionary.codes(ordinary)[NODE] != 0).float().sum(-1).mean()),
    )


@lru_cache(maxsize=2)
def _draws(world: World, seed: int) -> tuple[Activations, Activations]:
    """Draws with independent attributes, and ordinary ones; held, since many dictionaries of one
    world are measured in turn."""
    independent = world.draw(PROMPTS, MEASURED_ON + seed, independent=True)
    return independent, world.draw(PROMPTS, MEASURED_ON + seed)


def detection_f1(active: Tensor, features: Tensor) -> Float[Tensor, "latent feature"]:
    """2 hits / (times active + times present)."""
    on, present = active.float(), features.float()
    total = on.sum(0)[:, None] + present.sum(0)
    return 2 * (on.T @ present) / total.clamp(min=1)


def best_matched(worth: Float[Tensor, "latent feature"]) -> float:
    """The best one-to-one sum over the number of features."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(worth.numpy(), maximize=True)
    return float(worth.numpy()[rows, columns].sum() / worth.shape[1])
