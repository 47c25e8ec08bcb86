"""Supervised feature dictionaries: one direction for each value of each attribute.

The best dictionary a task's own labels can buy, and the line beside every score (method, section
3). Mean codes are those of Makelov, Lange and Nanda 2024 (arXiv 2405.08366); weighted ones the
outline of SAGE (arXiv 2410.07456); least squares with nuisance columns is the default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, Labels, Site, sites
from sage.dictionaries.cross_validation import FOLDS, Folded, cross_validated, folded
from sage.dictionaries.design import (
    Column,
    Design,
    couplings,
    design_columns,
    make_design,
    nuisance_columns,
    one_hot,
    unnest,
)
from sage.dictionaries.dictionary import RunCodes, SiteCodes, SiteMoves
from sage.dictionaries.least_squares import HOWS, How, Solver
from sage.errors import SageError, unknown
from sage.nodes import Node

SUPERVISED = "supervised"
# Of the node's variance: what an attribute must have there to count as present.
MIN_CARRIED = 0.01
# Of the nuisance-only fit's cross-validated error: what the attributes must save for a node to have
# supervised features at all.
MIN_SAVED = 0.01
# Of the node's variance: coupling that gains less in cross-validation gains nothing.
LEAST_GAIN = 1e-6


@dataclass(frozen=True)
class NodeFeatures:
    """The features of one node: a_hat(p) = mean + sum over columns of the feature of the prompt's
    key.

    `features` is [feature, d], column after column, weights included; `shares` says how much of the
    prompts has each. `carried` is the share of the node's variance that each column's features
    have, less what noise alone would give them.
    """

    design: Design
    mean: Float[Tensor, "d"]
    columns: tuple[Column, ...]
    features: Float[Tensor, "feature d"]
    shares: Float[Tensor, "feature"]
    carried: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """`IO=Mary`, one name per feature."""
        return tuple(name for column in self.columns for name in column.names)

    @property
    def column_of_feature(self) -> list[int]:
        """The number of each feature's column."""
        return [number for number, column in enumerate(self.columns) for _ in column.keys]

    def column(self, attribute: str) -> int:
        """The number of an attribute's column; UnknownName where it has none."""
        names = [column.name for column in self.columns]
        if attribute not in names:
            raise unknown("supervised attribute", attribute, names)
        return names.index(attribute)

    def codes(self, labels: Labels) -> Float[Tensor, "prompt feature"]:
        """One-hot codes; a row of zeros in a coupled column whose pair was not seen."""
        return one_hot(self.columns, labels).to(self.features)


class NodeFit(NamedTuple):
    """What was fitted at one node: without coupling, and with it where that was chosen.

    `unexplained` is the share of the node's variance that cross-validation inside the fit leaves,
    `nuisance_unexplained` what the nuisance columns alone leave.
    """

    additive: NodeFeatures
    coupled: NodeFeatures | None
    variance: float
    unexplained: float
    nuisance_unexplained: float

    @property
    def chosen(self) -> NodeFeatures:
        """The fit in use."""
        return self.coupled or self.additive

    @property
    def has_features(self) -> bool:
        """Whether the attributes save at least 1 % of what the nuisance columns leave, and these
        leave anything."""
        saved = self.nuisance_unexplained - self.unexplained
        return saved > 0 and saved >= MIN_SAVED * self.nuisance_unexplained

    def unseen(self, *sides: Labels) -> Bool[Tensor, "prompt"]:
        """Where any side has a coupled pair of values that the fit has not seen: the additive fit
        then serves on all sides."""
        return torch.stack([self.chosen.design.unseen(labels) for labels in sides]).any(0)


