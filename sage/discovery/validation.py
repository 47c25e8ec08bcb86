"""Whether a discovery can be believed, as printed with every discovery.

Section 2 of the method, "Validation printed with every discovery": the ranking against exact
patching, the section against random sets and against those of resampled pairs, faithfulness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.discovery.confirm import Confirmed
from sage.discovery.discovery import Validation
from sage.discovery.faithfulness import faithfulness
from sage.discovery.pairs import ContrastPairs
from sage.discovery.statistic import null_level, passes, statistic
from sage.models.base import Model
from sage.nodes import Node

RANDOM_SETS = 20
RESAMPLES = 50
NOISE = 1e-5


def validate(
    model: Model,
    contrast_pairs: ContrastPairs,
    confirmed: Confirmed,
    attributed: Mapping[Node, float],
    *,
    seed: int,
) -> Validation:
    """Everything the method prints with a contrast.

    `attributed` is the statistic of I at every candidate.
    """
    exact = statistic(confirmed.effects, contrast_pairs.classes)
    guess = torch.tensor([attributed[node] for node in confirmed.nodes], dtype=torch.float64)
    correlation = correlate(guess, exact, noise=NOISE * contrast_pairs.baseline)
    section = confirmed.section
    set_effects: list[float] = []
    overlaps: list[float] = []
    if section:
        random_sets = matched_sets(section, list(attributed), count=RANDOM_SETS, seed=seed)
        effects = contrast_pairs.effects(model, [section, *random_sets])
        set_effects = statistic(effects, contrast_pairs.classes).tolist()
        overlaps = resampled_overlaps(contrast_pairs, confirmed, draws=RESAMPLES, seed=seed)
    order = _order(attributed, dict(zip(confirmed.nodes, exact.tolist(), strict=True)))
    curve, curve_note = faithfulness(model, contrast_pairs, order, seed=seed)
    section_note = "" if section else "Nothing was kept: no set to compare."
    jaccard = _mean_and_sd(overlaps)
    return Validation(
        patched=len(confirmed.nodes),
        spearman=correlation.spearman,
        pearson=correlation.pearson,
        top=len(section),
        top_overlap=top_overlap(guess, exact, len(section)),
        section_effect=set_effects[0] if section else None,
        random_effects=tuple(set_effects[1:]),
        jaccard=jaccard.mean,
        jaccard_sd=jaccard.sd,
        resamples=len(overlaps),
        curve=curve,
        notes=tuple(note for note in (section_note, curve_note) if note),
    )


class Correlation(NamedTuple):
    """Rank and linear correlation; None where one side does not vary."""

    spearman: float | None
    pearson: float | None


def correlate(
    guess: Float[Tensor, "node"], exact: Float[Tensor, "node"], *, noise: float
) -> Correlation:
    """How a ranking agrees with exact patching.

    Values below `noise`, the rounding of a forward pass, count as 0 and so as ties.
    """
    import numpy as np
    from scipy.stats import rankdata

    sides = [torch.where(values.abs() < noise, 0.0, values).numpy() for values in (guess, exact)]
    if len(guess) < 3 or min(side.std() for side in sides) == 0:
        return Correlation(None, None)
    ranks = [rankdata(side) for side in sides]
    return Correlation(
        spearman=float(np.corrcoef(np.stack(ranks))[0, 1]),
        pearson=float(np.corrcoef(np.stack(sides))[0, 1]),
    )


def top_overlap(
    guess: Float[Tensor, "node"], exact: Float[Tensor, "node"], top: int
) -> float | None:
    """Share of the first `top` nodes by exact patching that are among those by attribution."""
    if top == 0:
        return None
    first_by_guess, first_by_exact = (
        set(values.argsort(descending=True, stable=True)[:top].tolist())
        for values in (guess, exact)
    )
    return len(first_by_guess & first_by_exact) / top


def matched_sets(
    section: Sequence[Node], candidates: Sequence[Node], *, count: int, seed: int
) -> list[list[Node]]:
    """Random sets with as many nodes of each layer and kind as the section.

    Nodes are taken from outside the section first, from inside where those run out.
    """
    generator = torch.Generator().manual_seed(seed)
    by_place: dict[tuple[int, str], list[Node]] = {}
    for node in section:
        by_place.setdefault((node.layer, node.kind), []).append(node)
    sets: list[list[Node]] = []
    for _ in range(count):
        random_set: list[Node] = []
        for place, inside in sorted(by_place.items()):
            alike = [node for node in candidates if (node.layer, node.kind) == place]
            outside = _shuffled([node for node in alike if node not in inside], generator)
            drawn = [*outside, *_shuffled(inside, generator)]
            random_set += drawn[: len(inside)]
        sets.append(random_set)
    return sets


def resampled_overlaps(
    contrast_pairs: ContrastPairs, confirmed: Confirmed, *, draws: int, seed: int
) -> list[float]:
    """Jaccard overlap of the section with those that resampled pairs would have given.

    Pairs are drawn with replacement, irrelevant ones too.
    """
    generator = torch.Generator().manual_seed(seed)
    overlaps: list[float] = []
    for _ in range(draws):
        pairs = _with_replacement(len(contrast_pairs.classes), generator)
        level = None
        if confirmed.nulls is not None and confirmed.null_classes is not None:
            nulls = _with_replacement(len(confirmed.null_classes), generator)
            level = null_level(confirmed.nulls[:, nulls], confirmed.null_classes[nulls])
        kept = passes(
            statistic(confirmed.effects[:, pairs], contrast_pairs.classes[pairs]),
            baseline=float(contrast_pairs.clean[pairs].abs().mean()),
            tau=contrast_pairs.tau,
            null=level,
        )
        in_either = int((kept | confirmed.kept).sum())
        in_both = int((kept & confirmed.kept).sum())
        overlaps.append(in_both / in_either if in_either else 1.0)
    return overlaps


class _Spread(NamedTuple):
    mean: float | None
    sd: float | None


def _mean_and_sd(values: Sequence[float]) -> _Spread:
    """Mean and sample standard deviation; None where there are no values."""
    if not values:
        return _Spread(None, None)
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return _Spread(mean, variance**0.5)


def _order(attributed: Mapping[Node, float], exact: Mapping[Node, float]) -> list[Node]:
    """All candidates, largest first: those patched, then the others by their attribution."""
    return sorted(
        attributed, key=lambda node: (node not in exact, -exact.get(node, attributed[node]), node)
    )


def _shuffled(nodes: Sequence[Node], generator: torch.Generator) -> list[Node]:
    return [nodes[index] for index in torch.randperm(len(nodes), generator=generator).tolist()]


def _with_replacement(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(count, (count,), generator=generator)
