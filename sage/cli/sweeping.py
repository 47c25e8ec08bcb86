"""`sage sweep`: tasks, models, suites and seeds in one result folder, on a machine or a cluster."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sage.cli.options import json_option
from sage.cli.output import print_json, print_rows, short_number, with_interval
from sage.cli.telling import Teller, Telling, tell, telling_options
from sage.cli.values import MOST_WORKERS, FiniteRange
from sage.errors import SageError

if TYPE_CHECKING:
    from sage.sweep.ahead import CellAhead
    from sage.sweep.file import SweepFile
    from sage.sweep.scoring import CellEnd
    from sage.sweep.screened import Picked, SuiteMove
    from sage.sweep.workers import Workers

# Of more cells than this only the sums are said, unless every stage is told.
MOST_TOLD = 24
# The most that waits are told of one cell's warnings.
MOST_WARNED = 3


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--example", is_flag=True, help="Print a sweep file to start from, and do nothing.")
@click.option("--dry-run", is_flag=True, help="Say what there is to do and what it costs; stop.")
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=MOST_WORKERS),
    help="Cells at a time.  [default: one per core, at most 8; with --ray as many as fit]",
)
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help='Use a Ray cluster: its address, "auto" on a machine of it, "local" to start one here.',
)
@click.option(
    "--gpus",
    type=FiniteRange(min=0, max=64),
    default=0.0,
    show_default=True,
    help="GPUs that each worker on Ray gets; half of one lets two share it.",
)
@click.option(
    "--screen",
    "screens",
    is_flag=True,
    help="Rank every suite by move first; score the best and a random sample in full.",
)
@click.option("--again", is_flag=True, help="Score anew what stands in the result folder already.")
@json_option
@telling_options
def sweep(file: Path | None, as_json: bool, telling: Telling, **how: Any) -> None:
    """Score the tasks, models, suites and seeds of FILE.

    FILE is TOML (--example prints one). All goes into one result folder, a cell for each task,
    model and seed; what stands there is left as it is, and a sweep that is interrupted goes on
    where it was when it is given again. What it will do and cost is said first. A cell that fails
    is told at the end, and the others are scored all the same.
    """
    if how["example"]:
        from sage.sweep.file import example

        click.echo(example(), nl=False)
        return
    if file is None:
        raise click.UsageError("Say which FILE; `sage sweep --example` prints one.")
    if how["gpus"] and how["address"] is None:
        raise click.UsageError("--gpus is for workers on Ray: give --ray local for this machine.")
    if how["dry_run"] and how["screens"]:
        raise click.UsageError("What --screen leaves to score is known after it: no --dry-run.")
    from sage.sweep.file import read_sweep_file

    described = read_sweep_file(file)
    with tell(telling) as teller, _workers(how, teller) as workers:
        screened = _screened(described, workers, teller, how) if how["screens"] else None
        ends = _run(described, screened, workers, teller, telling, how)
    if how["dry_run"]:
        return
    _print_all(described, ends, screened, as_json=as_json)
    if any(end.why for end in ends):
        raise SystemExit(1)


class _Screened(NamedTuple):
    """The move of every suite, and the suites of each model that are scored."""

    moves: list[SuiteMove]
    picked: dict[str, Picked]


@contextmanager
def _workers(how: dict[str, Any], teller: Teller) -> Generator[Workers]:
    """Processes of this machine, or workers on Ray for as long as they are needed."""
    if how["address"] is None:
        from sage.demo import default_workers
        from sage.sweep.workers import Processes

        yield Processes(how["workers"] or default_workers())
        return
    from sage.sweep.on_ray.cluster import ray_workers

    with ray_workers(
        how["address"], count=how["workers"], gpus=how["gpus"], say=teller.say
    ) as workers:
        yield workers


def _run(
    described: SweepFile,
    screened: _Screened | None,
    workers: Workers,
    teller: Teller,
    telling: Telling,
    how: dict[str, Any],
) -> list[CellEnd]:
    """Look ahead, and score what screening left, or all."""
    from sage.sweep.cells import sweep_cells
    from sage.sweep.run import SWEEP, look_ahead_at, run_sweep
    from sage.work_done import WorkDone

    again = how["again"]
    chosen = screened and {model: suites.all for model, suites in screened.picked.items()}
    cells = sweep_cells(described, chosen)
    ahead = look_ahead_at(cells, workers, again=again)
    everything = telling is Telling.EVERYTHING
    clock = _clock(ahead, workers)
    for line in _told(ahead, clock, workers, everything=everything):
        teller.say(line)
    if how["dry_run"]:
        return []
    seconds = sum(of.seconds for of in ahead)
    # Looking ahead is no part of the work.
    teller.work = WorkDone(pace=clock / seconds if seconds else 1.0)
    if seconds:
        teller.work.expect((SWEEP,), {(): seconds})

    def tell_end(end: CellEnd) -> None:
        if end.why:
            teller.say(f"{end.title}: failed. {end.why}")
        for warning in end.warned[:MOST_WARNED] if everything else ():
            teller.say(f"{end.title}: {warning}")

    return run_sweep(ahead, workers, again=again, ended=tell_end)


def _screened(
    described: SweepFile, workers: Workers, teller: Teller, how: dict[str, Any]
) -> _Screened:
    """Every suite by move, and which of them are scored."""
    from sage.sweep.cells import suite_names
    from sage.sweep.screened import choose, screen_sweep

    tasks = sum(len(run.tasks) * len(suite_names(run)) for run in described.runs)
    teller.say(f"Screening {tasks} pairs of a suite and a task by move, without runs under edits.")
    moves = screen_sweep(described, workers, again=how["again"])
    picked = choose(moves, described)
    for model, suites in picked.items():
        ranked = [move for move in moves if move.model == model]
        teller.say(
            f"{model}: {len(ranked)} suites screened by move; scored are "
            f"{', '.join(suites.best)} (the best)"
            + (f" and {', '.join(suites.sample)} (drawn at random)" if suites.sample else "")
        )
    return _Screened(moves, picked)


def _clock(ahead: Sequence[CellAhead], workers: Workers) -> float:
    """Seconds by the clock, if all workers are busy to the end."""
    from sage.cost.machine import wall_seconds
    from sage.sweep.workers import Processes

    to_do = [of for of in ahead if of.to_do]
    if not to_do:
        return 0.0
    at_once = min(workers.count, len(to_do))
    seconds = sum(of.seconds for of in to_do)
    if not isinstance(workers, Processes):
        return sum(of.seconds / of.cores for of in to_do) / at_once
    return wall_seconds(seconds, to_do[0].cores, processes=at_once)


def _told(
    ahead: Sequence[CellAhead], clock: float, workers: Workers, *, everything: bool
) -> list[str]:
    """What will be done, in lines to read: cell by cell where they are few, and in all."""
    from sage.report.words import count
    from sage.work_done import tell_time

    told: list[str] = []
    for of in ahead if everything or len(ahead) <= MOST_TOLD else ():
        told.append(f"{of.cell.title}: {_what(of)}")
    failing = {of.cell.task: of for of in ahead if of.why}
    if not told:
        told += [f"{of.cell.title}: {_what(of)}" for of in failing.values()]
    to_do = [of for of in ahead if of.to_do]
    suites = sum(len(of.to_do) for of in to_do)
    standing = sum(len(of.found) for of in ahead)
    cells = len({of.cell.whole for of in ahead})
    parts = f" in {len(ahead)} parts" if cells < len(ahead) else ""
    plan = f" by plan {ahead[0].cell.plan.name}" if ahead else ""
    told.append(
        f"{count(cells, 'cell')}{parts}{plan}: {count(suites, 'suite')} to score, "
        f"{standing} found there."
    )
    if to_do:
        low, high = sum(of.low for of in to_do), sum(of.high for of in to_do)
        seconds = sum(of.seconds for of in to_do)
        at_once = min(workers.count, len(to_do))
        unsure = f" ({tell_time(low)} to {tell_time(high)})" if low < high else ""
        told.append(
            f"This will take about {tell_time(seconds)} of the processor{unsure}, "
            f"{tell_time(clock)} by the clock on {count(at_once, 'worker')}."
        )
    return told


def _what(ahead: CellAhead) -> str:
    from sage.work_done import tell_time

    if ahead.why:
        return f"will fail. {ahead.why}"
    found = f"{len(ahead.found)} found" if ahead.found else ""
    to_do = f"{', '.join(ahead.to_do)}; about {tell_time(ahead.seconds)}" if ahead.to_do else ""
    return "; ".join(filter(None, [to_do, found])) or "nothing to do"


def _print_all(
    described: SweepFile,
    ends: Sequence[CellEnd],
    screened: _Screened | None,
    *,
    as_json: bool,
) -> None:
    """The leaderboard of the result folder, the cells that failed, and where everything is."""
    from sage.cells import result_folders
    from sage.report.leaderboard import leaderboard_rows
    from sage.report.sources import NoneOfToday
    from sage.sweep.screened import ranked_alike

    try:
        folders = result_folders([described.out])
    except SageError:
        folders = []
    try:
        rows = leaderboard_rows(folders) if folders else []
    except NoneOfToday as error:
        rows = []
        click.echo(str(error), err=True)
    if as_json:
        print_json({"suites": rows, "cells": [end._asdict() for end in ends]})
        return
    print_rows(
        [_shown(row) for row in rows],
        title=f"Every suite in {described.out}, mean over its tasks",
    )
    if screened is not None:
        scores = {
            (row["model"], row["suite"]): row["sage"] for row in rows if row["sage"] is not None
        }
        alike = ranked_alike(screened.moves, screened.picked, scores)
        click.echo(
            f"Of {alike.pairs} pairs of suites drawn at random move ranks {alike.alike} as T3 does."
        )
    failed = [end for end in ends if end.why]
    scored = sum(len(end.scored) for end in ends)
    found = sum(len(end.found) for end in ends)
    click.echo(f"{scored} results of suites scored, {found} found; {len(failed)} cells failed.")
    for end in failed:
        click.echo(f"Failed: {end.title}. {end.why}")
    click.echo(f"`sage report {described.out} --out DIR` writes the pages; open leaderboard.html.")


def _shown(row: Mapping[str, Any]) -> dict[str, object]:
    """A row of the leaderboard with its numbers beside their intervals."""
    from sage.report.words import suite_label

    return {
        "suite": f"{row['model']}/{suite_label(row['suite'], row['model'])}",
        "architecture": row["architecture"],
        "L0": f"{row['L0']:.1f}",
        "reach": short_number(row["reach"]),
        "tasks": row["tasks"],
        "sage [95 %]": with_interval(row["sage"], row["low"], row["high"]),
        "best": short_number(row["best control"]),
        "gain [95 %]": with_interval(row["gain"], row["gain low"], row["gain high"]),
        "superv.": short_number(row["supervised"]),
    }
