"""Comparison: which heads and MLPs of a published circuit a discovery found, missed and added.

A head is found when its z, or its q, k or v, is in a section of the task, at the position where the
circuit gives one (method, section 2, validation). MLPs stand apart: most sources list heads alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sage.circuits.circuit import Circuit, forward_order, is_mlp
from sage.errors import SageError, unknown
from sage.nodes import EVERYWHERE, Node


class Verdict(NamedTuple):
    """One head or MLP: `hit` or `miss` (published), `elsewhere` (published, found at other
    positions only), `extra` (found only)."""

    name: str
    status: str
    roles: tuple[str, ...]
    disputed: bool
    positions: tuple[str, ...]
    nodes: tuple[str, ...]
    contrasts: tuple[str, ...]
    score: float | None


class Agreement(NamedTuple):
    """hits / found, hits / members, and the chance that a member's score beats another head's, ties
    counting half.

    None where there is nothing to divide by; MLPs have no auroc. What is found `elsewhere` is no
    hit, and as it is no extra either it is not among `found`.
    """

    precision: float | None
    recall: float | None
    auroc: float | None
    hits: int
    found: int
    members: int


@dataclass(frozen=True)
class Comparison:
    """A discovery against a circuit: `heads` and `mlps` count disputed members as members, the
    other two leave them out.

    A disputed member left out is neither hit nor miss nor extra. `mlps` is None where the source
    lists no MLPs.
    """

    circuit: Circuit
    heads: Agreement
    heads_undisputed: Agreement
    mlps: Agreement | None
    mlps_undisputed: Agreement | None
    verdicts: tuple[Verdict, ...]

    @property
    def misses(self) -> tuple[Verdict, ...]:
        """Published and not found at their positions."""
        return tuple(
            verdict for verdict in self.verdicts if verdict.status in ("miss", "elsewhere")
        )

    @property
    def extras(self) -> tuple[Verdict, ...]:
        """Found and not published."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "extra")

    def agreements(self) -> list[dict[str, Any]]:
        """One row per kind of member, disputed ones counted and left out, for a table."""
        named = {
            "heads": self.heads,
            "heads, disputed left out": self.heads_undisputed,
            "MLPs": self.mlps,
            "MLPs, disputed left out": self.mlps_undisputed,
        }
        return [
            {"what": name, **agreement._asdict()}
            for name, agreement in named.items()
            if agreement is not None
        ]

    def rows(self) -> list[dict[str, Any]]:
        """One row per head and MLP that is published or found, for a table."""
        return [verdict._asdict() for verdict in self.verdicts]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        circuit = {
            key: getattr(self.circuit, key)
            for key in ("name", "task", "model", "source", "where", "heads_total")
        }
        named = {
            "heads": self.heads,
            "heads_undisputed": self.heads_undisputed,
            "mlps": self.mlps,
            "mlps_undisputed": self.mlps_undisputed,
        }
        return {
            "circuit": circuit,
            **{name: value and value._asdict() for name, value in named.items()},
            "verdicts": self.rows(),
        }


def compare(
    circuit: Circuit,
    found: Mapping[str, Iterable[Node]] | Iterable[Node],
    scores: Mapping[str, float],
    *,
    group: int = 1,
    positions: Collection[str] | None = None,
) -> Comparison:
    """Hold what a discovery found, nodes by contrast or all nodes at once, against a circuit.

    q and z count at the member's position, which is where a head reads and writes, and so do mlp_in
    and mlp_out; k and v count at any, since they are read at the source. `group` query heads share
    a k and a v, and such a node stands for each of them. `scores` are the best statistics per head
    (`head_scores`); a head without one ranks as 0. `positions`, if given, are those of the task: a
    circuit that uses others could never be found there and is refused.
    """
    for name in circuit.positions:
        if positions is not None and name not in positions:
            remedy = f"The circuit '{circuit.name}' uses it: rename it there or in the task."
            raise unknown(f"position of the task '{circuit.task}'", name, positions, remedy=remedy)
    located = _located(found, group)
    names = {name for name in located if circuit.mlps or not is_mlp(name)}.union(
        circuit.heads, circuit.mlps
    )
    verdicts = tuple(
        _verdict(circuit, name, located.get(name, ()), scores)
        for name in sorted(names, key=forward_order)
    )
    heads = [verdict for verdict in verdicts if not is_mlp(verdict.name)]
    mlps = [verdict for verdict in verdicts if is_mlp(verdict.name)]
    others = _other_scores(circuit, scores)
    return Comparison(
        circuit,
        _agreement(heads, others),
        _agreement(_undisputed(heads), others),
        _agreement(mlps, ()) if circuit.mlps else None,
        _agreement(_undisputed(mlps), ()) if circuit.mlps else None,
        verdicts,
    )


