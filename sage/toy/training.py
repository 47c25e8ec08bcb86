"""Small sparse autoencoders trained in a planted world, each in a few seconds.

Method, sections 6 and 7: topk and relu, and with them the frozen ones of "Sanity Checks for Sparse
Autoencoders" (arXiv 2602.14111), whose decoder or encoder no gradient has touched, or whose decoder
may not leave its initialisation by more than arccos .8 (*soft-frozen*).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sage.dictionaries.controls.setting import generator
from sage.dictionaries.native import NativeDictionary
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.toy.planted import NODE, World

Frozen = Literal["", "decoder", "encoder", "soft decoder"]

# Of the draws of a world: what is trained on, apart from what is scored on.
TRAINED_ON = 2_000
TOKENS = 2**15
# The least cosine of a soft-frozen decoder row with its initialisation.
SOFT = 0.8


@dataclass(frozen=True)
class ToyRecipe:
    """How to train `expansion` times as many latents as the world has features: topk where `k` is
    given, else relu with an L1 `penalty`. The learning rate falls to 0 over the last third of the
    steps."""

    k: int | None = None
    penalty: float = 0.0
    expansion: int = 2
    frozen: Frozen = ""
    steps: int = 1500
    batch: int = 256
    learning_rate: float = 3e-3
    seed: int = 0

    @property
    def name(self) -> str:
        """`topk 8`, `relu 0.1, x4 wide, soft decoder frozen, seed 1`."""
        kind = f"relu {self.penalty:g}" if self.k is None else f"topk {self.k}"
        wide = f", x{self.expansion} wide" if self.expansion != ToyRecipe.expansion else ""
        frozen = f", {self.frozen} frozen" if self.frozen else ""
        seed = f", seed {self.seed}" if self.seed else ""
        return f"{kind}{wide}{frozen}{seed}"


@dataclass(frozen=True, eq=False)
class ToySAE:
    """A sparse autoencoder of a world's node: encode(a - b_dec) @ W_dec + b_dec."""

    name: str
    encoder: TopK | ReLU
    W_dec: Float[Tensor, "latent d"]
    b_dec: Float[Tensor, "d"]

    @property
    def dictionary(self) -> NativeDictionary:
        """It as a dictionary, to be scored."""
        encoder, bias = self.encoder, self.b_dec
        return NativeDictionary(
            self.name,
            {NODE: lambda values: encoder.encode(values - bias)},
            {NODE: self.W_dec},
            {NODE: bias},
        )


def train(world: World, recipe: ToyRecipe) -> NativeDictionary:
    """An SAE trained on draws of the world: unit decoder rows, an encoder that starts as their
    transpose, and the mean activation as the first decoder bias, which is subtracted before
    encoding."""
    return snapshots(world, recipe, at=(recipe.steps,))[0].dictionary


def snapshots(world: World, recipe: ToyRecipe, *, at: Sequence[int]) -> list[ToySAE]:
    """The same SAE after each of these numbers of steps, in ascending order; the schedule is that
    of all of the recipe's steps. All bear the recipe's name."""
    random = generator(f"planted/{world.name}/{world.seed}/training/{recipe.seed}")
    width = recipe.expansion * len(world.directions)
    tokens = world.activations(TOKENS, TRAINED_ON)
    start = normalize(torch.randn(width, world.d, generator=random), dim=-1)
    if recipe.frozen == "decoder":
        start = _with_covariance_of(tokens, width, random)
    W_dec, W_enc = start.clone(), start.T.clone()
    b_enc, b_dec = torch.zeros(width), tokens.mean(0)
    trained = [b_enc, b_dec]
    trained += [W_dec] if recipe.frozen != "decoder" else []
    trained += [W_enc] if recipe.frozen != "encoder" else []
    for weight in trained:
        weight.requires_grad_()
    optimiser = torch.optim.Adam(trained, lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, recipe.steps))
    taken: list[ToySAE] = []
    for step in range(max(at) + 1):
        if step in at:
            W, b, c, D = (w.detach().clone() for w in (W_enc, b_enc, b_dec, W_dec))
            taken.append(ToySAE(recipe.name, _encoder(recipe, W, b), D, c))
        if step == max(at):
            break
        batch = tokens[torch.randint(TOKENS, (recipe.batch,), generator=random)]
        codes = _encoder(recipe, W_enc, b_enc).encode(batch - b_dec)
        missed = (codes @ W_dec + b_dec - batch).square().sum(-1).mean()
        loss = missed + recipe.penalty * codes.sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            W_dec.copy_(_held(normalize(W_dec, dim=-1), start, recipe.frozen))
    return taken


def _encoder(
    recipe: ToyRecipe, W_enc: Float[Tensor, "d latent"], b_enc: Float[Tensor, "latent"]
) -> TopK | ReLU:
    if recipe.k is None:
        return ReLU(W_enc, b_enc)
    return TopK(W_enc, b_enc, torch.ones_like(b_enc), recipe.k)


def _held(
    rows: Float[Tensor, "latent d"], start: Float[Tensor, "latent d"], frozen: Frozen
) -> Float[Tensor, "latent d"]:
    """Unit rows as they are, or, soft-frozen, turned back to the least cosine with their start."""
    if frozen == "decoder":
        return start
    if frozen != "soft decoder":
        return rows
    along = (rows * start).sum(-1, keepdim=True)
    across = normalize(rows - along * start, dim=-1)
    return torch.where(along < SOFT, SOFT * start + (1 - SOFT**2) ** 0.5 * across, rows)


def _with_covariance_of(
    tokens: Float[Tensor, "token d"], count: int, random: torch.Generator
) -> Float[Tensor, "latent d"]:
    """Unit rows drawn with the covariance of activations."""
    centred = tokens - tokens.mean(0)
    mixture = torch.randn(count, len(centred), generator=random)
    return normalize(mixture @ centred, dim=-1)


def _rate(step: int, steps: int) -> float:
    return min(1.0, 3 * (1 - step / steps)) if steps else 0.0
