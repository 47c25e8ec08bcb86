"""Published circuits: their facts, their graphs and pictures, and what a comparison with a
discovery says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sage.circuits.circuit import (
    Circuit,
    Group,
    detected_circuit,
    draw,
    forward_order,
    induction_scores,
    load_circuit,
    write_graphml,
)
from sage.circuits.comparison import Agreement, compare, head_scores
from sage.errors import BadFile, SageError, UnknownName, Unsupported
from sage.nodes import parse_node

CIRCUITS = Path(__file__).parents[2] / "circuits"
NAMES = sorted(path.stem for path in CIRCUITS.glob("*.toml"))
HEADS = {
    "acronym": 8,
    "copy_suppression": 2,
    "greater_than": 11,
    "ioi": 26,
    "sentiment": 7,
    "successor_months": 13,
    "successor_number_words": 19,
    "successor_numerals": 14,
    "successor_shared": 8,
}

MINIMAL = """
task = "toy"
model = "tiny"
source = "Nobody 2020"
where = "Table 1"
heads_total = 6
[[groups]]
role = "mover"
heads = ["1.0", "1.1"]
"""


def published(name: str) -> Circuit:
    return load_circuit(CIRCUITS / f"{name}.toml")


def nodes(*names: str):
    return [parse_node(name) for name in names]


@pytest.fixture
def toy() -> Circuit:
    """Six heads in two layers; 0.0 acts at S2, the movers 1.0 and 1.1 (disputed) and MLP 1 at END."""
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


# Facts


def test_there_is_one_file_for_every_published_list():
    assert sorted(HEADS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_published_circuit_has_the_heads_of_its_source_and_they_exist_in_gpt2_small(name: str):
    circuit = published(name)
    assert (circuit.name, circuit.model, circuit.heads_total, len(circuit.heads)) == (
        name,
        "gpt2-small",
        144,
        HEADS[name],
    )
    assert all(
        layer < 12 and head < 12
        for layer, _, head in map(forward_order, (*circuit.heads, *circuit.mlps))
    )
    assert "arXiv" in circuit.source
    assert circuit.disputed <= {*circuit.heads, *circuit.mlps}


def test_ioi_has_26_heads_in_7_classes_and_disputes_10_6_alone():
    circuit = published("ioi")
    sizes = {group.role: (len(group.heads), group.position) for group in circuit.groups}
    assert sizes == {
        "name mover": (3, "END"),
        "negative name mover": (2, "END"),
        "backup name mover": (8, "END"),
        "S-inhibition": (4, "END"),
        "induction": (4, "S2"),
        "duplicate token": (3, "S2"),
        "previous token": (2, "S1+1"),
    }
    assert circuit.disputed == {"10.6"}
    assert set(circuit.positions) == {"END", "S2", "S1+1"}
    assert circuit.mlps == {}


def test_greater_than_is_a_union_whose_differences_are_disputed():
    circuit = published("greater_than")
    assert circuit.disputed == {"5.1", "6.1", "8.8"}
    assert list(circuit.mlps) == [f"{layer}.mlp" for layer in (0, 1, 2, 3, 8, 9, 10, 11)]


def test_the_shared_successor_circuit_is_the_intersection_of_the_three_kinds():
    kinds = [published(f"successor_{kind}") for kind in ("months", "numerals", "number_words")]
    shared = published("successor_shared")
    assert set(shared.heads) == set.intersection(*(set(circuit.heads) for circuit in kinds))
    assert set(shared.mlps) == set.intersection(*(set(circuit.mlps) for circuit in kinds))


def test_a_head_in_two_groups_has_both_roles_and_acts_anywhere_if_one_gives_no_position():
    circuit = published("sentiment")
    assert circuit.heads["7.1"] == ("direct", "intermediate")
    assert circuit.positions_of("7.1") == ()
    assert circuit.positions_of("10.1") == ("END",)


def test_heads_come_in_forward_order_and_not_in_that_of_their_names():
    assert all(
        forward_order(first) < forward_order(second)
        for first, second in pairwise(published("ioi").heads)
    )
    assert list(published("acronym").heads)[-2:] == ["10.10", "11.4"]


# Graph and picture


def test_the_graph_has_the_flow_the_paper_describes():
    graph = published("ioi").graph()
    assert graph.number_of_nodes() == 26
    assert graph.number_of_edges() == 2 * 4 + (3 + 4) * 4 + 4 * 3
    assert graph.has_edge("2.2", "5.5")
    assert graph.has_edge("3.0", "8.10")
    assert graph.has_edge("8.6", "9.9")
    assert not graph.has_edge("8.6", "10.7")
    assert graph.nodes["8.6"] == {
        "kind": "head",
        "layer": 8,
        "role": "S-inhibition",
        "position": "END",
        "carries": "S, order",
        "disputed": False,
    }


def test_only_the_earlier_feeds_the_later_and_a_head_comes_before_the_mlp_of_its_layer():
    graph = published("greater_than").graph()
    assert graph.has_edge("9.1", "9.mlp")
    assert graph.has_edge("8.mlp", "9.mlp")
    assert graph.has_edge("0.1", "0.mlp")
    assert not graph.has_edge("9.1", "8.mlp")
    assert not graph.has_edge("0.3", "0.mlp")
    assert all(
        forward_order(source)[:2] < forward_order(target)[:2] for source, target in graph.edges
    )


@pytest.mark.parametrize("name", ["ioi", "greater_than", "copy_suppression"])
def test_graphml_is_read_back_equal(name: str, tmp_path: Path):
    import networkx as nx

    graph = published(name).graph()
    write_graphml(published(name), tmp_path / "circuit.graphml")
    again = nx.read_graphml(tmp_path / "circuit.graphml")
    assert again.is_directed()
    assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
    assert set(again.edges) == set(graph.edges)
    assert {key: again.graph[key] for key in graph.graph} == graph.graph


@pytest.mark.parametrize("name", ["ioi", "greater_than", "sentiment"])
def test_a_picture_is_a_png_with_something_on_it(name: str, tmp_path: Path):
    from matplotlib.image import imread

    draw(published(name), tmp_path / "circuit.png")
    assert (tmp_path / "circuit.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = imread(tmp_path / "circuit.png")
    assert min(picture.shape[:2]) > 500
    assert 0.002 < (picture[..., :3].min(-1) < 0.7).mean() < 0.2


def test_a_picture_is_also_an_svg_and_nothing_else_that_is_unknown(tmp_path: Path):
    from xml.etree import ElementTree

    draw(published("acronym"), tmp_path / "circuit.svg")
    assert (
        ElementTree.parse(tmp_path / "circuit.svg").getroot().tag
        == "{http://www.w3.org/2000/svg}svg"
    )
    with pytest.raises(Unsupported, match=r"circuit\.doc.*\.png, \.svg or \.pdf"):
        draw(published("acronym"), tmp_path / "circuit.doc")


# Errors


def load(text: str, folder: Path) -> Circuit:
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return load_circuit(folder / "toy.toml")


def test_a_minimal_file_is_a_circuit_named_after_it(tmp_path: Path):
    assert load(MINIMAL, tmp_path) == Circuit(
        "toy", "toy", "tiny", "Nobody 2020", "Table 1", 6, (Group("mover", ("1.0", "1.1")),)
    )


def test_disputed_may_be_a_whole_group_or_an_mlp(tmp_path: Path):
    assert load(MINIMAL + "mlps = [2]\ndisputed = true\n", tmp_path).disputed == {
        "1.0",
        "1.1",
        "2.mlp",
    }
    assert load(MINIMAL + 'mlps = [2]\ndisputed = ["2.mlp"]\n', tmp_path).disputed == {"2.mlp"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "heads_total",
            "heads_totl",
            r"toy\.toml: No key is named 'heads_totl'\. Did you mean 'heads_total'",
        ),
        ("role =", "roll =", r"groups\[0\]: No key is named 'roll'\. Did you mean 'role'"),
        ('where = "Table 1"', "", r"toy\.toml: the key 'where' is missing; expected text"),
        ('role = "mover"', "", r"groups\[0\]: the key 'role' is missing"),
        ('source = "Nobody 2020"', 'source = ""', r"'source' is ''; expected text"),
        (
            "heads_total = 6",
            'heads_total = "6"',
            r"'heads_total' is '6'; expected the number of heads",
        ),
        ("heads_total = 6", "heads_total = true", r"'heads_total' is True"),
        ("heads_total = 6", "heads_total = 1", r"'heads_total' is 1; expected at least 2"),
        ('"1.1"', '"1,1"', r"groups\[0\]: 'heads' is \['1\.0', '1,1'\]; expected a list of heads"),
        ('"1.1"', '"1.01"', r"expected a list of heads"),
        ('"1.1"', '"1.0"', r"expected a list of heads, layer\.head, each once"),
        ('heads = ["1.0", "1.1"]', "", r"groups\[0\] \('mover'\) has neither 'heads' nor 'mlps'"),
        ('heads = ["1.0", "1.1"]', "heads = []", r"has neither 'heads' nor 'mlps'"),
        ('heads = ["1.0", "1.1"]', 'mlps = ["1"]', r"'mlps' is \['1'\]; expected a list of layers"),
        (
            'role = "mover"',
            'role = "mover"\nfeeds = ["movr"]',
            r"'feeds' has 'movr'.*Did you mean 'mover'",
        ),
        (
            'role = "mover"',
            'role = "mover"\ndisputed = ["2.2"]',
            r"'disputed' has '2\.2'; expected members of the group: 1\.0, 1\.1",
        ),
        (
            'role = "mover"',
            'role = "mover"\ndisputed = false',
            r"'disputed' is False; expected true, or a list",
        ),
        ("[[groups]]", "[groups]", r"'groups' is .*; expected \[\[groups\]\] tables"),
        ('task = "toy"', 'task = "toy', r"toy\.toml cannot be read as TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_key_what_stands_there_and_what_should(
    old: str, new: str, message: str, tmp_path: Path
):
    assert MINIMAL.count(old) == 1
    with pytest.raises(BadFile, match=message):
        load(MINIMAL.replace(old, new), tmp_path)


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(BadFile, match=r"There is no file .*none\.toml"):
        load_circuit(tmp_path / "none.toml")


# Comparison


def test_a_comparison_worked_by_hand(toy: Circuit):
    found = {
        "IO": nodes("1.0.z@END", "0.2.z@END", "1.resid_pre@END"),
        "S": nodes("0.0.z@END", "1.1.q@END", "1.0.q@END", "1.mlp_in@END", "0.mlp_out@S2"),
    }
    # 1.2 has no score and counts as 0. Members against the others .5 .3 0: .3 wins 1.5 of 3, .9
    # wins 3, .1 wins 1.
    scores = {"0.0": 0.3, "1.0": 0.9, "1.1": 0.1, "0.2": 0.5, "0.1": 0.3}
    comparison = compare(toy, found, scores)
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
    comparison = compare(published("ioi"), nodes("0.mlp_out@END", "9.9.z@END"), {"9.9": 1.0})
    assert comparison.mlps is None
    assert comparison.extras == ()
    assert comparison.heads[:2] == (1.0, 1 / 26)


def test_a_perfect_discovery_of_ioi_scores_1_and_the_whole_model_only_its_share():
    circuit = published("ioi")
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


# The induction detector


def test_the_induction_score_is_attention_to_what_followed_last_time():
    # A B A B: the second A reads the first B, the second B reads the second A.
    pattern = np.zeros((1, 4, 4))
    pattern[0, 2, 1], pattern[0, 3, 2], pattern[0, 1, 0] = 0.6, 0.2, 1.0
    assert induction_scores({"1.0": pattern}, period=2) == pytest.approx({"1.0": 0.4})
    assert induction_scores({"1.0": torch.tensor(pattern)}, period=2) == pytest.approx({"1.0": 0.4})


@pytest.mark.parametrize("start", [0, 1])
def test_the_induction_score_equals_a_loop_over_the_repeated_tokens(start: int):
    rng = np.random.default_rng(start)
    period, length = 5, start + 13
    pattern = rng.random((3, length, length))
    slow = np.mean(
        [
            pattern[prompt, i, i - period + 1]
            for prompt in range(3)
            for i in range(start + period, length)
        ]
    )
    assert induction_scores({"0.0": pattern}, period=period, start=start) == pytest.approx(
        {"0.0": slow}
    )


@pytest.mark.parametrize(("period", "length"), [(1, 8), (4, 4), (9, 4)])
def test_without_a_repetition_there_is_no_induction_score(period: int, length: int):
    with pytest.raises(SageError, match=r"No induction score for head 2\.1"):
        induction_scores({"2.1": np.zeros((1, length, length))}, period=period)


def test_the_detected_circuit_has_the_heads_above_the_threshold_of_any_model():
    circuit = detected_circuit({"1.10": 0.5, "0.0": 0.1, "1.2": 0.8}, 0.5, model="tiny-gpt2")
    assert (circuit.task, circuit.model, circuit.heads_total) == ("induction", "tiny-gpt2", 3)
    assert circuit.heads == {"1.2": ("induction",), "1.10": ("induction",)}
    assert compare(circuit, nodes("1.2.z@END"), {}).heads[:2] == (1.0, 0.5)
    with pytest.raises(
        SageError,
        match=r"No head of tiny-gpt2 has an induction score of 0\.9 or more; the largest of 2 is 0\.8",
    ):
        detected_circuit({"0.0": 0.1, "1.2": 0.8}, 0.9, model="tiny-gpt2")
