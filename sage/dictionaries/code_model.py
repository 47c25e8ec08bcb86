"""Codes told from labels: what each latent is expected to hold, given a prompt's labels alone.

Method, section 5.3. On `fit` every latent's code is regressed on the same columns as the node's
supervised features, nuisance columns and the fallback for unseen pairs included: E[f_i | labels] =
f_bar_i + C B_i. From the labels of p and p' alone then follows by how much a code should change,
delta_i = (C(p') - C(p)) B_i, and with which standard error. A latent is a candidate on a prompt
only where delta_i exceeds twice that error: noise clipped at 0 would else only ever add.

C'F is accumulated a few prompts at a time, and no more than one site's sums are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Labels, Site, sites
from sage.dictionaries.design import Design
from sage.dictionaries.dictionary import Dictionary, SiteMoves, site_codes, width
from sage.dictionaries.least_squares import Solver
from sage.dictionaries.supervised import FeatureDictionary, NodeFit
from sage.nodes import Node

# Standard errors by which a change of a code must differ from 0.
ERRORS = 2.0
# Of a code's root mean square: no code is told more exactly. A change that is nothing but rounding
# would else be a candidate, and the pursuit asks only where a candidate points.
ROUNDING = 1e-6
# Of the codes of some prompts: where more than this share is not 0, they are added up row by row.
# That takes as long as one by one at a share of .05 for 400 prompts of 3,000 latents, and at one
# above .8 for 20, of which wide dictionaries are shown so few at a time.
SPARSE = 0.3


class CodeRegression(NamedTuple):
    """One set of codes regressed on one design: B of the attributes' features, and each latent's
    residual standard deviation; `spread` is the features' part of pinv(C'C)."""

    effects: Float[Tensor, "feature active"]
    noise: Float[Tensor, "active"]
    spread: Float[Tensor, "feature feature"]

    def change(self, step: Float[Tensor, "prompt feature"]) -> Float[Tensor, "prompt active"]:
        """delta of every latent, 0 where it is within two standard errors of 0."""
        delta = step @ self.effects
        leverage = ((step.double() @ self.spread) * step.double()).sum(-1).clamp(min=0).sqrt()
        error = leverage.to(delta)[:, None] * self.noise
        return delta * (delta.abs() > ERRORS * error)


class NodeCodes(NamedTuple):
    """A node's regressions: on the additive design, and on the coupled one where that was chosen.

    `latents` numbers those that are active on fit; the others are never candidates.
    """

    latents: Int[Tensor, "active"]
    additive: CodeRegression
    coupled: CodeRegression | None


@dataclass(frozen=True)
class CodeModel:
    """A dictionary's codes as functions of labels; `fits` are the supervised fits whose designs the
    regressions share."""

    dictionary: Dictionary
    fits: Mapping[Node, NodeFit]
    regressions: Mapping[Node, NodeCodes]

    def moves(self, base: Activations, labels: Labels) -> Iterator[SiteMoves]:
        """Every latent from the code it has on p to max(0, code + delta); signed codes have no
        bound."""
        before = base.prompt_labels
        changes: dict[Node, _Change] = {}
        latents: dict[Site, Tensor] = {}
        for site, nodes in sites(base.nodes, base.anatomy).items():
            changes |= self._changes(nodes, before, labels)
            latents[site] = torch.cat([changes[node].moving for node in nodes]).unique()
        for part in site_codes(self.dictionary, base, latents=latents):
            (held,) = part.runs
            steps: dict[Node, Tensor] = {}
            shared: dict[tuple[int, int], Tensor] = {}
            for node in part.nodes:
                codes, change = held.codes[node], changes[node]
                key = (id(codes), id(change))
                if key not in shared:
                    delta = change.at(part.latents, part.rows).to(codes)
                    shared[key] = self._step(codes, delta)
                steps[node] = shared[key]
            yield SiteMoves(part.site, part.rows, part.latents, steps, part.directions)

    def _changes(self, nodes: Sequence[Node], before: Labels, after: Labels) -> dict[Node, _Change]:
        """The change of each node's codes; nodes with the same regressions share it."""
        shared: dict[int, _Change] = {}
        changes: dict[Node, _Change] = {}
        for node in nodes:
            regressions = self.regressions[node]
            if id(regressions) not in shared:
                shared[id(regressions)] = _change(regressions, self.fits[node], before, after)
            changes[node] = shared[id(regressions)]
        return changes

    def _step(
        self, codes: Float[Tensor, "prompt latent"], delta: Float[Tensor, "prompt latent"]
    ) -> Float[Tensor, "prompt latent"]:
        return delta if self.dictionary.signed else (codes + delta).clamp(min=0) - codes


