"""Suites that are not yet loaded, and how the SAEs of a release are divided into them.

SAEs of one width and variant at different layers are one suite. What is left of an SAE's name once
layer and hook are taken out names its variant. Method, section 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sage.nodes import Node
from sage.saes.sae import SAE, canonical

_PLACE = re.compile(
    r"""blocks\.\d+\.hook_resid_(?:pre|mid|post)
    | resid_(?:pre|mid|post)_layer_\d+
    | \d+\.resid_(?:pre|mid|post)
    | layers?[_.]?\d+
    | (?<![a-z0-9])h\.\d+
    | ^l\d+(?=r)
    | average_l0_\d+""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Candidate:
    """An SAE that is known by name, hook and width, and not yet loaded.

    `name` is its name within its release.
    """

    name: str
    hook: Node
    width: int | None
    l0: float | None
    load: Callable[[], SAE]


@dataclass(frozen=True)
class SuiteSpec:
    """A suite that is not yet loaded; its label is '' where it is all of its release."""

    id: str
    label: str
    candidates: tuple[Candidate, ...]


def divide(release: str, candidates: list[Candidate]) -> list[SuiteSpec]:
    """Suites of one width and variant each, in the order of their labels.

    Where one still has two SAEs at a point, it is divided by the kind of hook, then by rank of L0.
    """
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(_variant(candidate.name), []).append(candidate)
    groups = _divided(groups, _widths)
    groups = _divided(groups, _kinds, only_where_crowded=True)
    groups = _divided(groups, _ranks, only_where_crowded=True)
    if len(groups) == 1:
        return [SuiteSpec(release, "", tuple(next(iter(groups.values()))))]
    return [
        SuiteSpec(f"{release}/{label}" if label else release, label, tuple(groups[label]))
        for label in sorted(groups, key=_natural_order)
    ]


def _variant(name: str) -> str:
    """What distinguishes an SAE from its siblings at other layers."""
    rest = _PLACE.sub("", name)
    return re.sub(r"[/_.\-]*/[/_.\-]*", "/", rest).strip("/_.- ")


def _divided(
    groups: dict[str, list[Candidate]],
    marks_of: Callable[[list[Candidate]], list[str]],
    *,
    only_where_crowded: bool = False,
) -> dict[str, list[Candidate]]:
    """The groups, each divided by a mark of its members wherever these differ in it."""
    divided: dict[str, list[Candidate]] = {}
    for label, group in groups.items():
        marks = marks_of(group)
        differ = len(set(marks)) > 1 and (_crowded(group) or not only_where_crowded)
        for candidate, mark in zip(group, marks, strict=True):
            sublabel = "/".join(filter(None, [label, mark if differ else ""]))
            divided.setdefault(sublabel, []).append(candidate)
    return divided


def _crowded(group: list[Candidate]) -> bool:
    """Whether two of the SAEs stand at one point."""
    return len({canonical(candidate.hook) for candidate in group}) < len(group)


def _widths(group: list[Candidate]) -> list[str]:
    return [f"width_{candidate.width}" for candidate in group]


def _kinds(group: list[Candidate]) -> list[str]:
    return [candidate.hook.kind for candidate in group]


def _ranks(group: list[Candidate]) -> list[str]:
    """Each candidate's rank among those at its point, sparsest first.

    By name where sparsity is not stated.
    """
    rank_of: dict[str, int] = {}
    highest: dict[Node, int] = {}
    for candidate in sorted(group, key=lambda candidate: (candidate.l0 or 0.0, candidate.name)):
        point = canonical(candidate.hook)
        rank_of[candidate.name] = highest[point] = highest.get(point, 0) + 1
    return [f"sparsity_{rank_of[candidate.name]}" for candidate in group]


def _natural_order(label: str) -> list[tuple[int, str]]:
    """Numbers in a label in the order of their size: width_4 before width_16."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", label)]
