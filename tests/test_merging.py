"""Results that come together: nothing is replaced, and what is of another cell is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sage.errors import SageError
from sage.merging import can_merge, difference_ahead, merge, total_stages, without
from sage.result import (
    FeatureInfo,
    Gate,
    ModelInfo,
    NodeRow,
    Result,
    SectionInfo,
    StageInfo,
    TaskInfo,
)
from sage.run import make_plan
from small_results import RUN, result, row


def test_suites_are_added_one_after_another_and_those_that_stand_are_left_alone() -> None:
    first, second = result("a", "b"), result("b", "c", value=0.9)
    merged = merge([first, second])
    assert [suite.id for suite in merged.suites] == ["a", "b", "c"]
    assert merged.rows == [row("a", 0.5), row("b", 0.5), row("c", 0.9)]
    assert merged.notes == ["plan quick", "note of a", "note of b", "note of c"]


def test_one_result_is_itself() -> None:
    assert merge([result("a")]) == result("a")


def test_time_adds_up_and_the_start_is_the_first() -> None:
    later = replace(RUN, started="later", seconds=5.0, forwards=1.0, batch_size=7)
    merged = merge([result("a"), result("b", run=later)]).run
    assert (merged.started, merged.seconds, merged.forwards) == ("first", 15.0, 5.0)
    assert merged.stages == [StageInfo("scores", 18.0, 8.0)]


def test_features_of_a_run_that_has_none_come_from_the_other() -> None:
    feature = FeatureInfo("IO", "3.1.z@END", "IO", 2, 0.5, 0.1, "additive")
    merged = merge([result("a"), result("b", features=[feature])])
    assert merged.features == [feature]


def test_a_score_that_one_of_them_lacks_keeps_no_results_apart() -> None:
    more = {**RUN.scores, "another": 1}
    assert can_merge(result("a"), result("b", run=replace(RUN, scores=more)))


OTHER: list[tuple[dict[str, Any], str]] = [
    ({"task": TaskInfo("ioi", "by hand", "ff")}, "task"),
    ({"model": ModelInfo("tiny", "ffff", "nnsight", "float32", 64)}, "model"),
    ({"gate": Gate(0.8, 3.0, 500, 0.75, True)}, "gate"),
    ({"sections": []}, "sections"),
    ({"schema": 1}, "schema"),
    ({"run": replace(RUN, seed=1)}, "run's seed"),
    ({"run": replace(RUN, sage="0.2.0")}, "run's sage"),
    ({"run": replace(RUN, device="cuda")}, "run's device"),
    ({"run": replace(RUN, prompts={"test": 60})}, "run's prompts"),
    ({"run": replace(RUN, libraries={"torch": "2.1"})}, "run's libraries"),
    ({"run": replace(RUN, scores={})}, "version of the scores"),
    ({"run": replace(RUN, scores={**RUN.scores, "move": 1})}, "version of the scores"),
    ({"run": replace(RUN, plan=make_plan("quick", pairs=60).facts)}, "run's plan"),
]


@pytest.mark.parametrize(("changes", "name"), OTHER)
def test_results_of_different_cells_are_refused_and_what_differs_is_named(
    changes: dict[str, Any], name: str
) -> None:
    first, second = result("a"), result("b", **changes)
    assert not can_merge(first, second)
    with pytest.raises(SageError, match=f"their {name} differ"):
        merge([first, second])


def rounded(share: float) -> Result:
    """A result whose measured numbers are larger by a share of themselves."""
    plain = result("b")
    section = SectionInfo("IO", "IO", ["3.1.z@END"], 2.0 * (1 + share))
    row = NodeRow("IO", "3.1.z@END", 0.5 * (1 + share), 0.5, 0.25, 0.0, kept=True)
    gate = replace(plain.gate, mean_logit_difference=3.0 * (1 + share))
    return replace(plain, sections=[section], discovery=[row], gate=gate)


def test_results_whose_numbers_differ_by_rounding_alone_come_together() -> None:
    first = replace(rounded(0.0), suites=result("a").suites, rows=result("a").rows)
    merged = merge([first, rounded(3e-7)])
    assert [suite.id for suite in merged.suites] == ["a", "b"]
    assert merged.sections == first.sections
    assert not can_merge(first, rounded(3e-4))


def test_results_with_other_nodes_stay_apart_however_near_their_numbers_are() -> None:
    other = replace(rounded(0.0), sections=[SectionInfo("IO", "IO", ["3.2.z@END"], 2.0)])
    assert not can_merge(rounded(0.0), other)
    other = replace(rounded(0.0), discovery=[replace(rounded(0.0).discovery[0], kept=False)])
    assert not can_merge(rounded(0.0), other)


def test_another_suite_of_the_same_name_is_refused() -> None:
    other = result("a")
    other = replace(other, suites=[replace(other.suites[0], digest="other")])
    with pytest.raises(SageError, match="Two suites of different weights are called 'a'"):
        merge([result("a", "b"), other])


def test_what_will_differ_is_seen_before_anything_is_run() -> None:
    """All but what is known after the run alone: the prompts."""
    plain = replace(RUN, prompts={}, started="", seconds=0.0, forwards=0.0, stages=[])
    first = result("a")
    assert difference_ahead(first, first.model, plain) is None
    other = replace(first.model, revision="ffff")
    assert difference_ahead(first, other, plain) == "model"
    assert difference_ahead(first, first.model, replace(plain, seed=1)) == "run's seed"


def test_without_a_suite_there_are_no_rows_of_it() -> None:
    assert without(result("a", "b"), ["a"]) == replace(result("b"), notes=result("a", "b").notes)


def test_stages_add_up_over_runs_in_the_order_they_are_met() -> None:
    first = replace(RUN, stages=[StageInfo("gate", 1.0, 2.0), StageInfo("scores", 5.0, 7.0)])
    second = replace(RUN, stages=[StageInfo("scores", 0.5, 1.0), StageInfo("features", 3.0, 0.0)])
    assert total_stages([first, second]) == [
        StageInfo("gate", 1.0, 2.0),
        StageInfo("scores", 5.5, 8.0),
        StageInfo("features", 3.0, 0.0),
    ]
