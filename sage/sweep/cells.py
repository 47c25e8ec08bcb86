"""What a sweep is made of: for every task, model and seed some of the model's suites."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sage.run import Plan
from sage.run_file import RunFile
from sage.saes.releases import nulls_of, suite_specs
from sage.sweep.file import SweepFile

# Suites by the name of their model.
Chosen = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class SweepCell:
    """Suites of one task, model, plan and seed that one worker scores at once; `run` has no other
    task and no other seed. `group` is 0 for the first suites of a cell, `groups` how many parts
    the cell is divided into."""

    run: RunFile
    suites: tuple[str, ...]
    group: int = 0
    groups: int = 1

    @property
    def task(self) -> str:
        """The task's name or path."""
        return self.run.tasks[0]

    @property
    def plan(self) -> Plan:
        """The plan with the cell's seed."""
        return self.run.plan

    @property
    def model(self) -> tuple[str, ...]:
        """What decides the model that is loaded: its name, and how it is run."""
        run = self.run
        return run.model, run.backend, run.device, run.dtype, run.bos

    @property
    def whole(self) -> object:
        """What all parts of a divided cell have in common, and no other cell has."""
        return self.model, self.task, self.plan

    @property
    def title(self) -> str:
        """`ioi on tiny-gpt2, seed 0`, with its part where it is divided."""
        part = f", part {self.group + 1} of {self.groups}" if self.groups > 1 else ""
        return f"{self.task} on {self.run.model}, seed {self.plan.seed}{part}"


def sweep_cells(sweep: SweepFile, chosen: Chosen | None = None) -> list[SweepCell]:
    """The cells of a sweep, those of a model side by side; `chosen` are the suites to score, all by
    default.

    The first suites of every cell come before any others: what they compute serves all of them.
    Suites are resolved by name alone; raises as `suite_specs` does.
    """
    cells: list[SweepCell] = []
    for run in sweep.runs:
        names = suite_names(run)
        if chosen is not None:
            names = [name for name in names if name in chosen.get(run.model, ())]
        groups = _divided(names, sweep.together)
        for plan in run.plans:
            for task in run.tasks:
                own = replace(run, tasks=(task,), seeds=1, plan=plan)
                cells += [
                    SweepCell(own, group, number, len(groups))
                    for number, group in enumerate(groups)
                ]
    return sorted(cells, key=lambda cell: cell.group)


def suite_names(run: RunFile) -> list[str]:
    """The suites of a run's model, and their nulls where these are scored."""
    return list(dict.fromkeys(suite.id for spec in all_specs(run) for suite in suite_specs(spec)))


def all_specs(run: RunFile) -> tuple[str, ...]:
    """What names the suites of a run, those of their nulls too where these are scored."""
    nulls = [null for spec in run.saes for null in nulls_of(spec)] if run.nulls else []
    return tuple(dict.fromkeys([*run.saes, *nulls]))


def _divided(names: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(names[start : start + size]) for start in range(0, len(names), size)]
