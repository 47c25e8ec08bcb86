"""Predicates: what a latent may mean, and where it holds.

A value of an attribute that the contrast changes, a pair of values of two such attributes, or a
union of 2 to 10 values of one, never all of them (method, sections 5.5 and 5.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.design import label_order
from sage.task.prompt import Label

MIN_PAIR_PROMPTS = 5


class Predicate(NamedTuple):
    """One value of one attribute, `IO=Mary`."""

    attribute: str
    value: Label

    def __str__(self) -> str:
        return f"{self.attribute}={self.value}"


class PairBlock(NamedTuple):
    """Where each pair of values of two attributes holds, for those that enough prompts have."""

    attributes: tuple[str, str]
    holds: Bool[Tensor, "prompt pair"]


class Predicates(NamedTuple):
    """The predicates, and where they hold on some prompts."""

    values: tuple[Predicate, ...]
    holds: Bool[Tensor, "prompt predicate"]
    pairs: tuple[PairBlock, ...]

    def of(self, attribute: str) -> list[int]:
        """The numbers of an attribute's values."""
        return [n for n, predicate in enumerate(self.values) if predicate.attribute == attribute]

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(predicate.attribute for predicate in self.values))


def tabulate(given: Activations, attributes: Sequence[str]) -> Predicates:
    """Where every value of the attributes, and every pair of values of two of them, holds."""
    values = {name: sorted(set(given.labels(name)), key=label_order) for name in attributes}
    blocks = {name: where_holds(given, name, own) for name, own in values.items()}
    pairs: list[PairBlock] = []
    for first, second in combinations(attributes, 2):
        both = (blocks[first][:, :, None] & blocks[second][:, None, :]).flatten(1)
        pairs.append(PairBlock((first, second), both[:, both.sum(0) >= MIN_PAIR_PROMPTS]))
    predicates = tuple(Predicate(name, value) for name, own in values.items() for value in own)
    holds = torch.cat(list(blocks.values()), -1)
    return Predicates(predicates, holds, tuple(pairs))


def where_holds(
    given: Activations, attribute: str, values: Sequence[Label]
) -> Bool[Tensor, "prompt value"]:
    """On which prompts each value holds."""
    index = {value: number for number, value in enumerate(values)}
    number = torch.tensor([index.get(label, -1) for label in given.labels(attribute)])
    return number[:, None] == torch.arange(len(values))
