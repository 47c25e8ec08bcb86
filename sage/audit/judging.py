"""Verdicts: what the figures of all lenses say of a metric.

*use*: every lens passed wherever it was judged. *do not use*: the metric does not order what it
claims to measure (in some world less than `LEAST_ORDER` of the pairs rightly, over all or over the
trained, with an interval that ends below what passes), prefers something to the truth itself, or is
noise (sd over `MOST_NOISE` of the mean, or SAEs differ by less than `LEAST_SNR` times the sd of a
redraw). *use with care*: what lies between, with the lens that fails and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage.audit.cell import Cell
from sage.audit.metrics import AuditedMetric
from sage.audit.truth import LEAST_OVER_ALL, LEAST_OVER_TRAINED
from sage.audit.verdict import CARE, NOT, UNKNOWN, USE, Verdict

LEAST_ORDER = 0.75
MOST_NOISE = 0.25
LEAST_SNR = 2.0


def judge(metric: AuditedMetric, cells: Sequence[Cell]) -> Verdict:
    """The verdict on a metric from its cells."""
    own = [cell for cell in cells if cell.metric == metric.name]
    judged = [cell for cell in own if cell.passed is not None]
    if not judged:
        return Verdict(metric.name, metric.version, UNKNOWN)
    fatal = tuple(dict.fromkeys(reason for cell in own for reason in _fatal(cell)))
    if fatal:
        return Verdict(metric.name, metric.version, NOT, fatal)
    failed = [cell for cell in judged if not cell.passed]
    if failed:
        return Verdict(metric.name, metric.version, CARE, tuple(_reasons(failed)))
    return Verdict(metric.name, metric.version, USE)


def _reasons(failed: Sequence[Cell]) -> Iterator[str]:
    """Each lens that failed, where, and the first thing it failed by there."""
    by_lens: dict[str, list[Cell]] = {}
    for cell in failed:
        by_lens.setdefault(cell.lens, []).append(cell)
    for lens, cells in by_lens.items():
        places = ", ".join(cell.where for cell in cells)
        by = cells[0].failed[0] if cells[0].failed else cells[0].said
        yield f"{lens} ({places}): {by}"


def _fatal(cell: Cell) -> Iterator[str]:
    if cell.lens == "truth":
        yield from _fatal_truth(cell)
    share = cell.figures.get("CV")
    if cell.lens == "reseed" and share is not None and share > MOST_NOISE:
        yield f"noise is {100 * share:.0f} % of the score ({cell.where})"
    ratio = cell.figures.get("SNR")
    if cell.lens == "discriminability" and ratio is not None and ratio < LEAST_SNR:
        yield f"SAEs differ by only {ratio:.1f} times the noise ({cell.where})"


def _fatal_truth(cell: Cell) -> Iterator[str]:
    told = (
        ("pairs", "pairs ordered rightly", "high", LEAST_OVER_ALL),
        ("trained pairs", "of the trained", "of the trained, high", LEAST_OVER_TRAINED),
    )
    for among, figure, end, passing in told:
        share, high = cell.figures.get(figure), cell.figures.get(end)
        if share is not None and share < LEAST_ORDER and (high is None or high < passing):
            yield f"orders only {share:.2f} of the {among} rightly ({cell.where})"
    above = cell.figures.get("above the oracle")
    if above:
        yield f"puts {above:.0f} dictionaries above the truth ({cell.where})"
