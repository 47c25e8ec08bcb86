"""Nodes: one activation vector at a named position, `9.6.z@END`, `5.mlp_out@END`, `8.resid_pre@S2`.

The kinds are those of the method: the residual stream (resid_pre, resid_mid, resid_post), per head
q, k (both before rotary), v and z, the sublayer outputs attn_out and mlp_out, and mlp_in, the
output of the norm before the MLP. Two more can be read and differentiated but are never in a
section: `pattern`, a head's attention weights, and `embed`, what enters the first block. With
grouped queries q, z and pattern count query heads, k and v key-value heads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import total_ordering

from sage.errors import SageError

HEAD_KINDS = ("q", "k", "v", "z", "pattern")
LAYER_KINDS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_in", "mlp_out")
RESIDUAL_KINDS = ("resid_pre", "resid_mid", "resid_post")
KINDS = (*HEAD_KINDS, *LAYER_KINDS, "embed")
EVERYWHERE = "*"

_FORWARD_ORDER = (
    "embed",
    "resid_pre",
    "q",
    "k",
    "v",
    "pattern",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_in",
    "mlp_out",
    "resid_post",
)
_HEAD = re.compile(rf"(\d+)\.(\d+)\.({'|'.join(HEAD_KINDS)})(?:@(.+))?")
_LAYER = re.compile(rf"(\d+)\.({'|'.join(LAYER_KINDS)})(?:@(.+))?")
_EMBED = re.compile(r"embed(?:@(.+))?")


@total_ordering
@dataclass(frozen=True)
class Node:
    """One activation vector: a kind, a layer, a head where the kind has heads, and a position.

    `layer` is -1 for `embed`; `head` is None for kinds without heads; `position` is a name of the
    task (END, S2, S1+1) or `*` for all positions. Nodes sort in the order in which a forward pass
    computes them.
    """

    kind: str
    layer: int
    head: int | None = None
    position: str = EVERYWHERE

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SageError(f"No kind of node is named '{self.kind}'. Kinds: {', '.join(KINDS)}.")
        if self.kind in HEAD_KINDS and self.head is None:
            raise SageError(f"A node of kind '{self.kind}' needs a head, as in '3.1.z@END'.")
        if self.kind not in HEAD_KINDS and self.head is not None:
            raise SageError(f"A node of kind '{self.kind}' has no heads, as in '3.mlp_in@END'.")

    def __str__(self) -> str:
        layer = "" if self.kind == "embed" else f"{self.layer}."
        head = "" if self.head is None else f"{self.head}."
        return f"{layer}{head}{self.kind}@{self.position}"

    def __lt__(self, other: Node) -> bool:
        return self._key < other._key

    @property
    def _key(self) -> tuple[int, int, int, str]:
        return (
            self.layer,
            _FORWARD_ORDER.index(self.kind),
            -1 if self.head is None else self.head,
            self.position,
        )

    def at(self, position: str) -> Node:
        """The same activation at another named position."""
        return replace(self, position=position)


def parse_node(text: str) -> Node:
    """The node that `str(node)` wrote; without `@` it stands for all positions."""
    if match := _HEAD.fullmatch(text):
        layer, head, kind, position = match.groups()
        return Node(kind, int(layer), int(head), position or EVERYWHERE)
    if match := _LAYER.fullmatch(text):
        layer, kind, position = match.groups()
        return Node(kind, int(layer), None, position or EVERYWHERE)
    if match := _EMBED.fullmatch(text):
        return Node("embed", -1, None, match.group(1) or EVERYWHERE)
    heads, layers = ", ".join(HEAD_KINDS), ", ".join(LAYER_KINDS)
    raise SageError(
        f"'{text}' is not a node. Write layer.head.kind@position (9.6.z@END; kinds {heads}) "
        f"or layer.kind@position (5.mlp_in@END; kinds {layers})."
    )


@dataclass(frozen=True)
class Section:
    """The nodes where a contrast lives, each with its statistic.

    `statistic[node]` is the mean over directions of |E[dm | direction]| of the method, in units of
    the task's metric.
    """

    contrast: str
    statistic: Mapping[Node, float]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.statistic))

    @property
    def groups(self) -> dict[str, tuple[Node, ...]]:
        """`z@END` -> the section's nodes of that kind at that position, in order."""
        by_class: dict[str, list[Node]] = {}
        for node in self.nodes:
            by_class.setdefault(f"{node.kind}@{node.position}", []).append(node)
        return {name: tuple(nodes) for name, nodes in by_class.items()}

    def restrict(self, nodes: Iterable[Node]) -> Section:
        """The same section on those of its nodes."""
        kept = set(nodes)
        return Section(
            self.contrast, {node: value for node, value in self.statistic.items() if node in kept}
        )
