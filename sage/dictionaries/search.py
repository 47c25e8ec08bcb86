"""Which few latents, moved, bring the activations of a site nearest to an aim: two searches.

Exact minimisation is NP-hard. One candidate i moves every node n of its site by step_in u_in. With
r_n = current_n - aim_n, what is still wrong, the distance is D = sum_n |r_n|^2 / Var_n, and a move
changes it by sum_n [2 step_in <u_in, r_n> + step_in^2 |u_in|^2] / Var_n. *Greedy* (Makelov, Lange
and Nanda 2024, arXiv 2405.08366, section 5.1) takes the candidate that lowers D most, until none
does. It stalls where single moves overshoot: between two values whose directions have a cosine of
.5 or more neither taking the old one away nor adding the new one helps alone. *Pursuit* therefore
takes the candidate that points best at what is missing, until none points there, and of its
choices the best prefix counts (method, section 5.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.nodes import Node

# Of the distance at the start: changes of the distance closer than this are a tie, and a smaller
# decrease is none.
TIE = 1e-6


@dataclass(frozen=True)
class Candidates:
    """What may be moved at one site, whose nodes move together.

    `steps[node]` is [prompt, candidate], `directions[node]` [candidate, d]. `shift`, [prompt, d],
    is the move of one candidate more, numbered after all others: copying's `bias` pseudo-latent.
    """

    steps: Mapping[Node, Tensor]
    directions: Mapping[Node, Tensor]
    shift: Mapping[Node, Tensor] | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.steps))

    @property
    def count(self) -> int:
        """How many candidates there are, the shift not among them."""
        return len(next(iter(self.directions.values())))

    def moved(
        self, node: Node, chosen: Bool[Tensor, "prompt candidate_and_shift"]
    ) -> Float[Tensor, "prompt d"]:
        """The sum of the chosen candidates' moves at a node."""
        total = (self.steps[node] * chosen[:, : self.count]) @ self.directions[node]
        if self.shift is None:
            return total
        return total + self.shift[node] * chosen[:, self.count :]


class Path(NamedTuple):
    """The candidates in the order of their choice, -1 after the last, and D after so many of them
    (first: with none); D stays what it was after the last."""

    chosen: Int[Tensor, "prompt step"]
    distance: Float[Tensor, "prompt step_and_start"]

    def best_prefix(self, most: int) -> Int[Tensor, "prompt"]:
        """How many of the first `most` choices to take for the least D; of equals the fewest."""
        return self.distance[:, : most + 1].argmin(1)

    def first(self, count: Int[Tensor, "prompt"], candidates: int) -> Bool[Tensor, "prompt all"]:
        """Which candidates the first `count` choices of each prompt are."""
        taken = torch.zeros(len(self.chosen), candidates + 1, dtype=torch.bool)
        taken = taken.to(self.chosen.device)
        order = torch.arange(self.chosen.shape[1], device=self.chosen.device)
        inside = (order < count[:, None]) & (self.chosen >= 0)
        taken.scatter_(1, self.chosen.where(inside, candidates), value=True)
        return taken[:, :candidates]


class Choice(NamedTuple):
    """What a site's prompts choose at one budget: which candidates, and D with and without them."""

    chosen: Bool[Tensor, "prompt candidate_and_shift"]
    distance: Float[Tensor, "prompt"]
    start: Float[Tensor, "prompt"]

    def of(self, rows: slice) -> Choice:
        """The choice of some of the prompts."""
        return Choice(self.chosen[rows], self.distance[rows], self.start[rows])

    def among(self, places: Int[Tensor, "candidate_and_shift"], count: int) -> Choice:
        """The same choice as one among `count` candidates, of which these were at `places`."""
        chosen = torch.zeros(len(self.chosen), count, dtype=torch.bool, device=self.chosen.device)
        chosen[:, places] = self.chosen
        return self._replace(chosen=chosen)


ALL: int | None = None
"""The budget without a bound: until both searches stop."""

Budget = int | None


def search(
    candidates: Candidates,
    missing: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    budgets: tuple[Budget, ...],
) -> list[Choice]:
    """For every budget and prompt the choice of the search that ends nearer to the aim (greedy's
    where both end as near). `missing[node]` is aim - activation, [prompt, d].

    Prompts do not depend on one another. A node whose variance is 0 has no part in D.
    """
    return search_together([candidates], missing, variance, budgets=budgets)[0]


