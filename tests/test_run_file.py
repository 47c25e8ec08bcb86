"""Run files: every setting of a run, given back as it was."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from sage.dictionaries.controls import control_names
from sage.errors import BadFile, SageError, UnknownName
from sage.models.load import BACKENDS
from sage.run import PLAN_SETTINGS, PLANS, Plan, make_plan, plan_table
from sage.run_file import RUN_SETTINGS, RunFile, read_run_file, save_run_file
from sage.store.key import digest
from wired_runs import PLAN

RUN = RunFile(("ioi",), "tiny-gpt2", saes=("tiny-gpt2/topk4", "a+b"), seeds=2, out="out/tiny")

EVERY_PLAN = (
    *PLANS.values(),
    make_plan("quick", pairs=40, seed=3),
    make_plan("full", discover=20, also=(), controls=("PCA", "identity")),
    make_plan(pairs=40, fit=500, copying=()),
    replace(make_plan("quick"), name="mine"),
    PLAN,
)


@pytest.mark.parametrize("plan", EVERY_PLAN, ids=lambda plan: plan.name)
def test_a_run_is_given_back_with_the_name_and_digest_of_its_plan(
    plan: Plan, tmp_path: Path
) -> None:
    run = replace(RUN, plan=plan)
    path = save_run_file(run, tmp_path / "run.toml")
    again = read_run_file(path)
    assert again == run
    assert make_plan(path) == make_plan(str(path)) == plan
    assert digest(again.plan) == digest(plan)


def test_settings_are_all_there_are_and_each_says_what_it_is_for() -> None:
    assert set(RUN_SETTINGS) | {"plan"} == {entry.name for entry in fields(RunFile)}
    assert set(PLAN_SETTINGS) == {"base", *(entry.name for entry in fields(Plan))}
    for setting in (*RUN_SETTINGS.values(), *PLAN_SETTINGS.values()):
        assert len(setting.what) > 10
    assert RUN_SETTINGS["backend"].possible == BACKENDS


def test_the_name_of_a_plan_follows_from_its_settings_and_is_not_written() -> None:
    assert "name =" not in plan_table(make_plan("quick", pairs=40))
    assert 'name = "mine"' in plan_table(replace(make_plan("quick"), name="mine"))


def test_a_file_may_say_little_and_a_caller_more(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('tasks = ["ioi"]\n[plan]\nbase = "quick"\npairs = 40\n')
    assert read_run_file(path) == RunFile(("ioi",), plan=make_plan("quick", pairs=40))
    assert make_plan(path, discover=30) == make_plan("quick", pairs=40, discover=30)
    assert [plan.seed for plan in replace(RUN, plan=make_plan(seed=4)).plans] == [4, 5]


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("seed = 3", UnknownName, "No setting in .*run.toml is named 'seed'"),
        ("[plan]\nseeds = 3", UnknownName, "'plan.seeds'. Did you mean 'plan.seed'"),
        ('[plan]\ncontrols = ["pca"]', UnknownName, "plan.controls in .*'pca'.*: PCA"),
        ('[plan]\nalso = ["fast"]', UnknownName, "plan.also in .*'fast'"),
        ("[plan]\npairs = 0", SageError, "at least one pair"),
        ("seeds = 0", BadFile, "seeds is 0. It must be 1 or more"),
        ("[run]\nx = 1", UnknownName, "'run'"),
    ],
)
def test_what_no_run_can_have_is_refused(
    text: str, error: type[SageError], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(error, match=says):
        read_run_file(path)
    assert "PCA" in control_names()
