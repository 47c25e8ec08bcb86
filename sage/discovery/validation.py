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

from sage.discovery.confirm import ERROR, Confirmed, looks_at
from sage.discovery.discovery import Validation
from sage.discovery.faithfulness import faithfulness
from sage.discovery.looks import Looks
from sage.discovery.pairs import ContrastPairs, PatchedPairs
from sage.discovery.sequential import ComparedSets, patch_above
from sage.discovery.statistic import null_level, passes, statistic
from sage.nodes import Node
from sage.progress import advance, expect

RANDOM_SETS = 20
RESAMPLES = 50
NOISE = 1e-5


def validate(
    contrast_pairs: ContrastPairs,
    patched: PatchedPairs,
    confirmed: Confirmed,
    attributed: Mapping[Node, float],
    *,
    seed: int,
    error: float = ERROR,
) -> Validation:
    """Everything the method prints with a contrast.

    `attributed` is the statistic of I at every candidate. A random set is patched on no more pairs
    than it takes to know that it does less than the section, with that chance of an error over all
    of them.
    """
    exact = statistic(confirmed.effects, contrast_pairs.classes)
    guess = torch.tensor([attributed[node] for node in confirmed.nodes], dtype=torch.float64)
    correlation = correlate(guess, exact, noise=NOISE * contrast_pairs.baseline)
    section = confirmed.section
    random_sets = matched_sets(section, list(attributed), count=RANDOM_SETS, seed=seed)
    looks = looks_at(contrast_pairs.classes, seed=seed, error=error)
    beside = _against_random(patched, section, random_sets, looks, error=error)
    overlaps = resampled_overlaps(contrast_pairs, confirmed, draws=RESAMPLES, seed=seed)
    order = _order(attributed, dict(zip(confirmed.nodes, exact.tolist(), strict=True)))
    curve, curve_note = faithfulness(contrast_pairs, patched, order, seed=seed)
    notes = ("" if section else "Nothing was kept: no set to compare.", curve_note)
    jaccard = _mean_and_sd(overlaps)
    return Validation(
        patched=len(confirmed.nodes),
        spearman=correlation.spearman,
        pearson=correlation.pearson,
        top=len(section),
        top_overlap=top_overlap(guess, exact, len(section)),
        section_effect=beside.section,
        random_effects=beside.random,
        jaccard=jaccard.mean,
        jaccard_sd=jaccard.sd,
        resamples=len(overlaps),
        curve=curve,
        notes=tuple(filter(None, notes)),
        in_full=int(confirmed.in_full.sum()),
        random_n=beside.random_n,
    )


class _SetEffects(NamedTuple):
    """The statistic of the whole section, those of random sets, and on how many pairs each of these
    rests."""

    section: float | None = None
    random: tuple[float, ...] = ()
    random_n: tuple[int, ...] = ()


def _against_random(
    patched: PatchedPairs,
    section: Sequence[Node],
    random_sets: Sequence[Sequence[Node]],
    looks: Looks,
    *,
    error: float,
) -> _SetEffects:
    if not section:
        return _SetEffects()
    classes, whole = looks.classes, [tuple(section)]
    sets = ComparedSets.among([tuple(random_set) for random_set in random_sets], error=error)
    expect(patched.unmeasured([*whole, *sets.sets], len(classes)))
    patched.measure(whole, range(len(classes)))
    bar = float(statistic(patched.effects(whole), classes))
    effects = patch_above(patched, sets, looks, bar=bar)
    advance(patched.unmeasured(sets.sets, len(classes)))
    pairs = (~effects.isnan()).sum(1)
    return _SetEffects(bar, tuple(statistic(effects, classes).tolist()), tuple(pairs.tolist()))


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

    Pairs are drawn with replacement, irrelevant ones too. Nodes that were dropped are beyond doubt
    too small for the section, or for the null: there they count as 0. None for an empty section.
    """
    if not confirmed.section:
        return []
    in_full = confirmed.in_full
    effects = confirmed.effects[in_full]
    null_effects = _zero_where_dropped(confirmed.nulls)
    generator = torch.Generator().manual_seed(seed)
    overlaps: list[float] = []
    for _ in range(draws):
        pairs = _with_replacement(len(contrast_pairs.classes), generator)
        level = None
        if null_effects is not None and confirmed.null_classes is not None:
            nulls = _with_replacement(len(confirmed.null_classes), generator)
            level = null_level(null_effects[:, nulls], confirmed.null_classes[nulls])
        kept = passes(
            statistic(effects[:, pairs], contrast_pairs.classes[pairs]),
            baseline=float(contrast_pairs.clean[pairs].abs().mean()),
            tau=contrast_pairs.tau,
            null=level,
        )
        in_either = int((kept | confirmed.kept[in_full]).sum())
        in_both = int((kept & confirmed.kept[in_full]).sum())
        overlaps.append(in_both / in_either if in_either else 1.0)
    return overlaps


def _zero_where_dropped(nulls: Float[Tensor, "node null"] | None) -> Tensor | None:
    return None if nulls is None else nulls.where(~nulls.isnan().any(1, keepdim=True), 0.0)


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
