"""Discovery as a whole: on models whose circuit is known, and on random ones of every family."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import pytest
import torch

from sage.circuits.circuit import Circuit, Group
from sage.discovery import (
    EXACT,
    GRAD_DROP,
    INTEGRATED_GRADIENTS,
    Discovery,
    Finding,
    check,
    check_nodes,
    discover,
    draw,
)
from sage.discovery.attribution import TOKENS_AT_ONCE, attribute
from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable
from sage.discovery.confirm import Irrelevant, Trial, confirm, irrelevant
from sage.discovery.patching import patch
from sage.discovery.statistic import pool
from sage.errors import BadTask, UnknownName, Unsupported
from sage.models.base import Model
from sage.models.wired import truth
from sage.nodes import Node, parse_node
from sage.task.metric import logit_difference
from sage.task.tokens import Tokenized, TokenizedPair
from tests.discovery.conftest import BACKENDS, Ready, random_pairs
from tests.models.twin import Twin

SEEDS = (0, 1, 2)


@pytest.fixture(scope="session")
def found(wired: Callable[[int, str], Ready]) -> Callable[[int], Discovery]:
    """Seed -> what discovery finds on the wired model."""
    made: dict[int, Discovery] = {}

    def find(seed: int) -> Discovery:
        if seed not in made:
            model, task, splits = wired(seed, "nnsight")
            made[seed] = discover(model, task, splits, seed=seed)
        return made[seed]

    return find


# The wired model


@pytest.mark.parametrize("seed", SEEDS)
def test_every_section_of_the_wired_model_is_found_and_nothing_else(
    seed: int, found: Callable[[int], Discovery]
):
    agreement = check_nodes(truth(seed).sections, found(seed))
    assert set(agreement) == {"quality", "kind", "animal", "owner"}
    assert all(
        (one.precision, one.recall, one.missed, one.extra) == (1, 1, (), ())
        for one in agreement.values()
    )


def test_its_heads_and_mlps_are_the_circuit_that_was_wired(
    wired: Callable[[int, str], Ready], found: Callable[[int], Discovery]
):
    """The clause head writes at commas, which have no names: no section can hold it."""
    known = truth(0)
    heads = tuple(str(head) for name, head in known.heads.items() if name != "clause")
    mlps = tuple(dict.fromkeys(known.mlps.values()))
    circuit = Circuit(
        "wired", "wired", "wired", "its constructor", "", 24, (Group("all", heads, mlps),)
    )
    comparison = check(circuit, found(0), wired(0, "nnsight").model)
    assert (comparison.heads.precision, comparison.heads.recall, comparison.heads.auroc) == (
        1,
        1,
        1,
    )
    assert comparison.mlps is not None
    assert (comparison.mlps.precision, comparison.mlps.recall) == (1, 1)


def test_a_circuit_on_positions_the_task_does_not_have_is_refused(
    wired: Callable[[int, str], Ready], found: Callable[[int], Discovery]
):
    circuit = Circuit(
        "wired", "wired", "wired", "", "", 24, (Group("mover", ("4.2",), position="S2"),)
    )
    with pytest.raises(UnknownName, match="S2"):
        check(circuit, found(0), wired(0, "nnsight").model)


def test_faithfulness_on_the_wired_model_goes_from_none_to_all(found: Callable[[int], Discovery]):
    """All that the answer needs is among the first hundredth of the candidates, so f is 0, then 1,
    and CPR 1 - .01/2."""
    curve = found(0).findings["quality"].validation.curve
    assert curve is not None
    assert [share for share, _ in curve.points] == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
    assert [value for _, value in curve.points] == pytest.approx([1] * 7, abs=1e-4)
    assert (curve.cpr, curve.cmd) == (
        pytest.approx(0.995, abs=1e-4),
        pytest.approx(0.005, abs=1e-4),
    )


def test_a_contrast_that_leaves_the_answer_alone_has_no_recovered_fraction(
    found: Callable[[int], Discovery],
):
    validation = found(0).findings["owner"].validation
    assert validation.curve is None
    assert validation.notes == ("The right answer does not change: no recovered fraction exists.",)


def test_the_wired_sections_are_stable_and_beat_random_sets(found: Callable[[int], Discovery]):
    for contrast in ("quality", "kind", "owner"):
        validation = found(0).findings[contrast].validation
        assert len(validation.random_effects) == 20
        assert validation.section_effect is not None
        assert validation.section_effect > 100 * max(validation.random_effects)
        assert (validation.jaccard, validation.jaccard_sd) == (1, 0)
        assert validation.top_overlap == 1


def test_the_wired_models_null_is_nothing(found: Callable[[int], Discovery]):
    """Place words and the other animal move nothing that is looked up."""
    for finding in found(0).findings.values():
        assert finding.null is not None
        assert finding.null < 1e-3 * finding.baseline
        assert finding.null_n == finding.n == 12
        assert finding.cost.seconds > 0


def test_the_picture_of_a_discovery_can_be_drawn(found: Callable[[int], Discovery], tmp_path):
    assert draw(found(0), tmp_path / "wired.png").stat().st_size > 10_000


# Both backends, every family


def test_both_backends_find_the_same(ready: Callable[[str, str], Ready]):
    """Without irrelevant pairs tau decides alone."""
    one, other = (_without_null(ready("gemma2", backend)) for backend in BACKENDS)
    assert one.section.nodes == other.section.nodes
    assert len(one.section.nodes) > 0
    assert (one.null, other.null) == (None, None)
    second = {evidence.node: evidence for evidence in (*other.evidence, *other.shown)}
    for evidence in (*one.evidence, *one.shown):
        again = second[evidence.node]
        assert evidence.attribution == pytest.approx(again.attribution, abs=1e-4)
        assert evidence.statistic == pytest.approx(again.statistic, abs=1e-4)
        assert evidence.kept == again.kept


def _without_null(ready: Ready) -> Finding:
    splits = replace(ready.splits, null={})
    return discover(
        ready.model, ready.task, splits, contrasts=["repeated"], top=4, show=["resid_post"]
    ).findings["repeated"]


@pytest.fixture(scope="module")
def repeated(ready: Callable[[str, str], Ready]) -> tuple[Finding, dict[str, tuple[int, int]]]:
    """What is found for `repeated` on a random GPT-2, and what each stage last said of its
    progress."""
    last: dict[str, tuple[int, int]] = {}
    found = discover(
        *ready("gpt2", "nnsight"),
        contrasts=["repeated"],
        top=4,
        progress=lambda stage, done, total: last.update({stage: (done, total)}),
    )
    return found.findings["repeated"], last


def test_the_same_seed_gives_the_same_discovery(
    repeated: tuple[Finding, object], ready: Callable[[str, str], Ready]
):
    again = discover(*ready("gpt2", "nnsight"), contrasts=["repeated"], top=4).findings["repeated"]
    assert replace(again, cost=repeated[0].cost) == repeated[0]


def test_progress_ends_where_it_said_it_would(repeated: tuple[Finding, dict[str, tuple[int, int]]]):
    _, last = repeated
    assert list(last) == ["repeated: attribution", "repeated: patching", "repeated: validation"]
    assert all(done == total > 0 for done, total in last.values())


def test_passes_over_the_prompts_are_counted(repeated: tuple[Finding, dict[str, tuple[int, int]]]):
    """The clean metric once, attribution five times (both prompts read, one forward and backward),
    patching at most once per patch.

    A batch of patches is preceded by reading the other prompts, and need not run what it leaves
    alone.
    """
    finding, last = repeated
    patched = sum(last[f"repeated: {stage}"][1] for stage in ("patching", "validation")) / finding.n
    assert 6 < finding.cost.forwards < 6 + 1.2 * patched


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_exact_patching_is_the_patch_made_by_hand(
    family: str, ready: Callable[[str, str], Ready], twin: Callable[[str], Twin]
):
    """One key-value node of Gemma-2 moves both query heads that read it."""
    nodes = [parse_node(name) for name in ("0.1.k@A", "1.1.v@B", "0.1.q@B", "1.mlp_in@END")]
    pairs = random_pairs(2)
    runs = patch(
        ready(family, BACKENDS[0]).model,
        [(), *((node,) for node in nodes), nodes[:2]],
        pairs,
        logit_difference,
    )
    sets = [[], *([node] for node in nodes), nodes[:2]]
    for row, chosen in enumerate(sets):
        for column, pair in enumerate(pairs):
            patches = [(node, twin(family).read(node, pair.counterfactual)) for node in chosen]
            logits = twin(family).patched(patches, pair.clean)
            assert float(runs[row, column]) == pytest.approx(
                float(logit_difference(logits[None], [pair.clean])), abs=1e-4
            )


def test_grouped_heads_give_one_node_for_a_key_and_a_value(ready: Callable[[str, str], Ready]):
    anatomy = ready("gemma2", BACKENDS[0]).model.anatomy
    nodes = nodes_at(("END",), SECTION_KINDS, anatomy)
    heads = {
        kind: [node.head for node in nodes if node.kind == kind and node.layer == 0]
        for kind in SECTION_KINDS
    }
    assert heads == {
        "q": [0, 1, 2, 3],
        "z": [0, 1, 2, 3],
        "k": [0, 1],
        "v": [0, 1],
        "mlp_in": [None],
    }
    assert len(nodes) == 4 * 13


# What can be reached


def test_repeated_patches_nothing_before_the_first_token_that_differs(
    repeated: tuple[Finding, object], ready: Callable[[str, str], Ready]
):
    """`repeated` changes S2: IO, S1 and what stands between are the same in both prompts, whatever
    they are called in the second."""
    finding, task = repeated[0], ready("gpt2", "nnsight").task
    assert {"S2", "END"} <= set(finding.positions)
    assert {"IO", "S1", "S1+1"} <= set(task.position_names) - set(finding.positions)
    assert {one.node.position for one in finding.evidence} == set(finding.positions)


def test_a_position_is_reached_when_at_least_one_pair_differs_there(
    ready: Callable[[str, str], Ready],
):
    """One pair differs from IO on, one at its end only; S1+1 is in neither prompt, place in one
    prompt of a pair."""
    task = ready("gpt2", "nnsight").task
    early, late = _pair((1, 2, 3, 4), (1, 9, 3, 4)), _pair((1, 2, 3, 4), (1, 2, 3, 9))
    assert reachable([late], task) == ("END",)
    assert reachable([early, late], task) == ("IO", "S2", "END")


def _pair(clean: Sequence[int], other: Sequence[int]) -> TokenizedPair:
    (pair,) = random_pairs(1)
    index = {"S1": 0, "IO": 1, "S2": 2, "END": 3}
    first = replace(pair.clean, ids=tuple(clean), index={**index, "place": 3})
    return TokenizedPair(
        first, replace(pair.counterfactual, ids=tuple(other), index=index), "random"
    )


# Confirmation, with effects known beforehand


NODES = [Node("z", 0, head, "END") for head in range(40)]
RANKS = {node: rank for rank, node in enumerate(NODES)}


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Patching a head below `large` moves the metric by 1; the list keeps every node patched."""
    seen: list[Node] = []

    def known(
        model: Model,
        sets: Sequence[Collection[Node]],
        pairs: Sequence[TokenizedPair],
        metric: object,
        *,
        stage: object = None,
    ):
        del model, metric, stage
        seen.extend(node for chosen in sets for node in chosen)
        runs = [
            [10.0 + sum(_known_effect(node, pair) for node in chosen) for pair in pairs]
            for chosen in sets
        ]
        return torch.tensor(runs, dtype=torch.float64)

    monkeypatch.setattr("sage.discovery.confirm.patch", known)
    return seen


