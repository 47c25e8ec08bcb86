"""Isolation: does an edit leave alone what it was not meant to change?

Every attribute outside the contrast is decoded before and after the edit, at each node that carries
it, by the nearest supervised feature; irrelevant attributes, which are in no design, by mean codes
of their own (method, section 5, T2). Elsewhere all features are as near, and what rounding makes of
them says nothing about an edit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.supervised import FeatureDictionary, Reader, fit_features
from sage.nodes import Node
from sage.task.task import Task


@dataclass(frozen=True)
class Decoder:
    """Reads attributes off activations: the task's own from the supervised features, each
    irrelevant one from its own mean codes."""

    supervised: FeatureDictionary
    irrelevant: Mapping[str, FeatureDictionary]
    attributes: tuple[str, ...]

    def reader(
        self, node: Node, attribute: str, base: Activations, target: Activations
    ) -> Reader | None:
        """Reads the attribute off activations of pairs, the other attributes being those of p or
        those of p'; None where it is not carried.

        Between the two lies every edit, so that one reader serves before and after it and an edit
        that does nothing spoils nothing.
        """
        features = self.irrelevant.get(attribute, self.supervised)
        return (
            features.reader(node, attribute, (base.prompts, target.prompts))
            if features.carries(node, attribute)
            else None
        )


class Bystander(NamedTuple):
    """One attribute at one node: how it is read, the place of each prompt's value, and where it is
    read rightly before an edit."""

    node: Node
    reader: Reader
    value: Int[Tensor, "prompt"]
    right: Bool[Tensor, "prompt"]


class Bystanders(NamedTuple):
    """Everything an edit should leave alone, and how many (node, attribute) that is for each
    prompt."""

    every: tuple[Bystander, ...]
    total: Float[np.ndarray, "prompt"]


def fit_decoder(supervised: FeatureDictionary, fit: Activations, task: Task) -> Decoder:
    """Mean codes for every irrelevant attribute with at least two values in `fit`, beside the
    supervised features."""
    varied = [attribute for attribute in task.irrelevant if len(set(fit.labels(attribute))) > 1]
    irrelevant = {
        attribute: fit_features(fit, attributes=(attribute,), how="mean", coupled=False)
        for attribute in varied
    }
    return Decoder(supervised, irrelevant, (*task.attributes, *varied))


def bystanders(
    decoder: Decoder, base: Activations, target: Activations, *, named: Collection[str]
) -> Bystanders:
    """Every attribute at every node that carries it, but those that the contrast names, on prompts
    whose value is the same in p and p'."""
    found: list[Bystander] = []
    count = torch.zeros(len(base), dtype=torch.float64)
    for attribute in decoder.attributes:
        labels = base.labels(attribute)
        same = torch.tensor(
            [old == new for old, new in zip(labels, target.labels(attribute), strict=True)]
        )
        if attribute in named or not same.any():
            continue
        for node in base.nodes:
            reader = decoder.reader(node, attribute, base, target)
            if reader is None:
                continue
            place = {label: index for index, label in enumerate(reader.labels)}
            value = torch.tensor([place.get(label, -1) for label in labels])
            found.append(
                Bystander(
                    node, reader, value, same & (reader.nearest(base.values[node]).cpu() == value)
                )
            )
            count += same
    return Bystanders(tuple(found), count.numpy())


def spoiled(watched: Bystanders, edited: Mapping[Node, Tensor]) -> Float[np.ndarray, "prompt"]:
    """Of how many (node, attribute) the value was read rightly before an edit, and wrongly after
    it."""
    broken = torch.zeros(len(watched.total), dtype=torch.float64)
    for node, reader, value, right in watched.every:
        broken += right & (reader.nearest(edited[node]).cpu() != value)
    return broken.numpy()
