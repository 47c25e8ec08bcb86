"""The induction circuit of any model, detected by its attention patterns.

No published list covers every model, so the score of Wang et al. 2022 (appendix H) stands in for
one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sage.circuits.circuit import Circuit, Group, forward_order
from sage.errors import SageError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor


def induction_scores(
    patterns: Mapping[str, Float[np.ndarray | Tensor, "prompt query key"]],
    *,
    period: int,
    start: int = 0,
) -> dict[str, float]:
    """Each head's mean attention from token i to i - period + 1, which followed i last time.

    The prompts repeat a block of `period` tokens. Only repeated tokens are averaged: with a BOS
    token before the first block `start` is 1, else the first token of all would be taken for an
    occurrence.
    """
    import numpy as np

    scores: dict[str, float] = {}
    for head, pattern in patterns.items():
        attention = np.asarray(pattern)
        prompts, queries, keys = attention.shape
        if period < 2 or queries != keys or prompts == 0 or queries <= start + period:
            raise SageError(
                f"No induction score for head {head}: a pattern of shape {attention.shape} with "
                f"period {period} and start {start} has no token that repeats an earlier one. "
                "Give [prompt, query, key] with query = key > start + period, and period >= 2."
            )
        # Entry j of this diagonal is the attention from token j + period - 1 to token j.
        to_what_followed = np.diagonal(attention, offset=1 - period, axis1=1, axis2=2)
        scores[head] = float(to_what_followed[:, start + 1 :].mean())
    return scores


def detected_circuit(scores: Mapping[str, float], threshold: float, *, model: str) -> Circuit:
    """The induction circuit: the heads whose induction score reaches the threshold.

    `scores` has all heads of the model. SageError where no head reaches it.
    """
    heads = tuple(head for head in sorted(scores, key=forward_order) if scores[head] >= threshold)
    if not heads:
        best = max(scores.values(), default=0.0)
        raise SageError(
            f"No head of {model} has an induction score of {threshold} or more; the largest of "
            f"{len(scores)} is {best:.3g}."
        )
    return Circuit(
        name="induction",
        task="induction",
        model=model,
        source=(
            "Detector: mean attention from i to i - period + 1 (Wang et al. 2022, arXiv 2211.00593)"
        ),
        where=f"Appendix H for the score; threshold {threshold:g}",
        heads_total=len(scores),
        groups=(Group("induction", heads),),
    )
