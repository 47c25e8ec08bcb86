"""Faithfulness: how much of the metric comes back as a growing share of nodes is left clean.

The curve with CPR and CMD is that of MIB (Mueller et al. 2025, section 3.2), over nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float

from sage.discovery.discovery import FaithfulnessCurve
from sage.discovery.pairs import ContrastPairs, PatchedPairs
from sage.nodes import Node
from sage.stats import bootstrap

if TYPE_CHECKING:
    import numpy as np

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Faithfulness(NamedTuple):
    """The curve, or None and in `note` the reason why there is none."""

    curve: FaithfulnessCurve | None
    note: str = ""


def faithfulness(
    contrast_pairs: ContrastPairs, patched: PatchedPairs, order: Sequence[Node], *, seed: int
) -> Faithfulness:
    """The curve with the first nodes of `order` left clean and all others patched.

    There is none where the right answer does not change, and none where patching all candidates
    moves the metric by less than three standard errors: f would be divided by nothing.
    """
    if not contrast_pairs.changes_answer:
        return Faithfulness(None, "The right answer does not change: no recovered fraction exists.")
    sizes = [0, *(max(1, round(share * len(order))) for share in SHARES)]
    metrics = patched.patched([tuple(order[size:]) for size in sizes])
    lost = metrics[-1] - metrics[0]
    stderr = float(lost.std() / len(lost) ** 0.5) if len(lost) > 1 else 0.0
    if abs(float(lost.mean())) <= 3 * stderr:
        return Faithfulness(
            None,
            f"Patching all candidates moves the metric by {-float(lost.mean()):.3g} in the mean, "
            "less than 3 standard errors: no recovered fraction.",
        )
    columns = metrics.T.numpy()
    shares = (0.0, *SHARES)
    texts = [pair.clean.prompt.text for pair in contrast_pairs.pairs]
    cpr = bootstrap(
        columns, lambda means: areas(shares, recovered(means)).cpr, seed=seed, clusters=texts
    ).estimate()
    cmd = bootstrap(
        columns, lambda means: areas(shares, recovered(means)).cmd, seed=seed, clusters=texts
    ).estimate()
    f = recovered(columns.mean(0, keepdims=True))[0].tolist()
    return Faithfulness(
        FaithfulnessCurve(
            points=tuple(zip(SHARES, f[1:], strict=True)),
            cpr=cpr.value,
            cpr_stderr=cpr.stderr,
            cmd=cmd.value,
            cmd_stderr=cmd.stderr,
            n=len(contrast_pairs.pairs),
        )
    )


class Areas(NamedTuple):
    """Areas under f and under |1 - f|, by trapezoids over linear shares."""

    cpr: Float[np.ndarray, "draw"]
    cmd: Float[np.ndarray, "draw"]


def recovered(means: Float[np.ndarray, "draw share"]) -> Float[np.ndarray, "draw share"]:
    """f = (m - m_none)/(m_all - m_none), from the mean metrics at growing shares.

    The first share has nothing left clean and the last everything.
    """
    return (means - means[:, :1]) / (means[:, -1:] - means[:, :1])


def areas(shares: Sequence[float], f: Float[np.ndarray, "draw share"]) -> Areas:
    """CPR and CMD of curves known at these shares of nodes."""
    import numpy as np

    return Areas(np.trapezoid(f, shares, axis=1), np.trapezoid(np.abs(1 - f), shares, axis=1))
