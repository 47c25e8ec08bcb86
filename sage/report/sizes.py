"""Models of different size side by side: suites at matched L0/D, on tasks that all models do.

Method, section 8. A score of one model is set against that of another only at about the same number
of latents for each dimension of the stream, over contrasts that both have; where both were asked
the same prompts, prompt by prompt. Nodes differ between models, and so do the sections that suites
reach: a difference is one of what was found and scored, with the models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import LEAST_TASKS
from sage.report.reported_score import ReportedScore, ScoreLine, mean_line, mean_score, plain_mean
from sage.report.scored_run import ScoredRun, read_run
from sage.report.sources import find_sources
from sage.report.words import count, is_null, suite_label
from sage.result import ALL, SuiteInfo
from sage.stats import DRAWS, Estimate, Sampled, average, combine

# Suites whose L0/D differ by a larger factor are not matched.
MATCHED = 1.5

Runs = Mapping[tuple[str, int], ScoredRun]
"""The runs of one model, by task and seed."""


class SizedSuite(NamedTuple):
    """A suite of one model: its sparsity is the mean over tasks."""

    model: str
    d_model: int
    suite: str
    label: str
    architecture: str
    l0: float

    @property
    def relative(self) -> float:
        """L0/D."""
        return self.l0 / self.d_model


class SizeRow(NamedTuple):
    """One model's suite among matched ones: its headline score with what stands beside it, over the
    tasks and contrasts that all have, and how far it is above the smallest model's suite."""

    suite: SizedSuite
    line: ScoreLine
    above: Estimate | None


class SizeMatch(NamedTuple):
    """Suites at matched L0/D, one for each model, smaller models first; `above` is the difference
    of the largest model from the smallest, `paired` says whether all of it is prompt by prompt."""

    rows: tuple[SizeRow, ...]
    above: Sampled
    paired: bool


