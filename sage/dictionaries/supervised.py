"""Supervised feature dictionaries: one direction for each value of each attribute.

The best dictionary a task's own labels can buy, and so the ceiling of every score (method, section
3). Mean codes are those of Makelov, Lange and Nanda 2024 (arXiv 2405.08366); weighted ones the
outline of SAGE (arXiv 2410.07456); least squares is the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Edited, sites
from sage.dictionaries.design import Column, couple, design_columns, one_hot, places, unnest
from sage.dictionaries.greedy import Candidates, greedy
from sage.errors import SageError, unknown
from sage.nodes import Node
from sage.task.task import Label
from sage.task.tokens import Tokenized

How = Literal["least squares", "weighted", "mean"]
HOWS: tuple[How, ...] = ("least squares", "weighted", "mean")
MIN_PROMPTS_PER_PAIR = 5
FOLDS = 5
# Of the node's variance: what an attribute must have there to count as present.
MIN_CARRIED = 0.01
# Of the node's variance: coupling that gains less in cross-validation gains nothing.
LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class NodeFeatures:
    """The features of one node: a_hat(p) = mean + sum over columns of the feature of the prompt's
    key.

    `features` is [feature, d], column after column, weights included; `shares` says how much of the
    prompts has each. `carried` is the share of the node's variance that each column's features
    have, less what noise alone would give them. Where attributes are coupled `additive` is the fit
    without coupling, used for prompts whose pair of values was not seen.
    """

    mean: Float[Tensor, "d"]
    columns: tuple[Column, ...]
    features: Float[Tensor, "feature d"]
    shares: Float[Tensor, "feature"]
    carried: tuple[float, ...]
    additive: NodeFeatures | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """`IO=Mary`, one name per feature."""
        return tuple(name for column in self.columns for name in column.names)

    def unseen(self, prompts: Sequence[Tokenized]) -> Bool[Tensor, "prompt"]:
        """Which prompts have a coupled pair of values that the fit has not seen."""
        if self.additive is None:
            return torch.zeros(len(prompts), dtype=torch.bool)
        return torch.stack(
            [column.rows(prompts) < 0 for column in self.columns if column.coupled]
        ).any(0)

    def codes(self, prompts: Sequence[Tokenized]) -> Float[Tensor, "prompt feature"]:
        """One-hot codes; a row of zeros in a coupled column whose pair was not seen."""
        return one_hot(self.columns, prompts).to(self.features)

    def reconstruct(self, prompts: Sequence[Tokenized]) -> Float[Tensor, "prompt d"]:
        """a_hat for every prompt."""
        found = self.mean + self.codes(prompts) @ self.features
        unseen = self.unseen(prompts)
        if self.additive is None or not unseen.any():
            return found
        rows = unseen.nonzero().flatten().tolist()
        found[rows] = self.additive.reconstruct([prompts[row] for row in rows])
        return found


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads one attribute off activations of n prompts: `labels` of the values, their `features`,
    what the other attributes may add up to.

    Of nested attributes the coarse ones are read along with a fine one, and finer ones inside it
    are left in the activation.
    """

    mean: Float[Tensor, "d"]
    labels: tuple[Label, ...]
    features: Float[Tensor, "value d"]
    rests: tuple[Float[Tensor, "prompt d"], ...]

    def nearest(self, values: Float[Tensor, "prompt d"]) -> Int[Tensor, "prompt"]:
        """The value whose feature, added to the mean and to any of the rests, comes nearest to each
        activation."""
        centred = values - self.mean
        along = centred @ self.features.T
        distances = [
            length - 2 * ((centred * rest).sum(-1, keepdim=True) + along)
            for rest, length in zip(self.rests, self._lengths, strict=True)
        ]
        return torch.stack(distances).min(0).values.argmin(-1)

    @cached_property
    def _lengths(self) -> list[Float[Tensor, "prompt value"]]:
        """|rest + feature|^2."""
        own = self.features.square().sum(-1)
        return [
            rest.square().sum(-1, keepdim=True) + own + 2 * rest @ self.features.T
            for rest in self.rests
        ]