@dataclass(frozen=True)
class FeatureDictionary:
    """Supervised features at every node of a section.

    `aliased` names the nuisances left out of the solve, each with the attribute it nearly is.
    """

    fits: Mapping[Node, NodeFit]
    how: How = "least squares"
    aliased: Mapping[str, str] = field(default_factory=dict[str, str])
    name: str = SUPERVISED
    signed: bool = False

    @property
    def variance(self) -> dict[Node, float]:
        """Var_n = E|a - a_bar|^2 over the prompts of the fit."""
        return {node: fit.variance for node, fit in self.fits.items()}

    def with_features(self, nodes: Collection[Node]) -> tuple[Node, ...]:
        """Those of the nodes at which the attributes have any feature: only they are scored."""
        return tuple(node for node in nodes if self.fits[node].has_features)

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """a_hat at every node, [prompt, d]; the nuisances have no part in it."""
        labels = given.prompt_labels
        return {node: self._predicted(node, labels) for node in given.nodes}

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """One-hot codes, [prompt, feature], of the fit chosen at each node."""
        labels = given.prompt_labels
        return {node: self.fits[node].chosen.codes(labels) for node in given.nodes}

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """Every feature of the fit chosen at the node."""
        return self.fits[node].chosen.features

    def aim(self, base: Activations, labels: Labels) -> dict[Node, Tensor]:
        """Where these labels should take the activations of `base`: a + (C(p') - C(p)) U."""
        before = base.prompt_labels
        return {
            node: base.values[node] + self._moved(node, before, labels).to(base.values[node])
            for node in base.nodes
        }

    def moves(self, base: Activations, labels: Labels) -> Iterator[SiteMoves]:
        """One candidate per attribute value, from the code that p has to the one p' has."""
        before = base.prompt_labels
        for site, nodes in sites(base.nodes, base.anatomy).items():
            stacked = _stack(self, nodes, before, labels)
            steps = {node: codes[1] - codes[0] for node, codes in stacked.codes.items()}
            rows = slice(0, len(base))
            yield SiteMoves(site, rows, stacked.latents, steps, stacked.directions)

    def site_codes(
        self, *runs: Activations, latents: Mapping[Site, Int[Tensor, "latent"]] | None = None
    ) -> Iterator[SiteCodes]:
        """Every feature's code in each of the runs; where any run has an unseen pair of values, all
        use the additive fit.

        Features are numbered anew at every site, by their names: those of the additive fit stand
        beside those that `codes` and `directions` number.
        """
        assert latents is None, "supervised features are few: all of them are shown"
        sides = [run.prompt_labels for run in runs]
        for site, nodes in sites(runs[0].nodes, runs[0].anatomy).items():
            stacked = _stack(self, nodes, *sides)
            parts = tuple(
                RunCodes(
                    {node: codes[number] for node, codes in stacked.codes.items()},
                    {node: self.fits[node].chosen.mean.expand(len(run), -1) for node in nodes},
                )
                for number, run in enumerate(runs)
            )
            rows = slice(0, len(runs[0]))
            yield SiteCodes(site, rows, stacked.latents, stacked.directions, parts)

    def carries(self, node: Node, attribute: str) -> bool:
        """Whether the attribute's features have at least 1 % of the node's variance: those of one
        that is not there are fitted noise."""
        additive = self.fits[node].additive
        return additive.carried[additive.column(attribute)] >= MIN_CARRIED

    def _predicted(self, node: Node, labels: Labels) -> Float[Tensor, "prompt d"]:
        fit = self.fits[node]
        chosen, additive = fit.chosen, fit.additive
        predicted = chosen.mean + chosen.codes(labels) @ chosen.features
        unseen = fit.unseen(labels).to(predicted.device)[:, None]
        if not unseen.any():
            return predicted
        return torch.where(
            unseen, additive.mean + additive.codes(labels) @ additive.features, predicted
        )

    def _moved(self, node: Node, before: Labels, after: Labels) -> Float[Tensor, "prompt d"]:
        fit = self.fits[node]
        change = fit.chosen.codes(after) - fit.chosen.codes(before)
        moved = change @ fit.chosen.features
        unseen = fit.unseen(before, after).to(moved.device)[:, None]
        if not unseen.any():
            return moved
        plain = fit.additive.codes(after) - fit.additive.codes(before)
        return torch.where(unseen, plain @ fit.additive.features, moved)


class _Stacked(NamedTuple):
    """All features of a site's nodes side by side: `codes[node][side]` is [prompt, feature]."""

    latents: Int[Tensor, "feature"]
    codes: dict[Node, list[Tensor]]
    directions: dict[Node, Tensor]


def _stack(features: FeatureDictionary, nodes: Sequence[Node], *sides: Labels) -> _Stacked:
    """Features of one name are one candidate at all nodes of the site; a node that lacks it (its
    fit couples other attributes) does not move with it."""
    names = dict.fromkeys(name for node in nodes for name in _stacked_names(features.fits[node]))
    number = {name: index for index, name in enumerate(names)}
    codes: dict[Node, list[Tensor]] = {}
    directions: dict[Node, Tensor] = {}
    for node in nodes:
        fit = features.fits[node]
        vectors = _stacked_features(fit)
        columns = torch.tensor(
            [number[name] for name in _stacked_names(fit)], device=vectors.device
        )
        fallback = fit.unseen(*sides).to(vectors.device)[:, None]
        codes[node] = [
            vectors.new_zeros(len(labels), len(names)).index_copy_(
                1, columns, _stacked_codes(fit, labels, fallback)
            )
            for labels in sides
        ]
        empty = vectors.new_zeros(len(names), vectors.shape[1])
        directions[node] = empty.index_copy_(0, columns, vectors)
    return _Stacked(torch.arange(len(names)), codes, directions)


