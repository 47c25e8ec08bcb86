"""Export of results: every row as CSV, or one file for each SAE as SAEBench writes them.

The JSON follows the layout of SAEBench's evaluation outputs (Karvonen et al. 2025, arXiv
2503.09532): `eval_type_id`, `eval_config`, `eval_result_metrics`, `eval_result_details` and the
SAE's own fields, so that tools which read those read ours. A file holds one object, and its metrics
are plain numbers. What SAEBench calls an SAE is here a suite: one SAE, or several that were scored
together.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sage.arguments import a_path, paths
from sage.cells import load_results
from sage.errors import BadFile, SageError
from sage.files import spreadsheet_text, write_atomically, write_json
from sage.result import HEADLINES, SUPERVISED, Result, Row, SuiteInfo

_SUFFIX = "_eval_results.json"


def export_results(results: Path | str | Sequence[Path | str], out: Path | str) -> Path:
    """Write results, given as files or folders, to a .csv, into a folder, or to a .json; returns
    its path.

    A .csv holds every row. A folder gets a file for each suite of each result, named as SAEBench
    names them; a .json holds the object of the one suite there is. Results of one cell are written
    as one. Raises SageError for another ending, and for a .json of several suites.

        sage.export_results("out", "rows.csv")
    """
    out = a_path("out", out)
    loaded = load_results(*paths("the results", results))
    if out.suffix == ".csv":
        return write_csv(loaded, out)
    if not out.suffix or out.is_dir():
        return write_saebench(loaded, out)
    if out.suffix != ".json":
        raise SageError(
            f"{out} should end in .csv (every row), or in .json or be a folder (as SAEBench's)."
        )
    records = [record for result in loaded for record in saebench_records(result)]
    if len(records) != 1:
        raise SageError(
            f"{out}: a file of SAEBench's shape holds one suite on one task, and these results are "
            f"{len(records)}. Give a folder instead: --out {out.with_suffix('')}."
        )
    return write_json(out, records[0])


def write_saebench(results: Sequence[Result], out: Path) -> Path:
    """A file for each suite in a folder for each result; returns the folder of all. SageError where
    two results would have one folder: of one cell, by other versions of the scores, say."""
    folders: dict[Path, Result] = {}
    for result in results:
        plan = str(result.run.plan.get("name", "standard"))
        parts = (result.task.name, _plain(result.model.name), _plain(plan))
        folder = out / "--".join([*parts, f"seed{result.run.seed}"])
        if folder in folders:
            raise SageError(
                f"Two results of {result.task.name} on {result.model.name} are of different states "
                "of the task, the model or the scores, and would be one file. Export them apart."
            )
        folders[folder] = result
    for folder, result in folders.items():
        for suite, record in zip(result.suites, saebench_records(result), strict=True):
            write_json(folder / f"{_plain(suite.id)}{_SUFFIX}", record)
    return out


def write_csv(results: Sequence[Result], out: Path) -> Path:
    """Every row of every result, with task, model and plan in front.

    Versions of the scores stand in each row, so that those of different ones are told apart. Texts
    that a spreadsheet would run as a formula are in quotes.
    """
    import pandas as pd

    frames: list[pd.DataFrame] = []
    for result in results:
        frame = result.table()
        frame.insert(2, "plan", str(result.run.plan.get("name", "")))
        frames.append(_flat(frame))
    rows = pd.concat(frames)
    for name in rows.select_dtypes(exclude="number").columns:
        rows[name] = rows[name].map(spreadsheet_text)
    return write_atomically(out, rows.to_csv(index=False).encode())


def saebench_records(result: Result) -> list[dict[str, Any]]:
    """One object per suite: its scores as metrics, each contrast's scores as details."""
    return [_record(result, suite) for suite in result.suites]


def _flat(frame: Any) -> Any:
    """The best control as two columns, its name and its value."""
    best = [control if isinstance(control, dict) else {} for control in frame["best_control"]]
    place = list(frame.columns).index("best_control")
    flat = frame.drop(columns="best_control")
    flat.insert(place, "best_control", [control.get("name") for control in best])
    flat.insert(place + 1, "best_control_value", [control.get("value") for control in best])
    return flat