def search_together(
    some: Sequence[Candidates],
    missing: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    budgets: tuple[Budget, ...],
) -> list[list[Choice]]:
    """The same for several sets of candidates that move along the same directions, each by itself:
    one pass, in which a prompt stands once for each of them."""
    site = _Site.of(
        _stacked(some), {n: m.repeat(len(some), 1) for n, m in missing.items()}, variance
    )
    most = None if None in budgets else max(budget for budget in budgets if budget is not None)
    paths = [site.walk(rule, most) for rule in (greedy, pursuit)]
    choices: list[Choice] = []
    for budget in budgets:
        by_greedy, by_pursuit = (_best(path, budget, site.candidates) for path in paths)
        nearer = by_pursuit.distance < by_greedy.distance - site.tie
        chosen = torch.where(nearer[:, None], by_pursuit.chosen, by_greedy.chosen)
        distance = torch.where(nearer, by_pursuit.distance, by_greedy.distance)
        choices.append(Choice(chosen, distance, by_greedy.start))
    prompts = len(site.size) // len(some)
    return [
        [choice.of(slice(n * prompts, (n + 1) * prompts)) for choice in choices]
        for n in range(len(some))
    ]


def _stacked(some: Sequence[Candidates]) -> Candidates:
    """The prompts of several sets of candidates one after another."""
    first = some[0]
    if len(some) == 1:
        return first
    assert first.shift is None
    steps = {n: torch.cat([each.steps[n] for each in some]) for n in first.nodes}
    return Candidates(steps, first.directions)


class Rule(NamedTuple):
    """Which candidate comes next.

    `size` measures moves once, from their |move|^2; `choose` takes every candidate's <move, wrong>,
    which it may write over, its size, and D at the start, and tells the candidate of each prompt
    and whether there is one.
    """

    size: Callable[[Tensor], Tensor]
    choose: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def walk(
    candidates: Candidates,
    missing: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    rule: Rule,
    most: Budget = ALL,
) -> Path:
    """One of the two searches alone, `greedy` or `pursuit`, until it finds no candidate or has
    chosen `most`."""
    return _Site.of(candidates, missing, variance).walk(rule, most)


def _best(path: Path, budget: Budget, candidates: int) -> Choice:
    """The best that a budget lets take of a path's choices."""
    steps = path.chosen.shape[1]
    length = path.best_prefix(steps if budget is None else min(budget, steps))
    distance = path.distance.gather(1, length[:, None])[:, 0]
    return Choice(path.first(length, candidates), distance, path.distance[:, 0])


def _most_lowering(
    product: Float[Tensor, "prompt candidate"],
    energy: Float[Tensor, "prompt candidate"],
    start: Float[Tensor, "prompt 1"],
) -> tuple[Int[Tensor, "prompt"], Bool[Tensor, "prompt"]]:
    """The candidate that lowers D most, the first of those that tie, and whether it lowers it."""
    return _least(torch.add(energy, product, alpha=2, out=product), TIE * start)


def _best_pointing(
    product: Float[Tensor, "prompt candidate"],
    length: Float[Tensor, "prompt candidate"],
    start: Float[Tensor, "prompt 1"],
) -> tuple[Int[Tensor, "prompt"], Bool[Tensor, "prompt"]]:
    """The candidate with the largest <move, what is missing> / |move|, the first of those that tie,
    and whether it is positive."""
    return _least(product.div_(length), TIE * start.sqrt())


def _least(
    value: Float[Tensor, "prompt candidate"], tie: Float[Tensor, "prompt 1"]
) -> tuple[Int[Tensor, "prompt"], Bool[Tensor, "prompt"]]:
    """The first of the candidates whose value is the least up to a tie, and whether it is below 0
    by more than one."""
    least = value.min(1, keepdim=True).values
    return (value <= least + tie).view(torch.uint8).argmax(1), (least < -tie)[:, 0]


greedy = Rule(torch.clone, _most_lowering)
pursuit = Rule(torch.sqrt, _best_pointing)


