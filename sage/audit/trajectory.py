"""Discriminability: does a metric tell SAEs apart that differ, and see them learn?

Method, section 7. Kendall's tau with the step of training and the slope on its logarithm, means
over SAE seeds; the sd between SAEs over the sd of a score when all but the SAE is redrawn; and
whether every trained SAE stands above every soft-frozen one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sage.audit.cell import Cell
from sage.audit.ordering import kendall
from sage.audit.records import Measured
from sage.audit.reseed import Noise
from sage.stats import Estimate

LEAST_TAU = 0.8


def judge_trajectory(
    records: Sequence[Measured], metric: str, noises: Mapping[str, Noise]
) -> list[Cell]:
    """A cell for every place that has snapshots."""
    places = dict.fromkeys(r.where for r in records if r.lens == "discriminability")
    cells = [_judge(where, records, metric, noises.get(where)) for where in places]
    return [cell for cell in cells if cell is not None]


def _judge(
    where: str, records: Sequence[Measured], metric: str, drawn: Noise | None
) -> Cell | None:
    here = [r for r in records if r.where == where and math.isfinite(r.score(metric))]
    courses = _courses([r for r in here if r.role == "snapshot"])
    if not courses:
        return None
    taus = [kendall([r.at or 0.0 for r in course], [r.score(metric) for r in course])
            for course in courses]  # fmt: skip
    tau = sum(taus) / len(taus)
    slope = sum(_slope(course, metric) for course in courses) / len(courses)
    ends = _ends(here, courses)
    last = [record.score(metric) for record in ends]
    soft = [r.score(metric) for r in here if r.role == "soft-frozen"]
    figures: dict[str, float | None] = {
        "tau": tau, "slope": slope, "trained": _mean(last), "soft-frozen": _mean(soft),
    }  # fmt: skip
    said = f"tau {tau:.2f}, {slope:+.2f} per tenfold of tokens"
    between = [r.score(metric) for r in here if r.role == "trained"]
    if drawn is not None and len(between) > 1:
        ratio = float(np.std(between, ddof=1)) / drawn.sd if drawn.sd else math.inf
        figures["SNR"] = ratio if math.isfinite(ratio) else None
        said += f", SNR {ratio:.0f}" if math.isfinite(ratio) else ", no noise"
    failed = [] if tau >= LEAST_TAU else [f"tau {tau:.2f}"]
    if soft:
        said += f", trained {_mean(last):.2f} to soft-frozen {_mean(soft):.2f}"
        if not _apart(here, ends, metric):
            failed.append("does not put every trained above every soft-frozen")
    return Cell(metric, "discriminability", where, not failed, said, figures, tuple(failed))


def _courses(snapshots: Sequence[Measured]) -> list[list[Measured]]:
    """The snapshots of each SAE, in the order of its training; at least three of each."""
    by_seed: dict[int, list[Measured]] = {}
    for record in snapshots:
        by_seed.setdefault(record.seed, []).append(record)
    courses = [sorted(course, key=lambda r: r.at or 0.0) for course in by_seed.values()]
    return [course for course in courses if len(course) > 2]


def _ends(here: Sequence[Measured], courses: Sequence[Sequence[Measured]]) -> list[Measured]:
    """The SAEs that were trained to the end: the last of every course, and those without one."""
    return [*(course[-1] for course in courses), *(r for r in here if r.role == "finished")]


def _slope(course: Sequence[Measured], metric: str) -> float:
    """Of the metric on log10 of the steps, without the first, which has none."""
    points = [(math.log10(r.at), r.score(metric)) for r in course if r.at]
    steps, scores = np.array(points).T
    return float(np.polyfit(steps, scores, 1)[0])


def _apart(here: Sequence[Measured], ends: Sequence[Measured], metric: str) -> bool:
    """Whether those trained to the end and the soft-frozen do not overlap: every one, or, where
    scores have intervals, the intervals of their means."""
    frozen = [r for r in here if r.role == "soft-frozen"]
    trained, null = _mean_interval(ends, metric), _mean_interval(frozen, metric)
    if trained is None or null is None:
        return min(r.score(metric) for r in ends) > max(r.score(metric) for r in frozen)
    return trained.low > null.high


def _mean_interval(records: Sequence[Measured], metric: str) -> Estimate | None:
    """The mean of scores on the same prompts, with their mean interval: they err together."""
    told = [r for r in records if metric in r.low and metric in r.high]
    if not told:
        return None
    low, high = (_mean([ends[metric] for ends in side]) for side in
                 ([r.low for r in told], [r.high for r in told]))  # fmt: skip
    return Estimate(
        _mean([r.score(metric) for r in told]), (high - low) / 3.92, low, high, len(told)
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
