"""Composite features: SAEs of any architecture, trained where atomic features occur together.

Method, sections 7 and 8. The atoms of a planted world are the values of its attributes, orthogonal
to each other; a composite is a value of one attribute together with a value of the next. An SAE has
*room for atoms*, as many latents as there are atoms and as many of them active as there are
attributes, or *room for composites*: as many latents as composites, and half as many active. The
sparser of the two descriptions is that of composites, and whatever asks for sparsity prefers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.native import NativeDictionary
from sage.errors import unknown
from sage.nodes import Node
from sage.progress import advance, expect, stage
from sage.saes.architectures import architecture_names
from sage.saes.sae import SAE, fold_decoder_norms, fold_factor
from sage.saes.train import shuffled, train
from sage.saes.training import Training
from sage.saes.training_settings import TrainingSettings
from sage.toy.composite_latents import LatentTable, describe_latents
from sage.toy.composite_result import ComposedSAE, CompositeToy
from sage.toy.planted import NODE, World
from sage.toy.quality import planted_quality
from sage.toy.scoring import every_score, node_sets

Room = Literal["atoms", "composites"]

SMALL = World("small world of composites", sizes=(6, 6), d=12, agree=0.8, spread=0.6)
LARGER = World("larger world of composites", sizes=(6,) * 8, d=64, agree=0.8)
WORLDS = {"small": SMALL, "larger": LARGER}
ARCHITECTURES = ("topk", "relu", "gated")
ROOMS: tuple[Room, ...] = ("atoms", "composites")

# Of architectures that are sparse by a penalty: what leaves atoms alone, and what merges them.
PENALTIES: dict[Room, float] = {"atoms": 0.5, "composites": 2.0}

# Of the draws of a world: what is trained on and what latents are described on, apart from what
# dictionaries are scored on.
TRAINED_ON, DESCRIBED_ON = 5_000, 6_000
TOKENS, DESCRIBED = 2**15, 4_000
BATCH = 256
# The two attributes of the first pair; scores are means over them.
CONTRASTS = ("A1", "A2")


@dataclass(frozen=True)
class CompositeRecipe:
    """One SAE to train in a world: its architecture, what it has room for, its seed and steps.

    It is trained from `starts` initialisations, of which the one that leaves least unexplained is
    kept: where one value of every attribute is always active, other directions than the atoms are
    local optima.
    """

    architecture: str
    room: Room
    seed: int = 0
    steps: int = 1500
    starts: int = 2

    @property
    def name(self) -> str:
        """`topk, room for atoms`."""
        return f"{self.architecture}, room for {self.room}"

    def settings(self, world: World, start: int) -> TrainingSettings:
        """How it is trained from one start; a composite takes two attributes."""
        attributes, composites = len(world.sizes), self.room == "composites"
        return TrainingSettings(
            self.architecture,
            width=composite_count(world) if composites else world.features,
            steps=self.steps,
            batch=BATCH,
            k=float(attributes // 2 if composites else attributes),
            penalty=PENALTIES[self.room],
            learning_rate=3e-3,
            decay=self.steps // 5,
            dead_after=50,
            seed=self.starts * self.seed + start,
        )


def toy_composite(
    world: World | str = "small",
    *,
    architectures: Sequence[str] = ARCHITECTURES,
    seed: int = 0,
    steps: int = 1500,
    starts: int = 2,
) -> CompositeToy:
    """Train an SAE with room for atoms and one with room for composites of each architecture, tell
    what every latent points at, and what every score says of each SAE.

    `world` is `small` (two attributes of six values), `larger` (eight of them; in both they
    agree in pairs on 80 % of the prompts) or a planted world with an even number of attributes.
    SageError for another name of a world or an architecture.
    """
    if isinstance(world, str):
        if world not in WORLDS:
            raise unknown("world of composites", world, list(WORLDS))
        world = WORLDS[world]
    for name in architectures:
        if name not in architecture_names():
            raise unknown("SAE architecture", name, architecture_names())
    recipes = [
        CompositeRecipe(name, room, seed, steps, starts)
        for name in dict.fromkeys(architectures)
        for room in ROOMS
    ]
    with stage("composite features"):
        expect(len(recipes) * starts * steps)
        saes = [train_composite(world, recipe) for recipe in recipes]
        return CompositeToy(world, tuple(_describe(world, recipes, saes, seed)))


def composite_count(world: World) -> int:
    """How many composites there are: pairs of values of A1 and A2, of A3 and A4, and so on."""
    return sum(a * b for a, b in zip(world.sizes[::2], world.sizes[1::2], strict=True))


def train_composite(world: World, recipe: CompositeRecipe) -> SAE:
    """The SAE of a recipe, with unit decoder rows, in the units of the world's activations."""
    tokens = world.activations(TOKENS, TRAINED_ON)
    started = [_train(world, recipe, tokens, start) for start in range(recipe.starts)]
    return min(started, key=lambda sae: sae.stated.fvu or 0.0)


def _train(
    world: World, recipe: CompositeRecipe, tokens: Float[Tensor, "token d"], start: int
) -> SAE:
    settings = recipe.settings(world, start)
    training = Training(settings, world.name, Node("resid_pre", 0), world.d)
    batches = shuffled(tokens, batch=BATCH, seed=settings.seed)
    with TemporaryDirectory() as folder:
        sae = train(training, batches, out=Path(folder) / "sae", save_every=recipe.steps + 1)
    advance(recipe.steps)
    return fold_decoder_norms(fold_factor(sae))


def as_dictionary(name: str, sae: SAE) -> NativeDictionary:
    """An SAE of a world's activations as a dictionary of its node."""
    return NativeDictionary(name, {NODE: sae.encode}, {NODE: sae.W_dec}, {NODE: sae.b_dec})


def _describe(
    world: World, recipes: Sequence[CompositeRecipe], saes: Sequence[SAE], seed: int
) -> list[ComposedSAE]:
    """What there is to say of every SAE."""
    sets = node_sets(
        world, CONTRASTS, prompts=1500, pairs=150, detect=1500, copying=(4,), seed=seed
    )
    dictionaries = [
        as_dictionary(recipe.name, sae) for recipe, sae in zip(recipes, saes, strict=True)
    ]
    scores = every_score(sets, dictionaries)
    return [
        ComposedSAE(
            recipe.architecture,
            recipe.room,
            sae,
            _latents(world, sae),
            planted_quality(world, dictionary, seed=seed),
            scores[recipe.name],
        )
        for recipe, sae, dictionary in zip(recipes, saes, dictionaries, strict=True)
    ]


def _latents(world: World, sae: SAE) -> LatentTable:
    values = world.activations(DESCRIBED, DESCRIBED_ON)
    return describe_latents(world, sae.W_dec, sae.b_dec, sae.encode(values) != 0)
