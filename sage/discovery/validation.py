"""Whether a discovery can be believed: ranking against exact patching, section against random sets,
resampled pairs, faithfulness.

Section 2 of the method, "Validation printed with every discovery". The faithfulness curve with CPR
and CMD is that of MIB (Mueller et al. 2025, section 3.2), over nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.discovery.confirm import Confirmed, Trial
from sage.discovery.discovery import Curve, Validation
from sage.discovery.patching import patch
from sage.discovery.stage import Stage
from sage.discovery.statistic import null_level, passes, statistic
from sage.models.base import Model
from sage.nodes import Node
from sage.stats import bootstrap
from sage.task.metric import Metric

if TYPE_CHECKING:
    import numpy as np

RANDOM_SETS = 20
RESAMPLES = 50
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NOISE = 1e-5


class Correlation(NamedTuple):
    """Rank and linear correlation; None where one side does not vary."""

    spearman: float | None
    pearson: float | None


def validate(
    model: Model,
    trial: Trial,
    confirmed: Confirmed,
    attributed: Mapping[Node, float],
    metric: Metric,
    *,
    seed: int,
    stage: Stage | None = None,
) -> Validation:
    """Everything the method prints with a contrast; `attributed` is the statistic of I at every
    candidate."""
    exact = statistic(confirmed.effects, trial.classes)
    guess = torch.tensor([attributed[node] for node in confirmed.nodes], dtype=torch.float64)
    section = [
        node for node, kept in zip(confirmed.nodes, confirmed.kept.tolist(), strict=True) if kept
    ]
    sets = matched_sets(section, list(attributed), count=RANDOM_SETS, seed=seed) if section else []
    together: list[float] = []
    if section:
        together = statistic(
            patch(model, [section, *sets], trial.pairs, metric, stage=stage) - trial.clean,
            trial.classes,
        ).tolist()
    overlaps = resampled_overlaps(trial, confirmed, draws=RESAMPLES, seed=seed) if section else []
    curve, note = None, "The right answer does not change: no recovered fraction exists."
    if trial.changes_answer:
        order = _order(attributed, dict(zip(confirmed.nodes, exact.tolist(), strict=True)))
        curve, note = faithfulness(model, trial, order, metric, seed=seed, stage=stage)
    related = correlate(guess, exact, noise=NOISE * trial.baseline)
    mean = sum(overlaps) / len(overlaps) if overlaps else None
    return Validation(
        patched=len(confirmed.nodes),
        spearman=related.spearman,
        pearson=related.pearson,
        top=len(section),
        top_overlap=top_overlap(guess, exact, len(section)),
        section_effect=together[0] if together else None,
        random_effects=tuple(together[1:]),
        jaccard=mean,
        jaccard_sd=None
        if mean is None
        else (sum((value - mean) ** 2 for value in overlaps) / (len(overlaps) - 1)) ** 0.5,
        resamples=len(overlaps),
        curve=curve,
        notes=tuple(
            text
            for text in ("" if section else "Nothing was kept: no set to compare.", note)
            if text
        ),
    )


def correlate(
    guess: Float[Tensor, "node"], exact: Float[Tensor, "node"], *, noise: float
) -> Correlation:
    """How a ranking agrees with exact patching; values below `noise`, the rounding of a forward
    pass, count as 0 and so as ties."""
    import numpy as np
    from scipy.stats import rankdata

    sides = [torch.where(values.abs() < noise, 0.0, values).numpy() for values in (guess, exact)]
    if len(guess) < 3 or min(side.std() for side in sides) == 0:
        return Correlation(None, None)
    ranks = [rankdata(side) for side in sides]
    return Correlation(
        float(np.corrcoef(np.stack(ranks))[0, 1]), float(np.corrcoef(np.stack(sides))[0, 1])
    )


def top_overlap(
    guess: Float[Tensor, "node"], exact: Float[Tensor, "node"], top: int
) -> float | None:
    """Share of the first `top` nodes by exact patching that are among the first `top` by
    attribution."""
    if top == 0:
        return None
    first, second = (
        set(values.argsort(descending=True, stable=True)[:top].tolist())
        for values in (guess, exact)
    )
    return len(first & second) / top


def matched_sets(
    section: Sequence[Node], candidates: Sequence[Node], *, count: int, seed: int
) -> list[list[Node]]:
    """Random sets with as many nodes of each layer and kind as the section: from outside it first,
    from inside where those run out."""
    generator = torch.Generator().manual_seed(seed)
    sets: list[list[Node]] = []
    for _ in range(count):
        chosen: list[Node] = []
        for layer, kind in sorted({(node.layer, node.kind) for node in section}):
            wanted = [node for node in section if (node.layer, node.kind) == (layer, kind)]
            pool = [node for node in candidates if (node.layer, node.kind) == (layer, kind)]
            outside = _dealt([node for node in pool if node not in wanted], generator)
            chosen += [*outside, *_dealt(wanted, generator)][: len(wanted)]
        sets.append(chosen)
    return sets


def resampled_overlaps(trial: Trial, confirmed: Confirmed, *, draws: int, seed: int) -> list[float]:
    """Jaccard overlap of the section with the one that pairs drawn with replacement, irrelevant
    ones too, would have given."""
    generator = torch.Generator().manual_seed(seed)
    overlaps: list[float] = []
    for _ in range(draws):
        rows = torch.randint(len(trial.classes), (len(trial.classes),), generator=generator)
        level = None
        if confirmed.nulls is not None and confirmed.null_classes is not None:
            columns = torch.randint(
                len(confirmed.null_classes), (len(confirmed.null_classes),), generator=generator
            )
            level = null_level(confirmed.nulls[:, columns], confirmed.null_classes[columns])
        values = statistic(confirmed.effects[:, rows], trial.classes[rows])
        kept = passes(
            values, baseline=float(trial.clean[rows].abs().mean()), tau=trial.tau, null=level
        )
        either = int((kept | confirmed.kept).sum())
        overlaps.append(int((kept & confirmed.kept).sum()) / either if either else 1.0)
    return overlaps


def faithfulness(
    model: Model,
    trial: Trial,
    order: Sequence[Node],
    metric: Metric,
    *,
    seed: int,
    stage: Stage | None = None,
) -> tuple[Curve | None, str]:
    """The curve with the first nodes of `order` left clean and the others patched, or None and the
    reason why there is none."""
    sizes = [0, *(max(1, round(share * len(order))) for share in SHARES)]
    runs = patch(model, [order[size:] for size in sizes], trial.pairs, metric, stage=stage)
    change = runs[-1] - runs[0]
    spread = float(change.std() / len(change) ** 0.5) if len(change) > 1 else 0.0
    if abs(float(change.mean())) <= 3 * spread:
        moved = (
            f"Patching all candidates moves the metric by {-float(change.mean()):.3g} in the mean"
        )
        return None, f"{moved}, less than 3 standard errors: no recovered fraction."
    columns = runs.T.numpy()
    shares = (0.0, *SHARES)
    texts = [pair.clean.prompt.text for pair in trial.pairs]
    cpr = bootstrap(
        columns, lambda means: areas(shares, recovered(means)).cpr, seed=seed, clusters=texts
    ).estimate()
    cmd = bootstrap(
        columns, lambda means: areas(shares, recovered(means)).cmd, seed=seed, clusters=texts
    ).estimate()
    values = recovered(columns.mean(0, keepdims=True))[0].tolist()
    return Curve(
        tuple(zip(SHARES, values[1:], strict=True)),
        cpr.value,
        cpr.stderr,
        cmd.value,
        cmd.stderr,
        len(trial.pairs),
    ), ""


class Areas(NamedTuple):
    """Areas under f and under |1 - f|, by trapezoids over linear shares."""

    cpr: Float[np.ndarray, "draw"]
    cmd: Float[np.ndarray, "draw"]


def recovered(means: Float[np.ndarray, "draw share"]) -> Float[np.ndarray, "draw share"]:
    """f from the mean metrics at growing shares, the first with nothing left clean and the last
    with everything."""
    return (means - means[:, :1]) / (means[:, -1:] - means[:, :1])


def areas(shares: Sequence[float], f: Float[np.ndarray, "draw share"]) -> Areas:
    """CPR and CMD of curves known at these shares of nodes."""
    import numpy as np

    return Areas(np.trapezoid(f, shares, axis=1), np.trapezoid(np.abs(1 - f), shares, axis=1))


def _order(attributed: Mapping[Node, float], exact: Mapping[Node, float]) -> list[Node]:
    """All candidates, largest first: those patched by their statistic, then the others by that of
    their attribution."""
    return sorted(
        attributed, key=lambda node: (node not in exact, -exact.get(node, attributed[node]), node)
    )


def _dealt(nodes: Sequence[Node], generator: torch.Generator) -> list[Node]:
    return [nodes[index] for index in torch.randperm(len(nodes), generator=generator).tolist()]
