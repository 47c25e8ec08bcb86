"""What `sage score` prints of its results: a table that fits a terminal, and what to know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from sage.cli.output import print_rows, print_sentences, short_number, with_interval

if TYPE_CHECKING:
    from sage.result import Result

# Columns that a terminal shows only when it is to be wide.
_DETAILS = ("T2", "T1", "T4", "move", "contrasts", "n", "sd")


def print_scores(results: Sequence[Result], *, seeds: int, as_json: bool, wide: bool) -> None:
    """Every suite of every task, and below it the notes; as JSON the numbers alone."""
    from sage.seeds import seed_rows

    rows = [row for result in results for row in result.overview()]
    if seeds > 1:
        rows = seed_rows(results)
    model = results[0].model.name
    if as_json:
        print_rows(rows, title="", as_json=True)
        return
    tasks = dict.fromkeys(str(row["task"]) for row in rows)
    for task in tasks:
        shown = [_shown(row, model) for row in rows if row["task"] == task]
        print_rows(shown, title=f"{task} on {model}", details=_DETAILS, wide=wide)
    if seeds > 1:
        print_sentences(
            "Intervals are t intervals over seeds; of a suite with one seed, over test prompts."
        )
        for note in _own_contrasts(results):
            print_sentences(f"Note: {note}")
    _print_notes(results, seeds=seeds)


def _shown(row: Mapping[str, object], model: str) -> dict[str, object]:
    """A row with names as short as they can be and numbers beside their intervals."""
    from sage.report.words import suite_label

    numbers = cast("Mapping[str, float | None]", row)
    shown: dict[str, object] = {"suite": suite_label(str(row["suite"]), model)}
    if "L0" in row:
        l0 = numbers["L0"]
        shown["L0"] = "-" if l0 is None else f"{l0:.1f}"
        shown["reach"] = short_number(numbers["reach"])
    shown["sage [95 %]"] = with_interval(numbers["sage"], numbers["low"], numbers["high"])
    if "best control" in row:
        shown["best"] = short_number(numbers["best control"])
    shown["gain [95 %]"] = with_interval(numbers["gain"], numbers["gain low"], numbers["gain high"])
    if "supervised" in row:
        shown["superv."] = short_number(numbers["supervised"])
    if "seeds" in row:
        shown["seeds"] = row["seeds"]
    for name in _DETAILS:
        if name in ("contrasts", "n"):
            shown |= {name: row[name]} if name in row else {}
        elif name in row:
            shown[name] = short_number(numbers[name])
    return shown


def _own_contrasts(results: Sequence[Result]) -> list[str]:
    """Where seeds lost different contrasts, that each mean is over its own."""
    from sage.seeds import contrasts_by_seed

    notes: list[str] = []
    for task in dict.fromkeys(result.task.name for result in results):
        redrawn = [result for result in results if result.task.name == task]
        for suite in dict.fromkeys(suite.id for result in redrawn for suite in result.suites):
            counted = contrasts_by_seed(redrawn, suite)
            if len(set(counted.values())) > 1:
                told = "; ".join(
                    f"seed {seed}: {', '.join(names) or 'none'}" for seed, names in counted.items()
                )
                notes.append(
                    f"{task}, {suite}: each seed's mean is over its own contrasts ({told})."
                )
    return notes


def _print_notes(results: Sequence[Result], *, seeds: int) -> None:
    """What a reader of the numbers must know: what the plan saved on, which contrasts are lost."""
    from sage.audit.audit_result import verdict_notes
    from sage.report.words import told_notes

    notes = told_notes([note for result in results for note in result.notes])
    for note in (*notes, *verdict_notes(results[0])):
        print_sentences(f"Note: {note}")
    for result in results:
        seed = f", seed {result.run.seed}" if seeds > 1 else ""
        for suite in result.suites:
            for contrast, why in result.lost_contrasts(suite.id).items():
                print_sentences(f"Without {contrast} ({result.task.name}, {suite.id}{seed}): {why}")
