"""The picture and the JSON form of a discovery."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sage.discovery import EXACT, Discovery, Finding, NodeEffect, draw
from sage.errors import BadFile, UnknownName
from sage.nodes import Node, parse_node
from tests.discovery import made
from tests.discovery.made import evidence, finding


@pytest.fixture
def discovery() -> Discovery:
    return made.discovery([finding("IO"), finding("order")])


# Data


def test_a_discovery_comes_back_equal_from_its_json(discovery: Discovery) -> None:
    assert Discovery.from_dict(json.loads(json.dumps(discovery.to_dict()))) == discovery


def test_json_that_is_no_discovery_is_refused_by_field(discovery: Discovery) -> None:
    data = discovery.to_dict()
    del data["findings"]["IO"]["baseline"]
    with pytest.raises(BadFile, match=r"findings\.IO\.baseline"):
        Discovery.from_dict(data)
    with pytest.raises(BadFile, match="schema"):
        Discovery.from_dict({"task": "ioi"})


def test_the_section_holds_the_kept_nodes_with_their_exact_statistics(discovery: Discovery) -> None:
    kept = {effect.node: effect.statistic for effect in evidence(3, 2) if effect.kept}
    assert len(kept) > 0
    assert discovery.sections["IO"].statistic == kept
    assert {parse_node(str(row["node"])): row["statistic"] for row in discovery.nodes("IO")} == kept
    assert discovery.summary()[0]["nodes"] == len(kept)


def test_a_node_that_was_not_patched_counts_by_its_attribution(discovery: Discovery) -> None:
    effects = {effect.node: effect for effect in evidence(3, 2)}
    statistics = discovery.findings["IO"].statistics
    assert set(statistics) == set(effects)
    for node, effect in effects.items():
        expected = effect.attribution_statistic if effect.statistic is None else effect.statistic
        assert statistics[node] == expected


def test_a_contrast_that_was_not_looked_for_is_refused_by_name(discovery: Discovery) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'order'"):
        discovery.nodes("orders")


# Picture


def empty(contrast: str) -> Finding:
    """One candidate that does nothing and was not patched; no null."""
    nothing = (NodeEffect(Node("z", 0, 0, "END"), 0.0, 0.0),)
    return replace(
        finding(contrast), null=None, positions=("END",), evidence=nothing, shown=(), sizes={}
    )


def svg_texts(discovery: Discovery, folder: Path) -> list[str]:
    """What is written in the picture; matplotlib notes it in comments."""
    path = draw(discovery, folder / "discovery.svg")
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_the_picture_shows_the_panels_in_which_a_node_reaches_tau(
    tau: float, discovery: Discovery, tmp_path: Path
) -> None:
    effects = (*discovery.findings["IO"].evidence, *discovery.findings["IO"].shown)
    large = [effect.node for effect in effects if (effect.statistic or 0) >= tau * 5]
    titles = {f"{node.kind} @ {node.position}" for node in large}
    assert 0 < len(titles) < 16
    only = replace(discovery, tau=tau, findings={"IO": discovery.findings["IO"]})
    texts = svg_texts(only, tmp_path)
    assert sorted(text for text in texts if " @ " in text) == sorted(titles)
    count = sum(effect.kept for effect in effects)
    assert f"IO   n = 20 pairs · E|m| = 5 · null 1.0% of E|m| · {count} nodes" in texts


def test_the_picture_says_where_nothing_reaches_tau(discovery: Discovery, tmp_path: Path) -> None:
    texts = svg_texts(replace(discovery, findings={"S": empty("S")}), tmp_path)
    assert "S   n = 20 pairs · E|m| = 5 · no null · 0 nodes" in texts
    assert "No node reaches tau." in texts
    assert not any(" @ " in text for text in texts)


def test_the_picture_says_how_nodes_were_ranked(discovery: Discovery, tmp_path: Path) -> None:
    without_fix = replace(discovery, qk_fix=False)
    exact = replace(discovery, method=EXACT)
    captions = {
        "ranked by attribution patching with the QK fix, tau = 0.02": discovery,
        "ranked by attribution patching, tau = 0.02": without_fix,
        "every candidate patched, tau = 0.02": exact,
    }
    for ending, drawn in captions.items():
        assert any(text.endswith(ending) for text in svg_texts(drawn, tmp_path))


def test_a_png_has_cells_outlines_and_grey_squares(discovery: Discovery, tmp_path: Path) -> None:
    outline, unpatched = (0x00, 0x90, 0xD8), (0xE6, 0xE9, 0xEC)
    colours = png_colours(discovery, tmp_path)
    assert {outline, unpatched} <= colours
    assert len(colours) > 100
    large = tuple(replace(effect, statistic=1.0, kept=False) for effect in evidence(3, 2))
    without_section = replace(finding("IO"), evidence=large, shown=())
    colours = png_colours(replace(discovery, findings={"IO": without_section}), tmp_path)
    assert not {outline, unpatched} & colours


def png_colours(discovery: Discovery, folder: Path) -> set[tuple[int, ...]]:
    from matplotlib.image import imread

    path = draw(discovery, folder / "discovery.png")
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))