def _plain(name: str) -> str:
    """A name as part of a file's name."""
    return name.strip("./~").replace("/", "_")


def _record(result: Result, suite: SuiteInfo) -> dict[str, Any]:
    run = result.run
    versions = [f"{name}@{version}" for name, version in sorted(run.scores.items())]
    states = (result.task.sha256, result.model.revision, suite.id, str(run.seed), *versions)
    identity = " ".join(states)
    return {
        "eval_type_id": "sage",
        "eval_config": {
            "task": result.task.name,
            "model_name": result.model.name,
            "random_seed": result.run.seed,
            "plan": result.run.plan,
            "prompts": result.run.prompts,
            "llm_dtype": result.model.dtype,
            "llm_batch_size": result.run.batch_size,
        },
        "eval_id": str(uuid.uuid5(uuid.NAMESPACE_OID, identity)),
        "datetime_epoch_millis": _milliseconds(result.run.started),
        "eval_result_metrics": {"sage": _numbers(result, suite)},
        "eval_result_details": _details(result, suite),
        # A text there; these scores are not SAEBench's.
        "sae_bench_commit_hash": f"sage {result.run.sage}",
        "sae_lens_id": suite.saes[0].id if len(suite.saes) == 1 else None,
        "sae_lens_release_id": suite.id,
        "sae_lens_version": result.run.libraries.get("sae-lens"),
        "sae_cfg_dict": _config(suite),
        "eval_result_unstructured": {
            "reach": suite.reach,
            "gate": asdict(result.gate),
            "status": _statuses(result, suite),
            "versions": _versions(result, suite),
        },
    }


def _config(suite: SuiteInfo) -> dict[str, Any]:
    """The suite as one SAE: its architecture, its largest width, its mean L0; and every SAE."""
    return {
        "architecture": "+".join(dict.fromkeys(sae.architecture for sae in suite.saes)),
        "d_sae": max(sae.width for sae in suite.saes),
        "l0": suite.l0,
        "saes": [asdict(sae) for sae in suite.saes],
    }


def _numbers(result: Result, suite: SuiteInfo) -> dict[str, float]:
    """Every score of the suite over all contrasts with what stands beside it, each a number by
    itself; what is undefined is left out."""
    numbers: dict[str, float | None] = {}
    for metric in HEADLINES:
        row = result.value(metric, suite=suite.id, dictionary=suite.id)
        if row is None:
            continue
        supervised = result.value(metric, suite=suite.id, dictionary=SUPERVISED)
        numbers |= {
            metric: row.value,
            f"{metric}_stderr": row.stderr,
            f"{metric}_low": row.low,
            f"{metric}_high": row.high,
            f"{metric}_best_control": row.best_control.value if row.best_control else None,
            f"{metric}_gain": row.gain,
            f"{metric}_gain_low": row.gain_low,
            f"{metric}_gain_high": row.gain_high,
            f"{metric}_supervised": supervised.value if supervised else None,
            f"{metric}_contrasts": row.contrasts,
        }
    return {name: number for name, number in numbers.items() if number is not None}


def _statuses(result: Result, suite: SuiteInfo) -> dict[str, str]:
    """Of every score `ok`, or undefined and why."""
    rows = {m: result.value(m, suite=suite.id, dictionary=suite.id) for m in HEADLINES}
    return {metric: row.status for metric, row in rows.items() if row is not None}


def _versions(result: Result, suite: SuiteInfo) -> dict[str, int]:
    """The version of the definition of every score."""
    rows = {m: result.value(m, suite=suite.id, dictionary=suite.id) for m in HEADLINES}
    return {metric: row.version for metric, row in rows.items() if row is not None}


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

    try:
        return int(datetime.fromisoformat(started).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise BadFile(
            f"A result says that its run started at '{started[:80]}', which is no time. Score "
            "again to write it anew."
        ) from error
