"""Edits of many runs as one batch: which values stand where, and which runs say the same.

A run is one set of edits on one prompt. Runs of many sets share a batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sage.errors import SageError, Unsupported
from sage.models.anatomy import Anatomy
from sage.models.steps import EMBED, HookPoint
from sage.nodes import EVERYWHERE, Node
from sage.task.tokens import Tokenized

UNWRITABLE = ("pattern", "embed")

EditSet = Mapping[Node, Tensor]
TokenIndex = Mapping[str, Int[Tensor, "prompt"]]


@dataclass(frozen=True, eq=False)
class EditedRuns:
    """Runs, each by the number of its set of edits and the row of its prompt."""

    set_index: Int[Tensor, "*run"]
    prompt_index: Int[Tensor, "*run"]

    def __len__(self) -> int:
        return len(self.prompt_index)

    def __getitem__(self, some: Tensor | slice) -> EditedRuns:
        return EditedRuns(self.set_index[some], self.prompt_index[some])

    @property
    def table_index(self) -> tuple[Tensor, Tensor]:
        """Where the runs stand in a table [set, prompt]."""
        return self.set_index, self.prompt_index


@dataclass(frozen=True, eq=False)
class EditBucket:
    """Sets of edits on prompts of one length.

    `rows` are the rows of these prompts among all prompts, `token_index` says where the edited
    positions are. `first_alike[set, prompt]` is the set whose run says what this set's would, the
    first of them; it is this set where the run must be made.
    """

    edits: Sequence[EditSet]
    prompts: Sequence[Tokenized]
    rows: Int[Tensor, "prompt"]
    token_index: TokenIndex
    first_alike: Int[Tensor, "set prompt"]

    @property
    def length(self) -> int:
        """The number of tokens of every prompt."""
        return len(self.prompts[0].ids)

    @property
    def hook_points(self) -> set[HookPoint]:
        """Where there is something to set."""
        return {hook_point(node) for edit_set in self.edits for node in edit_set}

    @property
    def runs_to_make(self) -> EditedRuns:
        """The runs that are the first of their kind, set by set."""
        sets = torch.arange(len(self.edits))[:, None]
        return EditedRuns(*(self.first_alike == sets).nonzero(as_tuple=True))

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, part: slice) -> EditBucket:
        """The same edits on some of the prompts."""
        return EditBucket(
            [{node: value[part] for node, value in edit_set.items()} for edit_set in self.edits],
            self.prompts[part],
            self.rows[part],
            {name: index[part] for name, index in self.token_index.items()},
            self.first_alike[:, part],
        )

    def prompts_of(self, runs: EditedRuns) -> list[Tokenized]:
        """The prompt of every run of the bucket."""
        return [self.prompts[row] for row in runs.prompt_index.tolist()]

    def among_all(self, runs: EditedRuns) -> EditedRuns:
        """Runs of the bucket, their prompts by their rows among all prompts."""
        return EditedRuns(runs.set_index, self.rows[runs.prompt_index])


class Scatter(NamedTuple):
    """Values to set in one activation of a batch.

    Values are [edit, d], each with its row in the batch, its position, and its head where the
    activation has heads.
    """

    rows: Int[Tensor, "edit"]
    positions: Int[Tensor, "edit"]
    heads: Int[Tensor, "edit"] | None
    values: Tensor

    def __call__(self, activation: Tensor) -> Tensor:
        """The activation, [batch, position, ...], with the values in it."""
        axes = (self.rows, self.positions)
        index = axes if self.heads is None else (*axes, self.heads)
        return activation.index_put(
            tuple(axis.to(activation.device) for axis in index), self.values.to(activation)
        )

    def restrict(self, positions: Sequence[int]) -> Scatter:
        """The values at these positions, for an activation that stands at no others."""
        column_of = torch.full((int(self.positions.max()) + 1,), -1)
        for column, position in enumerate(positions):
            if position < len(column_of):
                column_of[position] = column
        columns = column_of[self.positions]
        kept = columns >= 0
        return Scatter(
            self.rows[kept],
            columns[kept],
            None if self.heads is None else self.heads[kept],
            self.values[kept.to(self.values.device)],
        )


@cache
def hook_point(node: Node) -> HookPoint:
    """Where the whole activation stands that a node is of."""
    return EMBED if node.kind == "embed" else HookPoint(node.kind, node.layer)


def edit_bucket(
    edits: Sequence[EditSet],
    prompts: Sequence[Tokenized],
    rows: Sequence[int],
    first_alike: Int[Tensor, "set all_prompts"],
) -> EditBucket:
    """The edits on some rows of all prompts, which must be of one length."""
    rows = list(rows)
    bucket_edits = [{node: value[rows] for node, value in edit_set.items()} for edit_set in edits]
    bucket_prompts = [prompts[row] for row in rows]
    return EditBucket(
        bucket_edits,
        bucket_prompts,
        torch.tensor(rows),
        token_index(edits, bucket_prompts),
        first_alike[:, rows],
    )


def token_index(edits: Sequence[EditSet], prompts: Sequence[Tokenized]) -> TokenIndex:
    """The token index of every named position that is edited, in every prompt."""
    names = {node.position for edit_set in edits for node in edit_set} - {EVERYWHERE}
    return {name: torch.tensor([prompt.index[name] for prompt in prompts]) for name in names}


def scatter_edits(bucket: EditBucket, runs: EditedRuns) -> dict[HookPoint, Scatter]:
    """What to set in each activation of a batch that consists of these runs."""
    parts: dict[HookPoint, list[Scatter]] = {}
    for set_number in runs.set_index.unique().tolist():
        batch_rows = (runs.set_index == set_number).nonzero()[:, 0]
        prompt_rows = runs.prompt_index[batch_rows]
        for node, value in bucket.edits[set_number].items():
            part = _scatter(node, value, bucket, batch_rows, prompt_rows)
            parts.setdefault(hook_point(node), []).append(part)
    return {activation: _join(scatters) for activation, scatters in parts.items()}


def find_first_alike(edits: Sequence[EditSet], prompts: int) -> Int[Tensor, "set prompt"]:
    """For every set of edits and prompt the first of all sets, or itself, that sets the same nodes
    to the same values.

    A search that has come to its end says the same for every larger budget, and so do levels that
    let the same latents through.
    """
    first: list[list[int]] = []
    seen: dict[tuple[tuple[Node, ...], int, bytes], int] = {}
    for number, edit_set in enumerate(edits):
        nodes = tuple(sorted(edit_set))
        digests = enumerate(_digests(edit_set, nodes, prompts))
        first.append([seen.setdefault((nodes, *known), number) for known in digests])
    return torch.tensor(first).view(len(edits), prompts)


def _digests(edit_set: EditSet, nodes: Sequence[Node], prompts: int) -> list[bytes]:
    """A digest of what a set sets each prompt's nodes to, bit by bit."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(prompts)]
    for node in nodes:
        # Adding 0 makes -0 a 0.
        values = (edit_set[node].detach().float().cpu() + 0.0).flatten(1).contiguous().numpy()
        for digest, row in zip(digests, values, strict=True):
            digest.update(row.data)
    return [digest.digest() for digest in digests]