@dataclass(frozen=True)
class FeatureDictionary:
    """Supervised features at every node of a section: the ceiling.

    `variance[node]` is Var_n over the prompts of the fit, `unexplained[node]` the share of it that
    cross-validation inside the fit leaves, `kept` the features that may be used (None: all of
    them).
    """

    fits: Mapping[Node, NodeFeatures]
    variance: Mapping[Node, float]
    unexplained: Mapping[Node, float]
    how: How = "least squares"
    name: str = "supervised"
    kept: Mapping[Node, Tensor] | None = None
    signed: bool = True

    @property
    def coding(self) -> str:
        """Its codes are its own."""
        return self.name

    @property
    def content(self) -> str | None:
        """The activations decide it all, unless some features are left out."""
        return self.name if self.kept is None else None

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """a_hat at every node, [prompt, d]."""
        if self.kept is None:
            return {node: self.fits[node].reconstruct(given.prompts) for node in given.nodes}
        return {
            node: self.fits[node].mean + self._kept_codes(node, given) @ self.fits[node].features
            for node in given.nodes
        }

    def edit(
        self, base: Activations, target: Activations, *, ks: Sequence[int]
    ) -> dict[int, Edited]:
        """At most k attribute values per site moved from the base's to the target's, greedily; each
        value has code 0 or 1."""
        candidates = [
            self._candidates(nodes, base, target)
            for nodes in sites(base.nodes, base.anatomy).values()
        ]
        return greedy(candidates, base.values, target.values, self.variance, ks=ks)

    def move(self, base: Activations, target: Activations) -> dict[Node, Tensor]:
        """The whole edit: a + sum over attributes whose value differs of the feature of the new
        value minus that of the old."""
        return {
            node: base.values[node] + self._moves(node, base, target) @ self._stacked(node)
            for node in base.nodes
        }

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """One-hot codes, [prompt, feature], of the fit chosen at each node."""
        return {node: self._kept_codes(node, given) for node in given.nodes}

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """Every feature of the fit chosen at the node."""
        return self.fits[node].features

    def only(self, latents: Mapping[Node, Bool[Tensor, "latent"]]) -> FeatureDictionary:
        """The same features with only these to use."""
        return replace(self, kept=dict(latents))

    def additive(self, node: Node) -> NodeFeatures:
        """The fit without coupling: one feature for each value of each attribute."""
        return self.fits[node].additive or self.fits[node]

    def carries(self, node: Node, attribute: str) -> bool:
        """Whether the attribute's features have at least 1 % of the node's variance: those of one
        that is not there are fitted noise."""
        own = self.additive(node)
        return own.carried[self._place(node, attribute)] >= MIN_CARRIED

    def reader(self, node: Node, attribute: str, contexts: Sequence[Sequence[Tokenized]]) -> Reader:
        """Decodes an attribute at a node from activations of prompts whose other attributes are
        those of one of the `contexts`."""
        fit = self.additive(node)
        own = fit.columns[self._place(node, attribute)]
        features = fit.mean.new_zeros(len(own.keys), len(fit.mean))
        rests = [fit.mean.new_zeros(len(prompts), len(fit.mean)) for prompts in contexts]
        for column, part in zip(
            fit.columns,
            fit.features.split([len(column.keys) for column in fit.columns]),
            strict=True,
        ):
            if own.inside(column):
                features = (
                    features
                    + part[[column.keys.index(key[: len(column.attributes)]) for key in own.keys]]
                )
            elif not column.inside(own):
                rests = [
                    rest + part[column.rows(prompts)]
                    for rest, prompts in zip(rests, contexts, strict=True)
                ]
        return Reader(fit.mean, tuple(key[-1] for key in own.keys), features, tuple(rests))

    def _place(self, node: Node, attribute: str) -> int:
        names = [column.name for column in self.additive(node).columns]
        if attribute not in names:
            raise unknown("supervised attribute", attribute, names)
        return names.index(attribute)

    def _kept_codes(self, node: Node, given: Activations) -> Float[Tensor, "prompt feature"]:
        codes = self.fits[node].codes(given.prompts)
        return codes if self.kept is None else codes * self.kept[node]

    def _stacked(self, node: Node) -> Float[Tensor, "feature d"]:
        fit = self.fits[node]
        return (
            fit.features
            if fit.additive is None
            else torch.cat([fit.features, fit.additive.features])
        )

    def _stacked_codes(
        self, node: Node, base: Activations, target: Activations
    ) -> tuple[Tensor, Tensor]:
        """Codes of base and target; a pair where either value pair is unseen uses the additive fit
        on both sides."""
        fit = self.fits[node]
        codes = self._kept_codes(node, base), self._kept_codes(node, target)
        if fit.additive is None:
            return codes
        fallback = (fit.unseen(base.prompts) | fit.unseen(target.prompts)).to(fit.mean.device)[
            :, None
        ]
        plain = (
            fit.additive.codes(given.prompts) * (self.kept is None) for given in (base, target)
        )
        alpha, beta = (
            torch.cat([own * ~fallback, other * fallback], -1)
            for own, other in zip(codes, plain, strict=True)
        )
        return alpha, beta

    def _moves(
        self, node: Node, base: Activations, target: Activations
    ) -> Float[Tensor, "prompt feature"]:
        alpha, beta = self._stacked_codes(node, base, target)
        return beta - alpha

    def _stacked_names(self, node: Node) -> tuple[str, ...]:
        fit = self.fits[node]
        return (
            fit.names
            if fit.additive is None
            else (*fit.names, *(f"{name} (additive)" for name in fit.additive.names))
        )

    def _candidates(
        self, nodes: Sequence[Node], base: Activations, target: Activations
    ) -> Candidates:
        """One candidate per attribute value; nodes of a site that lack it (their fit couples other
        attributes) do not move with it."""
        names = list(dict.fromkeys(name for node in nodes for name in self._stacked_names(node)))
        place = {name: index for index, name in enumerate(names)}
        alpha: dict[Node, Tensor] = {}
        beta: dict[Node, Tensor] = {}
        directions: dict[Node, Tensor] = {}
        for node in nodes:
            columns = torch.tensor(
                [place[name] for name in self._stacked_names(node)], device=base.values[node].device
            )
            old, new = self._stacked_codes(node, base, target)
            alpha[node] = old.new_zeros(len(base), len(names)).index_copy_(1, columns, old)
            beta[node] = new.new_zeros(len(base), len(names)).index_copy_(1, columns, new)
            own = self._stacked(node)
            directions[node] = own.new_zeros(len(names), own.shape[1]).index_copy_(0, columns, own)
        return Candidates(alpha, beta, directions)


