"""The design of a supervised fit: which columns a task's labels give.

An attribute is a block of one-hot columns, one per value. Of nested attributes only the finest
enter the fit, keyed by their whole chain (gender, name); afterwards the coarse part is taken out of
them. Two coupled attributes have one column per pair of values. Irrelevant attributes and the
template are nuisance columns: they take part in the solve and are no features (method, section 3).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Labels
from sage.dictionaries.least_squares import How, Solver
from sage.errors import BadTask
from sage.task.task import Label

Key = tuple[Label, ...]

MIN_PROMPTS_PER_PAIR = 5
# Of an attribute's label variance: a nuisance column that explains more would take half its edit.
ALIASED = 0.5


@dataclass(frozen=True)
class Column:
    """One block of the design: the labels that make a key, coarse ones first, and the keys that
    were seen.

    A pair of coupled values or a nuisance value that was not seen has no feature (code 0); any
    other value that was not seen is an error.
    """

    name: str
    attributes: tuple[str, ...]
    keys: tuple[Key, ...]
    coupled: bool = False
    nuisance: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """`IO=Mary`; `subject=plural/dogs` for a nested value, `S x order=Mary/ABB` for a coupled
        one."""
        return tuple(f"{self.name}={'/'.join(str(part) for part in key)}" for key in self.keys)

    def feature(self, labels: Labels) -> Int[Tensor, "prompt"]:
        """Which of the block's features each prompt has; -1 for none."""
        index = {key: number for number, key in enumerate(self.keys)}
        prompt_keys = self.keys_of(labels)
        features = [index.get(key, -1) for key in prompt_keys]
        if -1 in features and not (self.coupled or self.nuisance):
            stranger = prompt_keys[features.index(-1)]
            raise BadTask(
                f"The value {'/'.join(map(str, stranger))} of attribute '{self.name}' does not "
                f"occur in the prompts of the fit ({len(self.keys)} values do). Give more prompts "
                "to fit, or fewer values to the task."
            )
        return torch.tensor(features, dtype=torch.long)

    def keys_of(self, labels: Labels) -> list[Key]:
        """Every prompt's labels of the block's attributes."""
        return [tuple(prompt[attribute] for attribute in self.attributes) for prompt in labels]

    def inside(self, other: Column) -> bool:
        """Whether this block's keys are the other's, or finer ones."""
        return self.attributes[: len(other.attributes)] == other.attributes


@dataclass(frozen=True)
class Design:
    """Columns of attributes and of nuisances, solved on the prompts of a fit."""

    columns: tuple[Column, ...]
    nuisance: tuple[Column, ...]
    solver: Solver

    @property
    def size(self) -> int:
        """The number of features; nuisance values come after them in the solver and are none."""
        return sum(len(column.keys) for column in self.columns)

    @property
    def coupled(self) -> tuple[str, ...]:
        """The two attributes, with what they are nested in, that share columns; none where all
        are additive."""
        return next((column.attributes for column in self.columns if column.coupled), ())

    def codes(self, labels: Labels) -> Float[Tensor, "prompt feature"]:
        """One-hot codes of the features, float32; zeros in a coupled block whose pair was not
        seen."""
        return one_hot(self.columns, labels)

    def unseen(self, labels: Labels) -> Bool[Tensor, "prompt"]:
        """Which prompts have a coupled pair of values that the fit has not seen."""
        unseen = torch.zeros(len(labels), dtype=torch.bool)
        for column in self.columns:
            if column.coupled:
                unseen |= column.feature(labels) < 0
        return unseen


def make_design(
    columns: tuple[Column, ...], nuisance: tuple[Column, ...], labels: Labels, *, how: How
) -> Design:
    """The design of these columns on these prompts; only least squares has nuisance columns."""
    nuisance = nuisance if how == "least squares" else ()
    blocks = (*columns, *nuisance)
    solver = Solver(feature_index(blocks, labels), tuple(len(block.keys) for block in blocks), how)
    return Design(columns, nuisance, solver)


def label_order(label: Label) -> tuple[bool, int, str]:
    """Sorts numbers in their order, before words in theirs."""
    return (False, label, "") if isinstance(label, int) else (True, 0, label)


def chain(attribute: str, within: Mapping[str, str]) -> tuple[str, ...]:
    """An attribute and what it is nested in, coarsest first: (gender, name)."""
    coarser = within.get(attribute)
    return (attribute,) if coarser is None else (*chain(coarser, within), attribute)


def design_columns(
    attributes: Sequence[str], within: Mapping[str, str], labels: Labels
) -> tuple[Column, ...]:
    """One block per finest attribute, with the values that these prompts have; only nesting among
    the attributes counts."""
    chains = {
        name: tuple(part for part in chain(name, within) if part in attributes)
        for name in attributes
    }
    coarse = {part for parts in chains.values() for part in parts[:-1]}
    return tuple(
        make_column(name, parts, labels) for name, parts in chains.items() if name not in coarse
    )


