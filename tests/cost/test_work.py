"""Work counted by hand on a tiny example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage.cost import work
from sage.cost.sizes import ContrastSize, ModelSize, PromptSizes, Shape, Sizes, SuiteSize
from sage.run import Plan

PLAN = Plan(
    controls=("random", "text lookup", "PCA"), thorough=False, copying=(1, 4), unbounded=False,
    apart=False,
)  # fmt: skip
# Two layers of ten tokens: a prompt is 20 token-layers.
SIZES = Sizes(
    ModelSize(layers=2, d_model=8, d_head=4, tokens=10.0, lengths=3),
    {"IO": ContrastSize(discover=5, decide=10, test=30, candidates=50)},
    PromptSizes(fit=100, detect=7, null=4, drawn=500),
    PLAN,
)
SHAPE = Shape(nodes=6.0, sites=4.0, encoded=12.0, cone=0.5)
SUITE = SuiteSize(width=64, hooks=2)
NOWHERE = Shape(0.0, 0.0, 0.0, 0.0)


def test_prompts_the_gate_and_what_is_read_count_prompts_times_tokens_times_layers() -> None:
    assert work.prompts_work(SIZES) == {"prompts.prompt": 500}
    assert work.gate_work(SIZES) == {"gate.run": 100 * 20}
    assert work.pairs_work(SIZES, "IO", SHAPE) == {"pairs.run": 2 * (10 + 30) * 20}
    assert work.text_work(SIZES, tokens=1000) == {"text.run": 2000}


def test_discovery_counts_its_pairs_with_every_node_patched() -> None:
    """40 of each ranking are patched first, 50 nodes at most, on 5 pairs and 4 irrelevant ones; in
    calls of 32 sets, for each of three lengths and two layers."""
    assert work.attribution_work(SIZES, ["IO"]) == {
        "attribution.clean": 5 * 20,
        "attribution.run": 5 * 20,
        "attribution.candidate": 50,
    }
    assert work.patching_work(SIZES, "IO") == {
        "patching.run": 50 * 9 * 20,
        "patching.call": 2 * 50 / 32 * 3 * 2,
        "patching.node": 50,
    }
    assert work.validation_work(SIZES, "IO", SHAPE) == {
        "validation.run": 29 * 5 * 20,
        "validation.contrast": 1,
    }
    assert work.validation_work(SIZES, "IO", NOWHERE) == {}


def test_features_count_nodes_and_the_prompts_read() -> None:
    assert work.features_work(SIZES, {"IO": SHAPE, "S": SHAPE}) == {
        "features.run": (100 + 7 + 2 * 4) * 20,
        "features.node": 12,
        "features.number": 12 * 100 * 4,
    }


def test_dictionaries_count_as_far_as_they_are_measured_in_full() -> None:
    """The suite, the supervised features and shuffled labels, the lookup and the best control in
    full, one more control as .3; of a second suite neither the features nor the lookup."""
    assert work.dictionaries_in_full(PLAN) == pytest.approx(5.3)
    assert work.dictionaries_in_full(PLAN, first=False) == pytest.approx(3.3)
    assert work.dictionaries_in_full(replace(PLAN, thorough=True)) == 6
    assert work.dictionaries_in_full(replace(PLAN, controls=())) == 3
    assert work.dictionaries_in_full(replace(PLAN, apart=True)) == pytest.approx(5.3 + 4.3)


def test_a_suite_counts_its_edits_sites_nodes_and_tokens() -> None:
    """40 pairs in all. Of each dictionary 16 edits and 2 reconstructions of all pairs, and 2 copies
    of the 30 test pairs; 5.3 of them. Its SAEs and one control's encode 12 tokens a prompt."""
    counted = work.suite_work(SIZES, "IO", SHAPE, SUITE)
    assert counted == {
        "suite.weight": 2 * 64 * 8,
        "suite.run": pytest.approx(5.3 * (18 + 2 * 30 / 40) * 40 * 20 * 0.5),
        "suite.call": pytest.approx(2 * 5.3 * 3 * 2),
        "suite.dictionary": pytest.approx(5.3),
        "suite.node": pytest.approx(5.3 * 6),
        "suite.site": pytest.approx(5.3 * 4),
        "suite.label": pytest.approx(5.3 * 6 * (100 + 40)),
        "suite.choice": pytest.approx(5.3 * 4 * 40 * 64),
        "suite.encoded": 2 * 12 * (100 + 80 + 7) * 64 * 8,
        "suite.contrast": 1,
    }
    assert work.suite_work(SIZES, "IO", NOWHERE, SUITE) == {"suite.weight": 2 * 64 * 8}


def test_screening_runs_no_model() -> None:
    counted = work.screen_work(SIZES, "IO", SHAPE, SUITE)
    assert counted["suite.choice"] == 4 * 30 * 64
    assert not [term for term in counted if term.endswith((".run", ".call"))]
    assert work.screen_work(SIZES, "IO", NOWHERE, SUITE) == {}


def test_a_result_encodes_prompts_of_fit_once_with_every_sae() -> None:
    weights = 2 * 64 * 8 + 1 * 16 * 8
    assert work.result_work(SIZES, [SUITE, SuiteSize(16, 1)]) == {
        "result.encoded": 100 * 10 * weights,
        "result.weight": weights,
        "result.cell": 1,
    }
