"""The panel: dictionaries built from a planted world's true features, each worse in a known way.

Method, section 7. What should be ranked above what is data: a *chain* begins with the truth and
gets worse from one entry to the next; entries without a chain are controls, below the truth and all
that is near it. A score that orders the panel wrongly does not measure what it claims to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import cos, prod, radians, sin
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sage.dictionaries.controls.axes import LargestCoordinates, principal_axes
from sage.dictionaries.controls.lookup import TOKENS_PER_CENTRE, NearestCentre, k_means
from sage.dictionaries.controls.setting import generator, unit_vectors
from sage.dictionaries.native import Encode, NativeDictionary
from sage.saes.architectures.topk import TopK
from sage.toy.planted import NODE, World

TRUTH = "truth"

# Of the draws of a world: what controls are fitted on, apart from what dictionaries are scored on.
FITTED_ON = 1_000
TOKENS = 8192


class Made(NamedTuple):
    """A dictionary at the node of a world: a_hat = bias + encode(a) @ directions."""

    encode: Encode
    directions: Float[Tensor, "latent d"]
    bias: Float[Tensor, "d"] | None = None
    signed: bool = False


class Built(NamedTuple):
    """One entry of the panel: how it is made in a world, and the chain it belongs to."""

    name: str
    make: Callable[[World], Made]
    chain: str | None = None

    def on(self, world: World) -> NativeDictionary:
        """The dictionary in this world."""
        made = self.make(world)
        biases = {} if made.bias is None else {NODE: made.bias}
        return NativeDictionary(
            self.name, {NODE: made.encode}, {NODE: made.directions}, biases, made.signed
        )


def truth(world: World) -> Made:
    """The true features and their codes."""
    return Made(world.codes, world.directions)


def rotated(world: World, *, degrees: float) -> Made:
    """The true codes; every direction turned by an angle, each towards a random one of its own."""
    return Made(world.codes, turned(world.directions, degrees, _random(world, "rotated")))


def turned(
    directions: Float[Tensor, "latent d"], degrees: float, random: torch.Generator
) -> Float[Tensor, "latent d"]:
    """Directions turned by an angle, each towards a random one of its own."""
    towards = torch.randn(directions.shape, generator=random)
    unit = normalize(directions, dim=-1)
    across = normalize(towards - (towards * unit).sum(-1, keepdim=True) * unit, dim=-1)
    angle = radians(degrees)
    return cos(angle) * directions + sin(angle) * across


def merged(world: World, *, count: int) -> Made:
    """One latent for every combination of values of so many attributes, A1 and A2, A3 and A4, ...:
    it reconstructs all but differences in strength, and nothing in it is atomic."""
    blocks = list(world.blocks.values())
    groups = [blocks[first : first + count] for first in range(0, len(blocks), count)]
    combinations = [torch.cartesian_prod(*map(torch.tensor, group)) for group in groups]
    directions = [world.directions[features].sum(1) for features in combinations]
    background = world.directions[world.features :]

    def encode(values: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt latent"]:
        codes = world.codes(values)
        parts = [_combined(codes, group) for group in groups]
        return torch.cat([*parts, codes[:, world.features :]], -1)

    return Made(encode, torch.cat([*directions, background]))


def split(world: World, *, parts: int) -> Made:
    """Every feature dealt to so many latents, by the prompt's other features: each of them fires on
    an equal share of its prompts."""

    def encode(values: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt latent"]:
        codes = world.codes(values)
        part = (_context(world, codes) * parts).long()
        dealt = part[..., None] == torch.arange(parts)
        return (codes[..., None] * dealt).flatten(1)

    return Made(encode, world.directions.repeat_interleave(parts, 0))


def dropped(world: World, *, share: float) -> Made:
    """The truth without this share of the attributes' features, drawn at random."""
    order = torch.randperm(world.features, generator=_random(world, "dropped"))
    kept = order[round(share * world.features) :]
    kept = torch.cat([kept, torch.arange(world.features, len(world.directions))]).sort().values
    return Made(lambda values: world.codes(values)[:, kept], world.directions[kept])


def misses(world: World, *, share: float) -> Made:
    """The truth, but every latent is silent on this share of its prompts, told by their other
    features."""

    def encode(values: Float[Tensor, "prompt d"]) -> Float[Tensor, "prompt latent"]:
        codes = world.codes(values)
        return codes * (_context(world, codes) >= share)

    return Made(encode, world.directions)


def duplicates(world: World, *, copies: int) -> Made:
    """So many copies of every feature, which share its code equally."""
    return Made(
        lambda values: world.codes(values).repeat_interleave(copies, -1) / copies,
        world.directions.repeat_interleave(copies, 0),
    )


def dead(world: World) -> Made:
    """The truth, and beside it as many latents that are never active."""
    never = _unit(world, len(world.directions), "dead")
    return Made(
        lambda values: torch.nn.functional.pad(world.codes(values), (0, len(never))),
        torch.cat([world.directions, never]),
    )


