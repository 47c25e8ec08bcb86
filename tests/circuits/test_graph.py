"""Circuits as graphs and as pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sage.circuits.catalog import load_circuit
from sage.circuits.circuit import Circuit, Group, forward_order
from sage.circuits.drawing import draw_circuit
from sage.circuits.graph import circuit_graph, write_graphml
from sage.errors import Unsupported


def test_the_graph_has_the_flow_the_paper_describes():
    graph = circuit_graph(load_circuit("ioi"))
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
    graph = circuit_graph(load_circuit("greater_than"))
    assert graph.has_edge("9.1", "9.mlp")
    assert graph.has_edge("8.mlp", "9.mlp")
    assert graph.has_edge("0.1", "0.mlp")
    assert not graph.has_edge("9.1", "8.mlp")
    assert not graph.has_edge("0.3", "0.mlp")
    assert all(
        forward_order(source)[:2] < forward_order(target)[:2] for source, target in graph.edges
    )


def test_heads_of_one_layer_feed_each_other_neither_way():
    groups = (Group("early", ("1.0", "0.0"), feeds=("late",)), Group("late", ("1.1",), mlps=(1,)))
    circuit = Circuit("toy", "toy", "tiny", "Nobody 2020", "Table 1", 4, groups)
    assert set(circuit_graph(circuit).edges) == {
        ("0.0", "1.1"),
        ("0.0", "1.mlp"),
        ("1.0", "1.mlp"),
    }


@pytest.mark.parametrize("name", ["ioi", "greater_than", "copy_suppression"])
def test_graphml_is_read_back_equal(name: str, tmp_path: Path):
    import networkx as nx

    graph = circuit_graph(load_circuit(name))
    write_graphml(load_circuit(name), tmp_path / "circuit.graphml")
    again = nx.read_graphml(tmp_path / "circuit.graphml")
    assert again.is_directed()
    assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
    assert set(again.edges) == set(graph.edges)
    assert {key: again.graph[key] for key in graph.graph} == graph.graph


@pytest.mark.parametrize("name", ["ioi", "greater_than", "sentiment"])
def test_a_picture_is_a_png_with_something_on_it(name: str, tmp_path: Path):
    from matplotlib.image import imread

    draw_circuit(load_circuit(name), tmp_path / "circuit.png")
    assert (tmp_path / "circuit.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    picture = imread(tmp_path / "circuit.png")
    assert min(picture.shape[:2]) > 500
    assert 0.002 < (picture[..., :3].min(-1) < 0.7).mean() < 0.2


def svg(name: str, folder: Path) -> str:
    draw_circuit(load_circuit(name), folder / f"{name}.svg")
    return (folder / f"{name}.svg").read_text(encoding="utf-8")


def svg_texts(name: str, folder: Path) -> list[str]:
    """What is written in the picture of a circuit; matplotlib notes it in comments."""
    return re.findall(r"<!-- (.*?) -->", svg(name, folder))


def test_a_picture_names_positions_from_early_to_late_and_the_roles_at_each(tmp_path: Path):
    texts = svg_texts("ioi", tmp_path)
    bands = texts.index("@S1+1")
    assert texts[bands : bands + 3] == ["@S1+1", "@S2", "@END"]
    assert " ".join(texts[bands + 3 :]).startswith(
        "previous token duplicate token induction S-inhibition name mover backup name mover "
        "negative name mover The circuit ioi in gpt2-small"
    )


@pytest.mark.parametrize("name", ["ioi", "greater_than", "acronym"])
def test_disputed_members_are_dashed_and_they_alone(name: str, tmp_path: Path):
    assert svg(name, tmp_path).count("stroke-dasharray") == len(load_circuit(name).disputed)


def test_a_picture_explains_disputed_members_only_where_there_are_any(tmp_path: Path):
    legend = "dashed and hatched: not in every published list"
    assert legend in svg_texts("ioi", tmp_path)
    assert legend not in svg_texts("acronym", tmp_path)


def test_a_picture_is_not_written_in_a_format_that_is_unknown(tmp_path: Path):
    with pytest.raises(Unsupported, match=r"circuit\.doc.*\.png, \.svg or \.pdf"):
        draw_circuit(load_circuit("acronym"), tmp_path / "circuit.doc")
