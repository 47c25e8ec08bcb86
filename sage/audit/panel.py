"""What the audit puts before the metrics: the built panel of a world, and SAEs trained in it.

Method, section 7. Which dictionary stands where is data: the chains of `sage.toy.panel`, and what
must stand below what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sage.audit.plan import AuditPlan
from sage.files import write_atomically
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.toy.planted import World
from sage.toy.training import ToyRecipe, ToySAE, snapshots

# Of the true L0: how sparse the trained SAEs are.
SPARSITIES = (0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)
PENALTIES = (0.05, 0.15, 0.4)
WIDTHS = (1, 4)
# Of all steps: when snapshots are taken.
SNAPSHOTS = (0.0, 0.02, 0.05, 0.12, 0.3, 0.6, 1.0)
# Within this factor of the true L0 a trained SAE must stand above every control.
NEAR = 1.5
# Of the built: those that every control and null must stand below.
NEAR_TRUTH = (
    "truth", "rotated 15", "rotated 30", "rotated 45", "split x2", "dropped 0.25", "dropped 0.5",
    "misses 0.1", "misses 0.3", "duplicates x2", "duplicates x4",
)  # fmt: skip
# What must stand below every trained SAE near the true L0.
BELOW_TRAINED = ("lookup 128", "lookup 512", "lookup 2048", "PCA", "merged pairs", "merged quads")


def true_k(world: World) -> int:
    """How many features are active on a prompt, rounded."""
    return round(world.true_l0)


def trained_recipes(world: World, plan: AuditPlan) -> list[ToyRecipe]:
    """Topk at nine sparsities, relu at three penalties, and two more widths, for every seed."""
    k = true_k(world)
    base = ToyRecipe(k=k, steps=plan.steps)
    one = [replace(base, k=max(1, round(share * k))) for share in SPARSITIES]
    one += [replace(base, k=None, penalty=penalty) for penalty in PENALTIES]
    one += [replace(base, expansion=width) for width in WIDTHS]
    return [replace(recipe, seed=seed) for seed in plan.sae_seeds for recipe in one]


def frozen_recipes(world: World, plan: AuditPlan) -> list[ToyRecipe]:
    """Nulls whose decoder or encoder learned nothing, at the true L0."""
    base = ToyRecipe(k=true_k(world), steps=plan.steps)
    return [replace(base, frozen=part) for part in ("decoder", "encoder")]


def soft_recipes(world: World, plan: AuditPlan) -> list[ToyRecipe]:
    """Soft-frozen nulls, one for each seed of snapshots."""
    base = ToyRecipe(k=true_k(world), steps=plan.steps, frozen="soft decoder")
    return [replace(base, seed=seed) for seed in plan.snapshot_seeds]


def middling(world: World, plan: AuditPlan) -> ToyRecipe:
    """An SAE of middle quality, with room above and below it: twice as dense as the truth."""
    return ToyRecipe(k=2 * true_k(world), steps=plan.steps)


@dataclass(frozen=True)
class Workshop:
    """Trains SAEs, each once: what was trained lies in a folder."""

    folder: Path

    def sae(self, world: World, recipe: ToyRecipe) -> ToySAE:
        """The SAE that a recipe gives in a world."""
        return self.course(world, recipe, (recipe.steps,))[0]

    def course(self, world: World, recipe: ToyRecipe, steps: tuple[int, ...]) -> list[ToySAE]:
        """The same SAE after each of these numbers of steps."""
        paths = [self.folder / f"{world.name}, {recipe.name}, {recipe.steps}, at {n}.safetensors"
                 for n in steps]  # fmt: skip
        if not all(path.is_file() for path in paths):
            for path, sae in zip(paths, snapshots(world, recipe, at=steps), strict=True):
                _save(sae, path)
        return [_load(path, recipe) for path in paths]


def _save(sae: ToySAE, path: Path) -> None:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {
        "W_enc": sae.encoder.W_enc.contiguous(),
        "b_enc": sae.encoder.b_enc,
        "W_dec": sae.W_dec,
        "b_dec": sae.b_dec,
    }
    write_atomically(path, save(tensors), durable=False)


def _load(path: Path, recipe: ToyRecipe) -> ToySAE:
    from safetensors.torch import load

    given = load(path.read_bytes())
    W_enc, b_enc = given["W_enc"], given["b_enc"]
    encoder = ReLU(W_enc, b_enc)
    if recipe.k is not None:
        encoder = TopK(W_enc, b_enc, torch.ones_like(b_enc), recipe.k)
    return ToySAE(recipe.name, encoder, given["W_dec"], given["b_dec"])
