"""What a sweep is about to do and what it will cost, said before it starts.

One cell of each task and model is looked at; other seeds and parts are taken to be like it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sage.cells import cell_in
from sage.cost.ahead import look_ahead
from sage.cost.machine import prices_of
from sage.errors import SageError
from sage.progress import StagePath
from sage.result_file import RESULT, load_result
from sage.scores.score import defined_as_today
from sage.scores.text import MOST_TOKENS, no_text
from sage.store.store import user_store
from sage.sweep.cells import SweepCell
from sage.sweep.scoring import load_cell, loaded_model
from sage.task.catalog import load_task

Look = Callable[[Sequence[SweepCell]], Sequence["CellAhead"]]


@dataclass(frozen=True)
class CellAhead:
    """What a cell is about to do: the name of its folder, the suites that stand there and those to
    score, and seconds of the processor by stage, with the least and the most of them.

    `cores` is how many cores work at once; `why` says why the cell will fail.
    """

    cell: SweepCell
    name: str = ""
    found: tuple[str, ...] = ()
    to_do: tuple[str, ...] = ()
    stages: Mapping[StagePath, float] = field(default_factory=dict[StagePath, float])
    low: float = 0.0
    high: float = 0.0
    cores: float = 1.0
    why: str = ""

    @property
    def seconds(self) -> float:
        """Of the processor, all stages together."""
        return sum(self.stages.values(), 0.0)


def look_at(cell: SweepCell, *, again: bool = False) -> CellAhead:
    """What one cell will do, looked up in the process that this is called in.

    An error that a user can put right is told, as the cell will meet it.
    """
    try:
        return _looked_at(cell, again=again)
    except SageError as error:
        return CellAhead(cell, why=str(error))


def look_at_sweep(cells: Sequence[SweepCell], look: Look, *, again: bool) -> list[CellAhead]:
    """What every cell will do; `look` looks at some of them: for each task and model at the first
    that has anything to do."""
    alike: dict[object, list[SweepCell]] = {}
    for cell in cells:
        alike.setdefault((cell.model, cell.task), []).append(cell)
    basis: dict[object, CellAhead] = {}
    wanted = {key: of_key[0] for key, of_key in alike.items()}
    while wanted:
        looked = dict(zip(wanted, look(list(wanted.values())), strict=True))
        basis |= looked
        wanted = {
            key: following
            for key, ahead in looked.items()
            if not (ahead.to_do or ahead.why)
            and (following := _next_to_do(alike[key], ahead)) is not None
        }
    return [_like(basis[cell.model, cell.task], cell, again=again) for cell in cells]


def _looked_at(cell: SweepCell, *, again: bool) -> CellAhead:
    from sage.zoo.text import default_text

    model, store = loaded_model(cell), user_store()
    name = cell_in(Path(cell.run.out), model, load_task(cell.task), cell.plan).name
    found = () if again else _standing(cell, name)
    if len(found) == len(cell.suites):
        return CellAhead(cell, name, found)
    whole, suites = load_cell(cell)
    tokens = 0 if default_text(model) is no_text else MOST_TOKENS
    prices = prices_of(model, store)
    ahead = look_ahead(whole, suites, prices, text_tokens=tokens, store=store, again=again)
    to_do = tuple(suite.id for suite in ahead.suites)
    cost = ahead.estimate
    return CellAhead(cell, name, ahead.found, to_do, cost.stages, cost.low, cost.high, prices.cores)


def _like(ahead: CellAhead, cell: SweepCell, *, again: bool) -> CellAhead:
    """What another seed or part will do that is like the cell looked at: as much for each suite."""
    if cell == ahead.cell or ahead.why:
        return replace(ahead, cell=cell)
    name = _named_like(ahead, cell)
    found = () if again else _standing(cell, name)
    to_do = tuple(suite for suite in cell.suites if suite not in found)
    share = len(to_do) / len(ahead.to_do) if ahead.to_do else 0.0
    stages = {path: share * seconds for path, seconds in ahead.stages.items()} if to_do else {}
    return CellAhead(
        cell, name, found, to_do, stages, share * ahead.low, share * ahead.high, ahead.cores
    )


def _next_to_do(cells: Sequence[SweepCell], ahead: CellAhead) -> SweepCell | None:
    """The first cell with a suite that does not stand in its folder."""
    return next(
        (
            cell
            for cell in cells
            if cell != ahead.cell
            and len(_standing(cell, _named_like(ahead, cell))) < len(cell.suites)
        ),
        None,
    )


def _named_like(ahead: CellAhead, cell: SweepCell) -> str:
    """The name of a cell's folder: that of another seed of the same task, model and plan."""
    stem = ahead.name.removesuffix(f"seed{ahead.cell.plan.seed}")
    return f"{stem}seed{cell.plan.seed}"


def _standing(cell: SweepCell, name: str) -> tuple[str, ...]:
    """The cell's suites that have a result of today's scores, as far as names tell: all where the
    model fails the gate."""
    folder = Path(cell.run.out) / name
    if not (folder / RESULT).is_file():
        return ()
    result = load_result(folder)
    if not defined_as_today(result.run.scores):
        return ()
    present = {suite.id for suite in result.suites} if result.gate.passed else cell.suites
    return tuple(suite for suite in cell.suites if suite in present)
