"""The greedy sparse choice: which few latents, moved, bring activations nearest to a
counterfactual.

Method, section 5 (T2), after Makelov, Lange and Nanda 2024 (arXiv 2405.08366, section 5.1): exact
minimisation is NP-hard, greedy choice stays within a few per cent of it. Supervised and projected
dictionaries choose by this same code.

One candidate i moves every node n of its site by (beta_in - alpha_in) u_in. With r_n = current_n -
target_n, what is still wrong, the distance is D = sum_n |r_n|^2 / Var_n, and a move takes r_n to
r_n + (beta_in - alpha_in) u_in, so that D changes by

    sum_n [ 2 (beta_in - alpha_in) <u_in, r_n> + (beta_in - alpha_in)^2 |u_in|^2 ] / Var_n.

The second term is known before the first step; the first costs one product of the site's directions
with r per step.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Edited
from sage.errors import SageError
from sage.nodes import Node

# Of the distance at the start: changes of the distance closer than this are a tie, and a smaller
# decrease is none.
TIE = 1e-6


@dataclass(frozen=True)
class Candidates:
    """What may be moved at one site, whose nodes move together.

    `alpha[node]` and `beta[node]` are codes [prompt, candidate] of the base and the target,
    `directions[node]` is [candidate, d]. `shift`, [prompt, d], is the move of one candidate more:
    the `bias` pseudo-latent, numbered after all others.
    """

    alpha: Mapping[Node, Tensor]
    beta: Mapping[Node, Tensor]
    directions: Mapping[Node, Tensor]
    shift: Mapping[Node, Tensor] | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(sorted(self.alpha))

    def apart(self) -> list[Candidates]:
        """The same candidates with a choice of their own at every node (Makelov's)."""
        return [
            Candidates(
                {node: self.alpha[node]},
                {node: self.beta[node]},
                {node: self.directions[node]},
                None if self.shift is None else {node: self.shift[node]},
            )
            for node in self.nodes
        ]


class Choice(NamedTuple):
    """One site's edit for every k, and the candidates in the order in which they were chosen, -1
    after the last."""

    edited: dict[int, Edited]
    chosen: Int[Tensor, "prompt step"]


def greedy(
    candidates: Sequence[Candidates],
    base: Mapping[Node, Tensor],
    target: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    ks: Sequence[int],
) -> dict[int, Edited]:
    """The edit of several sites with at most k candidates at each, for every k, from one run.

    `picks` is summed over sites; `magnitude` is the mean over all their nodes of the share of the
    node's reconstruction taken away.
    """
    if not candidates:
        raise SageError("An edit needs at least one site; this one was given no nodes.")
    return join_sites([choose(site, base, target, variance, ks=ks).edited for site in candidates])


def join_sites(parts: Sequence[Mapping[int, Edited]]) -> dict[int, Edited]:
    """Edits of different sites of the same prompts as one: picks are summed, magnitude is the mean
    over all nodes."""
    sizes = [len(next(iter(part.values())).values) for part in parts]
    return {
        k: Edited(
            {node: value for part in parts for node, value in part[k].values.items()},
            _total(part[k].picks for part in parts),
            _total(part[k].magnitude * size for part, size in zip(parts, sizes, strict=True))
            / sum(sizes),
        )
        for k in parts[0]
    }


def join_prompts(parts: Sequence[Mapping[int, Edited]]) -> dict[int, Edited]:
    """Edits of the same nodes on different prompts as one, the prompts in the order of the parts."""
    return {
        k: Edited(
            {
                node: torch.cat([part[k].values[node] for part in parts])
                for node in parts[0][k].values
            },
            torch.cat([part[k].picks for part in parts]),
            torch.cat([part[k].magnitude for part in parts]),
        )
        for k in parts[0]
    }


def choose(
    candidates: Candidates,
    base: Mapping[Node, Tensor],
    target: Mapping[Node, Tensor],
    variance: Mapping[Node, float],
    *,
    ks: Sequence[int],
) -> Choice:
    """At most k candidates of one site, for every k; a prompt stops where no candidate lowers its
    distance.

    Prompts do not depend on one another. Of candidates that tie the one with the lowest number is
    taken. A node whose variance is 0 is left as it is.
    """
    if not ks or min(ks) < 0:
        raise SageError(
            f"An edit was asked for with k in {list(ks)}; at least one k is needed and none may be negative."
        )
    numbers = _moving(candidates)
    movers = {node: _mover(candidates, node, numbers, variance[node]) for node in candidates.nodes}
    wrong = {
        node: (base[node].float() - target[node].float()) * mover.scale
        for node, mover in movers.items()
    }
    start = dict(wrong)
    energy = _total(mover.energy() for mover in movers.values())
    energy.masked_fill_(energy == 0, torch.inf)
    tie = TIE * _total(distance.square().sum(-1, keepdim=True) for distance in wrong.values())
    picks = torch.zeros(len(energy), dtype=torch.long, device=energy.device)
    removed = torch.zeros(len(energy), device=energy.device)
    chosen: list[Tensor] = []
    edited: dict[int, Edited] = {}
    for step in range(max(ks) + 1):
        if step in ks:
            values = {
                node: base[node] + (wrong[node] - start[node]) * variance[node] ** 0.5
                for node in movers
            }
            edited[step] = Edited(values, picks, removed / len(movers))
        if step == max(ks) or (chosen and not (chosen[-1] >= 0).any()):
            continue
        change = energy.clone()
        for node, mover in movers.items():
            mover.add_products(change, wrong[node])
        pick, found = _lowest(change, tie)
        for node, mover in movers.items():
            wrong[node] = wrong[node] + mover.move(pick) * found[:, None]
            removed = removed + mover.removes.gather(1, pick[:, None])[:, 0] * found
        energy[found, pick[found]] = torch.inf
        picks = picks + found
        chosen.append(torch.where(found, numbers[pick], -1))
    return Choice(edited, torch.stack(chosen, 1) if chosen else picks.new_zeros(len(picks), 0))


class _Mover(NamedTuple):
    """What each candidate does at one node: `by[:, i]` times `directions[i]`; the last is the
    shift, or nothing.

    Directions and shift are divided by the node's standard deviation, `scale` is its inverse.
    `removes[:, i]` is the share of the node's reconstruction that choosing a candidate takes away.
    """

    by: Float[Tensor, "prompt candidate"]
    directions: Float[Tensor, "candidate d"]
    shift: Float[Tensor, "prompt d"]
    removes: Float[Tensor, "prompt candidate_and_shift"]
    scale: float

    def energy(self) -> Float[Tensor, "prompt candidate_and_shift"]:
        """|move|^2 / Var_n of every candidate."""
        return torch.cat(
            [
                self.by.square() * self.directions.square().sum(-1),
                self.shift.square().sum(-1, keepdim=True),
            ],
            1,
        )

    def add_products(
        self, change: Float[Tensor, "prompt candidate_and_shift"], wrong: Float[Tensor, "prompt d"]
    ) -> None:
        """Add 2 <move, wrong> / Var_n of every candidate to `change`."""
        change[:, :-1].addcmul_(self.by, wrong @ self.directions.T, value=2)
        change[:, -1].add_((self.shift * wrong).sum(-1), alpha=2)

    def move(self, pick: Int[Tensor, "prompt"]) -> Float[Tensor, "prompt d"]:
        """The move of one candidate per prompt, in standard deviations of the node."""
        count = len(self.directions)
        if not count:
            return self.shift
        latent = pick.clamp(max=count - 1)
        return torch.where(
            (pick == count)[:, None],
            self.shift,
            self.by.gather(1, latent[:, None]) * self.directions[latent],
        )


def _moving(candidates: Candidates) -> Int[Tensor, "candidate"]:
    """The numbers of the candidates that move some node of some prompt, and that of the shift."""
    moving = torch.stack(
        [(candidates.beta[node] != candidates.alpha[node]).any(0) for node in candidates.nodes]
    ).any(0)
    return torch.cat(
        [moving.nonzero().flatten(), torch.tensor([len(moving)], device=moving.device)]
    )


def _mover(
    candidates: Candidates, node: Node, numbers: Int[Tensor, "candidate"], variance: float
) -> _Mover:
    alpha, beta = candidates.alpha[node].float(), candidates.beta[node].float()
    every = candidates.directions[node].float()
    scale = variance**-0.5 if variance > 0 else 0.0
    latents = numbers[:-1]
    directions = every[latents]
    whole = alpha @ every
    taken = (alpha - beta)[:, latents].clamp(min=0)
    weight = (whole @ directions.T) / whole.square().sum(-1, keepdim=True).clamp(
        min=torch.finfo(whole.dtype).tiny
    )
    removes = torch.cat([taken * weight, weight.new_zeros(len(weight), 1)], 1)
    shift = torch.zeros_like(whole) if candidates.shift is None else candidates.shift[node].float()
    return _Mover((beta - alpha)[:, latents], directions * scale, shift * scale, removes, scale)


def _lowest(
    change: Float[Tensor, "prompt candidate"], tie: Float[Tensor, "prompt 1"]
) -> tuple[Int[Tensor, "prompt"], Bool[Tensor, "prompt"]]:
    """The first of each prompt's best candidates, ties included, and whether it lowers the
    distance."""
    best = change.min(1, keepdim=True).values
    return (change <= best + tie).byte().argmax(1), (best < -tie)[:, 0]


def _total(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)
