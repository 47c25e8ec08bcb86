"""The measures of fidelity: each a function of means over sequences, so that each has its error.

Method, section 8. Every sequence has one number in each column, a sum over its tokens; a ratio of
means of sums weighs tokens alike, and its draws resample whole sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sage.fidelity.reconstruction import TOKEN_SUMS
from sage.stats import Sampled, bootstrap

RUNS = ("sae", "zero", "mean")
COLUMNS = (
    "scored",
    "tokens",
    "cross_entropy",
    *(f"cross_entropy_{run}" for run in RUNS),
    *(f"kl_{run}" for run in RUNS),
    *TOKEN_SUMS,
)
Means = Mapping[str, Any]


class FidelityMeasure(NamedTuple):
    """A measure: what it is called in tables, and how it follows from means over sequences."""

    title: str
    of: Callable[[Means], Any]


def _per_scored(column: str) -> Callable[[Means], Any]:
    return lambda means: means[column] / means["scored"]


def _per_token(column: str) -> Callable[[Means], Any]:
    return lambda means: means[column] / means["tokens"]


def _loss_recovered(ablation: str) -> Callable[[Means], Any]:
    """(L_abl - L_sae) / (L_abl - L_base)."""

    def recovered(means: Means) -> Any:
        ablated = means[f"cross_entropy_{ablation}"]
        return (ablated - means["cross_entropy_sae"]) / (ablated - means["cross_entropy"])

    return recovered


def _lost_by(ablation: str) -> Callable[[Means], Any]:
    """L_abl - L_base."""
    return lambda means: means[f"cross_entropy_{ablation}"] - means["cross_entropy"]


def _kl_recovered(ablation: str) -> Callable[[Means], Any]:
    """1 - KL_sae / KL_abl, as KL of the unmodified model from itself is 0."""
    return lambda means: 1 - means["kl_sae"] / means[f"kl_{ablation}"]


MEASURES = {
    "cross_entropy": FidelityMeasure("cross-entropy", _per_scored("cross_entropy")),
    "cross_entropy_sae": FidelityMeasure("with the SAE", _per_scored("cross_entropy_sae")),
    "cross_entropy_zero": FidelityMeasure("zeroed", _per_scored("cross_entropy_zero")),
    "cross_entropy_mean": FidelityMeasure("mean-ablated", _per_scored("cross_entropy_mean")),
    "loss_recovered_zero": FidelityMeasure("loss recovered (zero)", _loss_recovered("zero")),
    "loss_recovered_mean": FidelityMeasure("loss recovered (mean)", _loss_recovered("mean")),
    "nats_lost": FidelityMeasure(
        "nats lost",
        lambda means: (means["cross_entropy_sae"] - means["cross_entropy"]) / means["scored"],
    ),
    "kl": FidelityMeasure("KL", _per_scored("kl_sae")),
    "kl_recovered_zero": FidelityMeasure("KL recovered (zero)", _kl_recovered("zero")),
    "kl_recovered_mean": FidelityMeasure("KL recovered (mean)", _kl_recovered("mean")),
    "l0": FidelityMeasure("L0", _per_token("active")),
    "fvu": FidelityMeasure("FVU", lambda means: means["error"] / means["variance"]),
    "cosine": FidelityMeasure("cosine", _per_token("cosine")),
    "bias": FidelityMeasure("bias", lambda means: means["norm"] / means["product"]),
}


def measure_columns(
    columns: Float[np.ndarray, "sequence column"],
    clusters: Sequence[Hashable],
    *,
    seed: int = 0,
) -> dict[str, Sampled]:
    """Every measure with its bootstrap draws; sequences of one cluster are drawn together.

    Loss recovered is NaN where the ablation is not seen to lose anything (the 95 % interval of what
    it loses holds 0): a share of nothing has no meaning, however large it comes out.
    """

    def sampled(measure: Callable[[Means], Any]) -> Sampled:
        def statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
            return measure(dict(zip(COLUMNS, means.T, strict=True)))

        return bootstrap(columns, statistic, seed=seed, clusters=clusters)

    measures = {name: sampled(measure.of) for name, measure in MEASURES.items()}
    for ablation in ("zero", "mean"):
        if not sampled(_lost_by(ablation)).estimate().low > 0:
            recovered = measures[f"loss_recovered_{ablation}"]
            undefined = np.full_like(recovered.draws, np.nan)
            measures[f"loss_recovered_{ablation}"] = Sampled(float("nan"), undefined, recovered.n)
    return measures
