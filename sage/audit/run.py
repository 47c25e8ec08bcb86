"""The audit, start to end: every part measured, every metric judged under every lens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sage.audit.audit_result import AuditResult, PanelDot, save_audit
from sage.audit.cell import Cell
from sage.audit.gaming import judge_gaming
from sage.audit.judging import judge
from sage.audit.metrics import AuditedMetric, audited
from sage.audit.plan import LENSES, AuditPlan
from sage.audit.records import PARTS, Measured, seconds_taken
from sage.audit.reseed import judge_reseed, reseeded
from sage.audit.trajectory import judge_trajectory
from sage.audit.transfer import judge_transfer
from sage.audit.truth import judge_truth, panels
from sage.audit.units import BY_NAME, Unit, Work, run_unit, units
from sage.errors import unknown
from sage.progress import stage
from sage.side_by_side import Job, side_by_side
from sage.threads import one_thread
from sage.toy.panel import TRUTH
from sage.version import __version__

LIBRARIES = ("torch", "numpy", "scipy", "transformer-lens", "sae-lens")


def run_audit(
    plan: AuditPlan,
    folder: Path,
    *,
    metrics: Sequence[str] = (),
    lenses: Sequence[str] = (),
    command: str = "sage audit",
    workers: int = 1,
) -> AuditResult:
    """Audit metrics (none named: all) under lenses (likewise), and write audit.json.

    What was measured is kept in the folder part by part, and what stands there by the same code and
    plan is not measured again. SageError for a metric or a lens that there is not.
    """
    chosen, looked = _chosen(metrics), _lenses(lenses)
    plan = replace(plan, peers=any(not metric.ours for metric in chosen))
    parts = units(plan, looked)
    with stage("audit"):
        records = _measure(parts, plan, folder, workers)
    cells = [cell for metric in chosen for cell in judge_metric(records, metric, looked)]
    result = AuditResult(
        date=datetime.now(UTC).date().isoformat(),
        sage=__version__,
        command=command,
        seconds=seconds_taken(parts, folder / PARTS),
        plan=plan.facts,
        libraries={name: version(name) for name in LIBRARIES},
        true_l0=_true_l0(records),
        verdicts=[judge(metric, cells) for metric in chosen],
        cells=cells,
        panel=_dots(records, chosen),
    )
    save_audit(result, folder)
    return result


def judge_metric(
    records: Sequence[Measured], metric: AuditedMetric, lenses: Sequence[str]
) -> list[Cell]:
    """Every cell of a metric."""
    noises = reseeded(records, metric.name)
    cells: list[Cell] = []
    if "reseed" in lenses:
        cells += judge_reseed(noises, metric.name)
    if "truth" in lenses:
        true_l0 = _true_l0(records)
        cells += [judge_truth(panel) for panel in panels(records, metric, noises, true_l0)]
    if "discriminability" in lenses:
        cells += judge_trajectory(records, metric.name, noises)
    if "transfer" in lenses:
        cells += judge_transfer(records, metric.name)
    if "gaming" in lenses:
        cells += judge_gaming(records, metric.name, noises)
    return cells


def _measure(parts: Sequence[Unit], plan: AuditPlan, folder: Path, workers: int) -> list[Measured]:
    works = [Work(unit, plan, folder) for unit in parts]
    if workers == 1:
        one_thread()
        listed = [run_unit(work) for work in works]
    else:
        jobs = [Job(work.unit.name, work) for work in works]
        listed = side_by_side(run_unit, jobs, processes=workers)
    return [record for records in listed for record in records]


def _chosen(names: Sequence[str]) -> list[AuditedMetric]:
    """The metrics of these names, or of the titles that tables have for them."""
    metrics = audited()
    by_word = {metric.title: metric for metric in metrics.values()} | metrics
    by_word |= {metric.title.split(",")[0]: metric for metric in metrics.values()}
    for name in names:
        if name not in by_word:
            raise unknown("metric", name, metrics)
    return [by_word[name] for name in names] or list(metrics.values())


def _lenses(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in LENSES:
            raise unknown("lens", name, LENSES)
    return [lens for lens in LENSES if lens in names] or list(LENSES)


def _true_l0(records: Sequence[Measured]) -> dict[str, float]:
    """Of every planted world; elsewhere the L0 of the truth itself."""
    measured = {
        record.where: record.quality["l0"]
        for record in records
        if record.lens == "truth" and record.dictionary == TRUTH
    }
    return measured | {name: world.true_l0 for name, world in BY_NAME.items()}


def _dots(records: Sequence[Measured], metrics: Sequence[AuditedMetric]) -> list[PanelDot]:
    """The panel of every world, for pictures."""
    return [
        PanelDot(
            record.where,
            record.dictionary,
            record.role,
            record.quality["l0"],
            record.quality["atoms"],
            {m.name: v for m in metrics if math.isfinite(v := record.score(m.name))},
        )
        for record in records
        if record.lens == "truth"
    ]
