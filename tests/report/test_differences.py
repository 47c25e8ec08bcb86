"""Differences of two suites in a report, paired by seed, from small results made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from report.by_hand import make_result, write_results
from sage.report.differences import SuiteDifference, difference_table, suite_differences
from sage.report.ranking import over_tasks, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import find_sources
from sage.result import Result

Scores = Mapping[str, float | None]
# .2 .18 .22 apart.
SEEDS: list[Scores] = [{"a": 0.5, "b": 0.3}, {"a": 0.7, "b": 0.52}, {"a": 0.6, "b": 0.38}]


def differences(folder: Path, *results: Result) -> list[SuiteDifference]:
    sources, _ = find_sources([write_results(folder, *results)])
    runs = [summarise_run(read_run(source)) for source in sources]
    return suite_differences(over_tasks(runs), runs)


def test_suites_are_paired_by_seed_and_have_the_seeds_that_telling_them_apart_takes(
    tmp_path: Path,
) -> None:
    """Mean .2, sd .02; t(2) = 4.303, so half an interval is 4.303 x .02 / sqrt 3 = .05. Seeds for
    .05: 7.85 (.02 / .05)^2 = 1.3, and 2 is the least."""
    results = [make_result(scores, seed=seed) for seed, scores in enumerate(SEEDS)]
    found = differences(tmp_path, *results)
    assert difference_table(found).markdown().splitlines()[2:] == [
        "| model | suite | less | tasks | seeds | difference | told apart | seeds for .05 "
        "| seeds for it |",
        "|---|---|---|---:|---:|---:|---|---:|---:|",
        "| tiny | a | b | 1 | 3 | +0.20 \\[+0.15, +0.25\\] | yes | 2 | 2 |",
    ]


def test_tasks_are_averaged_seed_by_seed_over_the_seeds_that_all_of_them_have(
    tmp_path: Path,
) -> None:
    """The second task is .4 and .2 apart in seeds 0 and 1, so the means are .3 and .19; a task of
    one seed is left out."""
    results = [make_result(scores, seed=seed) for seed, scores in enumerate(SEEDS)]
    results += [
        make_result({"a": 0.9, "b": gap}, task="successor", seed=seed)
        for seed, gap in enumerate((0.5, 0.7))
    ]
    results.append(make_result({"a": 0.9, "b": 0.0}, task="induction"))
    (pair,) = differences(tmp_path, *results)
    assert (pair.tasks, pair.difference.over.seeds) == (2, 2)
    assert pair.difference.over.mean == pytest.approx((0.3 + 0.19) / 2)


def test_suites_on_other_nodes_and_single_seeds_are_not_paired(tmp_path: Path) -> None:
    one = differences(tmp_path / "one", make_result({"a": 0.5, "b": 0.3}))
    reaches = [make_result({"a": 0.5, "b": 0.3}, reach={"b": 0.4}, seed=seed) for seed in range(3)]
    assert (one, differences(tmp_path / "apart", *reaches)) == ([], [])