def _stacked_names(fit: NodeFit) -> tuple[str, ...]:
    if fit.coupled is None:
        return fit.additive.names
    return (*fit.coupled.names, *(f"{name} (additive)" for name in fit.additive.names))


def _stacked_features(fit: NodeFit) -> Float[Tensor, "feature d"]:
    if fit.coupled is None:
        return fit.additive.features
    return torch.cat([fit.coupled.features, fit.additive.features])


def _stacked_codes(
    fit: NodeFit, labels: Labels, fallback: Bool[Tensor, "prompt 1"]
) -> Float[Tensor, "prompt feature"]:
    plain = fit.additive.codes(labels)
    if fit.coupled is None:
        return plain
    return torch.cat([fit.coupled.codes(labels) * ~fallback, plain * fallback], -1)


def fit_features(
    given: Activations,
    *,
    attributes: Sequence[str],
    within: Mapping[str, str] | None = None,
    nuisance: Collection[str] = (),
    how: How = "least squares",
    coupled: bool = True,
    seed: int = 0,
) -> FeatureDictionary:
    """Fit the features of a task's attributes on the activations of `fit`; `within` nests fine
    attributes in coarse ones, `nuisance` names what varies beside them (irrelevant attributes and
    `template`).

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
    labels = given.prompt_labels
    columns = design_columns(attributes, within or {}, labels)
    beside, aliased = nuisance_columns(nuisance, attributes, labels)
    generator = torch.Generator().manual_seed(seed)
    folds = torch.randperm(len(given), generator=generator) % FOLDS
    additive = folded(make_design(columns, beside, labels, how=how), folds)
    only_nuisance = folded(make_design((), beside, labels, how=how), folds)
    choices = [
        folded(make_design(joint, beside, labels, how=how), folds)
        for joint in (couplings(columns, labels) if coupled else ())
    ]
    fits = {node: _fit_node(given, node, additive, choices, only_nuisance) for node in given.nodes}
    return FeatureDictionary(fits, how, aliased)


def _fit_node(
    given: Activations,
    node: Node,
    additive: Folded,
    choices: Sequence[Folded],
    only_nuisance: Folded,
) -> NodeFit:
    """The additive fit of a node, and beside it the best of the coupled choices where it is
    better."""
    values = given.values[node].double().cpu()
    errors = [cross_validated(design, additive, values) for design in (additive, *choices)]
    best = min(range(len(errors)), key=lambda index: errors[index] + LEAST_GAIN * (index > 0))
    return NodeFit(
        _node_features(additive.design, values, given, node),
        _node_features(choices[best - 1].design, values, given, node) if best else None,
        float(values.var(0, correction=0).sum()),
        errors[best],
        cross_validated(only_nuisance, only_nuisance, values),
    )


def _node_features(
    design: Design, values: Float[Tensor, "prompt d"], given: Activations, node: Node
) -> NodeFeatures:
    """The fit on all prompts, nested attributes taken apart, on the node's own device."""
    labels = given.prompt_labels
    mean = values.mean(0)
    centred = values - mean
    solution = design.solver(centred)
    rest = centred - _sum_of_features(design.solver, solution)
    columns, features = unnest(design.columns, solution[: design.size], labels)
    shares = design_shares(columns, labels)
    parameters = len(features) + len(solution) - design.size
    noise = float(rest.square().sum()) / max(1, len(values) - parameters) / len(values)
    sizes = [len(column.keys) for column in columns]
    energies = (shares * features.square().sum(-1)).split(sizes)
    total = float(centred.square().sum(-1).mean())
    carried = tuple(
        (float(energy.sum()) - (size - 1) * noise) / total if total else 0.0
        for energy, size in zip(energies, sizes, strict=True)
    )
    like = given.values[node]
    return NodeFeatures(design, mean.to(like), columns, features.to(like), shares.to(like), carried)


def design_shares(columns: Sequence[Column], labels: Labels) -> Float[Tensor, "feature"]:
    """The share of the prompts that has each feature."""
    return one_hot(columns, labels).double().mean(0)


def _sum_of_features(
    solver: Solver, features: Float[Tensor, "feature d"]
) -> Float[Tensor, "prompt d"]:
    """C U on the solver's own prompts."""
    total = features.new_zeros(len(solver.features), features.shape[1])
    for block in solver.features.T:
        total += features[block]
    return total


def with_labels_of(given: Activations, order: Sequence[int]) -> Activations:
    """The same activations with each prompt's labels taken from another prompt, all together."""
    donors = [given.prompts[row].prompt for row in order]
    prompts = tuple(
        replace(prompt, prompt=replace(prompt.prompt, labels=donor.labels, family=donor.family))
        for prompt, donor in zip(given.prompts, donors, strict=True)
    )
    return replace(given, prompts=prompts)
