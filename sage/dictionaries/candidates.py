"""The candidates that a search chooses among, and how far each step of it has come.

A move m changes D by 2 <m, wrong> + |m|^2, and the product <m', wrong> of every other candidate by
the overlap <m', m>. Of a dictionary's latents few move any one prompt: where that is so, each
prompt has a row of its own candidates alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.memory import SEARCHED_NUMBERS_AT_ONCE
from sage.nodes import Node

# Of all candidates: where no more than these move a prompt, a table of their overlaps pays. 30
# prompts and 3,700 candidates, two searches without a bound, with a table and without: .14 and
# .24 s at a share of .1, .49 and .53 at .2, 1.69 and 1.02 at .35.
FEW = 1 / 4
# Prompts walk together that have no fewer candidates than this share of the most.
ALIKE = 1 / 4


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

    @property
    def count_with_shift(self) -> int:
        """How many candidates there are, the shift among them."""
        return self.count + (self.shift is not None)

    def moved(
        self, node: Node, chosen: Bool[Tensor, "prompt candidate_and_shift"]
    ) -> Float[Tensor, "prompt d"]:
        """The sum of the chosen candidates' moves at a node."""
        total = (self.steps[node] * chosen[:, : self.count]) @ self.directions[node]
        if self.shift is None:
            return total
        return total + self.shift[node] * chosen[:, self.count :]


@runtime_checkable
class State(Protocol):
    """Where the walks of some prompts have come to.

    `number` are their candidates, filled up with a number that none has; `product` is each one's
    <m, wrong>, `energy` its |m|^2, infinite for what fills up, and `distance` is D.
    """

    @property
    def prompts(self) -> Int[Tensor, "prompt"]: ...
    @property
    def number(self) -> Int[Tensor, "prompt own"]: ...
    @property
    def product(self) -> Float[Tensor, "prompt own"]: ...
    @property
    def energy(self) -> Float[Tensor, "prompt own"]: ...
    @property
    def distance(self) -> Float[Tensor, "prompt 1"]: ...

    def of_prompts(self, kept: Bool[Tensor, "prompt"]) -> State:
        """The same of some of the prompts."""
        ...

    def after(self, at: Int[Tensor, "prompt 1"]) -> State:
        """The same with the candidate at one place of each prompt moved."""
        ...


