"""Worlds of labelled prompts whose features are known: sums of values, and a product of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from linear import MLP, D, activations
from sage.dictionaries.activations import Activations, Site
from sage.dictionaries.supervised import FeatureDictionary
from sage.nodes import Node, parse_node
from sage.task.task import TEMPLATE, Label

MLP_SITE: Site = (Node("resid_mid", 0), "END")
Z_SITE: Site = (Node("resid_pre", 0), "END")
Q, V = parse_node("0.0.q@END"), parse_node("0.0.v@END")
"""Two nodes that read one site, as Z does."""


def grid(sizes: Mapping[str, int], copies: int = 1) -> list[dict[str, Label]]:
    """Every combination of values equally often."""
    combinations = product(*(range(size) for size in sizes.values()))
    return [dict(zip(sizes, values, strict=True)) for values in combinations] * copies


def additive(
    sizes: Mapping[str, int], *, seed: int = 0, copies: int = 3, noise: float = 0.0
) -> Activations:
    """Every combination of values equally often; each value adds a random vector of its own."""
    generator = torch.Generator().manual_seed(seed)
    labels = grid(sizes, copies)
    vectors = {name: torch.randn(size, D, generator=generator) for name, size in sizes.items()}
    values = torch.ones(len(labels), D)
    for name, of_value in vectors.items():
        values = values + of_value[[int(given[name]) for given in labels]]
    return activations(labels, mlp=values + noise * torch.randn(values.shape, generator=generator))


def signs(r: float, count: int = 200) -> list[tuple[int, int]]:
    """Pairs of signs whose correlation is r exactly."""
    equal, different = round(count * (1 + r) / 4), round(count * (1 - r) / 4)
    return [(1, 1)] * equal + [(-1, -1)] * equal + [(1, -1)] * different + [(-1, 1)] * different


def products(copies: int = 20, *, without: tuple[int, int] | None = None) -> Activations:
    """mlp holds a product of two attributes, which no sum of features can say; z holds their sum.

    `without` leaves out one pair of their values.
    """
    combinations = product((-1, 0, 1), (-1, 1), (0, 1, 2))
    labels = [
        {"s": s, "order": order, "other": other}
        for s, order, other in combinations
        if (s, order) != without
    ] * copies
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor([[given["s"], given["order"]] for given in labels]).float()
    mlp = 0.01 * torch.randn(len(labels), D, generator=generator)
    z = 0.01 * torch.randn(len(labels), 4, generator=generator)
    mlp[:, 0] += rows.prod(1) + rows[:, 0]
    z[:, 0] += rows.sum(1)
    return activations(labels, mlp=mlp, z=z)


def uneven(count: int = 90) -> tuple[list[dict[str, Label]], Activations]:
    """Three attributes and a template in unequal, correlated shares, and noise; every node has
    signals of its own."""
    generator = np.random.default_rng(1)
    labels: list[dict[str, Label]] = []
    for _ in range(count):
        a, c, t = (int(generator.integers(size)) for size in (3, 2, 3))
        template = str(a) if t == 0 else str(t)
        labels.append({"a": a, "b": min(a + c, 3), "c": c, TEMPLATE: template})
    mlp, z = generator.normal(size=(count, D)) + 2, generator.normal(size=(count, 4))
    for row, label in enumerate(labels):
        mlp[row, int(label["a"])] += 3
        mlp[row, 4] += 5 * int(label[TEMPLATE])
        z[row, int(label["b"])] += 1 + int(label["c"])
    return labels, activations(labels, mlp=torch.from_numpy(mlp), z=torch.from_numpy(z))


def columns_of(labels: Sequence[Mapping[str, Label]], names: Sequence[str]) -> np.ndarray:
    """The one-hot columns of these attributes, attribute after attribute."""
    columns: list[list[float]] = []
    for name in names:
        for value in sorted({str(label[name]) for label in labels}):
            columns.append([float(str(label[name]) == value) for label in labels])
    return np.array(columns).T


def feature(features: FeatureDictionary, name: str, node: Node = MLP) -> Tensor:
    """The feature of that name in the fit chosen at a node."""
    fit = features.fits[node].chosen
    return fit.features[fit.names.index(name)]


def one_after_another(*parts: Activations) -> Activations:
    """The prompts of several runs one after another, as they are."""
    prompts = tuple(prompt for part in parts for prompt in part.prompts)
    values = {node: torch.cat([part.values[node] for part in parts]) for node in parts[0].nodes}
    return replace(parts[0], prompts=prompts, values=values)