class _Change(NamedTuple):
    """delta of the latents that are active on fit, [prompt, active]."""

    latents: Int[Tensor, "active"]
    delta: Float[Tensor, "prompt active"]

    @property
    def moving(self) -> Int[Tensor, "moving"]:
        """The latents that are candidates on any prompt."""
        return self.latents[(self.delta != 0).any(0)]

    def at(self, latents: Int[Tensor, "latent"], rows: slice) -> Float[Tensor, "prompt latent"]:
        """delta of these latents on some of the prompts, 0 for those that are not active on fit."""
        if not len(self.latents):
            return self.delta.new_zeros(len(self.delta[rows]), len(latents))
        place = torch.searchsorted(self.latents, latents).clamp(max=len(self.latents) - 1)
        return self.delta[rows][:, place] * (self.latents[place] == latents)


def _change(regressions: NodeCodes, fit: NodeFit, before: Labels, after: Labels) -> _Change:
    """delta by the regression on the design in use, and by the additive one where a pair of values
    is unseen on either side."""
    additive = regressions.additive
    plain_step = fit.additive.design.codes(after) - fit.additive.design.codes(before)
    device = additive.effects.device
    if fit.coupled is None or regressions.coupled is None:
        return _Change(regressions.latents, additive.change(plain_step.to(device)))
    step = fit.coupled.design.codes(after) - fit.coupled.design.codes(before)
    unseen = fit.unseen(before, after).to(device)[:, None]
    delta = regressions.coupled.change(step.to(device))
    plain = additive.change(plain_step.to(device))
    return _Change(regressions.latents, torch.where(unseen, plain, delta))


@dataclass(frozen=True, eq=False)
class UnfittedCodes:
    """The code model of a dictionary, fitted when moves are first asked for.

    Where what they come to is known already, nothing is fitted; dictionaries with the `same_codes`
    share one fit.
    """

    dictionary: Dictionary
    fit: Activations
    supervised: FeatureDictionary
    same_codes: UnfittedCodes | None = None

    @cached_property
    def model(self) -> CodeModel:
        """The fitted model."""
        if self.same_codes is not None:
            return replace(self.same_codes.model, dictionary=self.dictionary)
        return fit_codes(self.dictionary, self.fit, self.supervised)

    def moves(self, base: Activations, labels: Labels) -> Iterator[SiteMoves]:
        """As the fitted model's."""
        return self.model.moves(base, labels)


def fit_codes(dictionary: Dictionary, fit: Activations, supervised: FeatureDictionary) -> CodeModel:
    """Regress a dictionary's codes on the labels of the split `fit`, at all of its nodes."""
    regressions: dict[Node, NodeCodes] = {}
    sums: dict[Node, _Sums] = {}
    site: Site | None = None
    for part in site_codes(dictionary, fit):
        if part.site != site:
            regressions |= _solved(sums)
            site, sums = part.site, _empty_sums(dictionary, supervised, part.runs[0].codes)
        for total in _distinct(sums):
            total.add(part.runs[0].codes[total.node], part.latents, part.rows)
    regressions |= _solved(sums)
    nothing = {node: _no_latents(supervised.fits[node]) for node in fit.nodes}
    return CodeModel(dictionary, supervised.fits, {**nothing, **regressions})


