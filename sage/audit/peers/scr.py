"""SCR, spurious correlation removal: can latents of one attribute be taken out of a biased probe?

Karvonen et al. 2025, arXiv 2503.09532, after SHIFT (Marks et al. 2024, arXiv 2403.19647); method,
section 7. Two attributes of two values each. A probe is trained where both agree. The N latents
with the largest effect, of either sign, on one attribute's own probe are taken out, and the biased
probe is tested on the other attribute: 0 is its accuracy before, 1 that of a probe of the other
attribute itself. The direction counts in which the biased probe was the worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.audit.peers.arrays import NodeCodes
from sage.audit.peers.linear_probes import Probes, Rows, largest, train_probes
from sage.dictionaries.activations import Activations
from sage.dictionaries.controls.setting import generator
from sage.nodes import Node

NAME, VERSION = "SCR", 1
COUNTS = (2, 5, 10, 20, 50, 100, 500)
CANONICAL = 10
LEAST_ROOM = 0.001


class TwoWay(NamedTuple):
    """Activations of prompts at a node, and for each whether the first and the second attribute
    have the second of their two values; all four combinations are there."""

    given: Activations
    node: Node
    first: Bool[Tensor, "prompt"]
    second: Bool[Tensor, "prompt"]

    @property
    def values(self) -> Float[Tensor, "prompt d"]:
        """What the node holds."""
        return self.given.values[self.node]

    def cells(self) -> dict[tuple[bool, bool], Int[Tensor, "row"]]:
        """The prompts of each combination, equally many of each, the first that there are."""
        rows = {
            (a, b): ((self.first == a) & (self.second == b)).nonzero().flatten()
            for a in (False, True)
            for b in (False, True)
        }
        size = min(map(len, rows.values()))
        return {cell: some[:size] for cell, some in rows.items()}


class BiasedProbes(NamedTuple):
    """Probes of the first attribute, of the second, and of both together where they agree."""

    probes: Probes
    train: TwoWay
    test: TwoWay


FIRST, SECOND, BIASED = 0, 1, 2


def biased_probes(train: TwoWay, test: TwoWay, *, seed: int = 0) -> BiasedProbes:
    """The three probes, each on as many prompts of either kind."""
    random = generator(f"biased probes/{seed}")
    cells = train.cells()
    on_first = torch.cat([cells[True, False], cells[True, True]])
    off_first = torch.cat([cells[False, False], cells[False, True]])
    on_second = torch.cat([cells[False, True], cells[True, True]])
    off_second = torch.cat([cells[False, False], cells[True, False]])
    twice = (cells[True, True].repeat(2), cells[False, False].repeat(2))
    sides = ((on_first, off_first), (on_second, off_second), twice)
    prompts = torch.stack([torch.cat(side) for side in sides])
    rows = Rows(prompts, torch.arange(prompts.shape[1]) < len(on_first))
    return BiasedProbes(train_probes(train.values, rows, random=random), train, test)


def scr(fitted: BiasedProbes, codes: NodeCodes) -> dict[int, float]:
    """N -> SCR; 0 where the biased probe leaves no room. `codes` are those of both splits."""
    clean = _accuracies(fitted, fitted.probes.logits(fitted.test.values))
    wanted = FIRST if clean[BIASED, FIRST] < clean[BIASED, SECOND] else SECOND
    effect = _effects(fitted, codes)[SECOND if wanted == FIRST else FIRST]
    before, best = clean[BIASED, wanted], clean[wanted, wanted]
    scores: dict[int, float] = {}
    for count in COUNTS:
        logits = fitted.probes.without(
            fitted.probes.logits(fitted.test.values),
            codes.test,
            codes.directions,
            largest(effect, count),
        )
        after = _accuracies(fitted, logits)[BIASED, wanted]
        scores[count] = (after - before) / (best - before) if best - before >= LEAST_ROOM else 0.0
    return scores


def _effects(fitted: BiasedProbes, codes: NodeCodes) -> Float[Tensor, "2 latent"]:
    """The size of every latent's effect on the probe of each attribute."""
    cells = {cell: codes.train[rows].mean(0) for cell, rows in fitted.train.cells().items()}
    moved = torch.stack(
        [
            cells[True, False] + cells[True, True] - cells[False, False] - cells[False, True],
            cells[False, True] + cells[True, True] - cells[False, False] - cells[True, False],
        ]
    )
    return (moved / 2 * (fitted.probes.weights[:2] @ codes.directions.T)).abs()


def _accuracies(
    fitted: BiasedProbes, logits: Float[Tensor, "prompt probe"]
) -> Mapping[tuple[int, int], float]:
    """(probe, attribute) -> how often the probe says the attribute's value, over balanced cells."""
    rows = torch.cat(list(fitted.test.cells().values()))
    truth = (fitted.test.first[rows], fitted.test.second[rows])
    said = logits[rows] > 0
    return {
        (probe, attribute): float((said[:, probe] == truth[attribute]).float().mean())
        for probe in (FIRST, SECOND, BIASED)
        for attribute in (FIRST, SECOND)
    }