def states(
    candidates: Candidates,
    missing: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    long: bool,
) -> Iterator[State]:
    """Where walks begin: prompts with about as many candidates together, as many at a time as
    memory should hold.

    For `long` walks overlaps of every two moves of a prompt are computed beforehand, where that
    pays.
    """
    site = _Site.of(candidates, missing, variance)
    width = sum(wrong.shape[1] for wrong in site.wrong.values())
    order = site.count.argsort(descending=True, stable=True)
    counts = site.count[order].tolist()
    first = 0
    while first < len(order):
        most = counts[first]
        table = most * (most + width)
        tabled = long and most <= FEW * candidates.count and table <= SEARCHED_NUMBERS_AT_ONCE
        numbers = table if tabled else max(candidates.count_with_shift, most * len(site.wrong))
        last = first + max(1, SEARCHED_NUMBERS_AT_ONCE // max(1, numbers))
        last = first + sum(count >= ALIKE * most for count in counts[first:last])
        moves = site.moves_of(order[first:last], most)
        yield _Overlapping.of(moves) if tabled else _Multiplied.of(moves)
        first = last
    if not len(order):
        yield _Multiplied.of(site.moves_of(order, 0))


@dataclass(frozen=True)
class _Site:
    """One site's candidates, what is wrong, every node in units of its standard deviation, and the
    candidates that move each prompt, in their order: how many, and which."""

    candidates: Candidates
    directions: Mapping[Node, Tensor]
    shift: Mapping[Node, Tensor]
    wrong: Mapping[Node, Tensor]
    count: Int[Tensor, "prompt"]
    own: Int[Tensor, "prompt own"]

    @staticmethod
    def of(
        candidates: Candidates, missing: Mapping[Node, Tensor], variance: Mapping[Node, float]
    ) -> _Site:
        scale = {n: variance[n] ** -0.5 if variance[n] > 0 else 0.0 for n in candidates.nodes}
        directions = {n: candidates.directions[n].float() * scale[n] for n in candidates.nodes}
        shift = {n: move.float() * scale[n] for n, move in (candidates.shift or {}).items()}
        wrong = {n: (missing[n].float() * -scale[n]).double() for n in candidates.nodes}
        count, own = _own(_moving(candidates, directions, shift))
        return _Site(candidates, directions, shift, wrong, count, own)

    def moves_of(self, prompts: Int[Tensor, "some"], most: int) -> _Moves:
        """The moves of some prompts, which have at most so many candidates; where that is most of
        all, every prompt has all."""
        own, count = self.own[prompts, :most], self.candidates.count
        every = self.candidates.count_with_shift
        if 2 * most > every:
            own = torch.arange(every, device=own.device).expand(len(prompts), every)
        latent = own.clamp(max=max(count - 1, 0))
        steps = {node: self.directions[node].new_zeros(own.shape) for node in self.wrong}
        for node in steps if count else ():
            step = self.candidates.steps[node][prompts[:, None], latent]
            steps[node] = step.float() * (own < count)
        shift = {node: move[prompts] for node, move in self.shift.items()}
        wrong = {node: what[prompts] for node, what in self.wrong.items()}
        return _Moves(prompts, own, latent, self.directions, steps, shift, wrong)


def _moving(
    candidates: Candidates, directions: Mapping[Node, Tensor], shift: Mapping[Node, Tensor]
) -> Bool[Tensor, "prompt candidate_and_shift"]:
    """Which candidates move any node of a prompt."""
    lengths = {node: whole.square().sum(-1) > 0 for node, whole in directions.items()}
    steps = [(candidates.steps[node] != 0) & lengths[node] for node in candidates.nodes]
    moving = torch.stack(steps).any(0)
    if not shift:
        return moving
    shifts = [(move != 0).any(-1, keepdim=True) for move in shift.values()]
    return torch.cat([moving, torch.stack(shifts).any(0)], 1)


def _own(
    moving: Bool[Tensor, "prompt candidate"],
) -> tuple[Int[Tensor, "prompt"], Int[Tensor, "prompt own"]]:
    """How many candidates move each prompt, and their numbers, filled up with one more than there
    are."""
    count = moving.sum(1)
    prompt, candidate = moving.nonzero(as_tuple=True)
    place = torch.arange(len(prompt), device=moving.device) - (count.cumsum(0) - count)[prompt]
    most = int(count.max()) if len(count) else 0
    own = torch.full((len(moving), most), moving.shape[1], device=moving.device)
    own[prompt, place] = candidate
    return count, own


@dataclass(frozen=True)
class _Moves:
    """What the own candidates of some prompts do, and what is wrong there.

    A candidate goes its step along `directions[latent]`; the step of the shift, and of what fills
    up, is 0.
    """

    prompts: Int[Tensor, "prompt"]
    number: Int[Tensor, "prompt own"]
    latent: Int[Tensor, "prompt own"]
    directions: Mapping[Node, Tensor]
    steps: Mapping[Node, Tensor]
    shift: Mapping[Node, Tensor]
    wrong: Mapping[Node, Tensor]

    @property
    def _in_order(self) -> bool:
        """Whether every prompt has all candidates in their order and no shift, or there is one
        candidate: nothing to be looked up."""
        return self.number.shape[1] == len(next(iter(self.directions.values())))

    @property
    def _shifts(self) -> Bool[Tensor, "prompt own"]:
        return self.number == len(next(iter(self.directions.values())))

    def of_prompts(self, kept: Bool[Tensor, "prompt"]) -> _Moves:
        """The same of some of the prompts."""
        return _Moves(
            self.prompts[kept],
            self.number[kept],
            self.latent[kept],
            self.directions,
            {node: step[kept] for node, step in self.steps.items()},
            {node: move[kept] for node, move in self.shift.items()},
            {node: what[kept] for node, what in self.wrong.items()},
        )

    def at(self, node: Node, places: Int[Tensor, "prompt some"]) -> Float[Tensor, "prompt some d"]:
        """What the candidates at some places do to a node."""
        directions = self.directions[node]
        moves = directions.new_zeros(*places.shape, directions.shape[1])
        if len(directions):
            along = directions[self.latent.gather(1, places)]
            moves = self.steps[node].gather(1, places)[..., None] * along
        if node in self.shift:
            shifts = self._shifts.gather(1, places)[..., None]
            moves = torch.where(shifts, self.shift[node][:, None], moves)
        return moves.double()

    def whole(self) -> Float[Tensor, "prompt own d"]:
        """What every candidate does to all nodes, side by side."""
        places = torch.arange(self.number.shape[1], device=self.number.device)
        places = places.expand_as(self.number)
        return torch.cat([self.at(node, places) for node in self.wrong], -1)

    def product(self, vectors: Mapping[Node, Tensor]) -> Float[Tensor, "prompt own"]:
        """<m, v> of every candidate with one vector v of each prompt and node."""
        total = torch.zeros(self.number.shape, device=self.number.device)
        for node, vector in vectors.items():
            v, directions = vector.float(), self.directions[node]
            if len(directions):
                along = v @ directions.T
                along = along if self._in_order else along.gather(1, self.latent)
                total += along * self.steps[node]
            if node in self.shift:
                total += (self.shift[node] * v).sum(-1, keepdim=True) * self._shifts
        return total

    def energy(self) -> Float[Tensor, "prompt own"]:
        """|m|^2 of every candidate."""
        total = torch.zeros(self.number.shape, device=self.number.device)
        for node, directions in self.directions.items():
            if len(directions):
                total += self.steps[node].square() * directions.square().sum(-1)[self.latent]
            if node in self.shift:
                total += self.shift[node].square().sum(-1, keepdim=True) * self._shifts
        return total


@dataclass(frozen=True)
class _Multiplied:
    """Products computed anew after each move: for a few of them."""

    moves: _Moves
    wrong: Mapping[Node, Tensor]
    product: Float[Tensor, "prompt own"]
    energy: Float[Tensor, "prompt own"]
    distance: Float[Tensor, "prompt 1"]

    @staticmethod
    def of(moves: _Moves) -> _Multiplied:
        energy = _or_infinite(moves.energy())
        product = moves.product(moves.wrong)
        return _Multiplied(moves, moves.wrong, product, energy, _length(moves.wrong))

    @property
    def prompts(self) -> Int[Tensor, "prompt"]:
        return self.moves.prompts

    @property
    def number(self) -> Int[Tensor, "prompt own"]:
        return self.moves.number

    def of_prompts(self, kept: Bool[Tensor, "prompt"]) -> _Multiplied:
        """The same of some of the prompts."""
        return _Multiplied(
            self.moves.of_prompts(kept),
            {node: what[kept] for node, what in self.wrong.items()},
            self.product[kept],
            self.energy[kept],
            self.distance[kept],
        )

    def after(self, at: Int[Tensor, "prompt 1"]) -> _Multiplied:
        """The same with the candidate at one place of each prompt moved."""
        wrong = {node: what + self.moves.at(node, at)[:, 0] for node, what in self.wrong.items()}
        product = self.moves.product(wrong)
        return replace(self, wrong=wrong, product=product, distance=_length(wrong))


@dataclass(frozen=True)
class _Overlapping:
    """Products changed by the overlaps of moves, in double precision: for many of them.

    `overlaps` are <m, m'> of every two moves of a prompt.
    """

    prompts: Int[Tensor, "prompt"]
    number: Int[Tensor, "prompt own"]
    overlaps: Float[Tensor, "prompt own own"]
    energy: Float[Tensor, "prompt own"]
    product: Float[Tensor, "prompt own"]
    distance: Float[Tensor, "prompt 1"]

    @staticmethod
    def of(moves: _Moves) -> _Overlapping:
        whole, wrong = moves.whole(), torch.cat([*moves.wrong.values()], 1)
        overlaps = whole @ whole.mT
        energy = _or_infinite(overlaps.diagonal(dim1=1, dim2=2))
        product, distance = (whole @ wrong[..., None])[..., 0], _length(moves.wrong)
        return _Overlapping(moves.prompts, moves.number, overlaps, energy, product, distance)

    def of_prompts(self, kept: Bool[Tensor, "prompt"]) -> _Overlapping:
        """The same of some of the prompts."""
        return _Overlapping(
            self.prompts[kept],
            self.number[kept],
            self.overlaps[kept],
            self.energy[kept],
            self.product[kept],
            self.distance[kept],
        )

    def after(self, at: Int[Tensor, "prompt 1"]) -> _Overlapping:
        """The same with the candidate at one place of each prompt moved."""
        change = 2 * self.product.gather(1, at) + self.energy.gather(1, at)
        overlap = self.overlaps.take_along_dim(at[..., None], 1)[:, 0]
        return replace(self, product=self.product + overlap, distance=self.distance + change)


def _or_infinite(energy: Float[Tensor, "prompt own"]) -> Float[Tensor, "prompt own"]:
    return energy.masked_fill(energy == 0, torch.inf)


def _length(wrong: Mapping[Node, Tensor]) -> Float[Tensor, "prompt 1"]:
    return torch.stack([what.square().sum(-1, keepdim=True) for what in wrong.values()]).sum(0)