def head_scores(statistic: Mapping[Node, float], *, group: int = 1) -> dict[str, float]:
    """Every head's best statistic over its q, k, v and z at all positions; `group` query heads
    share a k and a v."""
    best: dict[str, float] = {}
    for node, value in statistic.items():
        for name in _names(node, group):
            if not is_mlp(name):
                best[name] = max(value, best.get(name, value))
    return best


def _located(
    found: Mapping[str, Iterable[Node]] | Iterable[Node], group: int
) -> dict[str, list[tuple[str, Node]]]:
    sections = (
        cast("Mapping[str, Iterable[Node]]", found) if isinstance(found, Mapping) else {"": found}
    )
    located: dict[str, list[tuple[str, Node]]] = {}
    for contrast, nodes in sections.items():
        for node in nodes:
            for name in _names(node, group):
                located.setdefault(name, []).append((contrast, node))
    return located


def _names(node: Node, group: int) -> list[str]:
    if node.kind in ("mlp_in", "mlp_out"):
        return [f"{node.layer}.mlp"]
    if node.head is None or node.kind == "pattern":
        return []
    shared = group if node.kind in ("k", "v") else 1
    return [f"{node.layer}.{head}" for head in range(node.head * shared, (node.head + 1) * shared)]


def _verdict(
    circuit: Circuit, name: str, located: Sequence[tuple[str, Node]], scores: Mapping[str, float]
) -> Verdict:
    roles = circuit.heads.get(name) or circuit.mlps.get(name) or ()
    positions = circuit.positions_of(name)
    placed = any(
        node.kind in ("k", "v") or not positions or node.position in (*positions, EVERYWHERE)
        for _, node in located
    )
    published = "hit" if placed else "elsewhere" if located else "miss"
    nodes = tuple(str(node) for node in sorted({node for _, node in located}))
    contrasts = tuple(dict.fromkeys(contrast for contrast, _ in located if contrast))
    status = published if roles else "extra"
    return Verdict(
        name, status, roles, name in circuit.disputed, positions, nodes, contrasts, scores.get(name)
    )


def _undisputed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.disputed]


def _agreement(verdicts: Sequence[Verdict], others: Sequence[float]) -> Agreement:
    members = [verdict for verdict in verdicts if verdict.status != "extra"]
    hits = sum(verdict.status == "hit" for verdict in members)
    found = hits + len(verdicts) - len(members)
    auroc = _auroc([verdict.score or 0.0 for verdict in members], others)
    return Agreement(
        hits / found if found else None,
        hits / len(members) if members else None,
        auroc,
        hits,
        found,
        len(members),
    )


def _auroc(members: Sequence[float], others: Sequence[float]) -> float | None:
    if not members or not others:
        return None
    ranked = sorted(others)
    half_wins = sum(bisect_left(ranked, score) + bisect_right(ranked, score) for score in members)
    return half_wins / (2 * len(members) * len(ranked))


def _other_scores(circuit: Circuit, scores: Mapping[str, float]) -> list[float]:
    wrong = [
        f"{name} has {value}"
        for name, value in scores.items()
        if is_mlp(name) or not 0 <= value < math.inf
    ]
    if wrong:
        raise SageError(
            f"The scores to compare by are statistics of heads, 0 or more, and {', '.join(wrong[:5])}."
        )
    others = [value for name, value in scores.items() if name not in circuit.heads]
    unscored = circuit.heads_total - len(circuit.heads) - len(others)
    if unscored < 0:
        raise SageError(
            f"The circuit '{circuit.name}' is one of {circuit.model}, which has {circuit.heads_total} heads; with those of the "
            f"discovery there would be {circuit.heads_total - unscored}. Compare it with a discovery on {circuit.model}."
        )
    return others + [0.0] * unscored
