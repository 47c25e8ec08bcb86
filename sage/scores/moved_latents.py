"""Which latents stand behind a suite's interpretable control: the most moved ones, with prompts.

What T3 counts are edits at all F1 levels and three budgets (method, section 5.5). Of each latent
is told in what share of these edits it was moved, which value its activity predicts best on fit,
and where its direction points; and on a few pairs what the model said before, what it should say,
and what it said under the widest of these edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.dictionaries.activations import Site, sites
from sage.models.base import Model
from sage.nodes import Node
from sage.result import MovedLatent, MoveExample
from sage.saes.sae import SAE, hook_label
from sage.saes.suite import Suite
from sage.scores.control import EditOutcomes
from sage.scores.geometry import Geometry
from sage.scores.levels import BUDGETS, LEVELS
from sage.scores.meaning import Meaning
from sage.scores.rows import NodeSetScores

MOST_LATENTS = 20
MOST_EXAMPLES = 3
# The edit that examples show: the most latents, and the widest budget.
_SHOWN = (LEVELS[0], BUDGETS[-1])


class MovedAt(NamedTuple):
    """A latent of a site: the share of edits in which it was moved, and in how many of them for
    each pair."""

    site: Site
    latent: int
    share: float
    times: Int[Tensor, "pair"]


def moved_latents(collected: NodeSetScores, suite: Suite) -> tuple[MovedLatent, ...]:
    """The latents of a suite that were moved most on these nodes, the most moved first; none where
    its edits were not run at every level."""
    measured = collected.contest.measured[collected.suite]
    outcomes, meaning = measured.get("control"), collected.contest.meaning
    if not isinstance(outcomes, EditOutcomes) or not outcomes.has_levels or meaning is None:
        return ()
    geometry = measured.get("geometry")
    found = sorted(count_moves(outcomes, suite), key=lambda at: (-at.share, at.site, at.latent))
    return tuple(
        _described(collected, suite, at, meaning, geometry, outcomes) for at in found[:MOST_LATENTS]
    )


def count_moves(outcomes: EditOutcomes, suite: Suite) -> Iterator[MovedAt]:
    """Every latent that was moved in any edit that T3 counts."""
    edits = [outcomes.edits[level, budget] for level in LEVELS for budget in BUDGETS]
    for site in edits[0].latents:
        sae = suite.at(site[0])
        if sae is None:
            continue
        times = torch.zeros(len(edits[0].picks), sae.width, dtype=torch.int16)
        for edit in edits:
            rows, picks = torch.nonzero(edit.latents[site] >= 0, as_tuple=True)
            numbers = edit.latents[site][rows, picks] % sae.width
            times.index_put_((rows, numbers), times.new_ones(len(rows)), accumulate=True)
        shares = times.sum(0).double() / (len(edits) * len(times))
        for latent in shares.nonzero().flatten().tolist():
            yield MovedAt(site, latent, float(shares[latent]), times[:, latent])


def _described(
    collected: NodeSetScores,
    suite: Suite,
    at: MovedAt,
    meaning: Meaning,
    geometry: object,
    outcomes: EditOutcomes,
) -> MovedLatent:
    hook, position = at.site
    sae = suite.at(hook)
    assert sae is not None
    anatomy = collected.node_set.model.anatomy
    nodes = sites(collected.node_set.nodes, anatomy)[at.site]
    value, f1 = _means(meaning, nodes, at.latent)
    feature, cosine = _points(geometry, nodes, at.latent)
    return MovedLatent(
        contrast=collected.contrast,
        section=collected.id,
        suite=collected.suite,
        sae=sae.id,
        site=f"{hook_label(hook)}@{position}",
        latent=at.latent,
        value=value,
        f1=f1,
        feature=feature,
        cosine=cosine,
        share=at.share,
        pairs=int((at.times > 0).sum()),
        n=len(at.times),
        page=_page(sae, at.latent),
        examples=_examples(collected, outcomes, at.times),
    )


def _means(meaning: Meaning, nodes: Sequence[Node], latent: int) -> tuple[str, float]:
    """The value that its activity predicts best at any of the nodes, and the corrected F1 of its
    best predicate there, which may be a union of values."""
    name, best = "", 0.0
    for node in nodes:
        known = meaning.nodes[node]
        if (f1 := float(known.best[latent])) <= best and name:
            continue
        rows = (known.latents % len(known.best) == latent).nonzero().flatten()
        if len(rows):
            number = int(known.detectors.f1[rows].max(0).values.argmax())
            name, best = str(meaning.predicates.values[number]), f1
    return name, best


def _points(geometry: object, nodes: Sequence[Node], latent: int) -> tuple[str, float | None]:
    """The supervised feature that its direction is nearest to at any of the nodes."""
    name, best = "", None
    for node in nodes:
        matched = geometry.nodes.get(node) if isinstance(geometry, Geometry) else None
        if matched is None:
            continue
        rows = (matched.latents == latent).nonzero().flatten()
        if len(rows) and matched.cosines.shape[1]:
            cosines: Float[Tensor, "feature"] = matched.cosines[rows[0]].float()
            nearest = int(cosines.argmax())
            if best is None or float(cosines[nearest]) > best:
                name, best = matched.features[nearest], float(cosines[nearest])
    return name, best


def _page(sae: SAE, latent: int) -> str:
    return f"{sae.stated.page}/{latent}" if sae.stated.page else ""


def _examples(
    collected: NodeSetScores, outcomes: EditOutcomes, times: Int[Tensor, "pair"]
) -> list[MoveExample]:
    """The pairs in which the latent was moved most often, in the order of the pairs."""
    pairs, behaviour = collected.node_set.test
    order = times.argsort(descending=True, stable=True)[:MOST_EXAMPLES].tolist()
    model, edited = collected.node_set.model, outcomes.behaviour[_SHOWN]
    return [
        MoveExample(
            pairs.base.prompts[row].prompt.text,
            pairs.target.prompts[row].prompt.text,
            _said(model, int(behaviour.clean.choice[row])),
            _said(model, int(behaviour.truth.choice[row])),
            _said(model, int(edited.choice[row])),
        )
        for row in sorted(order)
        if times[row] > 0
    ]


def _said(model: Model, choice: int) -> str:
    """What the model says: a token, or which of two sets of tokens."""
    if choice < 0:
        return "an answer" if choice == -1 else "a foil"
    return str(model.tokenizer.decode([choice])).strip()