def _known_effect(node: Node, pair: TokenizedPair) -> float:
    assert node.head is not None
    large = {"six": 6, "seven": 7, "all": 40, "irrelevant": 2}[pair.contrast]
    return 1.0 if node.head < large else 0.1


def _trial(contrast: str) -> Trial:
    pairs = tuple(replace(pair, contrast=contrast) for pair in random_pairs(20))
    return Trial(
        contrast, pairs, pool([contrast] * 20), torch.full((20,), 10.0, dtype=torch.float64), 0.02
    )


def _unlike(count: int = 20) -> Irrelevant:
    pairs = [replace(pair, contrast="irrelevant") for pair in random_pairs(count)] if count else []
    return irrelevant({"place": pairs} if pairs else {}, logit_difference, most=20)


@pytest.mark.parametrize(("contrast", "count"), [("six", 8), ("seven", 16), ("all", 40)])
def test_as_many_nodes_are_patched_again_while_any_of_the_last_quarter_passes(
    contrast: str, count: int, patched: list[Node], ready: Callable[[str, str], Ready]
):
    """Of 4 the fourth passes, so 8 are patched; of 8 the seventh and eighth decide, of 16 those
    from the thirteenth on."""
    found = confirm(
        ready("gpt2", "nnsight").model, _trial(contrast), RANKS, _unlike(0), top=4, seed=0
    )
    assert (len(found.nodes), found.level) == (count, None)
    assert patched == NODES[:count]
    assert int(found.kept.sum()) == min(count, {"six": 6, "seven": 7, "all": 40}[contrast])


