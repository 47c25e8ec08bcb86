"""A suite against its controls: which is the best, decided where, and what is measured once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sage.scores.contest import Contest, hold
from sage.scores.levels import EVERY_LEVEL
from sage.scores.node_set import NodeSet
from sage.scores.score import at_means, scores
from scores.contests import contenders, held, off_latents
from scores.worlds import World, split_world


@pytest.fixture(scope="module")
def world() -> World:
    return split_world(b=0.15)


@pytest.fixture(scope="module")
def contest(world: World) -> Contest:
    return held(world.node_set(copying=(2,)), contenders(world))


def value(contest: Contest, score: str, name: str) -> float | None:
    told = scores()[score]
    evidence = contest.evidence(told, name)
    return None if evidence is None else at_means(evidence, told.statistic)


def test_the_best_control_is_the_best_on_fit_whatever_it_scores_on_test(contest: Contest) -> None:
    for score in ("control", "interpretable", "move"):
        assert contest.best[score] == "random"
        assert value(contest, score, "random") == 0
        assert value(contest, score, "permuted") > 0.5
    assert value(contest, "control", "suite") == 1
    assert value(contest, "control", "permuted") == pytest.approx(2 / 3)


def test_a_control_that_is_no_rival_of_a_score_is_never_its_best(world: World) -> None:
    """PCA would be the best at approximation; it may be so at every other score alone."""
    eye = torch.eye(8)
    everything = off_latents(world, "PCA", eye[:4])
    among = [entry for entry in contenders(world) if entry.name in ("suite", "mean only")]
    node_set = world.node_set(copying=())
    contest = hold(node_set, [*among, everything], controls=("mean only", "PCA"), thorough=True)
    assert contest.best["approximation"] == "mean only"
    assert contest.best["control"] == contest.best["geometry"] == "PCA"
    assert value(contest, "approximation", "PCA") > 0.5


def test_of_equals_the_first_is_the_best(world: World) -> None:
    """`permuted` and `task lookup` are one dictionary; the order is that of the controls."""
    among = [entry for entry in contenders(world) if entry.name != "random"]
    contest = held(world.node_set(copying=()), among[::-1])
    assert contest.best["control"] == "permuted"


def test_without_a_rival_there_is_no_best_control(world: World) -> None:
    among = [entry for entry in contenders(world) if entry.name in ("suite", "supervised")]
    assert held(world.node_set(copying=()), among).best == {}


def test_what_lacks_latents_has_an_approximation_alone(contest: Contest) -> None:
    assert list(contest.measured["mean only"]) == ["approximation"]
    assert value(contest, "approximation", "mean only") == pytest.approx(0, abs=1e-6)
    assert value(contest, "control", "mean only") is None


def test_by_the_quick_plan_controls_have_t2_alone_but_for_the_lookups_and_the_best(
    world: World, contest: Contest
) -> None:
    quick = held(world.node_set(copying=(2,)), contenders(world), thorough=False)
    levels = {
        name: parts["control"].has_levels
        for name, parts in quick.measured.items()
        if "control" in parts
    }
    assert levels == {
        "suite": True,
        "supervised": True,
        "random": True,
        "permuted": False,
        "task lookup": True,
    }
    assert contest.best["approximation"] == "permuted"
    assert quick.best == {**contest.best, "approximation": "task lookup"}
    for score in ("control", "interpretable", "move", "approximation", "geometry"):
        for name in ("suite", "supervised", "random", "task lookup"):
            assert value(quick, score, name) == value(contest, score, name)
    assert value(quick, "control", "permuted") == value(contest, "control", "permuted")
    for score in ("interpretable", "move", "approximation", "geometry"):
        assert value(quick, score, "permuted") is None


def test_copied_and_detected_is_only_what_is_to_be(contest: Contest) -> None:
    copied = [name for name, parts in contest.measured.items() if "copying" in parts]
    assert copied == ["suite", "supervised"]
    assert not any("detection" in parts for parts in contest.measured.values())


def test_contenders_are_forgotten_after_a_contest(world: World) -> None:
    node_set = world.node_set(copying=())
    held(node_set, contenders(world))
    assert (node_set.code_models, node_set.meanings) == ([], [])


def test_what_no_suite_enters_is_measured_once_for_all_suites(world: World) -> None:
    """A second suite on the same node set runs its own edits and those of its own controls, and
    both come to what they come to alone."""
    first = contenders(world)
    other = off_latents(world, "suite", 0.9 * torch.eye(8)[:4], copied=True)
    second = [other, *first[1:]]
    node_set = world.node_set(copying=(2,))

    def spent(node_set: NodeSet, among: list, suite: str) -> tuple[float, Contest]:
        before = world.model.counter.tokens
        contest = held(node_set, among, suite=suite)
        return world.model.counter.tokens - before, contest

    _, together = spent(node_set, first, "first")
    after, again = spent(node_set, second, "second")
    alone, expected = spent(world.node_set(copying=(2,)), second, "second")
    assert 0 < after < 0.7 * alone
    for name in ("supervised", "task lookup", "mean only"):
        for measurement, part in again.measured[name].items():
            assert part is together.measured[name][measurement]
    for score in scores().values():
        for name in ("second", "supervised", "random", "task lookup"):
            evidence, own = (each.evidence(score, name) for each in (again, expected))
            assert (evidence is None) == (own is None)
            if evidence is not None:
                assert np.array_equal(evidence.values, own.values)


def test_contenders_of_one_content_but_other_wants_are_not_mixed_up(world: World) -> None:
    """By the quick plan a lookup table is edited at fewer levels than by the standard one."""
    node_set = world.node_set(copying=())
    short = [replace(entry, levels=EVERY_LEVEL[:1]) for entry in contenders(world)]
    assert not held(node_set, short).measured["task lookup"]["control"].has_levels
    assert held(node_set, contenders(world)).measured["task lookup"]["control"].has_levels