def fit_features(
    given: Activations,
    *,
    attributes: Sequence[str],
    within: Mapping[str, str] | None = None,
    how: How = "least squares",
    coupled: bool = True,
    seed: int = 0,
) -> FeatureDictionary:
    """Fit the features of a task's attributes on the activations of `fit`; `within` nests fine
    attributes in coarse ones.

    With `coupled` each node may replace two additive attributes by one column per pair of their
    values, where that lowers the unexplained variance in five-fold cross-validation inside these
    prompts; the choice is made once per node, never by a score.
    """
    if how not in HOWS:
        raise unknown("fit", how, HOWS)
    if len(given) < 2 * FOLDS:
        raise SageError(
            f"Features were to be fitted on {len(given)} prompts; at least {2 * FOLDS} are needed."
        )
    additive = design_columns(attributes, within or {}, given.prompts)
    folds = torch.randperm(len(given), generator=torch.Generator().manual_seed(seed)) % FOLDS
    designs = [_design(columns, given.prompts, folds, how)
               for columns in (additive, *(_couplings(additive, given.prompts) if coupled else ()))]  # fmt: skip
    fits: dict[Node, NodeFeatures] = {}
    variance: dict[Node, float] = {}
    unexplained: dict[Node, float] = {}
    for node in given.nodes:
        values = given.values[node].double().cpu()
        error = [_cross_validated(design, designs[0], values) for design in designs]
        best = min(range(len(designs)), key=lambda index: error[index] + LEAST_GAIN * (index > 0))
        plain = _node_features(designs[0], values, given, node)
        fits[node] = (
            plain
            if best == 0
            else replace(_node_features(designs[best], values, given, node), additive=plain)
        )
        variance[node] = float(values.var(0, correction=0).sum())
        unexplained[node] = error[best]
    return FeatureDictionary(fits, variance, unexplained, how=how)


