"""Cells: one task on one model by one plan and seed, each a folder of a result folder that grows.

Scoring another suite, seed or task into a result folder adds to it and never replaces; what stands
there is recognised and not scored again.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sage.errors import BadFile, SageWarning
from sage.evaluation import Evaluation, evaluate
from sage.files import clean_leftovers, one_process_at_once
from sage.merging import can_merge, difference, difference_ahead, merge, without
from sage.models.base import Model
from sage.progress import stage
from sage.record import model_info, run_info
from sage.result import Result
from sage.result_file import RESULT, load_arrays, load_result, save_result
from sage.run import Plan
from sage.saes.suite import Suite, fitted, judgeable
from sage.scores.score import defined_as_today
from sage.scores.text import Text, no_text
from sage.store.key import suite_digest
from sage.store.store import Store
from sage.task.task import Task

if TYPE_CHECKING:
    import numpy as np


class ScoredCell(NamedTuple):
    """A cell's result and folder; which of the suites stood there, and which were scored now."""

    result: Result
    folder: Path
    found: tuple[str, ...]
    scored: tuple[str, ...]


class Standing(NamedTuple):
    """What lies in a cell's folder, the suites asked for that stand there, and those to score."""

    before: Result | None
    found: tuple[str, ...]
    rest: tuple[Suite, ...]


@dataclass(frozen=True, eq=False)
class Cell:
    """One task on one model, by one plan and seed, in a folder of its own; made by `cell_in`."""

    model: Model
    task: Task
    plan: Plan
    folder: Path

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.folder.name

    @property
    def unfinished(self) -> Path:
        """Where new suites are scored before they join the others."""
        return self.folder / ".scoring"

    def standing(self, suites: Sequence[Suite], *, again: bool = False) -> Standing:
        """Which suites stand in the cell and which are to be scored: all where it is done `again`,
        none where the model fails the gate.

        BadFile where a result lies there that is of another state of the cell, or has another suite
        of the same name.
        """
        before = _before(self.folder, again=again)
        if before is None or again:
            return Standing(before, (), tuple(suites))
        _check_state(before, self.model, self.plan, self.folder)
        anatomy = self.model.anatomy
        _check_suites(
            before, [fitted(judgeable(suite, anatomy), anatomy) for suite in suites], self.folder
        )
        present = {suite.id for suite in before.suites}
        found = tuple(suite.id for suite in suites if suite.id in present)
        rest = [suite for suite in suites if suite.id not in present] if before.gate.passed else []
        return Standing(before, found, tuple(rest))

    def score(
        self,
        suites: Sequence[Suite],
        *,
        text: Text = no_text,
        store: Store | None = None,
        again: bool = False,
    ) -> ScoredCell:
        """Score suites into the folder: those that stand in the cell already are left as they are,
        unless they are to be scored `again`. A process that scores into the same cell is waited
        for. Raises as `standing` and `evaluate` do."""
        with one_process_at_once(self.folder):
            clean_leftovers(self.folder)
            return self._score(suites, text, store, again=again)

    def _score(
        self, suites: Sequence[Suite], text: Text, store: Store | None, *, again: bool
    ) -> ScoredCell:
        before, found, rest = self.standing(suites, again=again)
        if before is not None and not rest:
            return ScoredCell(before, self.folder, found, ())
        with stage(self.name):
            scored = evaluate(
                self.model, self.task, rest, plan=self.plan, text=text, folder=self.unfinished,
                store=store,
            )  # fmt: skip
            whole = joined(before, scored, self.folder, again=again)
            save_result(whole.result, self.folder, arrays=whole.arrays)
            _remove(self.unfinished)
        return ScoredCell(whole.result, self.folder, found, tuple(suite.id for suite in rest))


def cell_in(out: Path, model: Model, task: Task, plan: Plan) -> Cell:
    """The cell of a task, model and plan in a result folder."""
    return Cell(model, task, plan, out / cell_name(task, model, plan))


