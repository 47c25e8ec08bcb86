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

from sage.errors import SageError
from sage.files import write_atomically, write_json
from sage.result import COMPONENTS, Result, SuiteInfo, load

_NORMALISED = {component: f"{component} normalised" for component in COMPONENTS}


def export(results: Sequence[Path], out: Path) -> Path:
    """Write results, given as files or folders, to a .csv or a .json; returns its path.

    Raises SageError for another ending.
    """
    loaded = [load(path) for path in results]
    if out.suffix == ".csv":
        return write_csv(loaded, out)
    if out.suffix == ".json":
        return write_json(out, [record for result in loaded for record in saebench_records(result)])
    raise SageError(f"{out} should end in .csv (every row) or .json (in the shape of SAEBench).")


def write_csv(results: Sequence[Result], out: Path) -> Path:
    """Every row of every result, with task and model in front."""
    import pandas as pd

    rows = pd.concat([result.table() for result in results])
    return write_atomically(out, rows.to_csv(index=False).encode())


def saebench_records(result: Result) -> list[dict[str, Any]]:
    """One record per suite: its scores as metrics, each contrast's components as details."""
    return [_record(result, suite) for suite in result.suites]


def _record(result: Result, suite: SuiteInfo) -> dict[str, Any]:
    metrics = ("control", "sage", *_NORMALISED.values())
    return {
        "eval_type_id": "sage",
        "eval_config": {
            "task": result.task.name,
            "model": result.model.name,
            "seed": result.run.seed,
            "prompts": result.run.prompts,
            "dtype": result.model.dtype,
            "batch_size": result.run.batch_size,
        },
        "eval_id": f"{result.task.sha256[:16]}-{result.model.revision[:16]}-{suite.id}",
        "datetime_epoch_millis": _milliseconds(result.run.started),
        "eval_result_metrics": {
            "sage": {metric: _numbers(result, suite, metric) for metric in metrics}
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
    """A score of the suite over all contrasts; empty where there is none."""
    row = result.value(metric, suite=suite.id, dictionary=suite.id)
    if row is None:
        return {}
    return {
        "value": row.value,
        "stderr": row.stderr,
        "low": row.low,
        "high": row.high,
        "status": row.status,
    }


def _details(result: Result, suite: SuiteInfo) -> list[dict[str, Any]]:
    """The suite's components on each contrast."""
    values = {
        (row.section, row.metric): row.value
        for row in result.rows
        if row.suite == suite.id and row.dictionary == suite.id and row.k is None
    }
    contrasts = dict.fromkeys(section.contrast for section in result.sections)
    return [
        {
            "contrast": contrast,
            "reach": suite.reach.get(contrast),
            **{part: values.get((contrast, metric)) for part, metric in _NORMALISED.items()},
        }
        for contrast in contrasts
    ]


def _milliseconds(started: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(started).timestamp() * 1000)
