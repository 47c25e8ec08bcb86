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
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sage.dictionaries.candidates import Candidates, State, states
from sage.nodes import Node

# Of the distance at the start: changes of the distance closer than this are a tie, and a smaller
# decrease is none.
TIE = 1e-6


class Path(NamedTuple):
    """The candidates in the order of their choice, -1 after the last, and D after so many of them
    (first: with none); D stays what it was after the last."""

    chosen: Int[Tensor, "prompt step"]
    distance: Float[Tensor, "prompt step_and_start"]

    def best_prefix(self, most: int) -> Int[Tensor, "prompt"]:
        """How many of the first `most` choices to take for the least D; of those that tie the
        fewest."""
        distance = self.distance[:, : most + 1]
        least = distance.min(1, keepdim=True).values
        return (distance <= least + TIE * distance[:, :1]).byte().argmax(1)

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

    Prompts do not depend on one another, up to the rounding of products: those of few moves are
    in single precision, those of many in double. A node whose variance is 0 has no part in D.
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
    stacked, aims = _stacked(some), {n: m.repeat(len(some), 1) for n, m in missing.items()}
    most = None if None in budgets else max(budget for budget in budgets if budget is not None)
    paths = _walks(stacked, aims, variance, rules=(greedy, pursuit), most=most)
    choices: list[Choice] = []
    for budget in budgets:
        by_greedy, by_pursuit = (_best(path, budget, stacked.count_with_shift) for path in paths)
        nearer = by_pursuit.distance < by_greedy.distance - TIE * by_greedy.start
        chosen = torch.where(nearer[:, None], by_pursuit.chosen, by_greedy.chosen)
        distance = torch.where(nearer, by_pursuit.distance, by_greedy.distance)
        choices.append(Choice(chosen, distance, by_greedy.start))
    prompts = len(paths[0].chosen) // len(some)
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
    its size, and D at the start, and tells the candidate of each prompt and whether there is one.
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
    return _walks(candidates, missing, variance, rules=(rule,), most=most)[0]


def _walks(
    candidates: Candidates,
    missing: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    rules: Sequence[Rule],
    most: Budget,
) -> list[Path]:
    """The path of each rule; prompts with about as many candidates walk together."""
    parts: list[list[Path]] = [[] for _ in rules]
    prompts: list[Tensor] = []
    for state in states(candidates, missing, variance, long=most is None):
        prompts.append(state.prompts)
        for paths, rule in zip(parts, rules, strict=True):
            paths.append(_walk(state, rule, most))
    order = torch.cat(prompts).argsort()
    return [_joined(paths, order) for paths in parts]


def _walk(state: State, rule: Rule, most: Budget) -> Path:
    """Choose one candidate after another by a rule until it finds none, or `most` are chosen.

    A prompt that has come to its end goes on beside the others, and what it does is not told; once
    half of them have, they are left out.
    """
    start, size = state.distance, rule.size(state.energy)
    rows = torch.arange(len(start), device=start.device)
    walking = torch.ones_like(start, dtype=torch.bool)
    chosen: list[Tensor] = []
    distances = [start]
    while state.number.shape[1] and (most is None or len(chosen) < most):
        pick, lowers = rule.choose(state.product, size, distances[0][rows])
        at, walking = pick[:, None], walking & lowers[:, None]
        count = int(walking.sum())
        if not count:
            break
        if 2 * count <= len(rows):
            left = walking[:, 0]
            state, size, rows = state.of_prompts(left), size[left], rows[left]
            at, walking = at[left], walking[left]
        state = state.after(at)
        size.scatter_(1, at, torch.inf)  # A walk's sizes are its own.
        number = state.number.gather(1, at).where(walking, -1)
        chosen.append(torch.full_like(start, -1, dtype=torch.long).index_copy(0, rows, number))
        now = state.distance.where(walking, distances[-1][rows])
        distances.append(distances[-1].index_copy(0, rows, now))
    distance = torch.cat(distances, 1).clamp(min=0).float()
    return Path(torch.cat(chosen, 1) if chosen else state.number[:, :0], distance)


def _joined(paths: Sequence[Path], order: Int[Tensor, "prompt"]) -> Path:
    """Paths of some prompts each as one of all of them, in this order."""
    steps = max(path.chosen.shape[1] for path in paths)
    chosen = [functional.pad(p.chosen, (0, steps - p.chosen.shape[1]), value=-1) for p in paths]
    ends = [p.distance[:, -1:].expand(-1, steps + 1 - p.distance.shape[1]) for p in paths]
    distance = [torch.cat([p.distance, end], 1) for p, end in zip(paths, ends, strict=True)]
    return Path(torch.cat(chosen)[order], torch.cat(distance)[order])


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
    return _least(torch.add(energy, product, alpha=2), TIE * start)


def _best_pointing(
    product: Float[Tensor, "prompt candidate"],
    length: Float[Tensor, "prompt candidate"],
    start: Float[Tensor, "prompt 1"],
) -> tuple[Int[Tensor, "prompt"], Bool[Tensor, "prompt"]]:
    """The candidate with the largest <move, what is missing> / |move|, the first of those that tie,
    and whether it is positive."""
    return _least(product / length, TIE * start.sqrt())


def _least(
    value: Float[Tensor, "prompt candidate"], tie: Float[Tensor, "prompt 1"]
) -> tuple[Int[Tensor, "prompt"], Bool[Tensor, "prompt"]]:
    """The first of the candidates whose value is the least up to a tie, and whether it is below 0
    by more than one."""
    least, tie = value.min(1, keepdim=True).values, tie.to(value)
    return (value <= least + tie).view(torch.uint8).argmax(1), (least < -tie)[:, 0]


greedy = Rule(torch.clone, _most_lowering)
pursuit = Rule(torch.sqrt, _best_pointing)
