"""Export of results: every row as CSV, or one record per suite in the shape of SAEBench's files.

The JSON follows the layout of SAEBench's evaluation outputs (Karvonen et al. 2025, arXiv
2503.09532): `eval_type_id`, `eval_config`, `eval_result_metrics`, `eval_result_details` and the
SAE's own fields, so that tools which read those read ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sage.cells import load_results
from sage.errors import SageError
from sage.files import write_atomically, write_json
from sage.result import HEADLINES, SUPERVISED, Result, Row, SuiteInfo


def export(results: Sequence[Path], out: Path) -> Path:
    """Write results, given as files or folders, to a .csv or a .json; returns its path.

    Results of one cell are written as one. Raises SageError for another ending.
    """
    loaded = load_results(*results)
    if out.suffix == ".csv":
        return write_csv(loaded, out)
    if out.suffix == ".json":
        records: list[dict[str, Any]] = []
        for result in loaded:
            records += saebench_records(result)
        return write_json(out, records)
    raise SageError(f"{out} should end in .csv (every row) or .json (in the shape of SAEBench).")


def write_csv(results: Sequence[Result], out: Path) -> Path:
    """Every row of every result, with task, model and plan in front.

    Versions of the scores stand in each row, so that those of different ones are told apart.
    """
    import pandas as pd

    frames: list[pd.DataFrame] = []
    for result in results:
        frame = result.table()
        frame.insert(2, "plan", str(result.run.plan.get("name", "")))
        frames.append(_flat(frame))
    rows = pd.concat(frames)
    return write_atomically(out, rows.to_csv(index=False).encode())


def saebench_records(result: Result) -> list[dict[str, Any]]:
    """One record per suite: its scores as metrics, each contrast's scores as details."""
    return [_record(result, suite) for suite in result.suites]


def _flat(frame: Any) -> Any:
    """The best control as two columns, its name and its value."""
    best = [control if isinstance(control, dict) else {} for control in frame["best_control"]]
    place = list(frame.columns).index("best_control")
    flat = frame.drop(columns="best_control")
    flat.insert(place, "best_control", [control.get("name") for control in best])
    flat.insert(place + 1, "best_control_value", [control.get("value") for control in best])
    return flat


def _record(result: Result, suite: SuiteInfo) -> dict[str, Any]:
    return {
        "eval_type_id": "sage",
        "eval_config": {
            "task": result.task.name,
            "model": result.model.name,
            "seed": result.run.seed,
            "plan": result.run.plan,
            "prompts": result.run.prompts,
            "dtype": result.model.dtype,
            "batch_size": result.run.batch_size,
        },
        "eval_id": f"{result.task.sha256[:16]}-{result.model.revision[:16]}-{suite.id}",
        "datetime_epoch_millis": _milliseconds(result.run.started),
        "eval_result_metrics": {
            "sage": {metric: _numbers(result, suite, metric) for metric in HEADLINES}
        },
        "eval_result_details": _details(result, suite),
        "sae_bench_commit_hash": None,
        "sae_lens_id": suite.saes[0].id if len(suite.saes) == 1 else None,
        "sae_lens_release_id": suite.id,
        "sae_lens_version": None,
        "sae_cfg_dict": {
            sae.hook: {
                "architecture": sae.architecture,
                "d_sae": sae.width,
                "l0": sae.l0,
                "fvu": sae.fvu,
            }
            for sae in suite.saes
        },
        "eval_result_unstructured": {"reach": suite.reach, "gate": asdict(result.gate)},
    }


def _numbers(result: Result, suite: SuiteInfo, metric: str) -> dict[str, Any]:
    """A score of the suite over all contrasts with what stands beside it; empty where there is
    none."""
    row = result.value(metric, suite=suite.id, dictionary=suite.id)
    if row is None:
        return {}
    supervised = result.value(metric, suite=suite.id, dictionary=SUPERVISED)
    return {
        "version": row.version,
        "value": row.value,
        "stderr": row.stderr,
        "low": row.low,
        "high": row.high,
        "best_control": row.best_control.value if row.best_control else None,
        "gain": row.gain,
        "gain_low": row.gain_low,
        "gain_high": row.gain_high,
        "supervised": supervised.value if supervised else None,
        "contrasts": row.contrasts,
        "status": row.status,
    }


def _details(result: Result, suite: SuiteInfo) -> list[dict[str, Any]]:
    """The suite's scores on each section and group that was scored."""
    by_section: dict[str, dict[str, Row]] = {}
    for row in result.headlines(suite.id, suite.id):
        if row.metric in HEADLINES:
            by_section.setdefault(row.section, {}).setdefault(row.metric, row)
    return [
        {
            "contrast": section.contrast,
            "section": section.id,
            "reach": suite.reach.get(section.contrast),
            **{metric: rows[metric].value if metric in rows else None for metric in HEADLINES},
        }
        for section in result.sections
        if (rows := by_section.get(section.id, {})) or section.id == section.contrast
    ]


def _milliseconds(started: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(started).timestamp() * 1000)
