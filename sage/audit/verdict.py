"""Verdicts: what the figures of all lenses say of a metric.

*use*: every lens passed wherever it was judged. *do not use*: the metric does not order what it
claims to measure (less than `LEAST_ORDER` of the pairs rightly, over all or over the trained, in
any world), or is noise (sd over `MOST_NOISE` of the mean, or SAEs differ by less than `LEAST_SNR`
times the sd of a redraw). *use with care*: what lies between, with the lens that fails and where.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sage.audit.cell import Cell
from sage.audit.metrics import AuditedMetric

LEAST_ORDER = 0.75
MOST_NOISE = 0.25
LEAST_SNR = 2.0

Word = Literal["use", "use with care", "do not use", "not audited"]
USE: Word = "use"
CARE: Word = "use with care"
NOT: Word = "do not use"
UNKNOWN: Word = "not audited"


@dataclass(frozen=True)
class Verdict:
    """What to make of a metric of this version, and why in a few words."""

    metric: str
    version: int
    word: Word
    why: tuple[str, ...] = ()

    def __str__(self) -> str:
        reasons = f": {'; '.join(self.why)}" if self.why else ""
        return f"{self.word}{reasons}"


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
    figures = cell.figures
    for figure in ("pairs ordered rightly", "of the trained"):
        share = figures.get(figure)
        if cell.lens == "truth" and share is not None and share < LEAST_ORDER:
            among = "trained pairs" if figure == "of the trained" else "pairs"
            yield f"orders only {share:.2f} of the {among} rightly ({cell.where})"
    share = figures.get("CV")
    if cell.lens == "reseed" and share is not None and share > MOST_NOISE:
        yield f"noise is {100 * share:.0f} % of the score ({cell.where})"
    ratio = figures.get("SNR")
    if cell.lens == "discriminability" and ratio is not None and ratio < LEAST_SNR:
        yield f"SAEs differ by only {ratio:.1f} times the noise ({cell.where})"