def random_directions(world: World) -> Made:
    """The true codes on random directions."""
    return Made(world.codes, _unit(world, len(world.directions), "random"))


def permuted(world: World) -> Made:
    """The true codes, each on the direction of another feature."""
    order = torch.randperm(len(world.directions), generator=_random(world, "permuted"))
    directions = torch.empty_like(world.directions)
    directions[order] = world.directions[order.roll(1)]
    return Made(world.codes, directions)


def principal(world: World) -> Made:
    """The principal axes, as many of the largest coordinates as features are active."""
    tokens = world.activations(TOKENS, FITTED_ON)
    mean, axes = tokens.mean(0), principal_axes(tokens)
    encoder = LargestCoordinates(axes.T, round(world.true_l0))
    return Made(lambda values: encoder.encode(values - mean), axes, mean, signed=True)


def untrained(world: World) -> Made:
    """Twice as many random directions as features, of whose products with the activation as many
    of the largest are kept as features are active."""
    mean = world.activations(TOKENS, FITTED_ON).mean(0)
    directions = _unit(world, 2 * len(world.directions), "untrained")
    zeros = torch.zeros(len(directions))
    encoder = TopK(directions.T, zeros, zeros + 1, round(world.true_l0))
    return Made(lambda values: encoder.encode(values - mean), directions, mean)


def lookup(world: World, *, centres: int) -> Made:
    """The nearest of so many k-means centres: a memory, not a decomposition."""
    tokens = world.activations(max(TOKENS, TOKENS_PER_CENTRE * centres), FITTED_ON)
    mean = tokens.mean(0)
    stream = f"planted/{world.name}/{world.seed}/lookup"
    table = NearestCentre(k_means(tokens - mean, centres=centres, stream=stream))
    return Made(lambda values: table.encode(values - mean), table.centres, mean)


PANEL = (
    Built(TRUTH, truth),
    *(
        Built(f"rotated {n:.0f}", partial(rotated, degrees=n), "rotated")
        for n in (15.0, 30.0, 45.0, 60.0)
    ),
    Built("merged pairs", partial(merged, count=2), "merged"),
    Built("merged quads", partial(merged, count=4), "merged"),
    *(Built(f"split x{n}", partial(split, parts=n), "split") for n in (2, 4, 8)),
    *(Built(f"dropped {p}", partial(dropped, share=p), "dropped") for p in (0.25, 0.5, 0.75)),
    *(Built(f"misses {p}", partial(misses, share=p), "misses") for p in (0.1, 0.3)),
    *(Built(f"duplicates x{n}", partial(duplicates, copies=n), "duplicates") for n in (2, 4)),
    Built("dead", dead, "dead"),
    Built("random", random_directions),
    Built("permuted", permuted),
    Built("PCA", principal),
    Built("untrained", untrained),
    *(Built(f"lookup {n}", partial(lookup, centres=n)) for n in (128, 512, 2048)),
)

CHAINS = {
    chain: (TRUTH, *(entry.name for entry in PANEL if entry.chain == chain))
    for chain in dict.fromkeys(entry.chain for entry in PANEL if entry.chain)
}

CONTROLS = tuple(entry.name for entry in PANEL if entry.chain is None and entry.name != TRUTH)


def _combined(
    codes: Float[Tensor, "prompt feature"], group: Sequence[range]
) -> Float[Tensor, "prompt combination"]:
    """The mean code of the values of some attributes, at their combination; 0 where one has no
    value."""
    number = torch.zeros(len(codes), dtype=torch.long)
    strength: list[Tensor] = []
    for block in group:
        code, value = codes[:, block.start : block.stop].max(-1)
        number = number * len(block) + value
        strength.append(code)
    levels = torch.stack(strength, -1)
    code = levels.mean(-1) * (levels > 0).all(-1)
    combined = codes.new_zeros(len(codes), prod(map(len, group)))
    return combined.scatter(1, number[:, None], code[:, None])


def _context(
    world: World, codes: Float[Tensor, "prompt feature"]
) -> Float[Tensor, "prompt feature"]:
    """A number in [0, 1) made from all active features but those of each feature's own attribute:
    the sum of a random phase of each. It is nearly independent of any one attribute."""
    phases = torch.rand(codes.shape[1], generator=_random(world, "phases"))
    active = (codes > 0) * phases
    attribute = torch.arange(codes.shape[1])
    for block in world.blocks.values():
        attribute[block.start : block.stop] = block.start
    others = (attribute[:, None] != attribute).float()
    return (active @ others) % 1


def _random(world: World, name: str) -> torch.Generator:
    return generator(f"planted/{world.name}/{world.seed}/{name}")


def _unit(world: World, count: int, name: str) -> Float[Tensor, "vector d"]:
    return unit_vectors(count, world.d, f"planted/{world.name}/{world.seed}/{name}")