def cell_name(task: Task, model: Model, plan: Plan) -> str:
    """`task--model--seed0`, with the plan where it is not the standard one; a local model adds six
    digits of its digest, one whose prompts begin otherwise than by default `bos` or `no-bos`.
    Never a path of this machine."""
    name = model.name.rstrip("/")
    if Path(name).is_absolute() or name.startswith((".", "~")):
        name = f"{Path(name).name}-{model.revision[:6]}"
    if mark := model.revision.partition("-")[2]:
        name = f"{name}-{mark}"
    parts = [task.name, name.replace("/", "--")]
    if plan.name != "standard":
        parts.append(plan.name if len(plan.name) <= 40 else _short(plan.name))
    return "--".join([*parts, f"seed{plan.seed}"])


def joined(before: Result | None, scored: Evaluation, folder: Path, *, again: bool) -> Evaluation:
    """What was scored now, with the other suites of a cell, whose result in its folder is `before`;
    BadFile where they are of another state, unless that is to be scored again."""
    result, arrays = scored
    if before is None:
        return scored
    if (name := difference(before, result)) is not None:
        if again:
            return scored
        raise _other_state(folder, name)
    names = [suite.id for suite in result.suites]
    kept = _arrays_without(folder, names)
    return Evaluation(merge([without(before, names), result]), {**kept, **arrays})


def _before(folder: Path, *, again: bool) -> Result | None:
    """The result that lies in a folder; None where there is none, or one that cannot be read and is
    to be scored again."""
    if not (folder / RESULT).is_file():
        return None
    try:
        return load_result(folder)
    except BadFile:
        if again:
            return None
        raise


def _check_state(before: Result, model: Model, plan: Plan, folder: Path) -> None:
    """BadFile for what can be seen, before anything is run, not to be of this cell's state."""
    name = difference_ahead(before, model_info(model), run_info(model, plan))
    if name is not None:
        raise _other_state(folder, name)


def _check_suites(before: Result, suites: Sequence[Suite], folder: Path) -> None:
    known = {suite.id: suite.digest for suite in before.suites}
    for suite in suites:
        if suite.id in known and known[suite.id] != suite_digest(suite):
            raise BadFile(
                f"{folder} holds scores of another suite called '{suite.id}'. Give another --out, "
                "or --again to score it anew."
            )


def _arrays_without(folder: Path, suites: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays in a folder but those of some suites, which stand second in their names."""
    starts = tuple(f"{suite}|" for suite in suites)
    return {
        name: array
        for name, array in load_arrays(folder).items()
        if not name.partition("|")[2].startswith(starts)
    }


def _other_state(folder: Path, name: str) -> BadFile:
    return BadFile(
        f"{folder} holds a result of another state of the task, the model or sage: the {name} "
        "differs. Give another --out, or --again to score everything anew."
    )


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
        files = [path] if path.name == RESULT else sorted(path.rglob(RESULT))
        visible = [file.parent.resolve() for file in files if not _hidden(file, path)]
        if not visible:
            raise BadFile(
                f"There is no result in {path}. `sage score ... --out DIR` writes results."
            )
        folders |= dict.fromkeys(visible)
    return list(folders)


def load_results(*paths: Path | str) -> list[Result]:
    """All results in or below these paths, those of one cell as one.

    for result in sage.load_results("out"):
        print(result)
    """
    results = [load_result(folder) for folder in result_folders([Path(path) for path in paths])]
    if len({defined_as_today(result.run.scores) for result in results}) > 1:
        warnings.warn(
            "Some of these results are of other versions of the scores, and are not to be compared "
            "with the rest: `result.run.scores` says which.",
            SageWarning,
            stacklevel=2,
        )
    cells: list[list[Result]] = []
    for result in results:
        for cell in cells:
            if can_merge(cell[0], result):
                cell.append(result)
                break
        else:
            cells.append([result])
    return [merge(cell) for cell in cells]


def holds_today(folder: Path) -> bool:
    """Whether a result of today's scores lies in a cell's folder."""
    return (folder / RESULT).is_file() and defined_as_today(load_result(folder).run.scores)


def results_of_today(*paths: Path | str) -> list[Result]:
    """The same, without results of other versions of the scores, which are not to be compared with
    those of today; a warning says how many there were."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SageWarning)
        loaded = load_results(*paths)
    kept = [result for result in loaded if defined_as_today(result.run.scores)]
    if len(kept) < len(loaded):
        warnings.warn(
            f"Left out: {len(loaded) - len(kept)} of {len(loaded)} results, of other versions of "
            "the scores.",
            SageWarning,
            stacklevel=2,
        )
    return kept


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
