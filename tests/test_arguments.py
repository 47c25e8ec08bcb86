"""Ordinary mistakes of a Python caller: each is told what was given and what is possible."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sage
from small_results import result

# As a caller has it: the tests alone check the kinds of arguments beforehand.
as_suite = inspect.unwrap(sage.as_suite)
MODEL, TASK, PLAN = "tiny-neox", "gendered_pronoun", "quick"


class Mine(torch.nn.Module):
    """An SAE of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.W_dec = torch.nn.Parameter(torch.ones(8, 64))

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.W_dec.T)


def evaluated(**changed: Any) -> object:
    """A call of evaluate that lacks nothing but what is changed."""
    model, task = sage.load_model(MODEL, device="cpu"), sage.load_task(TASK)
    given = {"plan": sage.make_plan(PLAN), **changed}
    suites = given.pop("suites", sage.load_suites(f"{MODEL}/topk4"))
    return sage.evaluate(given.pop("model", model), given.pop("task", task), suites, **given)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: evaluated(model=MODEL), "The model is 'tiny-neox' .a str.* sage.load_model"),
        (lambda: evaluated(task=TASK), "The task is 'gendered_pronoun' .* sage.load_task"),
        (lambda: evaluated(plan=PLAN), "The plan is 'quick' .* sage.make_plan"),
        (lambda: evaluated(text="some text"), "text is 'some text' .* sage.default_text"),
        (lambda: evaluated(suites=[]), "Suites are an empty list.* sage.load_suites"),
        (lambda: evaluated(suites="topk4"), "Suites are 'topk4' .* must be a list"),
        (lambda: evaluated(suites=[Mine()]), "Among suites is a Mine.* sage.as_suite"),
        (lambda: evaluated(folder=3), r"folder is 3 \(a int\), and must be a path"),
        (lambda: as_suite(Mine()), "saes is a Mine. Give each SAE by its hook"),
        (lambda: as_suite({1: Mine()}), r"A hook is 1 \(a int\). Write it as text"),
        (lambda: sage.write_report([result("a")], "out"), "is a Result, and no path.* folder="),
        (lambda: sage.export_results(result("a"), "rows.csv"), "Among the results is a Result"),
    ],
)
def test_an_argument_of_another_kind_is_told(call: Callable[[], object], said: str) -> None:
    with pytest.raises(sage.SageError, match=said):
        call()


def test_paths_may_be_texts(tmp_path: Path) -> None:
    with pytest.raises(sage.SageError, match="no result"):
        sage.write_report(str(tmp_path), str(tmp_path / "report"))
    with pytest.raises(sage.SageError):
        sage.export_results(str(tmp_path), str(tmp_path / "rows.csv"))


def test_an_sae_that_nothing_reads_is_refused_before_anything_is_computed() -> None:
    """tiny-neox has two layers; what leaves the second is read by no attention and no MLP, and its
    attention and MLP read one stream."""
    for hook, why in (
        ("1.resid_post", "nothing reads 1.resid_post: no attention and no MLP comes after"),
        ("7.resid_pre", "nothing reads 7.resid_pre: the model has layers 0 to 1"),
        ("0.resid_mid", "nothing reads 0.resid_mid: .* read the same stream"),
    ):
        with pytest.raises(sage.SageError, match=f"{why}.*are read: 0.resid_pre, 1.resid_pre"):
            evaluated(suites=[sage.as_suite({hook: Mine()})])


def test_of_a_suite_what_nothing_reads_is_left_out_with_a_warning() -> None:
    from sage.saes.suite import judgeable

    model = sage.load_model(MODEL, device="cpu")
    suite = sage.as_suite({"1.resid_pre": Mine(), "1.resid_post": Mine()}, name="mine")
    with pytest.warns(UserWarning, match="'mine/1.resid_post' is left out: nothing reads"):
        assert [str(hook) for hook in judgeable(suite, model.anatomy).hooks] == ["1.resid_pre@*"]