@dataclass(frozen=True)
class SizeComparison:
    """What is known of several sizes: the models, the tasks that all of them do, every match, why
    there is none, and which results were left out."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    matches: tuple[SizeMatch, ...]
    why: str = ""
    left_out: str | None = None

    @property
    def above(self) -> Estimate | None:
        """The largest model less the smallest, the mean over matches."""
        if self.why or not self.matches:
            return None
        return average([match.above for match in self.matches]).estimate()

    @property
    def claim(self) -> str:
        """The difference with its interval, or that there is no claim, and why."""
        above = self.above
        if above is None:
            return f"No claim about sizes: {self.why}."
        smallest, *_, largest = [row.suite for row in self.matches[0].rows]
        score = f"interpretable control ({HEADLINES[MAIN]})"
        interval = f"[{_signed(above.low)}, {_signed(above.high)}]"
        sizes = f"{largest.model} (D = {largest.d_model})", f"{smallest.model} ({smallest.d_model})"
        over = f"over {count(len(self.tasks), 'task')} that {_all(self.models)} do"
        if not math.isfinite(above.low) or above.low <= 0 <= above.high:
            return (
                f"No difference in {score} is shown between {sizes[0]} and {sizes[1]}:"
                f" {_signed(above.value)} {interval} at matched L0/D, {over}."
            )
        way = "more" if above.value > 0 else "less"
        low, high = sorted((abs(above.low), abs(above.high)))
        return (
            f"{sizes[0]} has {abs(above.value):.2f} [{low:.2f}, {high:.2f}] {way} {score} than"
            f" {sizes[1]} at matched L0/D, {over}."
        )

    @property
    def beside(self) -> list[str]:
        """What must stand beside the claim."""
        left_out = [self.left_out] if self.left_out else []
        if not self.matches:
            return left_out
        pairs = [" with ".join(row.suite.label for row in match.rows) for match in self.matches]
        paired = all(match.paired for match in self.matches)
        how = (
            "All models were asked the same prompts, and differences are taken prompt by prompt."
            if paired
            else "Models were asked different prompts, or results do not say which: differences are"
            " of means."
        )
        return [
            f"Matched within a factor of {MATCHED:g} in L0/D: {'; '.join(pairs)}. Tasks:"
            f" {', '.join(self.tasks)}.",
            f"{how} The 95 % interval is over test prompts, with models, SAEs and tasks as given:"
            " one pair of models says nothing of size in general.",
            *left_out,
        ]

    def table(self) -> list[dict[str, object]]:
        """One row for each model of each match."""
        return [_row(row, match) for match in self.matches for row in match.rows]


def compare(paths: Sequence[Path | str]) -> SizeComparison:
    """The models whose results lie in these folders, side by side; see `compare_sizes`.

    Each path is a folder that `sage score` wrote, or is searched for such. BadFile where there is
    no result.
    """
    found = find_sources([Path(path) for path in paths])
    comparison = compare_sizes([read_run(source) for source in found.listed])
    return replace(comparison, left_out=found.left_out)


def compare_sizes(runs: Sequence[ScoredRun]) -> SizeComparison:
    """Every set of suites at matched L0/D, one for each model, over the tasks that all do."""
    by_model: dict[str, dict[tuple[str, int], ScoredRun]] = {}
    for run in sorted(runs, key=lambda run: run.source.lines_up):
        source = run.source
        by_model.setdefault(source.model_and_plan, {})[source.task, source.seed] = run
    models = tuple(by_model)
    cells = _cells_of_all(list(by_model.values())) if models else []
    tasks = tuple(dict.fromkeys(task for task, _ in cells))
    if len(models) < 2 or not tasks:
        return no_comparison(models)
    shared = [{cell: of_model[cell] for cell in cells} for of_model in by_model.values()]
    matches = [_match(suites, shared) for suites in matched_suites([_suites(of) for of in shared])]
    made = tuple(match for match in matches if match is not None)
    return SizeComparison(models, tasks, made, _why_none(tasks, made))


def no_comparison(models: Sequence[str]) -> SizeComparison:
    """That of one model alone, or of models that have no task in common."""
    why = f"there is no task that {_all(models)} do"
    if len(models) < 2:
        why = "there are results of one model alone"
    return SizeComparison(tuple(models), (), (), why)


def matched_suites(suites: Sequence[Sequence[SizedSuite]]) -> list[tuple[SizedSuite, ...]]:
    """For each suite of the first model the suite nearest in L0/D of every other model, of the same
    architecture, where all are within the factor; a suite is matched once, with its nearest."""
    sets: list[tuple[float, tuple[SizedSuite, ...]]] = []
    for first in suites[0]:
        partners = [_nearest(first, others) for others in suites[1:]]
        if all(partner is not None for partner in partners):
            chosen = tuple(partner for partner in partners if partner is not None)
            off = max(_distance(first, partner) for partner in chosen)
            sets.append((off, (first, *chosen)))
    taken: set[tuple[str, str]] = set()
    kept: list[tuple[SizedSuite, ...]] = []
    for _, chosen in sorted(sets, key=lambda entry: entry[0]):
        names = {(suite.model, suite.suite) for suite in chosen}
        if not names & taken:
            taken |= names
            kept.append(chosen)
    return sorted(kept, key=lambda chosen: chosen[0].relative)


def _nearest(first: SizedSuite, others: Sequence[SizedSuite]) -> SizedSuite | None:
    alike = [other for other in others if other.architecture == first.architecture]
    nearest = min(alike, key=lambda other: _distance(first, other), default=None)
    if nearest is None or _distance(first, nearest) > math.log(MATCHED):
        return None
    return nearest


def _distance(first: SizedSuite, other: SizedSuite) -> float:
    return abs(math.log(first.relative / other.relative))


def _cells_of_all(models: Sequence[Runs]) -> list[tuple[str, int]]:
    """The tasks and seeds that every model has, and does."""
    return [
        cell
        for cell in models[0]
        if all(cell in of_model and of_model[cell].result.gate.passed for of_model in models)
    ]


def _suites(runs: Runs) -> list[SizedSuite]:
    """The suites of one model that every run has, with a score and as much reach as any."""
    first, *others = runs.values()
    return [
        _sized(info, runs)
        for info in first.suites
        if _is_scored(info.id, first) and all(_is_scored(info.id, run) for run in others)
    ]


def _is_scored(suite: str, run: ScoredRun) -> bool:
    if is_null(suite) or suite not in run.widest() or run.suite(suite).l0 <= 0:
        return False
    return run.score(MAIN, suite).value is not None


def _sized(info: SuiteInfo, runs: Runs) -> SizedSuite:
    first = next(iter(runs.values()))
    architectures = sorted({sae.architecture for sae in info.saes})
    return SizedSuite(
        first.source.model_and_plan,
        first.source.d_model,
        info.id,
        suite_label(info.id, first.source.model),
        " + ".join(architectures),
        plain_mean(run.suite(info.id).l0 for run in runs.values()) or 0.0,
    )


class _Place(NamedTuple):
    """A contrast of one task and seed."""

    cell: tuple[str, int]
    contrast: str


def _match(suites: Sequence[SizedSuite], models: Sequence[Runs]) -> SizeMatch | None:
    """The suites over the contrasts that all have at the union of their nodes; None where there is
    no such contrast."""
    shared = [
        _Place(cell, contrast)
        for cell, run in models[0].items()
        for contrast in run.contrasts
        if all(
            contrast in runs[cell].contrasts
            and runs[cell].place(MAIN, suite.suite, contrast) == contrast
            for suite, runs in zip(suites, models, strict=True)
        )
    ]
    if not shared:
        return None
    apart = [place for place in shared if not _same_prompts(suites, models, place)]
    sampled = [
        _sampled(suite, runs, {place: number * (place in apart) for place in shared})
        for number, (suite, runs) in enumerate(zip(suites, models, strict=True))
    ]
    above = [combine(lambda low, high: high - low, sampled[0], other) for other in sampled[1:]]
    estimates = [None, *(difference.estimate() for difference in above)]
    rows = [
        SizeRow(suite, _line(suite, runs, shared), estimate)
        for suite, runs, estimate in zip(suites, models, estimates, strict=True)
    ]
    return SizeMatch(tuple(rows), above[-1], not apart)


def _line(suite: SizedSuite, runs: Runs, places: Sequence[_Place]) -> ScoreLine:
    """The score and what stands beside it: means over contrasts, then over tasks."""
    by_task: dict[str, dict[int, ScoreLine]] = {}
    for task, seed in dict.fromkeys(place.cell for place in places):
        lines = [
            runs[task, seed].line(MAIN, suite.suite, section=place.contrast)
            for place in places
            if place.cell == (task, seed)
        ]
        by_task.setdefault(task, {})[seed] = _over_contrasts(lines)
    return mean_line(by_task.values())


def _over_contrasts(lines: Sequence[ScoreLine]) -> ScoreLine:
    """One task's mean over contrasts, each part a mean of its own."""

    def mean(part: str, least: float = 0.0) -> ReportedScore:
        return mean_score([getattr(line, part) for line in lines], least=least)._replace(tasks=1)

    return ScoreLine(mean("score"), mean("best"), mean("gain", -1.0), mean("supervised"))


