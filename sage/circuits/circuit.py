"""Circuits: the heads and MLPs that a publication says a task runs through.

The facts are the TOML files of circuits/, whose README.md gives the keys, the sources and where
published lists disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sage.errors import SageError

_MEMBER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*|mlp)")


@dataclass(frozen=True)
class Group:
    """Members with one role: heads (`9.6`) and MLPs (given as layers, named as members `8.mlp`).

    `position` is where they act: a head reads its query and writes there. It is a name of the task,
    None where the source does not say. `carries` is what they move, `feeds` the roles that read
    them, `disputed` the members some published lists lack.
    """

    role: str
    heads: tuple[str, ...] = ()
    mlps: tuple[int, ...] = ()
    position: str | None = None
    carries: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.heads, *(f"{layer}.mlp" for layer in self.mlps))


class Edge(NamedTuple):
    """One edge: `member` of `group` is read by `reader` of `reading_group`."""

    group: Group
    member: str
    reading_group: Group
    reader: str


@dataclass(frozen=True)
class Circuit:
    """A circuit of one task in one model, which has `heads_total` heads.

    `where` says where in the source the list stands. A member may be in several groups.
    """

    name: str
    task: str
    model: str
    source: str
    where: str
    heads_total: int
    groups: tuple[Group, ...]
    notes: str = ""

    @property
    def members(self) -> tuple[str, ...]:
        """Every head and MLP, in the order in which a forward pass computes them."""
        members = {member for group in self.groups for member in group.members}
        return tuple(sorted(members, key=forward_order))

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """Every head with its roles, in the order in which a forward pass computes them."""
        return {member: self.roles_of(member) for member in self.members if not is_mlp(member)}

    @property
    def mlps(self) -> dict[str, tuple[str, ...]]:
        """Every MLP (`8.mlp`) with its roles; empty where the source lists none."""
        return {member: self.roles_of(member) for member in self.members if is_mlp(member)}

    @property
    def disputed(self) -> frozenset[str]:
        return frozenset(member for group in self.groups for member in group.disputed)

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of positions that the circuit uses; its task must have them all."""
        return _each_once(group.position for group in self.groups if group.position is not None)

    def groups_of(self, member: str) -> tuple[Group, ...]:
        return tuple(group for group in self.groups if member in group.members)

    def roles_of(self, member: str) -> tuple[str, ...]:
        return _each_once(group.role for group in self.groups_of(member))

    def positions_of(self, member: str) -> tuple[str, ...]:
        """Where a member acts; empty means anywhere: one of its groups gives no position."""
        positions: list[str] = []
        for group in self.groups_of(member):
            if group.position is None:
                return ()
            positions.append(group.position)
        return _each_once(positions)

    def carried_by(self, member: str) -> tuple[str, ...]:
        """What a member moves, in all its groups."""
        return _each_once(name for group in self.groups_of(member) for name in group.carries)

    def edges(self) -> Iterator[Edge]:
        """An edge wherever a role feeds a role, from what is computed earlier to what is later.

        A head comes before the MLP of its layer.
        """
        for group in self.groups:
            for reading_group in self.groups:
                if reading_group.role in group.feeds:
                    yield from _edges(group, reading_group)


def forward_order(member: str) -> tuple[int, bool, int]:
    """(layer, is an MLP, head): the order in which a forward pass computes members.

    SageError for what is no member.
    """
    if not (match := _MEMBER.fullmatch(member)):
        raise SageError(
            f"'{member}' is neither a head, such as '9.6', nor an MLP, such as '8.mlp'."
        )
    layer, inside = match.groups()
    return (int(layer), True, 0) if inside == "mlp" else (int(layer), False, int(inside))


def layer_of(member: str) -> int:
    """The layer of a head (`9.6`) or an MLP (`8.mlp`)."""
    return forward_order(member)[0]


def is_mlp(member: str) -> bool:
    """Whether a member is an MLP (`8.mlp`) rather than a head (`9.6`)."""
    return forward_order(member)[1]


def is_member(text: str) -> bool:
    """Whether a text names a head (`9.6`) or an MLP (`8.mlp`)."""
    return bool(_MEMBER.fullmatch(text))


def _edges(group: Group, reading_group: Group) -> Iterator[Edge]:
    for member in group.members:
        for reader in reading_group.members:
            # Heads of one layer run at once: none feeds another, so their numbers do not count.
            if forward_order(member)[:2] < forward_order(reader)[:2]:
                yield Edge(group, member, reading_group, reader)


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    """The different names, in order of first appearance."""
    return tuple(dict.fromkeys(names))