def test_nothing_is_kept_below_what_irrelevant_changes_do(
    patched: list[Node], ready: Callable[[str, str], Ready]
):
    """Two heads move as much on irrelevant pairs as six do on the contrast's: the 99th percentile
    over 8 nodes is 1."""
    found = confirm(ready("gpt2", "nnsight").model, _trial("six"), RANKS, _unlike(), top=4, seed=0)
    assert found.level == pytest.approx(1)
    assert int(found.kept.sum()) == 0
    assert len(patched) == 2 * len(found.nodes)


def test_irrelevant_pairs_are_patched_once_for_all_contrasts(
    patched: list[Node], ready: Callable[[str, str], Ready]
):
    model, unlike = ready("gpt2", "nnsight").model, _unlike()
    first = unlike.effects(model, NODES[:3])
    again = unlike.effects(model, NODES[2:5])
    assert patched == NODES[:5]
    assert first[2].tolist() == again[0].tolist()


def test_irrelevant_attributes_take_turns():
    pairs = random_pairs(6)
    taken = irrelevant(
        {"place": pairs[:3], "object": pairs[3:5], "template": pairs[5:]}, logit_difference, most=5
    )
    assert taken.pairs == (pairs[0], pairs[3], pairs[5], pairs[1], pairs[4])


# Bounds and refusals


