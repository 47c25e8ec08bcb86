"""A whole contrast on a linear model: what every dictionary must score, what is decided where, and
the rows that come of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
import torch

from linear import D_HEAD, MLP, Claimed, D, Z, activations, claimed, model
from sage.dictionaries.activations import Activations, Dictionary, moments
from sage.dictionaries.controls import identity, mean_only, shuffle_labels
from sage.dictionaries.supervised import fit_features
from sage.models.base import Model
from sage.nodes import Section
from sage.result import Row, names
from sage.scores.data import ContrastData, Runs, Settings
from sage.scores.geometry import score_geometry, targets
from sage.scores.interpretability import score_interpretability
from sage.scores.isolation import Decoder
from sage.scores.node_set import SHARED, NodeSet
from sage.scores.node_set_scores import NodeSetScores, decide, score_nodes
from sage.scores.rows import score_arrays, score_rows, summary_rows
from sage.scores.summary import COMPONENTS, summarise
from sage.task.metric import logit_difference

SETTINGS = Settings(logit_difference, k_max=2, ks=(0, 1, 2, 4))
SECTION = Section("a", {MLP: 3.0, Z: 1.0})
Made = tuple[Model, ContrastData, dict[str, Dictionary]]


def world(
    *,
    batch_size: int | None = None,
    effect: float = 1.0,
    copies: int = 10,
    turn: torch.Tensor | None = None,
) -> Made:
    """`a` (the answer), `b` and `place` (irrelevant) in both nodes: 24 combinations, as often for
    fit as for test.

    a = 0 lies at 1, a = 1 at -1.2 along the first axis, which is what the model reads. `turn` is
    another basis of what a head carries.
    """
    turn = torch.eye(D_HEAD) if turn is None else turn
    labels = [
        {"a": a, "b": b, "place": place} for a, b, place in product(range(2), range(3), range(4))
    ] * (2 * copies)
    half = 24 * copies
    generator = torch.Generator().manual_seed(0)
    a, b, place = (torch.tensor([own[name] for own in labels]) for name in ("a", "b", "place"))
    mlp, z = (
        0.05 * torch.randn(2 * half, D, generator=generator),
        0.05 * torch.randn(2 * half, D_HEAD, generator=generator),
    )
    for values in (mlp, z):
        values[:, 0] += effect * (1 - 2.2 * a)
        values[:, 1] += 0.5 * (b == 1)
        values[:, 2] += 0.7 * (b == 2)
        values[:, 3] += 0.3 * place
    whole = activations(labels, flips="a", mlp=mlp, z=z @ turn)
    block = whole.anatomy.blocks[0]
    whole = replace(
        whole, anatomy=replace(whole.anatomy, blocks=[replace(block, W_V=turn.T @ block.W_V)])
    )
    fit, test = whole.select(range(half)), whole.select(range(half, 2 * half))
    flipped = [(row + 12) % 24 + 24 * (row // 24) for row in range(half)]
    moved = [row // 4 * 4 + (row + 1) % 4 for row in range(24)]
    supervised = fit_features(fit, attributes=("a", "b"))
    places = fit_features(fit, attributes=("place",), how="mean", coupled=False)
    data = ContrastData(
        section=SECTION,
        named=("a",),
        fit=fit,
        tried=Runs(fit, fit.select(flipped)),
        irrelevant=Runs(fit.select(range(24)), fit.select(moved)),
        test=Runs(test, test.select(flipped)),
        supervised=supervised,
        decoder=Decoder(supervised, {"place": places}, ("a", "b", "place")),
        moments=moments(fit),
    )
    engine = model(
        whole, batch_size=batch_size, mlp=[1.0, 0.1, 0, 0, 0, 0, 0, 0], z=turn[0].tolist()
    )
    codes, vectors = (
        supervised.codes(whole),
        {node: supervised.directions(node) for node in whole.nodes},
    )
    return engine, data, _dictionaries(whole, data, codes, vectors, turn)


def _dictionaries(
    whole: Activations, data: ContrastData, codes: Mapping, vectors: Mapping, turn: torch.Tensor
) -> dict[str, Dictionary]:
    """A suite that knows the features, and its controls."""
    generator = torch.Generator().manual_seed(1)
    norm = {node: own.norm(dim=-1, keepdim=True) for node, own in vectors.items()}
    noise = {
        node: torch.nn.functional.normalize(torch.randn(own.shape, generator=generator), dim=-1)
        for node, own in vectors.items()
    }
    noise[Z] = noise[Z] @ turn
    mixed = {
        node: torch.relu(torch.randn(own.shape, generator=generator) - 0.5)
        for node, own in codes.items()
    }

    def make(name: str, codes: Mapping, vectors: Mapping) -> Claimed:
        return replace(claimed(whole, codes, vectors), name=name, means=dict(data.moments.mean))

    made: list[Dictionary] = [
        make("suite", codes, vectors),
        data.supervised,
        identity(whole.anatomy),
        mean_only(whole.anatomy, data.moments),
        make("random", codes, {node: norm[node] * noise[node] for node in vectors}),
        make("permuted", codes, {node: own[[2, 3, 4, 0, 1]] for node, own in vectors.items()}),
        make("untrained", mixed, noise),
    ]
    return {found.name: found for found in made}


@pytest.fixture(scope="module")
def made() -> Made:
    return world()


@pytest.fixture(scope="module")
def scores(made: Made) -> NodeSetScores:
    engine, data, dictionaries = made
    return score_nodes(
        NodeSet(engine, data, SETTINGS), dictionaries, id="a", causal=("suite", "supervised")
    )


def value(scores: NodeSetScores, name: str, component: str) -> float | None:
    found = scores.components[name][component].normalised
    return None if found is None else found.value


def test_a_suite_that_knows_the_features_scores_one(scores: NodeSetScores) -> None:
    assert [value(scores, "suite", name) for name in COMPONENTS] == pytest.approx(
        [1, 1, 1, 1], abs=0.03
    )
    assert [value(scores, "supervised", name) for name in COMPONENTS[1:]] == pytest.approx(
        [1, 1, 1]
    )
    for name in COMPONENTS:
        found = scores.components["suite"][name].normalised
        assert found is not None
        assert found.estimate().low - 0.03 <= 1 <= found.estimate().high + 0.03


def test_identity_is_the_ceiling_of_approximation_and_nothing_else(scores: NodeSetScores) -> None:
    assert value(scores, "identity", "T1") == 1
    assert scores.measured["identity"].approximation.necessity.value == 1
    assert [scores.components["identity"][name].normalised for name in COMPONENTS[1:]] == [None] * 3


def test_the_mean_alone_knows_nothing(scores: NodeSetScores) -> None:
    found = scores.measured["mean only"]
    assert [
        found.approximation.sufficiency.value,
        found.approximation.necessity.value,
    ] == pytest.approx([0, 0], abs=1e-5)
    assert scores.components["mean only"]["T2"].raw is not None
    assert scores.components["mean only"]["T2"].raw.value == 0
    assert found.interpretability is not None
    assert found.geometry is not None
    assert [found.interpretability.score.value, found.geometry.score.value] == [0, 0]


def test_permuting_directions_leaves_what_is_known_of_codes_and_takes_away_edits(
    scores: NodeSetScores,
) -> None:
    suite, permuted, random = (scores.measured[name] for name in ("suite", "permuted", "random"))
    assert suite.interpretability is not None
    for control in (permuted, random):
        assert control.interpretability is not None
        assert control.interpretability.score.value == suite.interpretability.score.value
        assert np.array_equal(
            control.interpretability.score.draws, suite.interpretability.score.draws
        )
    assert permuted.geometry is not None
    assert suite.geometry is not None
    assert permuted.geometry.mcc == pytest.approx(suite.geometry.mcc)
    assert abs(value(scores, "permuted", "T2") or 0) < 0.05
    assert abs(value(scores, "random", "T4") or 0) < 0.5
    assert permuted.approximation.sufficiency.value < 0.3


def test_the_ground_truth_patch_is_the_whole_edit(made: Made, scores: NodeSetScores) -> None:
    """With both values moved and only noise left over, the supervised edit does what the patch
    does."""
    supervised = scores.measured["supervised"].control
    assert supervised is not None
    assert supervised.accuracy(2).value == 1
    assert supervised.graded(2).value > 0.9
    assert supervised.isolation(2).value > 0.98
    engine, data, _ = made
    patched = engine.write(data.test.target.values, data.test.base.prompts, logit_difference)
    np.testing.assert_allclose(scores.patched, patched.metric.numpy(), rtol=1e-6)


def test_floors_are_chosen_on_fit_and_not_on_test(made: Made, scores: NodeSetScores) -> None:
    engine, data, dictionaries = made
    assert scores.decisions.form == "success"
    assert scores.decisions.t1 is None
    assert scores.decisions.floors["T1"] in ("mean only", "random", "permuted", "untrained")
    for component in ("T1", "T2"):
        floor = scores.components["suite"][component].floor
        own = scores.components[scores.decisions.floors[component]][component].raw
        assert floor is not None
        assert own is not None
        assert floor.value == own.value
    spoilt = replace(data, test=Runs(data.test.base, data.test.base))
    again = decide(NodeSet(engine, spoilt, SETTINGS), dictionaries)
    assert (again.form, again.t1, again.floors) == (
        scores.decisions.form,
        scores.decisions.t1,
        scores.decisions.floors,
    )


def test_a_component_that_is_missing_is_missing_for_all_alike() -> None:
    """Activations that do not move the metric: no T1, no T2, for any dictionary; T3 and T4 stay."""
    engine, data, dictionaries = world(effect=0.0)
    scores = score_nodes(NodeSet(engine, data, SETTINGS), dictionaries, id="a")
    for name in dictionaries:
        for component in ("T1", "T2"):
            found = scores.components[name][component]
            assert found.normalised is None
            assert found.status.startswith("undefined: ")
            assert "moves the metric" in found.status
    rows = score_rows(scores, suite="suite", settings=SETTINGS, sites=2)
    raw = {row.metric: row for row in rows if row.dictionary == "suite"}
    assert raw["sufficiency"].value is None
    assert raw["sufficient metric"].value is not None
    assert raw["accuracy"].value is not None
    assert raw["T2"].status.startswith("undefined")


def test_the_causal_scores_use_interpretable_latents_only(scores: NodeSetScores) -> None:
    levels = scores.causal["suite"]
    assert [found.level for found in levels] == [0.2, 0.4, 0.6, 0.8]
    assert [found.latents for found in levels] == [4] * 4, "both values of `a` at both nodes"
    assert levels[2].control.accuracy(2).value == 1
    assert levels[2].approximation.sufficiency.value > 0.9
    assert scores.causal.keys() == {"suite", "supervised"}


def test_a_group_that_takes_over_the_union_s_nodes_scores_the_same(
    made: Made, scores: NodeSetScores
) -> None:
    engine, data, dictionaries = made
    part = data.on([Z])
    alone, taken = (
        score_nodes(NodeSet(engine, part, SETTINGS), dictionaries, id="a/z@END", union=union)
        for union in (None, scores)
    )
    assert rows_of(alone) == rows_of(taken)


def rows_of(scores: NodeSetScores) -> list[Row]:
    return score_rows(scores, suite="suite", settings=SETTINGS, sites=2)


def test_rows_say_everything_once_and_fit_into_json(scores: NodeSetScores) -> None:
    rows = rows_of(scores)
    keys = [(row.dictionary, row.metric, row.at, row.k) for row in rows]
    assert len(set(keys)) == len(keys)
    json.dumps([asdict(row) for row in rows], allow_nan=False)
    for row in rows:
        assert (row.value is None) == row.status.startswith("undefined"), row
        assert row.section == row.contrast == "a"
    metrics = {row.metric for row in rows if row.dictionary == "suite"}
    expected = "sufficiency necessity accuracy graded isolation magnitude area coverage decoding MCC uniqueness T1 T2 T3 T4".split()
    assert metrics >= {
        *expected,
        "MCC null",
        "T1 normalised",
        "T4 normalised",
        "causal T1",
        "causal T2",
        "interpretable latents",
    }


def test_every_score_has_its_error_n_floor_and_ceiling(scores: NodeSetScores) -> None:
    for row in rows_of(scores):
        if row.dictionary != "suite" or row.value is None:
            continue
        assert row.n == 240
        if row.metric in (
            "sufficiency",
            "necessity",
            "accuracy",
            "graded",
            "isolation",
            "area",
            "coverage",
            "decoding",
            *COMPONENTS,
        ):
            assert row.stderr is not None, row
            assert row.low is not None
            assert row.low <= row.value + 1e-9
            assert (row.floor is None) == (row.metric == "isolation")
            assert row.ceiling is not None


def test_floor_and_ceiling_of_a_row_are_the_same_number_of_the_control_and_of_the_supervised_dictionary(
    scores: NodeSetScores,
) -> None:
    rows = {(row.dictionary, row.metric, row.k): row for row in rows_of(scores)}
    floor = scores.decisions.floors["T2"]
    for k in (0, 1, 2, 4):
        assert rows["suite", "accuracy", k].floor == rows[floor, "accuracy", k].value
        assert rows["suite", "accuracy", k].ceiling == rows["supervised", "accuracy", k].value
        assert rows["suite", "accuracy", k].site_k == 2 * k
    assert rows["suite", "accuracy", 2].picks == pytest.approx(4)
    assert rows["suite", "T1", None].ceiling == 1


def test_arrays_have_outcomes_per_prompt_and_named_matrices_of_the_union_only(
    scores: NodeSetScores, made: Made
) -> None:
    arrays = score_arrays(scores, suite="suite")
    assert arrays["a|suite|suite|success"].shape == (4, 240)
    assert arrays[f"a|suite|suite|cosine|{MLP}"].shape == (5, 2)
    assert names(arrays[f"a|suite|suite|cosine names|{MLP}"]) == ["a=0", "a=1"]
    assert names(arrays[f"a|suite|suite|f1 names|{MLP}"]) == ["a=0", "a=1"]
    assert arrays[f"a|suite|suite|f1 latents|{MLP}"].tolist() == [0, 1]
    np.testing.assert_allclose(arrays[f"a|suite|suite|f1|{MLP}"], np.eye(2))
    engine, data, dictionaries = made
    group = score_nodes(
        NodeSet(engine, data.on([Z]), SETTINGS), dictionaries, id="a/z@END", union=scores
    )
    assert not [
        name for name in score_arrays(group, suite="suite") if "cosine" in name or "f1" in name
    ]


def test_a_summary_has_components_control_sage_and_reach(scores: NodeSetScores) -> None:
    defined = {
        name: found.normalised
        for name, found in scores.components["suite"].items()
        if found.normalised is not None
    }
    rows = {
        row.metric: row
        for row in summary_rows(
            summarise({"a": defined}), suite="suite", dictionary="suite", reach=0.75
        )
    }
    assert rows["sage"].value == pytest.approx(
        np.mean([np.clip(found.value, 0, 1) for found in defined.values()])
    )
    assert rows["control"].value == rows["T2 normalised"].value
    assert rows["reach"].value == 0.75
    assert rows["T1 normalised"].at == "1 contrasts"
    assert rows["sage"].stderr is not None
    nothing = {
        row.metric: row
        for row in summary_rows(summarise({"a": {}}), suite="suite", dictionary="suite", reach=0.0)
    }
    assert nothing["sage"].value is None
    assert nothing["sage"].status == "undefined: a component is missing everywhere"


def test_batch_size_changes_no_number() -> None:
    found: list[list[Row]] = []
    for batch_size in (None, 1, 7, 64):
        engine, data, dictionaries = world(batch_size=batch_size, copies=1)
        found.append(rows_of(score_nodes(NodeSet(engine, data, SETTINGS), dictionaries, id="a")))
    for rows in found[1:]:
        same_rows(found[0], rows)


def test_the_order_of_prompts_changes_no_number(scores: NodeSetScores, made: Made) -> None:
    """Values and intervals alike: a prompt's share in a resample follows its text."""
    engine, data, dictionaries = made
    order = np.random.default_rng(0).permutation(240).tolist()
    shuffled = Runs(*(run.select(order) for run in data.test))
    again = score_nodes(
        NodeSet(engine, replace(data, test=shuffled), SETTINGS),
        dictionaries,
        id="a",
        causal=("suite", "supervised"),
    )
    same_rows(rows_of(scores), rows_of(again))


