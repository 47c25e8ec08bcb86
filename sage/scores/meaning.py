"""Meaning: which latents mean something that the contrast changes, judged on `fit`.

A latent means a predicate as well as its activity predicts it: F1, corrected for what a latent that
is always on scores. A pair of values counts only where the node's supervised features are coupled
in the two attributes: elsewhere composites would pass as meanings (method, section 5.5).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations, sites
from sage.dictionaries.dictionary import Dictionary, WideDictionary, site_codes, width
from sage.dictionaries.supervised import FeatureDictionary
from sage.memory import DETECTOR_NUMBERS_AT_ONCE
from sage.nodes import Node
from sage.scores.activity import Detectors, corrected, cuts_through, detectors
from sage.scores.predicates import Predicates, tabulate

LARGEST_UNION = 10
# An F1 is a ratio of counts and may be a level itself: rounding must not decide.
TIE = 1e-6


class ActiveCodes(NamedTuple):
    """A node's codes of the latents that are active on any prompt; of signed codes the other sign
    of every latent is one more, numbered after all."""

    latents: Int[Tensor, "active"]
    codes: Float[Tensor, "prompt active"]

    def of(self, latents: Int[Tensor, "latent"]) -> Float[Tensor, "prompt latent"]:
        """The codes of these latents, 0 for those that are not among the active."""
        if not len(self.latents):
            return self.codes.new_zeros(len(self.codes), len(latents))
        place = torch.searchsorted(self.latents, latents).clamp(max=len(self.latents) - 1)
        return self.codes[:, place] * (self.latents[place] == latents)


class NodeMeaning(NamedTuple):
    """One node on fit: every latent as a detector of every value, its best corrected F1 over all
    predicates, and the share of the prompts on which it is active.

    `latents` numbers those that are ever active, of signed codes both signs apart; `detectors` are
    theirs alone.
    """

    latents: Int[Tensor, "active"]
    detectors: Detectors
    best: Float[Tensor, "latent"]
    activity: Float[Tensor, "latent"]


class Meaning(NamedTuple):
    """What the latents of one dictionary mean, node by node."""

    predicates: Predicates
    nodes: Mapping[Node, NodeMeaning]

    def masks(self, level: float) -> dict[Node, Bool[Tensor, "latent"]]:
        """Which latents mean something with a corrected F1 of at least `level`."""
        return {node: meaning.best >= level - TIE for node, meaning in self.nodes.items()}


def find_meaning(
    dictionary: Dictionary,
    fit: Activations,
    supervised: FeatureDictionary,
    *,
    attributes: Sequence[str],
    predicates: Predicates | None = None,
) -> Meaning:
    """What each latent means at each node, judged on these prompts' labels of the attributes."""
    table = predicates or tabulate(fit, attributes)
    meanings: dict[Node, NodeMeaning] = {}
    for nodes in sites(fit.nodes, fit.anatomy).values():
        seen: list[_Seen] = []
        for node, codes in codes_by_node(dictionary, fit, nodes):
            coupled = supervised.fits[node].chosen.design.coupled
            at_z, every = node.kind == "z", width(dictionary, node)
            like = [] if at_z else [one for one in seen if one.is_like(codes, coupled, every)]
            if like:
                meanings[node] = like[0].meaning
                continue
            meanings[node] = _node_meaning(
                codes, table, coupled, every, thresholded=at_z, signed=dictionary.signed
            )
            if not at_z:
                seen.append(_Seen(codes.latents, codes.codes.sign(), coupled, meanings[node]))
    return Meaning(table, {node: meanings[node] for node in fit.nodes})


def activity(dictionary: Dictionary, given: Activations) -> dict[Node, Float[Tensor, "latent"]]:
    """The share of the prompts on which each latent is active at each node."""
    counts: dict[Node, Tensor] = {}
    for part in site_codes(dictionary, given):
        for node, codes in part.runs[0].codes.items():
            active = counts.setdefault(node, torch.zeros(width(dictionary, node)))
            active[part.latents.cpu()] += (codes != 0).float().sum(0).cpu()
    return {node: counts[node] / len(given) for node in given.nodes}


