"""Screening in a sweep: every suite ranked by `move`, the best and a random sample left to score.

Move runs no model under edits and so costs a small part of a score; the random sample says how far
its ranking is to be believed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from sage.cells import cell_name
from sage.errors import SageError
from sage.files import write_json
from sage.preparation import prepare
from sage.progress import stage
from sage.screening import screen
from sage.side_by_side import Job
from sage.store.key import run_keys, suite_digest
from sage.store.store import user_store
from sage.sweep.cells import SweepCell, sweep_cells
from sage.sweep.file import SweepFile
from sage.sweep.scoring import load_cell
from sage.sweep.workers import Workers

SCREENING = "screening"
# Where the rows of screening lie, in the result folder.
FOLDER = "screening"


class ScreenedCell(NamedTuple):
    """The rows of screening of some suites on one task and model; `why` says why it failed."""

    cell: SweepCell
    rows: list[dict[str, object]]
    why: str = ""


class SuiteMove(NamedTuple):
    """The mean move of a suite over the contrasts of all tasks, and of how many it is."""

    model: str
    suite: str
    move: float
    contrasts: int


class PairsAlike(NamedTuple):
    """Pairs of suites that two measures rank alike, and how many pairs there are."""

    alike: int
    pairs: int


class Picked(NamedTuple):
    """The suites of a model that are scored: the best by move, and others drawn at random."""

    best: tuple[str, ...]
    sample: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """The best, then the sample."""
        return self.best + self.sample


def screen_sweep(sweep: SweepFile, workers: Workers, *, again: bool = False) -> list[SuiteMove]:
    """The move of every suite of a sweep at its first seed, the highest of each model first.

    Kept in the result folder, and found there by the next call unless it is to be done `again`.
    SageError where a cell cannot be screened.
    """
    first = replace(sweep, runs=tuple(replace(run, seeds=1) for run in sweep.runs))
    jobs = [Job(f"{SCREENING} {cell.title}", cell) for cell in sweep_cells(first)]
    with stage(SCREENING, work=0):
        cells = workers.run(partial(screen_cell, again=again), jobs, lambda _: None)
    for cell in cells:
        if cell.why:
            raise SageError(f"{cell.cell.title} cannot be screened: {cell.why}")
    moves = mean_moves(cells)
    listed = [
        {"model": m.model, "suite": m.suite, "move": m.move, "contrasts": m.contrasts}
        for m in moves
    ]
    write_json(sweep.out / FOLDER / "moves.json", listed)
    return moves


def screen_cell(cell: SweepCell, *, again: bool = False) -> ScreenedCell:
    """Screen a cell's suites, or find what an earlier call kept of them."""
    try:
        whole, suites = load_cell(cell)
        digests = {suite.id: suite_digest(suite) for suite in suites}
        prepared = prepare(whole.model, whole.task, whole.plan)
        keys = run_keys(whole.model, *prepared, whole.plan)
        decides = {"run": keys.run.digest, "suites": digests}
        name = cell_name(whole.task, whole.model, whole.plan)
        file = Path(cell.run.out) / FOLDER / f"{name}--{cell.group}.json"
        if not again and (kept := _kept(file, decides)) is not None:
            return ScreenedCell(cell, kept)
        rows = screen(whole.model, whole.task, suites, plan=whole.plan, store=user_store())
        write_json(file, {**decides, "rows": rows})
        return ScreenedCell(cell, rows)
    except SageError as error:
        return ScreenedCell(cell, [], str(error))


def mean_moves(cells: Sequence[ScreenedCell]) -> list[SuiteMove]:
    """The mean over contrasts and tasks, the highest of each model first; where a suite reaches
    nothing it moves nothing."""
    moves: dict[tuple[str, str], list[float]] = {}
    for screened in cells:
        for row in screened.rows:
            move = row["move"]
            assert move is None or isinstance(move, float)
            key = screened.cell.run.model, str(row["suite"])
            moves.setdefault(key, []).append(move or 0.0)
    means = [SuiteMove(*key, sum(of) / len(of), len(of)) for key, of in moves.items()]
    models = list(dict.fromkeys(mean.model for mean in means))
    return sorted(means, key=lambda mean: (models.index(mean.model), -mean.move, mean.suite))


def choose(moves: Sequence[SuiteMove], sweep: SweepFile) -> dict[str, Picked]:
    """The suites of each model to score: as many of the best, and as many of the others drawn by
    the plan's seed, as the sweep says."""
    picked: dict[str, Picked] = {}
    for model in dict.fromkeys(move.model for move in moves):
        ranked = [move.suite for move in moves if move.model == model]
        best, others = ranked[: sweep.screening.best], sorted(ranked[sweep.screening.best :])
        draw = random.Random(f"{model} {sweep.runs[0].plan.seed}")
        sample = draw.sample(others, min(sweep.screening.sample, len(others)))
        picked[model] = Picked(tuple(best), tuple(sorted(sample)))
    return picked


def ranked_alike(
    moves: Sequence[SuiteMove],
    sample: Mapping[str, Picked],
    scores: Mapping[tuple[str, str], float],
) -> PairsAlike:
    """Of all pairs of suites of one model that were drawn at random and have a score (by model and
    suite), how many move ranks as the score does."""
    alike = pairs = 0
    for model, picked in sample.items():
        drawn = [m for m in moves if m.model == model and m.suite in picked.sample]
        scored = [(m.move, scores[model, m.suite]) for m in drawn if (model, m.suite) in scores]
        for (move, score), (other_move, other) in combinations(scored, 2):
            pairs += 1
            alike += (move - other_move) * (score - other) > 0
    return PairsAlike(alike, pairs)


def _kept(file: Path, decides: Mapping[str, object]) -> list[dict[str, object]] | None:
    """The rows in a file, if they are of the same code, model, prompts, plan and suites."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = all(content.get(name) == value for name, value in decides.items())
    return content["rows"] if same else None