def every_set_itself(sets: int, prompts: int) -> Int[Tensor, "set prompt"]:
    """The number of the set, for every set and prompt."""
    return torch.arange(sets)[:, None].repeat(1, prompts)


def check_edits(edits: Sequence[EditSet], prompts: int, anatomy: Anatomy) -> None:
    """SageError for values of another number or width than the nodes they are for."""
    for edit_set in edits:
        for node, value in edit_set.items():
            width = anatomy.width(node.kind)
            if node.kind in UNWRITABLE:
                raise Unsupported(
                    f"{node} cannot be written; it can be read and differentiated. "
                    "Write q, k, v or z, or 0.resid_pre."
                )
            if len(value) != prompts:
                raise SageError(
                    f"{node} was to be set to {len(value)} values for {prompts} prompts. "
                    "Give one row per prompt."
                )
            if value.shape[-1] != width:
                raise SageError(
                    f"{node} is {width} wide; the values to set are {value.shape[-1]} wide."
                )


def _scatter(
    node: Node,
    value: Tensor,
    bucket: EditBucket,
    batch_rows: Int[Tensor, "run"],
    prompt_rows: Int[Tensor, "run"],
) -> Scatter:
    """One node's values in the runs of one set, which are these rows of the batch, of these
    prompts."""
    values = value[prompt_rows.to(value.device)]
    if node.position == EVERYWHERE:
        values = values[:, : bucket.length].flatten(0, 1)
        positions = torch.arange(bucket.length).repeat(len(batch_rows))
        batch_rows = batch_rows.repeat_interleave(bucket.length)
    else:
        positions = bucket.token_index[node.position][prompt_rows]
    heads = None if node.head is None else torch.full_like(batch_rows, node.head)
    return Scatter(batch_rows, positions, heads, values)


def _join(parts: Sequence[Scatter]) -> Scatter:
    """All values to set in one activation, one for each of its vectors."""
    if len(parts) == 1:
        return parts[0]
    rows = torch.cat([part.rows for part in parts])
    positions = torch.cat([part.positions for part in parts])
    part_heads = [part.heads for part in parts if part.heads is not None]
    heads = torch.cat(part_heads) if part_heads else None
    values = torch.cat([part.values.to(parts[0].values) for part in parts])
    kept = _last_of_each(rows, positions, torch.zeros_like(rows) if heads is None else heads)
    return Scatter(
        rows[kept],
        positions[kept],
        None if heads is None else heads[kept],
        values[kept.to(values.device)],
    )


def _last_of_each(*index: Int[Tensor, "edit"]) -> Int[Tensor, "kept"]:
    """Which edits stand where some set the same vector: the last of them.

    Two names of one position set it twice; a device scatters in any order.
    """
    key = torch.zeros_like(index[0])
    for axis in index:
        key = key * (1 + int(axis.max())) + axis
    order = key.argsort(stable=True)
    key = key[order]
    last = torch.cat([key[1:] != key[:-1], torch.ones(1, dtype=torch.bool)])
    return order[last]