@dataclass(frozen=True)
class Solver:
    """One design on some prompts, ready to be fitted to any activations of theirs, in float64.

    `places` says which feature each prompt has in each column, `blocks` how many features each
    column has. Every column's features have mean zero over the prompts; a feature that none of them
    has is zero. Only the singular part of the design is used: it is rank-deficient, and a full-rank
    solver returns garbage.
    """

    places: Int[Tensor, "prompt column"]
    blocks: tuple[int, ...]
    how: How

    @cached_property
    def together(self) -> Float[Tensor, "feature feature"]:
        """C'C: how many prompts have both features."""
        size = sum(self.blocks)
        pairs = self.places[:, :, None] * size + self.places[:, None, :]
        return torch.bincount(pairs.flatten(), minlength=size * size).reshape(size, size).double()

    @cached_property
    def inverse(self) -> Float[Tensor, "feature feature"]:
        """pinv(C'C), so that pinv(C) = inverse C'."""
        return torch.linalg.pinv(self.together, hermitian=True, rtol=1e-10)

    def __call__(self, values: Float[Tensor, "prompt d"]) -> Float[Tensor, "feature d"]:
        """Features, weights included, of centred activations."""
        sums = self._sums(values)
        counts = self.together.diagonal()[:, None]
        if self.how == "least squares":
            found = self.inverse @ sums
            means = self._by_block(found * counts).sum(1) / max(len(values), 1)
            return (found - means.repeat_interleave(torch.tensor(self.blocks), 0)) * (counts > 0)
        found = sums / counts.clamp(min=1)
        return found if self.how == "mean" else found * self._weights(found, sums)

    def _sums(self, values: Float[Tensor, "prompt d"]) -> Float[Tensor, "feature d"]:
        """C'A: the sum over the prompts that have each feature, one after another in memory."""
        found = np.zeros((sum(self.blocks), values.shape[1]))
        for order, first, feature in self._runs:
            found[feature] = np.add.reduceat(values.numpy()[order], first, axis=0)
        return torch.from_numpy(found)

    @cached_property
    def _runs(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each column the prompts sorted by feature, where each feature's begin, and which
        features those are."""
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for column in self.places.T.numpy():
            order = np.argsort(column, kind="stable")
            first = np.flatnonzero(np.diff(column[order], prepend=-1))
            found.append((order, first, column[order][first]))
        return found

    def _weights(
        self, features: Float[Tensor, "feature d"], sums: Float[Tensor, "feature d"]
    ) -> Float[Tensor, "feature 1"]:
        """One weight per column: G w = h with G_ij = E<u_i, u_j> and h_i = E<u_i, a - a_bar>."""
        overlap = self.together * (features @ features.T)
        gram = self._by_block(self._by_block(overlap).sum(1).T).sum(1)
        aims = self._by_block((features * sums).sum(-1, keepdim=True)).sum((1, 2))
        weights = torch.linalg.pinv(gram, hermitian=True, rtol=1e-10) @ aims
        return weights.repeat_interleave(torch.tensor(self.blocks))[:, None]

    def _by_block(self, rows: Float[Tensor, "feature many"]) -> Float[Tensor, "column most many"]:
        """The features of each column side by side, shorter columns filled up with zeros."""
        return torch.nn.utils.rnn.pad_sequence(
            list(rows.split(list(self.blocks))), batch_first=True
        )


class _Design(NamedTuple):
    """A choice of columns, solved on all prompts and without each fold."""

    columns: tuple[Column, ...]
    whole: Solver
    train: tuple[Tensor, ...]
    held: tuple[Tensor, ...]
    parts: tuple[Solver, ...]


def _design(
    columns: tuple[Column, ...],
    prompts: Sequence[Tokenized],
    folds: Int[Tensor, "prompt"],
    how: How,
) -> _Design:
    where = places(columns, prompts)
    blocks = tuple(len(column.keys) for column in columns)
    train = tuple((folds != fold).nonzero().flatten() for fold in range(FOLDS))
    held = tuple((folds == fold).nonzero().flatten() for fold in range(FOLDS))
    return _Design(
        columns,
        Solver(where, blocks, how),
        train,
        held,
        tuple(Solver(where[rows], blocks, how) for rows in train),
    )


def _couplings(columns: Sequence[Column], prompts: Sequence[Tokenized]) -> list[tuple[Column, ...]]:
    """Every design in which two columns are one, where a pair of values has at least five prompts
    on average."""
    pairs = [
        couple(columns, first, second, prompts)
        for first, second in combinations(range(len(columns)), 2)
    ]
    return [
        design for design in pairs if len(prompts) >= MIN_PROMPTS_PER_PAIR * len(design[0].keys)
    ]


def _cross_validated(
    design: _Design, additive: _Design, values: Float[Tensor, "prompt d"]
) -> float:
    """The unexplained share of variance on prompts held out in turn; pairs of values unseen in
    training are left to the additive fit."""
    missed = values.new_zeros(())
    for fold, (train, held) in enumerate(zip(design.train, design.held, strict=True)):
        mean = values[train].mean(0)
        rest = values[held] - mean
        found = _predicted(design, fold, values[train] - mean)
        solver = design.parts[fold]
        unseen = (solver.together.diagonal()[design.whole.places[held]] == 0).any(1)
        if design is not additive and unseen.any():
            found = torch.where(
                unseen[:, None], _predicted(additive, fold, values[train] - mean), found
            )
        missed = missed + (rest - found).square().sum()
    return float(
        missed / (values - values.mean(0)).square().sum().clamp(min=torch.finfo(values.dtype).tiny)
    )


def _predicted(
    design: _Design, fold: int, centred: Float[Tensor, "train d"]
) -> Float[Tensor, "held d"]:
    features = design.parts[fold](centred)
    found = features.new_zeros(len(design.held[fold]), features.shape[1])
    for column in design.whole.places[design.held[fold]].T:
        found += features[column]
    return found


def _node_features(
    design: _Design, values: Float[Tensor, "prompt d"], given: Activations, node: Node
) -> NodeFeatures:
    """The fit on all prompts, nested attributes taken apart, on the node's own device."""
    mean = values.mean(0)
    centred = values - mean
    columns, features = unnest(design.columns, design.whole(centred), given.prompts)
    codes = one_hot(columns, given.prompts).double()
    shares = codes.mean(0)
    noise = (
        float((centred - codes @ features).square().sum())
        / max(1, len(values) - len(features))
        / len(values)
    )
    blocks = [len(column.keys) for column in columns]
    energy = [float(part.sum()) for part in (shares * features.square().sum(-1)).split(blocks)]
    total = float(centred.square().sum(-1).mean())
    carried = tuple(
        (own - (size - 1) * noise) / total if total else 0.0
        for own, size in zip(energy, blocks, strict=True)
    )
    like = given.values[node]
    return NodeFeatures(mean.to(like), columns, features.to(like), shares.to(like), carried)
