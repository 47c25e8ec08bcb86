"""Edits: activations moved towards an aim with a few latents.

`control` is told the labels of p' and nothing else of it; `copying` reads the codes of p' itself,
as published tests of control do, and so can be won by a memory (method, sections 5.3 and 5.6).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Labels, Site
from sage.dictionaries.candidates import Candidates
from sage.dictionaries.dictionary import Dictionary, LabelMoves, SiteCodes, SiteMoves, site_codes
from sage.dictionaries.search import Budget, Choice, greedy, search_together, walk
from sage.errors import SageError
from sage.memory import STACKED_STEPS_AT_ONCE
from sage.nodes import Node

BIAS = -2
"""The number of the bias pseudo-latent among the latents of an edit; -1 is none."""

Mask = Bool[Tensor, "latent"]
Masks = Mapping[Node, Mask]


class Way(NamedTuple):
    """How candidates may be moved: which latents (None: all), and along whose directions (None:
    their own dictionary's); those are of a dictionary with the same codes. A `bounded` way is not
    taken at the budget without a bound."""

    masks: Masks | None = None
    directions: Dictionary | None = None
    bounded: bool = False

    def budgets(self, all_budgets: tuple[Budget, ...]) -> tuple[Budget, ...]:
        """Those of all budgets at which it is taken."""
        return tuple(b for b in all_budgets if b is not None) if self.bounded else all_budgets


class Edited(NamedTuple):
    """Activations moved towards an aim.

    `picks` counts the latents moved, over all sites; `distance` is sum_n |a - aim|^2 / Var_n with
    the edit and `start` without it; `latents[site]` numbers the latents moved, -1 where there are
    fewer.
    """

    values: dict[Node, Tensor]
    picks: Int[Tensor, "prompt"]
    distance: Float[Tensor, "prompt"]
    start: Float[Tensor, "prompt"]
    latents: dict[Site, Int[Tensor, "prompt pick"]]


def control(
    candidates: LabelMoves,
    base: Activations,
    labels: Labels,
    aim: Mapping[Node, Tensor],
    *,
    variance: Mapping[Node, float],
    budgets: Mapping[Site, tuple[Budget, ...]],
    ways: Sequence[Way] = (Way(),),
) -> list[list[Edited]]:
    """`base` moved towards the aim for p' with these labels: one edit for each way and budget.

    Every site has as many budgets; a way has an edit for each at which it is taken. Sites without
    candidates, and nodes whose variance is 0, stay as they are.
    """
    any_site = next(iter(budgets.values()))
    drafts = [[_Draft(base, aim, variance) for _ in way.budgets(any_site)] for way in ways]
    for part in candidates.moves(base, labels):
        missing = {node: (aim[node] - base.values[node])[part.rows] for node in part.nodes}
        for directions, numbers in _by_directions(ways).items():
            along = part if directions is None else part.along(directions)
            for some in _searched_together(ways, numbers, along):
                masks = [ways[number].masks for number in some]
                own = ways[some[0]].budgets(budgets[part.site])
                by_way = _choices(along, masks, missing, variance, budgets=own)
                for number, mask, choices in zip(some, masks, by_way, strict=True):
                    # Of all candidates, not of those searched: a sum of the same few moves must
                    # not depend on how many others there are, or equal edits would be run twice.
                    site = _candidates(along, mask)
                    for edit, choice in zip(drafts[number], choices, strict=True):
                        edit.add(part, site, choice)
    return [[edit.done() for edit in draft] for draft in drafts]


def _by_directions(ways: Sequence[Way]) -> dict[Dictionary | None, list[int]]:
    """The numbers of the ways along the directions of each dictionary."""
    numbers: dict[Dictionary | None, list[int]] = {}
    for number, way in enumerate(ways):
        numbers.setdefault(way.directions, []).append(number)
    return numbers


def _searched_together(
    ways: Sequence[Way], numbers: Sequence[int], moves: SiteMoves
) -> Iterator[Sequence[int]]:
    """The ways that let every latent through, and those that do not, who have fewer candidates,
    apart also by whether they are bounded: as many at a time as memory should hold."""
    steps = next(iter(moves.steps.values()))
    most = max(1, STACKED_STEPS_AT_ONCE // max(1, steps.numel()))
    apart: dict[tuple[bool, bool], list[int]] = {}
    for number in numbers:
        way = ways[number]
        apart.setdefault((way.masks is None, way.bounded), []).append(number)
    for some in apart.values():
        yield from (some[first : first + most] for first in range(0, len(some), most))


def _choices(
    moves: SiteMoves,
    masks: Sequence[Masks | None],
    missing: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    budgets: tuple[Budget, ...],
) -> list[list[Choice]]:
    """What is chosen at each budget of the candidates that each mask lets through; only those that
    some mask lets through are searched."""
    kept = _let_through(moves, masks)
    shown = moves if kept is None else moves.at(kept)
    by_mask = search_together(
        [_candidates(shown, mask) for mask in masks], missing, variance, budgets=budgets
    )
    if kept is None:
        return by_mask
    return [[choice.among(kept, len(moves.latents)) for choice in some] for some in by_mask]


def _let_through(moves: SiteMoves, masks: Sequence[Masks | None]) -> Int[Tensor, "some"] | None:
    """The places of the candidates that some mask lets through at some node; None for all."""
    let = torch.zeros(len(moves.latents), dtype=torch.bool, device=moves.latents.device)
    for mask in masks:
        if mask is None:
            return None
        for node in moves.nodes:
            let |= mask[node][moves.latents].to(let)
    return let.nonzero().flatten()


def _candidates(moves: SiteMoves, mask: Masks | None) -> Candidates:
    allowed = moves if mask is None else moves.only(mask)
    return Candidates(allowed.steps, allowed.directions)


def copying(
    dictionary: Dictionary,
    base: Activations,
    target: Activations,
    *,
    variance: Mapping[Node, float],
    ks: Sequence[int],
    choice: Literal["joint", "per node"] = "joint",
) -> dict[int, Edited]:
    """At most k of the latents, and the bias, moved at each site from what they are in the base to
    what they are in the target, greedily (Makelov's test)."""
    if not ks or min(ks) < 0:
        raise SageError(
            f"An edit was asked for with k in {list(ks)}; at least one k is needed and none may be "
            "negative."
        )
    drafts = {k: _Draft(base, target.values, variance) for k in ks}
    for part in site_codes(dictionary, base, target):
        for nodes in [part.nodes] if choice == "joint" else [(node,) for node in part.nodes]:
            site = _copied(part, nodes)
            missing = {n: (target.values[n] - base.values[n])[part.rows] for n in nodes}
            path = walk(site, missing, variance, rule=greedy, most=max(ks))
            for k, draft in drafts.items():
                length = torch.full_like(path.distance[:, 0], k, dtype=torch.long)
                end = path.distance[:, min(k, path.chosen.shape[1])]
                chosen = path.first(length, site.count + 1)
                draft.add(part, site, Choice(chosen, end, path.distance[:, 0]))
    return {k: draft.done() for k, draft in drafts.items()}


def _copied(part: SiteCodes, nodes: Sequence[Node]) -> Candidates:
    before, after = part.runs
    return Candidates(
        {node: after.codes[node] - before.codes[node] for node in nodes},
        {node: part.directions[node] for node in nodes},
        {node: after.bias[node] - before.bias[node] for node in nodes},
    )


class _Draft:
    """An edit in the making: nodes that nothing moves keep their values, and their distance."""

    def __init__(
        self, base: Activations, aim: Mapping[Node, Tensor], variance: Mapping[Node, float]
    ) -> None:
        self.values = dict(base.values)
        self.varies = {node: variance[node] > 0 for node in base.nodes}
        self.picks = torch.zeros(len(base), dtype=torch.long)
        missing = {n: (aim[n] - base.values[n]).float().square().sum(-1) for n in base.nodes}
        shares = [m / variance[n] if self.varies[n] else m * 0 for n, m in missing.items()]
        self.start = torch.stack(shares).sum(0).cpu()
        self.distance = self.start.clone()
        self.chosen: dict[Site, list[tuple[slice, Tensor]]] = {}

    def add(self, part: SiteMoves | SiteCodes, site: Candidates, choice: Choice) -> None:
        """Make the choice of one site on some of the prompts."""
        rows = part.rows
        for node in filter(self.varies.__getitem__, site.nodes):
            moved = site.moved(node, choice.chosen)
            self.values[node] = _with_rows(self.values[node], rows, moved)
        self.picks[rows] += choice.chosen.sum(1).cpu()
        self.distance[rows] += (choice.distance - choice.start).cpu()
        bias = part.latents.new_full((choice.chosen.shape[1] - len(part.latents),), BIAS)
        numbers = torch.cat([part.latents, bias]).to(choice.chosen.device)
        self.chosen.setdefault(part.site, []).append((rows, _numbered(choice.chosen, numbers)))

    def done(self) -> Edited:
        """The edit."""
        prompts = len(self.picks)
        latents = {site: _joined(parts, prompts) for site, parts in self.chosen.items()}
        return Edited(self.values, self.picks, self.distance.clamp(min=0), self.start, latents)


def _with_rows(values: Tensor, rows: slice, moved: Tensor) -> Tensor:
    changed = values.clone()
    changed[rows] += moved.to(values)
    return changed


def _numbered(
    chosen: Bool[Tensor, "prompt candidate"], numbers: Int[Tensor, "candidate"]
) -> Int[Tensor, "prompt pick"]:
    """The numbers of the chosen candidates in their order, padded with -1."""
    most = int(chosen.sum(1).max()) if len(chosen) else 0
    order = chosen.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    return numbers[order].where(chosen.gather(1, order), -1).cpu()


def _joined(parts: Iterable[tuple[slice, Tensor]], prompts: int) -> Int[Tensor, "prompt pick"]:
    entries = list(parts)
    whole = torch.full((prompts, sum(picks.shape[1] for _, picks in entries)), -1)
    start = 0
    for rows, picks in entries:
        whole[rows, start : start + picks.shape[1]] = picks
        start += picks.shape[1]
    return whole
