"""Components between floor and ceiling, and their means, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sage.scores.summary import COMPONENTS, best_floor, between, summarise
from sage.stats import Sampled


def number(value: float, *draws: float) -> Sampled:
    return Sampled(value, np.array(draws or (value, value)), 30)


def test_a_component_is_its_share_of_the_way_from_floor_to_ceiling_draw_by_draw() -> None:
    found = between(
        number(0.5, 0.4, 0.7), floor=number(0.1, 0.0, 0.2), ceiling=number(0.9, 0.8, 1.2)
    )
    assert found.status == "ok"
    assert found.normalised is not None
    assert found.normalised.value == pytest.approx(0.5)
    np.testing.assert_allclose(found.normalised.draws, [0.5, 0.5])
    over = between(number(1.1), floor=number(0.0), ceiling=number(1.0)).normalised
    assert over is not None
    assert over.value == pytest.approx(1.1), "clipped only after the mean over contrasts"


def test_without_a_range_of_a_tenth_there_is_no_component() -> None:
    found = between(number(0.5), floor=number(0.45), ceiling=number(0.54))
    assert found.normalised is None
    assert found.status == "undefined: ceiling 0.54 less floor 0.45 is under 0.1"
    assert between(number(0.5), floor=number(0.4), ceiling=number(float("nan"))).normalised is None


def test_what_is_missing_is_said() -> None:
    one = number(1.0)
    assert between(None, floor=one, ceiling=one).status == "undefined: the score was not measured"
    assert between(one, floor=None, ceiling=one).status == "undefined: a floor was not measured"
    assert between(one, floor=one, ceiling=None).status == "undefined: a ceiling was not measured"
    assert (
        between(number(float("nan")), floor=number(0.0), ceiling=one).status
        == "undefined: the raw score is"
    )
    assert (
        between(one, floor=number(0.0), ceiling=one, missing="no effect").status
        == "undefined: no effect"
    )


def test_the_floor_is_the_best_control_on_fit_that_may_be_one() -> None:
    scores = {"mean only": 0.0, "random": 0.1, "permuted": 0.3, "untrained": 0.2, "PCA": 0.9}
    assert best_floor("T1", scores) == "permuted"
    assert best_floor("T2", {**scores, "permuted": float("nan")}) == "untrained"
    assert best_floor("T2", {"mean only": 0.0, "random": 0.0}) == "mean only"
    assert best_floor("T3", {"untrained": 0.2, "random": 0.9, "permuted": 0.9}) == "untrained"
    assert best_floor("T4", {"untrained": -0.1}) == "zero"


def test_components_are_averaged_over_the_contrasts_that_have_them_and_then_clipped() -> None:
    """T1: (.9 + 1.3)/2 = 1.1, clipped to 1; T2 of one contrast -.2, clipped to 0; T3 .5; T4 (.2 +
    .4)/2. sage = 1.8/4."""
    first = {"T1": number(0.9), "T2": number(-0.2), "T3": number(0.5), "T4": number(0.2)}
    found = summarise(
        {"IO": first, "S": {"T1": number(1.3), "T3": number(0.5), "T4": number(0.4)}, "order": {}}
    )
    assert {
        name: value and value.value for name, value in found.components.items()
    } == pytest.approx({"T1": 1, "T2": 0, "T3": 0.5, "T4": 0.3})
    assert found.contrasts == {"T1": 2, "T2": 1, "T3": 2, "T4": 2}
    assert found.sage is not None
    assert found.sage.value == pytest.approx(0.45)


def test_every_draw_is_clipped_too() -> None:
    found = summarise({"IO": dict.fromkeys(COMPONENTS, number(0.9, 0.7, 1.4))})
    assert found.sage is not None
    np.testing.assert_allclose(found.sage.draws, [0.7, 1.0])


def test_sage_is_undefined_where_a_component_is_missing_everywhere() -> None:
    found = summarise({"IO": {"T1": number(0.9), "T3": number(0.5), "T4": number(0.2)}})
    assert found.components["T2"] is None
    assert found.contrasts["T2"] == 0
    assert found.sage is None
