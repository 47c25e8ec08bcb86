"""An estimate: work priced stage by stage, without what is kept, a range before discovery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage.cost import work
from sage.cost.estimate import SHARED, CellWork, coefficients, estimate, price, units
from sage.cost.machine import Prices
from sage.cost.sizes import (
    SECTION_NODES,
    ContrastSize,
    ModelSize,
    PromptSizes,
    SectionShapes,
    Shape,
    Sizes,
    SuiteSize,
    guessed_shapes,
    suite_at,
)
from sage.models.load import load_model
from sage.nodes import Node
from sage.run import make_plan

PRICES = Prices(token_layer=1e-6, layer_call=1e-4, step=1e-3, number=1e-9, flop=1e-11)
CONTRAST = ContrastSize(50, 50, 50, 200)
SIZES = Sizes(
    ModelSize(layers=4, d_model=64, d_head=16, tokens=10.0),
    {"IO": CONTRAST, "order": CONTRAST},
    PromptSizes(400, 0, 50, 1000),
    make_plan("quick"),
)
CELL = CellWork(SIZES, [SuiteSize(256, 4)], ["topk4"], text_tokens=1000)


def test_every_term_has_a_coefficient_in_a_unit_that_machines_have_a_price_for() -> None:
    counted = work.total(list(units(CELL).values()))
    assert set(counted) == set(coefficients())
    assert {unit for unit, _ in coefficients().values()} <= set(Prices._fields)


def test_a_term_takes_its_coefficient_times_the_price_of_its_unit() -> None:
    unit, coefficient = coefficients()["gate.run"]
    assert unit == "token_layer"
    assert price({"gate.run": 2e6}, PRICES) == pytest.approx(2 * coefficient)
    assert price({}, PRICES) == 0.0


def test_stages_are_those_of_a_run() -> None:
    assert {path[:2] for path in estimate(CELL, PRICES).stages} == {
        ("prompts",),
        ("gate",),
        ("discovery", "attribution"),
        ("discovery", "IO"),
        ("discovery", "order"),
        ("features",),
        ("scores", "text"),
        *(("scores", f"{name}: pairs") for name in SIZES.contrasts),
        *(("scores", f"{name}, topk4") for name in SIZES.contrasts),
        ("result",),
    }
    screened = estimate(replace(CELL, screens=True), PRICES)
    assert ("screen", "IO, topk4") in screened.stages
    assert ("gate",) not in screened.stages
    assert screened.seconds < estimate(CELL, PRICES).seconds


def test_what_is_kept_takes_no_time() -> None:
    kept = replace(CELL, kept=(("gate",), ("discovery",), ("scores", "IO, topk4")))
    stages = estimate(kept, PRICES).stages
    assert not [path for path in stages if path[0] in ("gate", "discovery")]
    assert ("scores", "IO, topk4") not in stages
    assert ("scores", "order, topk4") in stages


def test_a_second_suite_takes_less_and_so_does_the_first_where_an_earlier_run_kept_it() -> None:
    two = replace(CELL, suites=CELL.suites * 2, names=["first", "second"])
    stages = estimate(two, PRICES).stages
    first, second = (stages["scores", f"IO, {name}"] for name in two.names)
    assert second < first
    warm = estimate(replace(two, kept=(SHARED,)), PRICES).stages
    assert warm["scores", "IO, first"] == warm["scores", "IO, second"] == second


def test_a_range_is_given_until_it_is_known_where_contrasts_live() -> None:
    before = estimate(CELL, PRICES)
    assert before.low < before.seconds < before.high
    most = SECTION_NODES[2]
    shapes = {
        name: guessed_shapes(SIZES, name, CELL.suites, nodes=most) for name in SIZES.contrasts
    }
    after = estimate(replace(CELL, shapes=shapes), PRICES)
    assert after.seconds == after.low == after.high == pytest.approx(before.high)


def test_a_suite_is_thought_to_reach_the_root_of_its_share() -> None:
    """.48 times 200 to the power .55 = e^(.55 x 5.29832) = e^2.91407 = 18.4318 are 8.847 nodes; a
    quarter of all candidates read an SAE, so that half of these do."""
    shapes = guessed_shapes(SIZES, "IO", [SuiteSize(256, 1, share=0.25)])
    assert shapes.whole.nodes == pytest.approx(8.847, abs=1e-3)
    assert shapes.reached[0].nodes == pytest.approx(4.424, abs=1e-3)


def test_the_share_of_a_suite_counts_the_nodes_that_read_its_streams() -> None:
    """tiny-gpt2 reads 16 nodes at each of four attention inputs and one at each MLP's."""
    anatomy = load_model("tiny-gpt2", device="cpu").anatomy
    hooks = [Node("resid_pre", 0), Node("resid_mid", 2)]
    assert suite_at(hooks, anatomy, width=8) == SuiteSize(8, 2, 17 / 68)


def test_a_contrast_that_lives_nowhere_takes_next_to_nothing() -> None:
    nowhere = Shape(0.0, 0.0, 0.0, 0.0)
    shapes = {
        "IO": guessed_shapes(SIZES, "IO", CELL.suites),
        "order": SectionShapes(nowhere, (nowhere,)),
    }
    stages = estimate(replace(CELL, shapes=shapes), PRICES).stages
    assert stages["scores", "order: pairs"] == 0
    assert stages["scores", "order, topk4"] < 0.01 * stages["scores", "IO, topk4"]