def _sampled(suite: SizedSuite, runs: Runs, places: Mapping[_Place, int]) -> Sampled:
    """The mean over contrasts, then seeds, then tasks, with bootstrap draws; resamples of one
    number are the same for all models."""
    by_task: dict[str, list[Sampled]] = {}
    for cell in dict.fromkeys(place.cell for place in places):
        of_cell = [
            _sampled_score(runs[cell], suite.suite, place.contrast, number)
            for place, number in places.items()
            if place.cell == cell
        ]
        by_task.setdefault(cell[0], []).append(average(of_cell))
    return average([average(of_task) for of_task in by_task.values()])


def _sampled_score(run: ScoredRun, suite: str, contrast: str, number: int) -> Sampled:
    """The score of one contrast with its draws: from its numbers pair by pair, where these stand
    beside the result, else from its standard error."""
    if (sampled := run.sampled(MAIN, suite, contrast, apart=number)) is not None:
        return sampled
    score = run.score(MAIN, suite, section=contrast)
    name = f"{run.source.model}/{run.source.task}/{run.source.seed}/{contrast}"
    generator = np.random.default_rng([*name.encode()])
    draws = generator.normal(score.value or 0.0, score.stderr or 0.0, DRAWS)
    return Sampled(score.value or 0.0, draws, score.n)


def _same_prompts(suites: Sequence[SizedSuite], models: Sequence[Runs], place: _Place) -> bool:
    """Whether the results say that all models were asked the same pairs."""
    digests: set[bytes | None] = set()
    for suite, runs in zip(suites, models, strict=True):
        digest = runs[place.cell].arrays.get(f"{place.contrast}|{suite.suite}|{ALL}|prompts")
        digests.add(None if digest is None else digest.tobytes())
    return len(digests) == 1 and None not in digests


def _why_none(tasks: Sequence[str], matches: Sequence[SizeMatch]) -> str:
    if not matches:
        return f"no two suites of an architecture are within a factor of {MATCHED:g} in L0/D"
    if len(tasks) < LEAST_TASKS:
        have = "there is 1" if len(tasks) == 1 else f"there are {len(tasks)}"
        return f"it takes {LEAST_TASKS} tasks that all models do, and {have}"
    return ""


def _row(row: SizeRow, match: SizeMatch) -> dict[str, object]:
    suite, score, above = row.suite, row.line.score, row.above
    return {
        "model": suite.model,
        "D": suite.d_model,
        "suite": suite.label,
        "L0": suite.l0,
        "L0/D": suite.relative,
        HEADLINES[MAIN]: score.value,
        "low": score.low,
        "high": score.high,
        "best control": row.line.best.value,
        "gain": row.line.gain.value,
        "supervised": row.line.supervised.value,
        "above the smallest": above and above.value,
        "above low": above and above.low,
        "above high": above and above.high,
        "same prompts": match.paired,
        "tasks": score.tasks,
        "contrasts": score.contrasts,
    }


def _all(models: Sequence[str]) -> str:
    return "both models" if len(models) == 2 else f"all {len(models)} models"


def _signed(value: float) -> str:
    return f"{value:+.2f}"
