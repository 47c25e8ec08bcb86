"""Cells: one task on one model by one plan and seed, each a folder of a result folder that grows.

Scoring another suite, seed or task into a result folder adds to it and never replaces; what stands
there is recognised and not scored again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sage.errors import BadFile
from sage.evaluation import evaluate
from sage.merging import can_merge, merge
from sage.models.base import Model
from sage.progress import Progress, silent
from sage.result import Result
from sage.result_file import RESULT, load_arrays, load_result, save_result
from sage.run import PLANS, Plan
from sage.saes.suite import Suite
from sage.scores.text import Text, no_text
from sage.store.key import suite_digest
from sage.store.store import Store
from sage.task.task import Task


class Cell(NamedTuple):
    """A cell's result, the folder it is in, and the suites that were scored before and now."""

    result: Result
    folder: Path
    found: tuple[str, ...]
    scored: tuple[str, ...]


def cell_name(task: Task, model: Model, plan: Plan) -> str:
    """`task--model--seed0`, with the plan where it is not the standard one; a local model adds six
    digits of its digest. Never a path of this machine."""
    name = model.name.rstrip("/")
    if Path(name).is_absolute() or name.startswith((".", "~")):
        name = f"{Path(name).name}-{model.revision[:6]}"
    parts = [task.name, name.replace("/", "--")]
    if plan.name != "standard":
        parts.append(plan.name if len(plan.name) <= 40 else _short(plan.name))
    return "--".join([*parts, f"seed{plan.seed}"])


def score_cell(
    model: Model,
    task: Task,
    suites: Sequence[Suite],
    out: Path,
    *,
    plan: Plan = PLANS["standard"],
    text: Text = no_text,
    store: Store | None = None,
    again: bool = False,
    progress: Progress = silent,
) -> Cell:
    """Score suites into a result folder: those that stand in the cell already are left as they are,
    unless all is to be done `again`.

    BadFile where a result lies there that is of another cell, or of which a suite of that name is
    another one.
    """
    folder = out / cell_name(task, model, plan)
    before = _before(folder) if not again else None
    known = {suite.id: suite.digest for suite in before.suites} if before else {}
    for suite in suites:
        if suite.id in known and known[suite.id] != suite_digest(suite):
            raise BadFile(
                f"{folder} holds scores of another suite called '{suite.id}'. Give another --out, "
                "or --again to score everything anew."
            )
    rest = [suite for suite in suites if suite.id not in known]
    if before is not None and not rest:
        return Cell(before, folder, tuple(known), ())
    scored = evaluate(
        model, task, rest, plan=plan, text=text, folder=folder / _PART, store=store,
        progress=progress,
    )  # fmt: skip
    result, arrays = scored.result, scored.arrays
    if before is not None:
        if not can_merge(before, result):
            raise BadFile(
                f"{folder} holds a result of another state of the task, the model or sage. Give "
                "another --out, or --again to score everything anew."
            )
        result, arrays = merge([before, result]), {**load_arrays(folder), **arrays}
    save_result(result, folder, arrays=arrays)
    _remove(folder / _PART)
    return Cell(result, folder, tuple(known), tuple(suite.id for suite in rest))


# Where a cell's new suites are scored before they join it.
_PART = ".scoring"


def _before(folder: Path) -> Result | None:
    """The result that lies in a folder; None where there is none."""
    return load_result(folder) if (folder / RESULT).is_file() else None


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _short(name: str) -> str:
    return f"{name[:30]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def result_folders(paths: Sequence[Path]) -> list[Path]:
    """The folders of all results in or below these paths, each once, in order; BadFile where one
    has none."""
    folders: dict[Path, None] = {}
    for path in paths:
        found = (
            [path.parent]
            if path.name == RESULT
            else sorted(file.parent for file in path.rglob(RESULT) if not _hidden(file, path))
        )
        if not found:
            raise BadFile(
                f"There is no result in {path}. `sage score ... --out DIR` writes results."
            )
        folders |= dict.fromkeys(folder.resolve() for folder in found)
    return list(folders)


def load_results(*paths: Path | str) -> list[Result]:
    """All results in or below these paths, those of one cell as one."""
    results = [load_result(folder) for folder in result_folders([Path(path) for path in paths])]
    cells: list[list[Result]] = []
    for result in results:
        for cell in cells:
            if can_merge(cell[0], result):
                cell.append(result)
                break
        else:
            cells.append([result])
    return [merge(cell) for cell in cells]


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
