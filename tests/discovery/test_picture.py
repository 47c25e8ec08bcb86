"""The picture and the JSON form of a discovery."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from sage.discovery import Cost, Curve, Discovery, Finding, NodeEffect, Validation, draw
from sage.errors import BadFile, UnknownName
from sage.nodes import Node, parse_node

VALIDATION = Validation(
    patched=2,
    spearman=0.9,
    pearson=0.8,
    top=1,
    top_overlap=1.0,
    section_effect=3.0,
    random_effects=(0.1, 0.0),
    jaccard=1.0,
    jaccard_sd=0.0,
    resamples=50,
    curve=Curve(((0.5, 0.75), (1.0, 1.0)), 0.6, 0.01, 0.4, 0.01, 20),
    notes=("a note",),
)


def evidence(layers: int, heads: int) -> tuple[NodeEffect, ...]:
    """Every q k v z and mlp_in at three positions; a few nodes are large and kept, half of the
    others were not patched."""
    rng = random.Random(0)
    found: list[NodeEffect] = []
    for position in ("S1", "S2", "END"):
        for layer in range(layers):
            nodes = [
                Node(kind, layer, head, position) for kind in "qkvz" for head in range(heads)
            ] + [Node("mlp_in", layer, None, position)]
            for node in nodes:
                large = rng.random() < 0.03
                value = rng.uniform(1, 4) if large else rng.uniform(0, 0.15)
                patched = (
                    (value, value, 0.01, large)
                    if large or rng.random() < 0.5
                    else (None, None, None, False)
                )
                found.append(NodeEffect(node, value, value, *patched))
    return tuple(found)


def discovery(layers: int = 3, heads: int = 2) -> Discovery:
    def finding(contrast: str) -> Finding:
        sizes = {0.005: 9, 0.01: 8, 0.02: 7, 0.05: 3, 0.1: 1}
        shown = (NodeEffect(Node("resid_pre", 1, None, "END"), 0.3, 0.2, -0.2, 0.2, 0.01),)
        positions = ("S1", "S2", "END")
        cost = Cost(1.5, 120.0)
        return Finding(
            contrast,
            20,
            1,
            2,
            positions,
            5.0,
            0.05,
            20,
            evidence(layers, heads),
            shown,
            sizes,
            VALIDATION,
            cost,
        )

    return Discovery(
        "ioi",
        "tiny",
        ("S1", "S2", "END"),
        "attribution patching",
        True,
        0.02,
        0,
        {name: finding(name) for name in ("IO", "order")},
    )


def test_a_discovery_comes_back_equal_from_its_json() -> None:
    found = discovery()
    assert Discovery.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_json_that_is_no_discovery_is_refused_by_field() -> None:
    data = discovery().to_dict()
    del data["findings"]["IO"]["baseline"]
    with pytest.raises(BadFile, match=r"findings\.IO\.baseline"):
        Discovery.from_dict(data)
    with pytest.raises(BadFile, match="schema"):
        Discovery.from_dict({"task": "ioi"})


def test_the_section_holds_the_kept_nodes_and_rows_hold_all() -> None:
    found = discovery()
    kept = {one.node for one in found.findings["IO"].evidence if one.kept}
    assert set(found.sections["IO"].nodes) == kept
    assert {
        parse_node(row.node) for row in found.rows() if row.kept and row.contrast == "IO"
    } == kept
    assert len(found.rows()) == 2 * len(evidence(3, 2))
    assert [row["node"] for row in found.nodes("IO")] == [
        str(one.node) for one in found.findings["IO"].evidence if one.kept
    ]
    with pytest.raises(UnknownName, match="Did you mean 'order'"):
        found.nodes("orders")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_is_drawn_whatever_was_found(tmp_path: Path, ending: str) -> None:
    found = discovery()
    empty = Finding(
        "S",
        20,
        0,
        1,
        ("END",),
        5.0,
        None,
        0,
        (NodeEffect(Node("z", 0, 0, "END"), 0.0, 0.0),),
        (),
        {},
        VALIDATION,
        Cost(1.0, 1.0),
    )
    path = draw(
        Discovery("ioi", "tiny", ("END",), "exact", False, 0.02, 0, {**found.findings, "S": empty}),
        tmp_path / f"found.{ending}",
    )
    assert path.stat().st_size > 10_000
