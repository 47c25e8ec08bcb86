"""Differences of two suites in a report, paired by seed, from small results made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from report.by_hand import make_result, with_draws, with_scores, write_results
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
        "| model | suite | less | difference | told apart | tasks | seeds | seeds for .05 "
        "| seeds for it |",
        "|---|---|---|---:|---|---:|---:|---:|---:|",
        "| tiny | a | b | +0.20 \\[+0.15, +0.25\\] | yes | 1 | 3 | 2 | 2 |",
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
    assert (pair.over.tasks, pair.over.seeds) == (2, 2)
    assert pair.over.value == pytest.approx((0.3 + 0.19) / 2)


def test_a_difference_is_over_the_contrasts_that_every_seed_has(tmp_path: Path) -> None:
    """.2 apart on gender in both seeds; name, where they are equal, is lost in seed 1."""
    both = {"a": {"gender": 0.6, "name": 0.2}, "b": {"gender": 0.4, "name": 0.2}}
    whole = with_scores(make_result({"a": 0.4, "b": 0.3}, contrasts=("gender", "name")), both)
    lost = {"a": ["name"], "b": ["name"]}
    rest = make_result({"a": 0.7, "b": 0.5}, contrasts=("gender", "name"), lost=lost, seed=1)
    (pair,) = differences(tmp_path, whole, rest)
    assert (pair.over.value, pair.over.low) == (pytest.approx(0.2), pytest.approx(0.2))


def test_of_one_seed_suites_are_paired_by_prompt(tmp_path: Path) -> None:
    """Pair by pair a is .2 above b: the interval of the difference has no width, whereas the two
    vary between 0 and .8 over the pairs, so that their own intervals overlap."""
    written = write_results(tmp_path, make_result({"a": 0.5, "b": 0.3}))
    low = [0.0, 0.8] * 5
    with_draws(written, {"a": [value + 0.2 for value in low], "b": low})
    runs = [summarise_run(read_run(source)) for source in find_sources([written])[0]]
    (pair,) = suite_differences(over_tasks(runs), runs)
    places = [next(iter(suite.places.values())) for suite in runs[0].suites]
    drawn = [place.sampled.estimate() for place in places if place.sampled]
    assert drawn[0].low < drawn[1].high
    assert (pair.over.low, pair.over.high) == pytest.approx((0.2, 0.2))
    assert (str(pair), pair.told_apart) == ("+0.20 [+0.20, +0.20]", True)
    assert difference_table([pair]).markdown().splitlines()[-1] == (
        "| tiny | a | b | +0.20 \\[+0.20, +0.20\\] | yes | 1 | 1 | one seed | one seed |"
    )


def test_suites_on_other_nodes_and_without_numbers_of_prompts_are_not_paired(
    tmp_path: Path,
) -> None:
    one = differences(tmp_path / "one", make_result({"a": 0.5, "b": 0.3}))
    reaches = [make_result({"a": 0.5, "b": 0.3}, reach={"b": 0.4}, seed=seed) for seed in range(3)]
    assert (one, differences(tmp_path / "apart", *reaches)) == ([], [])