@dataclass(frozen=True)
class _Site:
    """One site's candidates and what is wrong, every node in units of its standard deviation.

    `size` is |move|^2, in a walk what its rule makes of it; infinite for candidates that do not
    move a prompt.
    """

    steps: Mapping[Node, Tensor]
    directions: Mapping[Node, Tensor]
    shift: Mapping[Node, Tensor] | None
    wrong: Mapping[Node, Tensor]
    size: Float[Tensor, "prompt candidate"]

    @staticmethod
    def of(
        candidates: Candidates, missing: Mapping[Node, Tensor], variance: Mapping[Node, float]
    ) -> _Site:
        scale = {n: variance[n] ** -0.5 if variance[n] > 0 else 0.0 for n in candidates.nodes}
        directions = {n: candidates.directions[n].float() * scale[n] for n in candidates.nodes}
        steps = {node: candidates.steps[node].float() for node in candidates.nodes}
        wrong = {node: -missing[node].float() * scale[node] for node in candidates.nodes}
        energies = [steps[n].square() * directions[n].square().sum(-1) for n in candidates.nodes]
        energy = torch.stack(energies).sum(0)
        shift = None
        if candidates.shift is not None:
            shift = {node: candidates.shift[node].float() * scale[node] for node in steps}
            lengths = [move.square().sum(-1, keepdim=True) for move in shift.values()]
            energy = torch.cat([energy, torch.stack(lengths).sum(0)], 1)
        return _Site(steps, directions, shift, wrong, energy.masked_fill(energy == 0, torch.inf))

    @property
    def candidates(self) -> int:
        """How many candidates there are, the shift among them."""
        return self.size.shape[1]

    @property
    def distance(self) -> Float[Tensor, "prompt"]:
        return torch.stack([wrong.square().sum(-1) for wrong in self.wrong.values()]).sum(0)

    @property
    def tie(self) -> Float[Tensor, "prompt"]:
        return TIE * self.distance

    def walk(self, rule: Rule, most: Budget) -> Path:
        """Choose one candidate after another by a rule until it finds none, or `most` are chosen.

        Prompts that have come to their end are left out of what is computed.
        """
        start = self.distance
        rows = torch.arange(len(start), device=start.device)
        left, current = replace(self, size=rule.size(self.size)), start
        chosen: list[Tensor] = []
        distances = [start]
        while len(rows) and self.candidates and (most is None or len(chosen) < most):
            pick, moves = rule.choose(left.product(), left.size, start[rows, None])
            if not bool(moves.all()):
                left, rows, pick = left.at(moves), rows[moves], pick[moves]
            if not len(rows):
                break
            left = left.after(pick)
            left.size.scatter_(1, pick[:, None], torch.inf)  # A walk's sizes are its own.
            chosen.append(torch.full_like(start, -1, dtype=torch.long).index_copy(0, rows, pick))
            current = current.index_copy(0, rows, left.distance)
            distances.append(current)
        empty = torch.zeros(len(start), 0, dtype=torch.long, device=start.device)
        return Path(torch.stack(chosen, 1) if chosen else empty, torch.stack(distances, 1))

    def product(self) -> Float[Tensor, "prompt candidate"]:
        """<move, wrong> of every candidate."""
        parts = ((w @ self.directions[n].T).mul_(self.steps[n]) for n, w in self.wrong.items())
        product = reduce(Tensor.add_, parts)
        if self.shift is None:
            return product
        along = [(self.shift[n] * wrong).sum(-1, keepdim=True) for n, wrong in self.wrong.items()]
        return torch.cat([product, torch.stack(along).sum(0)], 1)

    def at(self, kept: Bool[Tensor, "prompt"]) -> _Site:
        """The same of some of the prompts."""
        return _Site(
            {node: step[kept] for node, step in self.steps.items()},
            self.directions,
            self.shift and {node: move[kept] for node, move in self.shift.items()},
            {node: wrong[kept] for node, wrong in self.wrong.items()},
            self.size[kept],
        )

    def after(self, pick: Int[Tensor, "prompt"]) -> _Site:
        """The same with one candidate of each prompt moved."""
        count = self.candidates - (self.shift is not None)
        latent = pick.clamp(max=max(count - 1, 0))
        wrong: dict[Node, Tensor] = {}
        for node, before in self.wrong.items():
            move = torch.zeros_like(before)
            if count:
                move = self.steps[node].gather(1, latent[:, None]) * self.directions[node][latent]
            if self.shift is not None:
                move = torch.where((pick == count)[:, None], self.shift[node], move)
            wrong[node] = before + move
        return replace(self, wrong=wrong)