def codes_by_node(
    dictionary: Dictionary, given: Activations, nodes: Sequence[Node]
) -> Iterator[tuple[Node, ActiveCodes]]:
    """The codes of the nodes of one site, of as many at a time as memory should hold."""
    rest, size = list(nodes), 1
    while rest:
        part, rest = rest[:size], rest[size:]
        numbers = 0
        for node, codes in _active_codes(dictionary, given.on(part)):
            yield node, codes
            numbers = max(numbers, codes.codes.numel())
        size = max(1, DETECTOR_NUMBERS_AT_ONCE // max(1, numbers))


def _active_codes(dictionary: Dictionary, given: Activations) -> Iterator[tuple[Node, ActiveCodes]]:
    """The codes of nodes of one site, node by node; those of a wide dictionary are never held
    whole."""
    if isinstance(dictionary, WideDictionary):
        every = _wide_codes(dictionary, given)
    else:
        whole = dictionary.codes(given)
        every = ((node, whole[node], torch.arange(whole[node].shape[1])) for node in given.nodes)
    for node, codes, latents in every:
        active = (codes != 0).any(0)
        shown = ActiveCodes(latents.cpu()[active.cpu()], codes[:, active].float().cpu())
        yield node, _both_signs(shown, width(dictionary, node)) if dictionary.signed else shown


def _wide_codes(
    dictionary: WideDictionary, given: Activations
) -> Iterator[tuple[Node, Tensor, Tensor]]:
    """The codes of nodes of one site, and which latents they are of: those active at any node."""
    parts = list(dictionary.site_codes(given))
    latents = torch.cat([part.latents for part in parts]).unique()
    for node in given.nodes:
        codes = torch.zeros(len(given), len(latents), device=latents.device)
        for part in parts:
            place = torch.searchsorted(latents, part.latents)
            codes[part.rows].index_add_(1, place, part.runs[0].codes[node].float())
        yield node, codes, latents


def _both_signs(shown: ActiveCodes, every: int) -> ActiveCodes:
    codes = torch.cat([shown.codes, -shown.codes], -1)
    return ActiveCodes(torch.cat([shown.latents, shown.latents + every]), codes)


class _Seen(NamedTuple):
    """A node whose meaning is known: which of its latents are active on which prompts."""

    latents: Int[Tensor, "active"]
    signs: Float[Tensor, "prompt active"]
    coupled: tuple[str, ...]
    meaning: NodeMeaning

    def is_like(self, shown: ActiveCodes, coupled: tuple[str, ...], every: int) -> bool:
        """Whether the same latents of a node with so many are active on the same prompts."""
        return (
            len(self.meaning.best) == every
            and self.coupled == coupled
            and torch.equal(self.latents, shown.latents)
            and torch.equal(self.signs, shown.codes.sign())
        )


def _node_meaning(
    shown: ActiveCodes,
    table: Predicates,
    coupled: tuple[str, ...],
    every: int,
    *,
    thresholded: bool,
    signed: bool,
) -> NodeMeaning:
    """Of a node where there are `every` latents."""
    share = (shown.codes > 0).float().mean(0)
    latents, codes = shown.latents[share > 0], shown.codes[:, share > 0]
    single = detectors(codes, table.holds, thresholded=thresholded)
    best, active = torch.zeros(2, every * (1 + signed))
    best[latents] = _best_f1(codes, table, single, coupled, thresholded=thresholded)
    active[shown.latents] = share
    if signed:
        best, active = best.view(2, -1).max(0).values, active.view(2, -1).sum(0)
    return NodeMeaning(latents, single, best, active)


def _best_f1(
    codes: Float[Tensor, "prompt active"],
    table: Predicates,
    single: Detectors,
    coupled: tuple[str, ...],
    *,
    thresholded: bool,
) -> Float[Tensor, "active"]:
    """Each latent's best corrected F1 over values, unions, and pairs that are coupled."""
    best = _best_unions(codes, table, single, thresholded=thresholded)
    predicates = [single]
    for block in table.pairs:
        if set(block.attributes) <= set(coupled) and block.holds.shape[1]:
            predicates.append(detectors(codes, block.holds, thresholded=thresholded))
    for detected in predicates:
        if len(detected.positives):
            f1 = corrected(detected.f1, detected.positives / len(codes))
            best = torch.maximum(best, f1.max(-1).values)
    return best


def _best_unions(
    codes: Float[Tensor, "prompt active"],
    table: Predicates,
    single: Detectors,
    *,
    thresholded: bool,
) -> Float[Tensor, "active"]:
    """Best corrected F1 for a union of 2 to 10 values of one attribute, never all: those most of
    whose prompts the latent is active on.

    At z that is by the threshold of the latent's best single value, and each union then gets its
    own.
    """
    best = codes.new_zeros(codes.shape[1])
    cuts = cuts_through(codes) if thresholded else None
    for attribute in table.attributes:
        block = table.of(attribute)
        if len(block) < 3:
            continue
        values, positives = table.holds[:, block], single.positives[block]
        best_value = single.f1[:, block].argmax(-1, keepdim=True)
        threshold = single.threshold[:, block].gather(1, best_value)[:, 0]
        active = (codes > threshold).to(codes)
        hits = active.T @ values.to(codes)
        order = (hits / positives).argsort(dim=-1, descending=True, stable=True)
        sizes = positives[order].cumsum(-1)
        for last in range(1, min(LARGEST_UNION, len(block) - 1)):
            union = sizes[:, last]
            if cuts:
                f1 = cuts.best_f1(_in_union(order[:, : last + 1], values))
            else:
                union_hits = hits.gather(1, order[:, : last + 1]).sum(-1)
                f1 = 2 * union_hits / (active.sum(0) + union)
            best = torch.maximum(best, corrected(f1, union / len(codes)))
    return best


def _in_union(
    chosen: Int[Tensor, "active value"], values: Bool[Tensor, "prompt every"]
) -> Bool[Tensor, "prompt active"]:
    """Where a prompt's value is among those chosen for each latent."""
    inside = torch.zeros(len(chosen), values.shape[1], dtype=torch.bool)
    inside = inside.scatter_(1, chosen, value=True)
    return inside[:, values.byte().argmax(-1)].T
