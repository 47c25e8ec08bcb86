"""Export of results: all rows as CSV, or one record per suite in the shape of SAEBench's result
files.

The JSON follows the layout of SAEBench's evaluation outputs (Karvonen et al. 2025, arXiv
2503.09532): `eval_type_id`, `eval_config`, `eval_result_metrics`, `eval_result_details` and the
SAE's own fields, so that tools which read those read ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sage.errors import SageError
from sage.result import Result, SuiteInfo, load, write_atomically, write_json

COMPONENTS = ("T1", "T2", "T3", "T4")


def export(results: Sequence[Path], out: Path) -> Path:
    """Write results, given as files or folders, to a .csv or a .json; SageError for another ending."""
    loaded = [load(path) for path in results]
    if out.suffix == ".csv":
        return write_csv(loaded, out)
    if out.suffix == ".json":
        return write_json(out, [record for result in loaded for record in saebench_records(result)])
    raise SageError(f"{out} should end in .csv (every row) or .json (in the shape of SAEBench).")


def write_csv(results: Sequence[Result], out: Path) -> Path:
    """Every row of every result, with task and model in front."""
    import pandas as pd

    return write_atomically(
        out, pd.concat([result.table() for result in results]).to_csv(index=False).encode()
    )


def saebench_records(result: Result) -> list[dict[str, Any]]:
    """One record per suite: its scores as metrics, each contrast's components as details."""
    return [_record(result, suite) for suite in result.suites]


def _record(result: Result, suite: SuiteInfo) -> dict[str, Any]:
    def number(metric: str) -> dict[str, Any]:
        row = result.value(metric, suite=suite.id, dictionary=suite.id)
        return (
            {}
            if row is None
            else {
                "value": row.value,
                "stderr": row.stderr,
                "low": row.low,
                "high": row.high,
                "status": row.status,
            }
        )

    config = {
        "task": result.task.name,
        "model": result.model.name,
        "seed": result.run.seed,
        "prompts": result.run.prompts,
    }
    return {
        "eval_type_id": "sage",
        "eval_config": {**config, "dtype": result.model.dtype, "batch_size": result.run.batch_size},
        "eval_id": f"{result.task.sha256[:16]}-{result.model.revision[:16]}-{suite.id}",
        "datetime_epoch_millis": _milliseconds(result.run.started),
        "eval_result_metrics": {
            "sage": {
                name: number(name)
                for name in ("control", "sage", *(f"{part} normalised" for part in COMPONENTS))
            }
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
        "eval_result_unstructured": {"reach": suite.reach, "gate": result.gate.__dict__},
    }


def _details(result: Result, suite: SuiteInfo) -> list[dict[str, Any]]:
    contrasts = dict.fromkeys(section.contrast for section in result.sections)
    found = {
        (row.section, row.metric): row.value
        for row in result.rows
        if row.suite == suite.id and row.dictionary == suite.id and row.k is None
    }
    return [
        {
            "contrast": contrast,
            "reach": suite.reach.get(contrast),
            **{part: found.get((contrast, f"{part} normalised")) for part in COMPONENTS},
        }
        for contrast in contrasts
    ]


def _milliseconds(started: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(started).timestamp() * 1000)
