"""What a comparison of a circuit with a discovery says, worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sage.circuits.catalog import load_circuit
from sage.circuits.circuit import Circuit, Group
from sage.circuits.comparison import Agreement, compare, head_scores
from sage.errors import SageError, UnknownName
from sage.nodes import Node, parse_node


def nodes(*names: str) -> list[Node]:
    return [parse_node(name) for name in names]


@pytest.fixture
def toy() -> Circuit:
    """Six heads in two layers; 0.0 acts at S2, 1.0, 1.1 (disputed) and MLP 1 at END."""
    return Circuit(
        "toy",
        "toy",
        "tiny",
        "Nobody 2020",
        "Table 1",
        heads_total=6,
        groups=(
            Group("duplicate", ("0.0",), position="S2", feeds=("mover",)),
            Group("mover", ("1.0", "1.1"), mlps=(1,), position="END", disputed=("1.1",)),
        ),
    )


def test_a_comparison_worked_by_hand(toy: Circuit):
    discovered = {
        "IO": nodes("1.0.z@END", "0.2.z@END", "1.resid_pre@END"),
        "S": nodes("0.0.z@END", "1.1.q@END", "1.0.q@END", "1.mlp_in@END", "0.mlp_out@S2"),
    }
    # 1.2 has no score and counts as 0. Members against the others .5 .3 0: .3 wins 1.5 of 3, .9
    # wins 3, .1 wins 1.
    scores = {"0.0": 0.3, "1.0": 0.9, "1.1": 0.1, "0.2": 0.5, "0.1": 0.3}
    comparison = compare(toy, discovered, scores)
    assert comparison.heads == Agreement(2 / 3, 2 / 3, 5.5 / 9, hits=2, found=3, members=3)
    assert comparison.heads_undisputed == Agreement(
        1 / 2, 1 / 2, 4.5 / 6, hits=1, found=2, members=2
    )
    assert (
        comparison.mlps
        == comparison.mlps_undisputed
        == Agreement(1 / 2, 1.0, None, hits=1, found=2, members=1)
    )
    assert {verdict.name: verdict.status for verdict in comparison.verdicts} == {
        "0.0": "elsewhere",
        "0.2": "extra",
        "0.mlp": "extra",
        "1.0": "hit",
        "1.1": "hit",
        "1.mlp": "hit",
    }
    assert [(verdict.name, verdict.roles) for verdict in comparison.misses] == [
        ("0.0", ("duplicate",))
    ]
    assert [verdict.name for verdict in comparison.extras] == ["0.2", "0.mlp"]
    first = comparison.rows()[0]
    assert (first["positions"], first["nodes"], first["contrasts"], first["score"]) == (
        ("S2",),
        ("0.0.z@END",),
        ("S",),
        0.3,
    )
    assert json.loads(json.dumps(comparison.to_dict()))["heads"]["auroc"] == 5.5 / 9


def test_q_and_z_count_at_the_position_and_k_and_v_at_any(toy: Circuit):
    def status(node: str) -> str:
        return compare(toy, nodes(node), {}).verdicts[0].status

    assert [status(f"0.0.{kind}@S2") for kind in "qkvz"] == ["hit"] * 4
    assert [status(f"0.0.{kind}@END") for kind in "qkvz"] == [
        "elsewhere",
        "hit",
        "hit",
        "elsewhere",
    ]
    assert status("0.0.z@*") == "hit"
    assert status("0.0.pattern@S2") == "miss"


def test_the_same_nodes_found_at_once_or_by_contrast_agree(toy: Circuit):
    everything = nodes("1.0.z@END", "0.0.k@S1", "0.1.v@S1")
    by_contrast = {"IO": everything[:2], "S": everything[1:]}
    assert (
        compare(toy, everything, {}).heads
        == compare(toy, by_contrast, {}).heads
        == Agreement(2 / 3, 2 / 3, 0.5, 2, 3, 3)
    )


def test_a_shared_key_counts_for_all_its_query_heads(toy: Circuit):
    grouped = compare(toy, nodes("0.0.k@S1", "1.0.z@END"), {}, group=3)
    assert [verdict.name for verdict in grouped.verdicts if verdict.nodes] == [
        "0.0",
        "0.1",
        "0.2",
        "1.0",
    ]
    assert grouped.heads[:2] == (2 / 4, 2 / 3)


def test_nothing_found_leaves_precision_undefined_and_recall_0(toy: Circuit):
    nothing = compare(toy, {}, {})
    assert nothing.heads == Agreement(None, 0.0, 0.5, hits=0, found=0, members=3)
    assert len(nothing.misses) == 4


def test_a_source_without_mlps_says_nothing_about_them():
    comparison = compare(load_circuit("ioi"), nodes("0.mlp_out@END", "9.9.z@END"), {"9.9": 1.0})
    assert comparison.mlps is None
    assert comparison.extras == ()
    assert comparison.heads[:2] == (1.0, 1 / 26)


def test_a_perfect_discovery_of_ioi_scores_1_and_the_whole_model_only_its_share():
    circuit = load_circuit("ioi")
    perfect = nodes(*(f"{head}.z@{circuit.positions_of(head)[0]}" for head in circuit.heads))
    assert compare(circuit, perfect, dict.fromkeys(circuit.heads, 1.0)).heads == Agreement(
        1.0, 1.0, 1.0, 26, 26, 26
    )
    whole = nodes(*(f"{layer}.{head}.z@*" for layer in range(12) for head in range(12)))
    assert compare(circuit, whole, {}).heads == Agreement(26 / 144, 1.0, 0.5, 26, 144, 26)


def test_auroc_equals_counting_every_pair(toy: Circuit):
    rng = np.random.default_rng(7)
    for _ in range(50):
        scores = {
            f"{layer}.{head}": float(rng.integers(0, 4)) for layer in range(2) for head in range(3)
        }
        members = [scores[head] for head in toy.heads]
        others = [value for head, value in scores.items() if head not in toy.heads]
        wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in members for b in others]
        assert compare(toy, {}, scores).heads.auroc == sum(wins) / len(wins)


def test_a_position_the_task_does_not_have_is_refused(toy: Circuit):
    compare(toy, {}, {}, positions=("S2", "END", "IO"))
    with pytest.raises(UnknownName, match=r"No position of the task 'toy' is named 'S2'"):
        compare(toy, {}, {}, positions=("S", "END"))


def test_scores_of_another_model_or_of_no_head_are_refused(toy: Circuit):
    with pytest.raises(
        SageError, match=r"of tiny, which has 6 heads; with those of the discovery there would be 7"
    ):
        compare(toy, {}, {f"5.{head}": 1.0 for head in range(4)})
    for head, value in (("0.0", -1.0), ("0.0", float("nan")), ("1.mlp", 1.0)):
        with pytest.raises(SageError, match=f"statistics of heads, 0 or more, and {head} has"):
            compare(toy, {}, {head: value})
    with pytest.raises(SageError, match="'nine' is neither a head"):
        compare(toy, {}, {"nine": 1.0})


def test_a_heads_score_is_its_best_node_and_a_shared_value_scores_all_its_heads():
    statistic = {
        parse_node("0.1.z@END"): 0.2,
        parse_node("0.1.q@END"): 0.5,
        parse_node("0.0.v@S1"): 0.3,
        parse_node("0.mlp_in@END"): 9.0,
    }
    assert head_scores(statistic) == {"0.1": 0.5, "0.0": 0.3}
    assert head_scores(statistic, group=2) == {"0.1": 0.5, "0.0": 0.3}
    assert head_scores({parse_node("0.1.v@S1"): 0.3}, group=2) == {"0.2": 0.3, "0.3": 0.3}
