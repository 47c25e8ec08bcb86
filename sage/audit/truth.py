"""Truth: does a metric rank dictionaries whose quality is known as they should be ranked?

Method, section 7. Pairs ordered rightly against what the metric claims to measure; of metrics that
claim quality also the chains, the oracle, the controls, and the L0 at which the metric peaks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sage.audit.cell import Cell
from sage.audit.metrics import AuditedMetric
from sage.audit.ordering import Ordering, ordering
from sage.audit.panel import BELOW_TRAINED, NEAR, NEAR_TRUTH
from sage.audit.records import Measured
from sage.audit.reseed import Noise
from sage.toy.panel import CHAINS, TRUTH

LEAST_OVER_ALL, LEAST_OVER_TRAINED = 0.95, 0.9
FALL = 0.2
# A metric may not tell less apart than so many reseed sd, and no sd is taken to be less than this.
SDS, LEAST_SD = 2.0, 0.005
DEAD = "dead"


@dataclass(frozen=True)
class Panel:
    """The dictionaries of one world, by name, with one metric of each."""

    world: str
    true_l0: float
    metric: AuditedMetric
    entries: Sequence[Measured]
    sd: float

    def of(self, *roles: str) -> list[Measured]:
        """Those that are there for one of these reasons and have the metric."""
        return [e for e in self.entries if e.role in roles and math.isfinite(self.score(e))]

    def score(self, entry: Measured) -> float:
        """The metric of an entry."""
        return entry.score(self.metric.name)

    def quality(self, entry: Measured) -> float:
        """What the metric claims to measure, of an entry."""
        if self.metric.claim == "explained":
            return 1 - entry.quality["fvu"]
        return entry.quality[self.metric.claim]

    def ordering(self, entries: Sequence[Measured]) -> Ordering:
        """How the metric orders some of them."""
        return ordering([self.quality(e) for e in entries], [self.score(e) for e in entries])

    @property
    def slack(self) -> float:
        """What noise may do."""
        return SDS * max(self.sd, LEAST_SD)


def panels(
    records: Sequence[Measured],
    metric: AuditedMetric,
    noises: Mapping[str, Noise],
    true_l0: Mapping[str, float],
) -> list[Panel]:
    """The panel of every world that was measured."""
    by_world: dict[str, list[Measured]] = {}
    for record in records:
        if record.lens == "truth":
            by_world.setdefault(record.where, []).append(record)
    return [
        Panel(world, true_l0[world], metric, entries, noises[world].sd if world in noises else 0.0)
        for world, entries in by_world.items()
    ]


class _Judged(NamedTuple):
    """What one part of the lens says: in words, in figures, and what fails."""

    said: str
    figures: Mapping[str, float | None]
    failed: Sequence[str]


def judge_truth(panel: Panel) -> Cell:
    """What a metric fails by in one world, with the figures; nothing is judged where it was not
    measured."""
    parts = [_order(panel)]
    if panel.metric.claim == "atoms" and panel.of("built"):
        parts += [_peak(panel)] if panel.of("trained") else []
        above = {"above the oracle": float(len(above_truth(panel)))}
        parts.append(_Judged("", above, violations(panel)))
    figures = {name: figure for part in parts for name, figure in part.figures.items()}
    failed = tuple(reason for part in parts for reason in part.failed)
    share = figures["pairs ordered rightly"]
    judged = share is not None and math.isfinite(share)
    said = ", ".join(part.said for part in parts if part.said) if judged else "not measured there"
    passed = not failed if judged else None
    return Cell(panel.metric.name, "truth", panel.world, passed, said, figures, failed)


def _order(panel: Panel) -> _Judged:
    """Pairs ordered rightly. Where nothing was trained all that was built is ranked, and a metric
    of quality is not judged by it: chains say what copies and parts of a feature must cost, and
    planted quality does not."""
    trained = panel.of("trained")
    everything = panel.ordering(_ranked(panel) if trained else panel.of("built", "control"))
    figures: dict[str, float | None] = {
        "pairs ordered rightly": everything.rightly.value,
        "low": everything.rightly.low, "high": everything.rightly.high,
        "Spearman": everything.spearman.value, "Kendall": everything.kendall.value,
        "dictionaries": float(everything.n),
    }  # fmt: skip
    failed: list[str] = []
    judged = bool(trained) or panel.metric.claim != "atoms"
    if judged and everything.rightly.value < LEAST_OVER_ALL:
        failed.append(f"orders {everything.rightly.value:.3f} of the pairs rightly")
    said = f"pairs {everything.rightly}" + ("" if judged else ", judged by chains")
    if trained:
        among = panel.ordering(trained).rightly
        figures |= {"of the trained": among.value, "of the trained, low": among.low,
                    "of the trained, high": among.high}  # fmt: skip
        said += f", trained {among}"
        if among.value < LEAST_OVER_TRAINED:
            failed.append(f"orders {among.value:.3f} of the trained rightly")
    return _Judged(said, figures, failed)


def _peak(panel: Panel) -> _Judged:
    """Where the metric is highest among the trained."""
    peak = peak_l0(panel)
    ratio = peak / panel.true_l0
    failed = [] if 1 / NEAR <= ratio <= NEAR else [f"peaks at {ratio:.2f} of the true L0"]
    figures = {"peak L0": peak, "true L0": panel.true_l0}
    return _Judged(f"peak at {ratio:.2f} of the true L0", figures, failed)


def violations(panel: Panel) -> list[str]:
    """What stands where it must not, or does not fall where it must."""
    scores = {entry.dictionary: panel.score(entry) for entry in panel.entries}
    return [
        *_chains(panel, scores),
        *_above_truth(panel),
        *_controls(panel, scores),
        *_near(panel, scores),
    ]


def peak_l0(panel: Panel) -> float:
    """The L0 of the trained topk at which the metric, its mean over seeds, is highest."""
    by_k: dict[float, list[float]] = {}
    for entry in curve(panel):
        by_k.setdefault(round(entry.quality["l0"], 1), []).append(panel.score(entry))
    means = {k: sum(scores) / len(scores) for k, scores in by_k.items()}
    return max(means, key=lambda k: means[k]) if means else math.nan


def curve(panel: Panel) -> list[Measured]:
    """The trained topk of one width, by which sparsity is told."""
    topk = [e for e in panel.of("trained") if e.dictionary.startswith("topk")]
    return [e for e in topk if "wide" not in e.dictionary]


def _ranked(panel: Panel) -> list[Measured]:
    """The trained, the frozen, the controls, and the truth."""
    oracle = [entry for entry in panel.of("built") if entry.dictionary == TRUTH]
    return [*oracle, *panel.of("trained", "frozen", "control")]


def _chains(panel: Panel, scores: Mapping[str, float]) -> list[str]:
    failed: list[str] = []
    for chain, every in CHAINS.items():
        names = [name for name in every if name in scores]
        failed += [
            f"puts {after} above {before}"
            for before, after in pairwise(names)
            if scores[after] > scores[before] + panel.slack
        ]
        fall = scores[names[0]] - scores[names[-1]] if len(names) > 1 else FALL
        if chain != DEAD and fall < FALL:
            failed.append(f"falls {fall:.2f} from {names[0]} to {names[-1]}")
    return failed


def above_truth(panel: Panel) -> list[Measured]:
    """What the metric prefers to the true features themselves, by more than noise may do."""
    oracle = next(entry for entry in panel.entries if entry.dictionary == TRUTH)
    most = panel.score(oracle) + panel.slack
    return [entry for entry in panel.entries if panel.score(entry) > most]


def _above_truth(panel: Panel) -> list[str]:
    above = above_truth(panel)
    return [f"puts {len(above)} above the oracle, {above[0].dictionary} first"] if above else []


def _controls(panel: Panel, scores: Mapping[str, float]) -> list[str]:
    near = {name: scores[name] for name in NEAR_TRUTH if name in scores}
    least = min(near, key=lambda name: near[name])
    over = [e.dictionary for e in panel.of("control", "frozen")
            if panel.score(e) > near[least] + panel.slack]  # fmt: skip
    return [f"puts {', '.join(over)} above {least}"] if over else []


def _near(panel: Panel, scores: Mapping[str, float]) -> list[str]:
    low, high = panel.true_l0 / NEAR, panel.true_l0 * NEAR
    near = [e for e in curve(panel) if low <= e.quality["l0"] <= high]
    if not near:
        return []
    worst = min(near, key=panel.score)
    below = [*BELOW_TRAINED, *(e.dictionary for e in panel.of("frozen"))]
    over = [
        name for name in below if scores.get(name, -math.inf) > panel.score(worst) + panel.slack
    ]
    return [f"puts {', '.join(over)} above {worst.dictionary}"] if over else []
