"""Discovery as a whole: on models whose circuit is known, and on random ones of every family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from sage.circuits.circuit import Circuit, Group
from sage.discovery import (
    EXACT,
    GRAD_DROP,
    INTEGRATED_GRADIENTS,
    Discovery,
    DiscoverySettings,
    Finding,
    check,
    check_nodes,
    discover,
    draw,
)
from sage.errors import BadTask, UnknownName, Unsupported
from sage.models.wired import truth
from sage.progress import Stage, Watcher, watching
from tests.discovery.conftest import BACKENDS, Ready

SEEDS = (0, 1)
FOUR = DiscoverySettings(top=4)


@pytest.fixture(scope="session")
def wired_discovery(wired: Callable[[int, str], Ready]) -> Callable[[int], Discovery]:
    """Seed -> what discovery finds on the wired model."""

    def find(seed: int) -> Discovery:
        return discover(*wired(seed, "nnsight"), settings=DiscoverySettings(seed=seed))

    return cache(find)


# The wired model


@pytest.mark.parametrize("seed", SEEDS)
def test_every_section_of_the_wired_model_is_found_and_nothing_else(
    seed: int, wired_discovery: Callable[[int], Discovery]
):
    agreements = check_nodes(truth(seed).sections, wired_discovery(seed))
    assert set(agreements) == {"quality", "kind", "animal", "owner"}
    for agreement in agreements.values():
        assert (agreement.precision, agreement.recall) == (1, 1)
        assert (agreement.missed, agreement.extra) == ((), ())


def test_its_heads_and_mlps_are_the_circuit_that_was_wired(
    wired: Callable[[int, str], Ready], wired_discovery: Callable[[int], Discovery]
):
    """The clause head writes at commas, which have no names: no section can hold it."""
    wiring = truth(0)
    heads = tuple(str(head) for name, head in wiring.heads.items() if name != "clause")
    mlps = tuple(dict.fromkeys(wiring.mlps.values()))
    comparison = check(
        wired_circuit(Group("all", heads, mlps)), wired_discovery(0), wired(0, "nnsight").model
    )
    assert comparison.heads[:3] == (1, 1, 1)
    assert comparison.mlps is not None
    assert comparison.mlps[:2] == (1, 1)


def test_a_circuit_on_positions_the_task_does_not_have_is_refused(
    wired: Callable[[int, str], Ready], wired_discovery: Callable[[int], Discovery]
):
    circuit = wired_circuit(Group("mover", ("4.2",), position="S2"))
    with pytest.raises(UnknownName, match="S2"):
        check(circuit, wired_discovery(0), wired(0, "nnsight").model)


def wired_circuit(group: Group) -> Circuit:
    return Circuit("wired", "wired", "wired", "its constructor", "", 24, (group,))


def test_faithfulness_on_the_wired_model_goes_from_none_to_all(
    wired_discovery: Callable[[int], Discovery],
):
    """All that the answer needs is among the first hundredth of the candidates, so f is 0, then 1,
    and CPR 1 - .01/2."""
    curve = wired_discovery(0).findings["quality"].validation.curve
    assert curve is not None
    assert [share for share, _ in curve.points] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
    assert [f for _, f in curve.points] == pytest.approx([1] * 7, abs=1e-4)
    assert curve.cpr == pytest.approx(0.995, abs=1e-4)
    assert curve.cmd == pytest.approx(0.005, abs=1e-4)


def test_a_contrast_that_leaves_the_answer_alone_has_no_recovered_fraction(
    wired_discovery: Callable[[int], Discovery],
):
    validation = wired_discovery(0).findings["owner"].validation
    assert validation.curve is None
    assert validation.notes == ("The right answer does not change: no recovered fraction exists.",)


def test_the_wired_sections_are_stable_and_beat_random_sets(
    wired_discovery: Callable[[int], Discovery],
):
    for contrast in ("quality", "kind", "owner"):
        validation = wired_discovery(0).findings[contrast].validation
        assert len(validation.random_effects) == 20
        assert validation.section_effect is not None
        assert validation.section_effect > 100 * max(validation.random_effects)
        assert (validation.jaccard, validation.jaccard_sd) == (1, 0)
        assert validation.top_overlap == 1


def test_the_wired_models_null_is_nothing(wired_discovery: Callable[[int], Discovery]):
    """Place words and the other animal move nothing that is looked up."""
    for finding in wired_discovery(0).findings.values():
        assert finding.null is not None
        assert finding.null < 1e-3 * finding.baseline
        assert finding.null_n == finding.n == 12
        assert finding.cost.seconds > 0


def test_the_picture_of_a_discovery_can_be_drawn(
    wired_discovery: Callable[[int], Discovery], tmp_path: Path
):
    assert draw(wired_discovery(0), tmp_path / "wired.png").stat().st_size > 10_000


# Both backends, every family


def test_both_backends_find_the_same(ready: Callable[[str, str], Ready]):
    """Without irrelevant pairs tau decides alone."""
    first, second = (without_null(ready("gemma2", backend)) for backend in BACKENDS)
    assert first.section.nodes == second.section.nodes
    assert len(first.section.nodes) > 0
    assert (first.null, second.null) == (None, None)
    again = {effect.node: effect for effect in (*second.evidence, *second.shown)}
    for effect in (*first.evidence, *first.shown):
        other = again[effect.node]
        assert effect.attribution == pytest.approx(other.attribution, abs=1e-4)
        assert effect.statistic == pytest.approx(other.statistic, abs=1e-4)
        assert effect.kept == other.kept


def test_shown_nodes_are_all_patched_and_never_kept(ready: Callable[[str, str], Ready]):
    finding = without_null(ready("gemma2", BACKENDS[0]))
    assert {effect.node.kind for effect in finding.shown} == {"resid_post"}
    assert len(finding.shown) == 4 * len(finding.positions)
    assert all(effect.statistic is not None and not effect.kept for effect in finding.shown)
    assert max(effect.best for effect in finding.shown) > 0.02 * finding.baseline


def without_null(ready: Ready) -> Finding:
    splits = replace(ready.splits, discover_null={})
    settings = replace(FOUR, show=("resid_post",))
    return find_repeated(ready._replace(splits=splits), settings)


def find_repeated(ready: Ready, settings: DiscoverySettings = FOUR) -> Finding:
    discovery = discover(*ready, contrasts=["repeated"], settings=settings)
    assert list(discovery.findings) == ["repeated"]
    return discovery.findings["repeated"]


Counts = dict[str, tuple[float, float]]


class Counted(Watcher):
    """How much every stage had done of how much, when it ended."""

    def __init__(self) -> None:
        self.last: Counts = {}

    def left(self, stage: Stage) -> None:
        self.last[": ".join(stage.path)] = (stage.done, stage.total)


@pytest.fixture(scope="module")
def repeated(ready: Callable[[str, str], Ready]) -> tuple[Finding, Counts]:
    """What is found for `repeated` on a random GPT-2, and what each stage last said of itself."""
    counted = Counted()
    with watching(counted):
        discovery = discover(*ready("gpt2", "nnsight"), contrasts=["repeated"], settings=FOUR)
    return discovery.findings["repeated"], counted.last


def test_the_same_seed_gives_the_same_discovery(
    repeated: tuple[Finding, object], ready: Callable[[str, str], Ready]
):
    again = find_repeated(ready("gpt2", "nnsight"))
    assert replace(again, cost=repeated[0].cost) == repeated[0]


def test_nodes_patched_come_first_by_their_statistic_then_the_others_by_attribution(
    repeated: tuple[Finding, object],
):
    evidence = repeated[0].evidence
    patched = [effect.statistic for effect in evidence if effect.statistic is not None]
    others = [effect.attribution_statistic for effect in evidence[len(patched) :]]
    assert all(effect.statistic is None for effect in evidence[len(patched) :])
    assert patched == sorted(patched, reverse=True)
    assert others == sorted(others, reverse=True)
    assert len(patched) >= 4
    assert len(others) > 0


def test_the_null_bounds_the_section_at_every_tau(ready: Callable[[str, str], Ready]):
    """With the pairs of another contrast for irrelevant ones the null is above most thresholds."""
    gpt2 = ready("gpt2", "nnsight")
    splits = replace(gpt2.splits, discover_null={"IO": gpt2.splits.discover["IO"]})
    finding = find_repeated(gpt2._replace(splits=splits))
    statistics = [effect.statistic for effect in finding.evidence if effect.statistic is not None]
    assert finding.null is not None
    assert finding.null > 0.005 * finding.baseline
    for tau, size in finding.sizes.items():
        least = tau * finding.baseline
        assert size == sum(value >= least and value > finding.null for value in statistics)
    assert finding.sizes[0.005] < sum(value >= 0.005 * finding.baseline for value in statistics)


def test_progress_ends_where_it_said_it_would(repeated: tuple[Finding, Counts]):
    _, last = repeated
    shown = last.pop("repeated: shown nodes")
    assert list(last) == ["attribution", "repeated: patching", "repeated: validation", "repeated"]
    assert all(done == total > 0 for done, total in last.values())
    assert shown == (0, 0)


def test_passes_over_the_prompts_are_counted(repeated: tuple[Finding, Counts]):
    """The clean metric once, attribution five times (both prompts read, one forward and backward),
    patching at most once per patch.

    The same is done on irrelevant pairs. Patches are preceded by reading the other prompts, and
    need not run what they leave alone.
    """
    finding, last = repeated
    patched = sum(last[f"repeated: {stage}"][1] for stage in ("patching", "validation")) / finding.n
    assert 6 < finding.cost.forwards < 6 + 1.2 * patched


def test_repeated_patches_nothing_before_the_first_token_that_differs(
    repeated: tuple[Finding, object], ready: Callable[[str, str], Ready]
):
    """`repeated` changes S2: IO, S1 and what stands between are the same in both prompts, whatever
    they are called in the second."""
    finding, task = repeated[0], ready("gpt2", "nnsight").task
    assert {"S2", "END"} <= set(finding.positions)
    assert {"IO", "S1", "S1+1"} <= set(task.position_names) - set(finding.positions)
    assert {effect.node.position for effect in finding.evidence} == set(finding.positions)


# Settings and refusals


def test_more_nodes_are_patched_first_where_there_are_many_candidates():
    assert [DiscoverySettings().first(candidates) for candidates in (999, 1000)] == [40, 100]
    assert DiscoverySettings(top=7).first(1000) == 7
    assert DiscoverySettings(top=7, method=EXACT).first(1000) == 1000


def test_integrated_gradients_drop_pairs_of_unequal_length_and_say_so(
    ready: Callable[[str, str], Ready],
):
    model, task, splits = ready("gpt2", "nnsight")
    pair = splits.discover["IO"][0]
    ids = (*pair.counterfactual.ids, 5)
    longer = replace(pair, counterfactual=replace(pair.counterfactual, ids=ids))
    settings = replace(FOUR, method=INTEGRATED_GRADIENTS)
    some = replace(splits, discover={**splits.discover, "IO": (longer, *splits.discover["IO"])})
    discovery = discover(model, task, some, contrasts=["IO"], settings=settings)
    assert (discovery.findings["IO"].n, discovery.findings["IO"].dropped) == (8, 1)
    none = replace(splits, discover={**splits.discover, "IO": (longer,)})
    with pytest.raises(BadTask, match="may differ in length"):
        discover(model, task, none, contrasts=["IO"], settings=settings)


def test_every_node_says_on_how_many_pairs_it_was_patched(repeated: tuple[Finding, object]):
    """Of 8 pairs no part is large enough to look at."""
    patched = [effect for effect in repeated[0].evidence if effect.statistic is not None]
    assert {effect.n for effect in patched} == {8}
    assert {effect.n for effect in repeated[0].evidence[len(patched) :]} == {None}
    assert repeated[0].validation.in_full == len(patched)
    assert set(repeated[0].validation.random_n) <= {8}
    assert repeated[0].notes == ()


def test_what_was_dropped_is_counted_and_the_error_stated(ready: Callable[[str, str], Ready]):
    """Every pair stands ten times among 80, of which an eighth, a quarter and a half are looked at.
    With a threshold of half of E|m| most nodes are dropped, and the section is that of all nodes on
    all pairs."""
    splits = ready("gpt2", "nnsight").splits
    pairs = splits.discover["repeated"] * 10
    more = ready("gpt2", "nnsight")._replace(
        splits=replace(splits, discover={"repeated": pairs}, discover_null={})
    )
    full, sequential = (
        find_repeated(more, replace(FOUR, tau=0.5, error=error)) for error in (0.0, 0.01)
    )
    assert full.section.nodes == sequential.section.nodes
    assert full.notes == ()
    dropped = [effect for effect in sequential.evidence if effect.n not in (None, 80)]
    assert {effect.n for effect in dropped} <= {10, 20, 40}
    (note,) = sequential.notes
    assert note.startswith(f"{len(dropped)} of {sequential.validation.patched} nodes")
    assert "at most 1%" in note


@pytest.mark.parametrize("method", [GRAD_DROP, EXACT])
def test_the_other_methods_find_a_section_too(method: str, ready: Callable[[str, str], Ready]):
    finding = find_repeated(ready("gpt2", "nnsight"), replace(FOUR, method=method))
    patched = sum(effect.statistic is not None for effect in finding.evidence)
    assert (patched == len(finding.evidence)) == (method == EXACT)
    assert finding.sizes[0.02] == len(finding.section.nodes) > 0


def test_what_is_not_there_is_refused_by_name(ready: Callable[[str, str], Ready]):
    neox = ready("neox", "nnsight")
    with pytest.raises(UnknownName, match="Did you mean 'order'"):
        discover(*neox, contrasts=["orders"])
    with pytest.raises(UnknownName, match="graddrop"):
        discover(*neox, settings=DiscoverySettings(method="grad-drop"))
    with pytest.raises(UnknownName, match="mlp_out"):
        discover(*neox, settings=DiscoverySettings(show=("mlp",)))
    with pytest.raises(Unsupported, match="resid_mid"):
        discover(*neox, settings=DiscoverySettings(show=("resid_mid",)))