def test_another_basis_of_what_a_head_carries_changes_no_number(scores: NodeSetScores) -> None:
    turn = torch.linalg.qr(
        torch.randn(D_HEAD, D_HEAD, generator=torch.Generator().manual_seed(9))
    ).Q
    engine, data, dictionaries = world(turn=turn)
    again = score_nodes(
        NodeSet(engine, data, SETTINGS), dictionaries, id="a", causal=("suite", "supervised")
    )
    same_rows(rows_of(scores), rows_of(again))


def same_rows(first: list[Row], second: list[Row]) -> None:
    numbers = ("value", "stderr", "low", "high", "floor", "ceiling", "picks")
    for one, other in zip(map(asdict, first), map(asdict, second), strict=True):
        left, right = ([row.pop(name) for name in numbers] for row in (one, other))
        assert left == pytest.approx(right, abs=1e-5), one
        assert one == other


def test_shuffled_labels_score_the_floor(made: Made) -> None:
    """Of labels dealt out anew nothing is found in codes, and the features fitted on them point
    nowhere in particular."""
    _, data, dictionaries = made
    suite = dictionaries["suite"]
    fit, test = (shuffle_labels(given, seed=0) for given in (data.fit, data.test.base))
    third = score_interpretability(suite, fit, test, attributes=["b"], section=SECTION)
    assert third.score.value < 0.15
    wrong = fit_features(fit, attributes=("a", "b"), coupled=False)
    if found := targets(wrong, fit, attributes=["b"]):
        active = {node: own.active for node, own in third.nodes.items()}
        assert score_geometry(suite, found, active, fit=fit, section=SECTION).score.value < 0.5


