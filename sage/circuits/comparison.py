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
    """One head or MLP, published or found.

    `status` is `hit` or `miss` (published), `elsewhere` (published, found at other positions only)
    or `extra` (found only).
    """

    name: str
    status: str
    roles: tuple[str, ...]
    disputed: bool
    positions: tuple[str, ...]
    nodes: tuple[str, ...]
    contrasts: tuple[str, ...]
    score: float | None


class Agreement(NamedTuple):
    """How far a discovery and a circuit agree; None where there is nothing to divide by.

    `precision` is hits / found, `recall` hits / members, `auroc` the chance that a member's score
    beats another head's, ties counting half; MLPs have no auroc. What is found `elsewhere` is no
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
    """A discovery against a circuit, with disputed members counted and left out.

    `heads` and `mlps` count disputed members as members; for the other two a disputed member is
    neither hit nor miss nor extra. `mlps` is None where the source lists no MLPs.
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
        missed = ("miss", "elsewhere")
        return tuple(verdict for verdict in self.verdicts if verdict.status in missed)

    @property
    def extras(self) -> tuple[Verdict, ...]:
        """Found and not published."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "extra")

    def agreements(self) -> list[dict[str, Any]]:
        """One row per kind of member, disputed ones counted and left out, for a table."""
        agreements = {
            "heads": self.heads,
            "heads, disputed left out": self.heads_undisputed,
            "MLPs": self.mlps,
            "MLPs, disputed left out": self.mlps_undisputed,
        }
        return [
            {"what": what, **agreement._asdict()}
            for what, agreement in agreements.items()
            if agreement is not None
        ]

    def rows(self) -> list[dict[str, Any]]:
        """One row per head and MLP that is published or found, for a table."""
        return [verdict._asdict() for verdict in self.verdicts]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        facts = ("name", "task", "model", "source", "where", "heads_total")
        return {
            "circuit": {fact: getattr(self.circuit, fact) for fact in facts},
            "heads": self.heads._asdict(),
            "heads_undisputed": self.heads_undisputed._asdict(),
            "mlps": self.mlps and self.mlps._asdict(),
            "mlps_undisputed": self.mlps_undisputed and self.mlps_undisputed._asdict(),
            "verdicts": self.rows(),
        }


def compare(
    circuit: Circuit,
    discovered: Mapping[str, Iterable[Node]] | Iterable[Node],
    scores: Mapping[str, float],
    *,
    group: int = 1,
    positions: Collection[str] | None = None,
) -> Comparison:
    """Hold discovered nodes, by contrast or all at once, against a circuit.

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
    sightings = _sightings(discovered, group)
    judged = {*circuit.members, *(name for name in sightings if circuit.mlps or not is_mlp(name))}
    verdicts = tuple(
        _verdict(circuit, name, sightings.get(name, ()), scores.get(name))
        for name in sorted(judged, key=forward_order)
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
    """Every head's best statistic over its q, k, v and z at all positions.

    `group` query heads share a k and a v, which count for each of them.
    """
    best: dict[str, float] = {}
    for node, value in statistic.items():
        for name in _components(node, group):
            if not is_mlp(name):
                best[name] = max(value, best.get(name, value))
    return best


class _Sighting(NamedTuple):
    """A discovered node of a head or MLP; `contrast` is empty where none was given."""

    contrast: str
    node: Node


def _sightings(
    discovered: Mapping[str, Iterable[Node]] | Iterable[Node], group: int
) -> dict[str, list[_Sighting]]:
    """Every head and MLP that a discovered node belongs to, with those nodes."""
    if isinstance(discovered, Mapping):
        by_contrast = cast("Mapping[str, Iterable[Node]]", discovered)
    else:
        by_contrast = {"": discovered}
    sightings: dict[str, list[_Sighting]] = {}
    for contrast, nodes in by_contrast.items():
        for node in nodes:
            for name in _components(node, group):
                sightings.setdefault(name, []).append(_Sighting(contrast, node))
    return sightings


def _components(node: Node, group: int) -> list[str]:
    """The heads, or the MLP, that a node belongs to; none for residual streams and patterns."""
    if node.kind in ("mlp_in", "mlp_out"):
        return [f"{node.layer}.mlp"]
    if node.head is None or node.kind == "pattern":
        return []
    sharing = group if node.kind in ("k", "v") else 1
    first = node.head * sharing
    return [f"{node.layer}.{head}" for head in range(first, first + sharing)]


def _verdict(
    circuit: Circuit, name: str, sightings: Sequence[_Sighting], score: float | None
) -> Verdict:
    roles, positions = circuit.roles_of(name), circuit.positions_of(name)
    nodes = sorted({sighting.node for sighting in sightings})
    if not roles:
        status = "extra"
    elif any(_is_in_place(node, positions) for node in nodes):
        status = "hit"
    else:
        status = "elsewhere" if nodes else "miss"
    contrasts = dict.fromkeys(sighting.contrast for sighting in sightings if sighting.contrast)
    return Verdict(
        name,
        status,
        roles,
        name in circuit.disputed,
        positions,
        tuple(map(str, nodes)),
        tuple(contrasts),
        score,
    )


def _is_in_place(node: Node, positions: Collection[str]) -> bool:
    """Whether a node counts for a member that acts at these positions; none given means any."""
    return node.kind in ("k", "v") or not positions or node.position in (*positions, EVERYWHERE)


def _undisputed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.disputed]


def _agreement(verdicts: Sequence[Verdict], others: Sequence[float]) -> Agreement:
    """`others` are the scores of the model's heads that are no members."""
    members = [verdict for verdict in verdicts if verdict.status != "extra"]
    hits = sum(verdict.status == "hit" for verdict in members)
    extras = len(verdicts) - len(members)
    found = hits + extras
    return Agreement(
        precision=hits / found if found else None,
        recall=hits / len(members) if members else None,
        auroc=_auroc([verdict.score or 0.0 for verdict in members], others),
        hits=hits,
        found=found,
        members=len(members),
    )


def _auroc(members: Sequence[float], others: Sequence[float]) -> float | None:
    if not members or not others:
        return None
    ranked = sorted(others)
    half_wins = sum(bisect_left(ranked, score) + bisect_right(ranked, score) for score in members)
    return half_wins / (2 * len(members) * len(ranked))


def _other_scores(circuit: Circuit, scores: Mapping[str, float]) -> list[float]:
    """The scores of all heads of the model that the circuit does not have, 0 where none is known.

    SageError for what cannot be a score of a head, and for more heads than the model has.
    """
    wrong = [
        f"{name} has {value}"
        for name, value in scores.items()
        if is_mlp(name) or not 0 <= value < math.inf
    ]
    if wrong:
        raise SageError(
            "The scores to compare by are statistics of heads, 0 or more, and "
            f"{', '.join(wrong[:5])}."
        )
    others = [value for name, value in scores.items() if name not in circuit.heads]
    unscored = circuit.heads_total - len(circuit.heads) - len(others)
    if unscored < 0:
        raise SageError(
            f"The circuit '{circuit.name}' is one of {circuit.model}, which has "
            f"{circuit.heads_total} heads; with those of the discovery there would be "
            f"{circuit.heads_total - unscored}. Compare it with a discovery on {circuit.model}."
        )
    return others + [0.0] * unscored