def test_activations_are_held_for_a_bounded_number_of_tokens(
    ready: Callable[[str, str], Ready], monkeypatch: pytest.MonkeyPatch
):
    """400 pairs of 6 tokens: 170 fit into 1,024 tokens."""
    model, sizes = ready("gpt2", "nnsight").model, list[int]()
    read = Model.read

    def watched(self: Model, nodes: Collection[Node], prompts: Sequence[Tokenized]):
        sizes.append(len(prompts))
        return read(self, nodes, prompts)

    monkeypatch.setattr(Model, "read", watched)
    attribute(model, [parse_node("0.0.z@END")], random_pairs(400, lengths=(6,)), logit_difference)
    assert sizes == [170, 170, 170, 170, 60, 60]
    assert max(sizes) * 6 <= TOKENS_AT_ONCE


def test_integrated_gradients_drop_pairs_of_unequal_length_and_say_so(
    ready: Callable[[str, str], Ready],
):
    model, task, splits = ready("gpt2", "nnsight")
    pair = splits.discover["IO"][0]
    longer = replace(
        pair, counterfactual=replace(pair.counterfactual, ids=(*pair.counterfactual.ids, 5))
    )
    some = replace(splits, discover={**splits.discover, "IO": (longer, *splits.discover["IO"])})
    finding = discover(
        model, task, some, contrasts=["IO"], top=4, method=INTEGRATED_GRADIENTS
    ).findings["IO"]
    assert (finding.n, finding.dropped) == (8, 1)
    none = replace(splits, discover={**splits.discover, "IO": (longer,)})
    with pytest.raises(BadTask, match="may differ in length"):
        discover(model, task, none, contrasts=["IO"], method=INTEGRATED_GRADIENTS)


@pytest.mark.parametrize("method", [GRAD_DROP, EXACT])
def test_the_other_methods_find_a_section_too(method: str, ready: Callable[[str, str], Ready]):
    finding = discover(
        *ready("gpt2", "nnsight"), contrasts=["repeated"], top=4, method=method
    ).findings["repeated"]
    patched = [one for one in finding.evidence if one.statistic is not None]
    assert (
        len(patched) == len(finding.evidence)
        if method == EXACT
        else len(patched) < len(finding.evidence)
    )
    assert finding.sizes[0.02] == len(finding.section.nodes) > 0


def test_what_is_not_there_is_refused_by_name(ready: Callable[[str, str], Ready]):
    one = ready("neox", "nnsight")
    with pytest.raises(UnknownName, match="Did you mean 'order'"):
        discover(*one, contrasts=["orders"])
    with pytest.raises(UnknownName, match="graddrop"):
        discover(*one, method="grad-drop")
    with pytest.raises(UnknownName, match="mlp_out"):
        discover(*one, show=["mlp"])
    with pytest.raises(Unsupported, match="resid_mid"):
        discover(*one, show=["resid_mid"])