def test_paired_dictionaries_differ_by_less_than_their_own_errors(scores: NodeSetScores) -> None:
    """Every dictionary is resampled alike: of two that agree on nearly every prompt the difference
    is known far better than either."""
    suite, supervised = (scores.measured[name].control for name in ("suite", "supervised"))
    assert suite is not None
    assert supervised is not None
    one, other = suite.accuracy(1), supervised.accuracy(1)
    assert np.array_equal(one.draws, other.draws)
    assert one.estimate().stderr > 0.01


def test_what_no_suite_changes_is_measured_once_for_all_suites(
    made: Made, scores: NodeSetScores
) -> None:
    """A second suite on the same node_set runs its own edits only, and both come to what they come to
    alone."""
    engine, data, dictionaries = made
    causal = ("suite", "supervised")

    def spent(node_set: NodeSet, scored: dict[str, Dictionary]) -> tuple[int, NodeSetScores]:
        before = engine.counter.tokens
        found = score_nodes(node_set, scored, id="a", causal=causal)
        return engine.counter.tokens - before, found

    other = {
        **dictionaries,
        "suite": replace(dictionaries["suite"], vectors=dictionaries["permuted"].vectors),
    }
    node_set = NodeSet(engine, data, SETTINGS)
    _, first = spent(node_set, dictionaries)
    second_tokens, second = spent(node_set, other)
    alone_tokens, alone = spent(NodeSet(engine, data, SETTINGS), other)
    shared_tokens, _ = spent(
        NodeSet(engine, data, SETTINGS), {name: dictionaries[name] for name in SHARED}
    )
    assert second_tokens == alone_tokens - shared_tokens
    assert 0 < second_tokens < alone_tokens
    assert rows_of(first) == rows_of(scores)
    assert rows_of(second) == rows_of(alone)


def test_dictionaries_run_together_score_what_they_score_alone(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, data, dictionaries = made
    together = score_nodes(NodeSet(engine, data, SETTINGS), dictionaries, id="a")
    monkeypatch.setattr("sage.scores.chunks.WRITTEN_NUMBERS_AT_ONCE", 1)
    same_rows(
        rows_of(together),
        rows_of(score_nodes(NodeSet(engine, data, SETTINGS), dictionaries, id="a")),
    )
