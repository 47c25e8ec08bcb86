"""Dictionaries that stand in for a suite and its controls, and what each must score."""

from __future__ import annotations

from dataclasses import replace

import torch

from linear import MLP, claimed
from sage.scores.contest import Contest, hold
from sage.scores.node_set import Contender, NodeSet
from scores.worlds import World

CONTROLS = ("mean only", "random", "permuted", "task lookup")


def off_latents(
    world: World, name: str, directions: torch.Tensor, *, on_test: bool = True, **fields: object
) -> Contender:
    """Latents that are on where `a` is 0, along these directions; without `on_test` never on the
    prompts that are tested on, so that nothing can be taken from them there."""
    zero = torch.tensor([[float(label == 0)] for label in world.every.labels("a")])
    if not on_test:
        zero[len(world.data.fit) :] = 0
    codes = zero.expand(-1, len(directions))
    dictionary = claimed(world.every, {MLP: codes}, {MLP: directions}, name=name)
    return world.node_set().contender(dictionary, **fields)


def contenders(world: World) -> list[Contender]:
    """What each scores at T2 on fit: the suite 1, as the supervised features do; `random` 1, but 0
    on test; `permuted` and `task lookup` 2/3 on both.

    Two latents of two coordinates each are all that need is; of four of one coordinate need is
    half.
    """
    node_set = world.node_set()
    eye = torch.eye(8)
    two, four = torch.stack([eye[0] + eye[1], eye[2] + eye[3]]), eye[:4]
    suite = off_latents(world, "suite", two, copied=True, detected=True)
    supervised = node_set.contender(node_set.data.supervised, copied=True, detected=True)
    nothing = node_set.contender(
        claimed(world.every, {MLP: torch.zeros(len(world.every), 0)}, {MLP: torch.zeros(0, 8)},
                name="mean only"),
        content="mean only ()",
    )  # fmt: skip
    return [
        suite,
        supervised,
        nothing,
        off_latents(world, "random", two, on_test=False),
        off_latents(world, "permuted", four),
        off_latents(world, "task lookup", four, content="task lookup ()"),
    ]


def held(
    node_set: NodeSet, among: list[Contender], *, thorough: bool = True, suite: str = "suite"
) -> Contest:
    """The contest of these contenders, the suite under this name."""
    named = [replace(entry, name=suite) if entry.name == "suite" else entry for entry in among]
    return hold(node_set, named, controls=CONTROLS, thorough=thorough)
