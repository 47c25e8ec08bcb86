"""TPP, targeted probe perturbation: does taking out a class's latents hurt its probe alone?

Karvonen et al. 2025, arXiv 2503.09532; method, section 7. A latent's effect on a class is its mean
code on the class less that on others, where positive, times the probe's product with its direction.
The N latents of the largest effect are taken out; TPP is what the class's own probe loses in
accuracy, less what the other probes lose, mean over classes: the values of one attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.audit.peers.arrays import LabelledNode, NodeCodes
from sage.audit.peers.linear_probes import Probes, Rows, balanced, largest, train_probes
from sage.dictionaries.controls.setting import generator

NAME, VERSION = "TPP", 1
COUNTS = (2, 5, 10, 20, 50, 100, 500)
CANONICAL = 10


class ClassProbes(NamedTuple):
    """What depends on no dictionary: a probe for each class, and the rows of both splits."""

    probes: Probes
    train: Rows
    test: Rows


def class_probes(given: LabelledNode, *, seed: int = 0) -> ClassProbes:
    """Probes of the values of a labelled node."""
    random = generator(f"probes of classes/{seed}")
    count = len(given.values)
    train = balanced(given.train_class, count, random=random)
    test = balanced(given.test_class, count, random=random)
    return ClassProbes(
        train_probes(given.train.values[given.node], train, random=random), train, test
    )


def tpp(given: LabelledNode, codes: NodeCodes, fitted: ClassProbes) -> dict[int, float]:
    """N -> TPP."""
    accuracies = ablated_accuracies(given, codes, fitted)
    clean = accuracies[0]
    lost = {count: clean[None, :] - table for count, table in accuracies.items() if count}
    return {count: float(_targeted(table)) for count, table in lost.items()}


def _targeted(lost: Float[Tensor, "ablated probe"]) -> Float[Tensor, ""]:
    """The mean over classes of their own loss less the mean of the others'."""
    classes = len(lost)
    own = lost.diagonal()
    others = (lost.sum(1) - own) / (classes - 1)
    return (own - others).mean()


def ablated_accuracies(
    given: LabelledNode, codes: NodeCodes, fitted: ClassProbes
) -> Mapping[int, Tensor]:
    """N -> the accuracy of every probe when each class's N latents are out, [ablated, probe]; 0 ->
    that of every probe with nothing taken out, [probe]."""
    probes = fitted.probes
    clean = probes.logits(given.test.values[given.node])
    effects = class_effects(codes, fitted)
    tables: dict[int, Tensor] = {0: _accuracy(clean, fitted.test)}
    for count in COUNTS:
        tables[count] = torch.stack(
            [
                _accuracy(
                    probes.without(clean, codes.test, codes.directions, largest(effect, count)),
                    fitted.test,
                )
                for effect in effects
            ]
        )
    return tables


def class_effects(codes: NodeCodes, fitted: ClassProbes) -> Float[Tensor, "value latent"]:
    """The effect of every latent on every class."""
    rows, half = fitted.train.prompts, len(fitted.train.positive) // 2
    on = torch.stack([codes.train[prompts[:half]].mean(0) for prompts in rows])
    off = torch.stack([codes.train[prompts[half:]].mean(0) for prompts in rows])
    return (on - off).clamp(min=0) * (fitted.probes.weights @ codes.directions.T)


def _accuracy(logits: Float[Tensor, "prompt probe"], rows: Rows) -> Float[Tensor, "probe"]:
    said = logits.T.gather(1, rows.prompts) > 0
    return (said == rows.positive).float().mean(1)