def nuisance_columns(
    names: Collection[str], attributes: Sequence[str], labels: Labels
) -> tuple[tuple[Column, ...], dict[str, str]]:
    """A block for every nuisance that varies, and those left out because they are aliased: nuisance
    -> the attribute more than half of whose label variance it explains.

    The variance explained is adjusted for the number of values, since many values explain some of
    anything.
    """
    columns: list[Column] = []
    aliased: dict[str, str] = {}
    for name in names:
        column = make_column(name, (name,), labels, nuisance=True)
        shares = {attribute: _explained(column, attribute, labels) for attribute in attributes}
        worst = max(shares, key=lambda attribute: shares[attribute])
        if len(column.keys) < 2:
            continue
        if shares[worst] > ALIASED:
            aliased[name] = worst
        else:
            columns.append(column)
    return tuple(columns), aliased


def couplings(columns: Sequence[Column], labels: Labels) -> list[tuple[Column, ...]]:
    """Every set of columns in which two are one, with a column per pair of values seen, where such
    a pair has at least five prompts on average."""
    coupled: list[tuple[Column, ...]] = []
    for first, second in combinations(columns, 2):
        name, attributes = f"{first.name} x {second.name}", (*first.attributes, *second.attributes)
        joint = make_column(name, attributes, labels, coupled=True)
        if len(labels) >= MIN_PROMPTS_PER_PAIR * len(joint.keys):
            rest = [column for column in columns if column not in (first, second)]
            coupled.append((joint, *rest))
    return coupled


def make_column(
    name: str,
    attributes: tuple[str, ...],
    labels: Labels,
    *,
    coupled: bool = False,
    nuisance: bool = False,
) -> Column:
    """The block of these attributes, with the keys that these prompts have, in order."""
    keys = {tuple(prompt[attribute] for attribute in attributes) for prompt in labels}
    ordered = sorted(keys, key=lambda key: [label_order(part) for part in key])
    return Column(name, attributes, tuple(ordered), coupled, nuisance)


def feature_index(columns: Sequence[Column], labels: Labels) -> Int[Tensor, "prompt block"]:
    """Which feature of all blocks together each prompt has in each block; -1 for none."""
    indices: list[Tensor] = []
    start = 0
    for column in columns:
        feature = column.feature(labels)
        indices.append(torch.where(feature < 0, feature, feature + start))
        start += len(column.keys)
    return torch.stack(indices, -1) if indices else torch.zeros(len(labels), 0, dtype=torch.long)


def one_hot(columns: Sequence[Column], labels: Labels) -> Float[Tensor, "prompt feature"]:
    """The design matrix, float32; a row of zeros in a block of which a prompt has no feature."""
    index = feature_index(columns, labels)
    width = sum(len(column.keys) for column in columns)
    codes = torch.zeros(len(labels), width + 1)
    return codes.scatter_(1, index.where(index >= 0, width), 1)[:, :width].contiguous()


def unnest(
    columns: Sequence[Column], features: Float[Tensor, "feature d"], labels: Labels
) -> tuple[tuple[Column, ...], Float[Tensor, "finer d"]]:
    """Take the coarse attributes out of the finest: u_coarse(c) = E[u_fine | c], and u_fine keeps
    the rest.

    Two fine attributes within the same coarse one both give to it, so coarse blocks of one name are
    added up.
    """
    blocks: dict[str, tuple[Column, Tensor]] = {}
    sizes = [len(column.keys) for column in columns]
    for column, rest in zip(columns, features.split(sizes), strict=True):
        for level in range(1, 1 if column.coupled else len(column.attributes)):
            coarse = make_column(column.attributes[level - 1], column.attributes[:level], labels)
            coarse_features = _conditional_mean(column, coarse, rest, labels)
            rest = rest - coarse_features[[coarse.keys.index(key[:level]) for key in column.keys]]
            if coarse.name in blocks:
                coarse_features = blocks[coarse.name][1] + coarse_features
            blocks[coarse.name] = (coarse, coarse_features)
        blocks[column.name] = (column, rest)
    finer = tuple(column for column, _ in blocks.values())
    return finer, torch.cat([part for _, part in blocks.values()]) if blocks else features


def _conditional_mean(
    fine: Column, coarse: Column, features: Tensor, labels: Labels
) -> Float[Tensor, "coarse d"]:
    """E[u_fine | coarse value] over the prompts."""
    codes = one_hot([fine], labels).to(features)
    groups = one_hot([coarse], labels).to(features)
    return groups.T @ (codes @ features) / groups.sum(0)[:, None]


def _explained(nuisance: Column, attribute: str, labels: Labels) -> float:
    """The share of an attribute's label variance that the nuisance explains, adjusted for its
    number of values; all of it where every prompt has a value of its own."""
    target = one_hot([make_column(attribute, (attribute,), labels)], labels).double().numpy()
    centred = target - target.mean(0)
    total = float(np.square(centred).sum())
    n, values = len(labels), len(nuisance.keys)
    if not total or n <= values:
        return float(total > 0)
    group = one_hot([nuisance], labels).double().numpy()
    sums = group.T @ centred
    between = float((np.square(sums) / group.sum(0)[:, None]).sum())
    return 1 - (1 - between / total) * (n - 1) / (n - values)
