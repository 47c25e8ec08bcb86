"""Scoring one cell of a sweep, in whatever process it is given to.

A process keeps the model and the suites that it used last, so that the next cell finds them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from sage.cells import Cell, cell_in
from sage.errors import SageError, SageWarning
from sage.models.base import Model
from sage.models.load import load_model
from sage.saes.releases import load_suites
from sage.saes.suite import Suite
from sage.store.store import user_store
from sage.sweep.cells import SweepCell, all_specs
from sage.sweep.parts import part_folder
from sage.task.catalog import load_task

Value = TypeVar("Value")


class CellEnd(NamedTuple):
    """What came of a cell: its folder, that of its part where the cell is divided, the suites that
    stood there and those scored, seconds, and what was warned of. `why` says why it failed."""

    title: str
    folder: str = ""
    part: str = ""
    found: tuple[str, ...] = ()
    scored: tuple[str, ...] = ()
    seconds: float = 0.0
    warned: tuple[str, ...] = ()
    why: str = ""


class LoadedCell(NamedTuple):
    """A cell with its model and its suites loaded."""

    cell: Cell
    suites: list[Suite]


def load_cell(cell: SweepCell) -> LoadedCell:
    """Load what a cell needs, as far as the last one did not need it too.

    Raises as `load_model`, `load_suites` and `load_task` do.
    """
    model = loaded_model(cell)
    run, anatomy = cell.run, model.anatomy
    suites = _LAST_SUITES.get(
        (*cell.model, *cell.suites, str(run.each)),
        lambda: load_suites(
            all_specs(run), each=run.each, only=cell.suites,
            d_model=anatomy.d_model, hooks=anatomy.hooks,
        ),
    )  # fmt: skip
    return LoadedCell(cell_in(Path(run.out), model, load_task(cell.task), cell.plan), suites)


def loaded_model(cell: SweepCell) -> Model:
    """The cell's model, if it is not that of the last cell."""
    run = cell.run
    if not _LAST_MODEL.is_of(cell.model):
        _LAST_SUITES.held = None
    device = None if run.device == "default" else run.device
    return _LAST_MODEL.get(
        cell.model,
        lambda: load_model(
            run.model, backend=run.backend, device=device, dtype=run.dtype, bos=run.begin_with_bos
        ),
    )


def score_sweep_cell(cell: SweepCell, *, again: bool = False) -> CellEnd:
    """Score a cell's suites into its folder, or into that of its part.

    What a user can put right is told and not raised, so that other cells are scored all the same.
    """
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SageWarning)
        try:
            end = _scored(cell, again=again)
        except SageError as error:
            end = CellEnd(cell.title, why=str(error))
    told = [str(w.message) for w in caught if issubclass(w.category, SageWarning)]
    seconds = time.perf_counter() - started
    return end._replace(seconds=seconds, warned=tuple(dict.fromkeys(told)))


def _scored(cell: SweepCell, *, again: bool) -> CellEnd:
    from sage.zoo.text import default_text

    whole, suites = load_cell(cell)
    text, store = default_text(whole.model), user_store()
    if cell.groups == 1:
        scored = whole.score(suites, text=text, store=store, again=again)
        return CellEnd(cell.title, str(whole.folder), "", scored.found, scored.scored)
    before, found, rest = whole.standing(suites, again=again)
    if before is not None and not rest:
        return CellEnd(cell.title, str(whole.folder), "", found)
    part = Cell(whole.model, whole.task, whole.plan, part_folder(whole.folder, cell.suites))
    part.score(rest, text=text, store=store, again=again)
    names = tuple(suite.id for suite in rest)
    return CellEnd(cell.title, str(whole.folder), str(part.folder), found, names)


class _Last:
    """The value made last, by what decides it; the one before is dropped before a new one is made,
    so that two models are never held at once."""

    def __init__(self) -> None:
        self.held: tuple[object, object] | None = None

    def is_of(self, key: object) -> bool:
        return self.held is not None and self.held[0] == key

    def get(self, key: object, make: Callable[[], Value]) -> Value:
        if not self.is_of(key):
            self.held = None
            self.held = (key, make())
        assert self.held is not None
        return self.held[1]  # pyright: ignore[reportReturnType]


_LAST_MODEL, _LAST_SUITES = _Last(), _Last()
