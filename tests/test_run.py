"""Plans: what each measures and saves on, what a changed one is called; stages are timed."""

from __future__ import annotations

import json

import pytest

from sage.dictionaries.controls import control_names
from sage.dictionaries.options import NAMED_OPTIONS
from sage.errors import SageError, UnknownName
from sage.run import EVERY_CONTROL, PLANS, Plan, make_plan
from sage.scores.node_set import Settings


def test_plans_go_by_their_names() -> None:
    for name, plan in PLANS.items():
        assert make_plan(name) is plan
        assert plan.name == name
    assert make_plan() is PLANS["standard"]


def test_the_standard_plan_is_that_of_the_method() -> None:
    plan = make_plan()
    assert (plan.pairs, plan.discover, plan.decide, plan.fit, plan.detect) == (
        500, 200, 200, None, 2000,
    )  # fmt: skip
    assert plan.savings() == []
    assert make_plan("full").savings() == []


def test_every_control_that_a_plan_names_exists_and_so_does_every_option() -> None:
    for plan in PLANS.values():
        assert set(plan.controls) <= set(control_names())
        assert set(plan.also) <= set(NAMED_OPTIONS)
    assert set(EVERY_CONTROL) == set(PLANS["standard"].controls)


def test_the_quick_plan_says_what_it_saves_on() -> None:
    assert make_plan("quick").savings() == [
        "pairs 50 instead of 500",
        "discover 50 instead of 200",
        "decide 50 instead of 200",
        "detect 0 instead of 2000",
        "fitted on 400 prompts instead of 2000 or more",
        "controls have T2 alone, but for lookup tables and the control best at T2",
        "no neurons, identity",
    ]
    assert make_plan(fit=2500, pairs=600).savings() == []


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"pairs": 100}, "standard-pairs-100"),
        ({"seed": 7}, "standard"),
        ({"seed": 7, "pairs": 100, "groups": True}, "standard-pairs-100-groups-True"),
        ({"also": ("per-node", "oracle")}, "standard-also-per-node+oracle"),
        ({"controls": ()}, "standard-controls-none"),
        ({"pairs": 500, "seed": 0}, "standard"),
    ],
)
def test_a_changed_plan_goes_by_a_name_of_its_own(changes: dict[str, object], name: str) -> None:
    """The seed stands beside the name."""
    plan = make_plan(**changes)
    assert plan.name == name
    for key, value in changes.items():
        assert getattr(plan, key) == value


def test_an_unknown_plan_or_setting_is_refused_with_what_there_is() -> None:
    with pytest.raises(UnknownName, match=r"'fast'.*quick"):
        make_plan("fast")
    with pytest.raises(UnknownName, match=r"'prompts'.*pairs"):
        make_plan(prompts=30)


@pytest.mark.parametrize("setting", ["pairs", "discover", "decide"])
def test_a_plan_needs_pairs_of_every_kind(setting: str) -> None:
    with pytest.raises(SageError, match="at least one pair"):
        make_plan(**{setting: 0})


def test_the_facts_of_a_plan_are_all_its_settings_as_json_holds_them() -> None:
    plan = make_plan("full", seed=3)
    assert json.loads(json.dumps(plan.facts)) == plan.facts
    assert set(plan.facts) == set(Plan.__dataclass_fields__)
    assert plan.facts["also"] == ["per-node", "sources", "recomputed", "oracle"]


def test_a_plan_says_how_node_sets_are_scored_and_what_beside_a_suite() -> None:
    plan = make_plan("quick", seed=4, also=("oracle",))
    assert plan.settings == Settings(4, (4,), unbounded=False)
    wanted = plan.wanted
    assert (wanted.controls, wanted.thorough, wanted.groups, wanted.apart) == (
        plan.controls, False, False, False,
    )  # fmt: skip
    assert wanted.options == {"oracle": NAMED_OPTIONS["oracle"]}
    with pytest.raises(UnknownName, match="option"):
        _ = Plan(also=("fast",)).wanted
