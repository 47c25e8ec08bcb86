"""Isolation: does an edit leave alone what it was not meant to change?

Every attribute outside the contrast is decoded at each node that carries it, by the nearest
supervised feature; irrelevant attributes, which are no features, by mean codes of their own. What
is decoded rightly before the edit and under the ground truth should still be after it (method,
section 5.4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Labels
from sage.dictionaries.supervised import FeatureDictionary, NodeFeatures, fit_features
from sage.nodes import Node
from sage.task.prompt import Label
from sage.task.task import Task


@dataclass(frozen=True)
class AttributeReader:
    """Reads one attribute off activations of n prompts: `labels` of the values, their `features`,
    what the other attributes may add up to (`contexts`).

    Of nested attributes the coarse ones are read along with a fine one, and finer ones inside it
    are left in the activation.
    """

    mean: Float[Tensor, "d"]
    labels: tuple[Label, ...]
    features: Float[Tensor, "value d"]
    contexts: tuple[Float[Tensor, "prompt d"], ...]

    def nearest(self, values: Float[Tensor, "prompt d"]) -> Int[Tensor, "prompt"]:
        """The value whose feature, added to the mean and to any of the contexts, comes nearest to
        each activation."""
        rests = torch.stack([values - self.mean - context for context in self.contexts])
        distances = torch.cdist(rests, self.features.expand(len(rests), -1, -1))
        return distances.min(0).values.argmin(-1)


def attribute_reader(
    fit: NodeFeatures, attribute: str, contexts: Sequence[Labels]
) -> AttributeReader:
    """Decodes an attribute from activations of prompts whose other attributes are those of one of
    the contexts."""
    read = fit.columns[fit.column(attribute)]
    features = fit.mean.new_zeros(len(read.keys), len(fit.mean))
    rests = [fit.mean.new_zeros(len(labels), len(fit.mean)) for labels in contexts]
    sizes = [len(column.keys) for column in fit.columns]
    for column, part in zip(fit.columns, fit.features.split(sizes), strict=True):
        if read.inside(column):
            level = len(column.attributes)
            features = features + part[[column.keys.index(key[:level]) for key in read.keys]]
        elif not column.inside(read):
            rests = [
                rest + part[column.feature(labels)]
                for rest, labels in zip(rests, contexts, strict=True)
            ]
    labels = tuple(key[-1] for key in read.keys)
    return AttributeReader(fit.mean, labels, features, tuple(rests))


@dataclass(frozen=True)
class Decoder:
    """Which attributes can be read off activations: the task's own from the supervised features,
    each irrelevant one from its own mean codes."""

    supervised: FeatureDictionary
    irrelevant: Mapping[str, FeatureDictionary]
    attributes: tuple[str, ...]

    def reader(
        self, node: Node, attribute: str, base: Activations, target: Activations
    ) -> AttributeReader | None:
        """Reads the attribute off activations of pairs, the other attributes being those of p or
        those of p'; None where the node does not carry it.

        Between the two lies every edit, so that one reader serves before and after it.
        """
        features = self.irrelevant.get(attribute, self.supervised)
        if not features.carries(node, attribute):
            return None
        contexts = (base.prompt_labels, target.prompt_labels)
        return attribute_reader(features.fits[node].additive, attribute, contexts)


class Bystander(NamedTuple):
    """One attribute at one node: how it is read, each prompt's value, and where that is read
    rightly before the edit and under the ground truth."""

    node: Node
    attribute: str
    reader: AttributeReader
    value: Int[Tensor, "prompt"]
    right: Bool[Tensor, "prompt"]


class Bystanders(NamedTuple):
    """Everything an edit should leave alone, and how many (node, attribute) that is for each
    prompt."""

    readings: tuple[Bystander, ...]
    total: Float[np.ndarray, "prompt"]

    def isolation(self, edited: Mapping[Node, Tensor]) -> Float[np.ndarray, "prompt"]:
        """The share still read rightly after an edit; 1 where there is nothing to isolate."""
        right = torch.zeros(len(self.total), dtype=torch.float64)
        for bystander in self.readings:
            after = bystander.reader.nearest(edited[bystander.node]).cpu()
            right += bystander.right & (after == bystander.value)
        return np.where(self.total > 0, right.numpy() / np.maximum(self.total, 1), 1.0)


def fit_decoder(supervised: FeatureDictionary, fit: Activations, task: Task) -> Decoder:
    """Mean codes for every irrelevant attribute with at least two values in `fit`, beside the
    supervised features."""
    varied = [name for name in task.irrelevant if len(set(fit.labels(name))) > 1]
    irrelevant = {
        name: fit_features(fit, attributes=(name,), how="mean", coupled=False) for name in varied
    }
    return Decoder(supervised, irrelevant, (*task.attributes, *varied))


def find_bystanders(
    decoder: Decoder, base: Activations, target: Activations, *, changed: Collection[str]
) -> Bystanders:
    """Every attribute that the contrast does not change at every node that carries it, on the
    prompts where it is the same in p and p' and is read rightly before the edit and under the
    ground truth."""
    readings: list[Bystander] = []
    total = torch.zeros(len(base), dtype=torch.float64)
    for attribute in decoder.attributes:
        if attribute in changed:
            continue
        before, after = base.labels(attribute), target.labels(attribute)
        unchanged = torch.tensor([p == q for p, q in zip(before, after, strict=True)])
        for node in base.nodes if unchanged.any() else ():
            reader = decoder.reader(node, attribute, base, target)
            if reader is None:
                continue
            index = {label: number for number, label in enumerate(reader.labels)}
            value = torch.tensor([index.get(label, -1) for label in before])
            right = unchanged
            for given in (base, target):
                right = right & (reader.nearest(given.values[node]).cpu() == value)
            readings.append(Bystander(node, attribute, reader, value, right))
            total += right
    return Bystanders(tuple(readings), total.numpy())
