"""The design of a supervised fit: which columns a task's labels give, nested and coupled attributes
included.

An attribute is a block of one-hot columns, one per value. Of nested attributes only the finest
enter the fit, keyed by their whole chain (gender, name); afterwards the coarse part is taken out of
them. Two coupled attributes have one column per pair of values (method, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.errors import BadTask
from sage.task.task import Label
from sage.task.tokens import Tokenized

Key = tuple[Label, ...]


@dataclass(frozen=True)
class Column:
    """One block of the design: the labels that make a key, coarse ones first, and the keys that
    were seen."""

    name: str
    attributes: tuple[str, ...]
    keys: tuple[Key, ...]
    coupled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """`IO=Mary`; `subject=plural/dogs` for a nested value, `S x order=Mary/ABB` for a coupled
        one."""
        return tuple(f"{self.name}={'/'.join(str(part) for part in key)}" for key in self.keys)

    def rows(self, prompts: Sequence[Tokenized]) -> Int[Tensor, "prompt"]:
        """Which key each prompt has; -1 for a coupled pair that was not seen, an error for any
        other value that was not."""
        place = {key: index for index, key in enumerate(self.keys)}
        found = [place.get(self.key(prompt), -1) for prompt in prompts]
        if not self.coupled and -1 in found:
            stranger = self.key(prompts[found.index(-1)])
            raise BadTask(
                f"The value {'/'.join(map(str, stranger))} of attribute '{self.name}' does not occur in the prompts of the fit "
                f"({len(self.keys)} values do). Give more prompts to fit, or fewer values to the task."
            )
        return torch.tensor(found, dtype=torch.long)

    def key(self, prompt: Tokenized) -> Key:
        """The prompt's labels of the block's attributes."""
        return tuple(prompt.prompt.labels[attribute] for attribute in self.attributes)

    def inside(self, other: Column) -> bool:
        """Whether this block's keys are the other's, or finer ones."""
        return self.attributes[: len(other.attributes)] == other.attributes


def label_order(label: Label) -> tuple[bool, int, str]:
    """Sorts numbers in their order, before words in theirs."""
    return (False, label, "") if isinstance(label, int) else (True, 0, label)


def chain(attribute: str, within: Mapping[str, str]) -> tuple[str, ...]:
    """An attribute and what it is nested in, coarsest first: (gender, name)."""
    coarser = within.get(attribute)
    return (attribute,) if coarser is None else (*chain(coarser, within), attribute)


def design_columns(
    attributes: Sequence[str], within: Mapping[str, str], prompts: Sequence[Tokenized]
) -> tuple[Column, ...]:
    """One block per finest attribute, with the values that these prompts have; only nesting among
    the attributes counts."""
    chains = {
        name: tuple(part for part in chain(name, within) if part in attributes)
        for name in attributes
    }
    coarse = {part for parts in chains.values() for part in parts[:-1]}
    return tuple(
        _column(name, parts, prompts) for name, parts in chains.items() if name not in coarse
    )


def couple(
    columns: Sequence[Column], first: int, second: int, prompts: Sequence[Tokenized]
) -> tuple[Column, ...]:
    """The design in which two of the blocks are one, with a column per pair of values seen."""
    one, other = columns[first], columns[second]
    joint = _column(
        f"{one.name} x {other.name}", (*one.attributes, *other.attributes), prompts, coupled=True
    )
    return (
        joint,
        *(column for index, column in enumerate(columns) if index not in (first, second)),
    )


def places(columns: Sequence[Column], prompts: Sequence[Tokenized]) -> Int[Tensor, "prompt column"]:
    """Which feature of the whole design each prompt has in each block; -1 for a coupled pair that
    was not seen."""
    found: list[Tensor] = []
    start = 0
    for column in columns:
        rows = column.rows(prompts)
        found.append(torch.where(rows < 0, rows, rows + start))
        start += len(column.keys)
    return torch.stack(found, -1) if found else torch.zeros(len(prompts), 0, dtype=torch.long)


def one_hot(
    columns: Sequence[Column], prompts: Sequence[Tokenized]
) -> Float[Tensor, "prompt feature"]:
    """The design matrix, float32; a row of zeros in a coupled block whose pair was not seen."""
    where = places(columns, prompts)
    width = sum(len(column.keys) for column in columns)
    codes = torch.zeros(len(prompts), width + 1).scatter_(1, where.where(where >= 0, width), 1)
    return codes[:, :width].contiguous()


def unnest(
    columns: Sequence[Column], features: Float[Tensor, "feature d"], prompts: Sequence[Tokenized]
) -> tuple[tuple[Column, ...], Float[Tensor, "finer d"]]:
    """Take the coarse attributes out of the finest: u_coarse(c) = E[u_fine | c], and u_fine keeps
    the rest.

    Two fine attributes within the same coarse one both give to it, so coarse blocks of one name are
    added up.
    """
    blocks: dict[str, tuple[Column, Tensor]] = {}
    for column, part in zip(
        columns, features.split([len(column.keys) for column in columns]), strict=True
    ):
        rest = part
        for level in range(1, 1 if column.coupled else len(column.attributes)):
            coarse = _column(column.attributes[level - 1], column.attributes[:level], prompts)
            average = _conditional_mean(column, coarse, rest, prompts)
            rest = rest - average[[coarse.keys.index(key[:level]) for key in column.keys]]
            before = blocks.get(coarse.name)
            blocks[coarse.name] = (coarse, average if before is None else before[1] + average)
        blocks[column.name] = (column, rest)
    found = tuple(column for column, _ in blocks.values())
    return found, torch.cat([part for _, part in blocks.values()]) if blocks else features


def _conditional_mean(
    fine: Column, coarse: Column, features: Tensor, prompts: Sequence[Tokenized]
) -> Float[Tensor, "coarse d"]:
    """E[u_fine | coarse value] over the prompts."""
    codes = one_hot([fine], prompts).to(features)
    groups = one_hot([coarse], prompts).to(features)
    return groups.T @ (codes @ features) / groups.sum(0)[:, None]


def _column(
    name: str, attributes: tuple[str, ...], prompts: Sequence[Tokenized], *, coupled: bool = False
) -> Column:
    keys = {
        tuple(prompt.prompt.labels[attribute] for attribute in attributes) for prompt in prompts
    }
    return Column(
        name,
        attributes,
        tuple(sorted(keys, key=lambda key: [label_order(part) for part in key])),
        coupled,
    )