class _Sums:
    """C'F, sum f and sum f^2 of one set of codes, those of `node`, for each of its designs."""

    def __init__(self, node: Node, fit: NodeFit, width: int, device: torch.device) -> None:
        self.node = node
        used = (fit.additive.design, *(() if fit.coupled is None else (fit.coupled.design,)))
        self.designs: tuple[Design, ...] = used
        self.index = [design.solver.features.to(device) for design in used]
        sizes = [sum(design.solver.sizes) for design in used]
        self.products = [torch.zeros(width, s, dtype=torch.float64, device=device) for s in sizes]
        self.total = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros(width, dtype=torch.float64, device=device)

    def add(self, codes: Float[Tensor, "prompt latent"], latents: Tensor, rows: slice) -> None:
        """The codes of some latents on some prompts; all others are 0 there."""
        prompt, column = codes.nonzero(as_tuple=True)
        if len(prompt) > SPARSE * codes.numel():
            self._add_dense(codes.double(), latents, rows)
            return
        latent, code = latents[column], codes[prompt, column].double()
        self.total.index_add_(0, latent, code)
        self.squares.index_add_(0, latent, code.square())
        for index, products in zip(self.index, self.products, strict=True):
            first, sums = latent * products.shape[1], products.view(-1)
            for feature in index[rows].T:
                sums.index_add_(0, first + feature[prompt], code)

    def _add_dense(
        self, codes: Float[Tensor, "prompt latent"], latents: Tensor, rows: slice
    ) -> None:
        self.total[latents] += codes.sum(0)
        self.squares[latents] += codes.square().sum(0)
        for index, products in zip(self.index, self.products, strict=True):
            part = codes.new_zeros(products.shape[1], len(latents))
            for feature in index[rows].T:
                part.index_add_(0, feature, codes)
            products[latents] += part.T

    def solved(self) -> NodeCodes:
        """The regressions of the latents that are active."""
        active = (self.squares > 0).nonzero().flatten()
        solved = [
            _regression(design, products[active].T, self.total[active], self.squares[active])
            for design, products in zip(self.designs, self.products, strict=True)
        ]
        return NodeCodes(active, solved[0], solved[1] if len(solved) > 1 else None)


def _empty_sums(
    dictionary: Dictionary, supervised: FeatureDictionary, codes: Mapping[Node, Tensor]
) -> dict[Node, _Sums]:
    """Sums to fill for every node of a site; nodes with the same codes and designs share theirs."""
    shared: dict[tuple[int, ...], _Sums] = {}
    sums: dict[Node, _Sums] = {}
    for node, held in codes.items():
        fit = supervised.fits[node]
        key = (id(held), id(fit.additive.design), id(fit.coupled and fit.coupled.design))
        if key not in shared:
            shared[key] = _Sums(node, fit, width(dictionary, node), held.device)
        sums[node] = shared[key]
    return sums


def _distinct(sums: Mapping[Node, _Sums]) -> list[_Sums]:
    """Each of the sums once, however many nodes share it."""
    return list({id(total): total for total in sums.values()}.values())


def _solved(sums: Mapping[Node, _Sums]) -> dict[Node, NodeCodes]:
    """Every node's regressions; those of nodes that share their sums are one object."""
    solved = {id(total): total.solved() for total in _distinct(sums)}
    return {node: solved[id(total)] for node, total in sums.items()}


def _regression(
    design: Design,
    products: Float[Tensor, "feature active"],
    total: Float[Tensor, "active"],
    squares: Float[Tensor, "active"],
) -> CodeRegression:
    """Least squares from sums alone: RSS = |f - f_bar|^2 - (C'f)' pinv(C'C) (C'f), f centred."""
    solver: Solver = design.solver
    n, device = len(solver.features), products.device
    mean = total / n
    centred = products - solver.counts.to(device)[:, None] * mean
    inverse = solver.inverse.to(device)
    solution = inverse @ centred
    spread = (squares - n * mean.square()).clamp(min=0)
    rest = (spread - (centred * solution).sum(0)).clamp(min=0)
    noise = (rest / max(1, n - solver.rank)).sqrt()
    noise = noise.clamp(min=ROUNDING * (squares / n).sqrt())
    size = design.size
    return CodeRegression(
        solution[:size].float(),
        noise.float(),
        inverse[:size, :size].contiguous(),
    )


def _no_latents(fit: NodeFit) -> NodeCodes:
    """Of a node where no latent is ever active."""
    additive = _nothing(fit.additive.design.size)
    coupled = None if fit.coupled is None else _nothing(fit.coupled.design.size)
    return NodeCodes(torch.zeros(0, dtype=torch.long), additive, coupled)


def _nothing(size: int) -> CodeRegression:
    spread = torch.zeros(size, size, dtype=torch.float64)
    return CodeRegression(torch.zeros(size, 0), torch.zeros(0), spread)
