"""Sizes side by side: suites are matched by L0/D, and a claim is made only where it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from report.by_hand import make_result
from sage.cli import cli
from sage.report.compare import size_table
from sage.report.sizes import (
    MATCHED,
    SizeComparison,
    SizedSuite,
    compare,
    matched_suites,
)
from sage.result import Gate, ModelInfo, Result, SAEInfo, SuiteInfo
from sage.result_file import save_result

TASKS = ("ioi", "induction", "successor")
SMALL, LARGE = "small", "large"  # 64 and 128 wide


def suite(model: str, d_model: int, l0: float, architecture: str = "topk") -> SizedSuite:
    name = f"{architecture}{l0:g}"
    return SizedSuite(model, d_model, f"{model}/{name}", name, architecture, l0)


def names(matches: Sequence[tuple[SizedSuite, ...]]) -> list[tuple[str, ...]]:
    return [tuple(suite.label for suite in match) for match in matches]


def test_suites_are_matched_at_the_same_share_of_the_width() -> None:
    """4/64 = 8/128; 8/64 = 16/128; 16/64 has nothing within a factor 1.5."""
    small = [suite(SMALL, 64, l0) for l0 in (4, 8, 16)]
    large = [suite(LARGE, 128, l0) for l0 in (4, 8, 16)]
    assert names(matched_suites([small, large])) == [("topk4", "topk8"), ("topk8", "topk16")]


def test_a_suite_is_matched_once_with_its_nearest() -> None:
    small = [suite(SMALL, 64, l0) for l0 in (4, 4.5)]
    large = [suite(LARGE, 128, 8)]
    assert names(matched_suites([small, large])) == [("topk4", "topk8")]


@pytest.mark.parametrize(
    ("l0", "architecture", "matched"),
    [(8 * MATCHED - 0.01, "topk", True), (8 * MATCHED + 0.01, "topk", False), (8, "relu", False)],
)
def test_matches_are_of_one_architecture_and_within_the_factor(
    l0: float, architecture: str, matched: bool
) -> None:
    chosen = matched_suites([[suite(SMALL, 64, 4)], [suite(LARGE, 128, l0, architecture)]])
    assert bool(chosen) == matched


def test_of_three_models_all_have_a_partner_or_there_is_no_match() -> None:
    small, large = [suite(SMALL, 64, 4)], [suite(LARGE, 128, 8)]
    assert names(matched_suites([small, large, [suite("huge", 256, 16)]])) == [
        ("topk4", "topk8", "topk16")
    ]
    assert matched_suites([small, large, [suite("huge", 256, 64)]]) == []


def size_result(
    model: str, task: str, score: float, *, l0: float, d_model: int, stderr: float = 0.02
) -> Result:
    """One suite of an L0 on one task."""
    made = make_result({f"{model}/topk": score}, task=task, model=model, stderr=stderr)
    sae = SAEInfo("sae", "topk", "1.resid_pre", 4 * d_model, l0, 0.1)
    info = SuiteInfo(f"{model}/topk", [sae], dict(made.suites[0].reach))
    return replace(
        made,
        model=ModelInfo(model, "ef56", "transformer-lens 3.9.0", "float32", d_model),
        suites=[info],
    )


def written(
    folder: Path,
    values: Mapping[str, float],
    *,
    tasks: Sequence[str] = TASKS,
    stderr: float = 0.02,
    large_l0: float = 8.0,
) -> Path:
    for task in tasks:
        for model, l0, d_model in ((SMALL, 4.0, 64), (LARGE, large_l0, 128)):
            result = size_result(model, task, values[model], l0=l0, d_model=d_model, stderr=stderr)
            save_result(result, folder / f"{task}--{model}")
    return folder


def test_a_difference_beyond_its_interval_is_the_claim(tmp_path: Path) -> None:
    """.7 less .5, each a mean over three tasks with .02/sqrt 3: a standard error of .0163."""
    found = compare([written(tmp_path, {SMALL: 0.5, LARGE: 0.7})])
    above = found.above
    assert above is not None
    assert above.value == pytest.approx(0.2)
    assert above.stderr == pytest.approx(0.02 * (2 / 3) ** 0.5, rel=0.1)
    assert found.claim.startswith("large (D = 128) has 0.20 [0.1")
    assert "more interpretable control (sage) than small (64) at matched L0/D" in found.claim
    assert "over 3 tasks that both models do" in found.claim
    assert "results do not say which" in found.beside[1]
    smallest, largest = found.table()
    assert (smallest["above the smallest"], largest["L0/D"]) == (None, 8 / 128)
    assert (largest["tasks"], largest["same prompts"]) == (3, False)


def test_a_difference_within_its_interval_is_none(tmp_path: Path) -> None:
    found = compare([written(tmp_path, {SMALL: 0.5, LARGE: 0.52}, stderr=0.05)])
    assert found.claim.startswith("No difference in interpretable control (sage) is shown")
    assert "+0.02 [-" in found.claim


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tasks": TASKS[:2]}, "it takes 3 tasks that all models do, and there are 2"),
        ({"large_l0": 32.0}, "no two suites of an architecture are within a factor of 1.5"),
    ],
)
def test_without_enough_in_common_there_is_no_claim(
    tmp_path: Path, options: dict[str, object], why: str
) -> None:
    found = compare([written(tmp_path, {SMALL: 0.5, LARGE: 0.7}, **options)])  # pyright: ignore[reportArgumentType]
    assert found.above is None
    assert found.claim.startswith(f"No claim about sizes: {why}")


def test_one_model_or_no_task_in_common_is_no_comparison(tmp_path: Path) -> None:
    save_result(size_result(SMALL, "ioi", 0.5, l0=4.0, d_model=64), tmp_path / "one")
    assert "results of one model alone" in compare([tmp_path]).claim
    other = size_result(LARGE, "induction", 0.5, l0=8.0, d_model=128)
    save_result(other, tmp_path / "other")
    assert "there is no task that both models do" in compare([tmp_path]).claim


def test_a_task_whose_gate_one_model_misses_is_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path, {SMALL: 0.5, LARGE: 0.7})
    missed = size_result(SMALL, "more", 0.0, l0=4.0, d_model=64)
    gate = Gate(0.5, 0.1, 500, 0.75, False, 0.5)
    save_result(replace(missed, gate=gate), folder / "more--small")
    save_result(size_result(LARGE, "more", 0.9, l0=8.0, d_model=128), folder / "more--large")
    assert set(compare([folder]).tasks) == set(TASKS)


def test_the_command_prints_the_claim_first_and_the_page_has_a_row_for_each_model(
    tmp_path: Path,
) -> None:
    found = compare([written(tmp_path, {SMALL: 0.5, LARGE: 0.7})])
    printed = CliRunner().invoke(cli, ["compare", str(tmp_path), "-q"])
    assert printed.exit_code == 0
    assert printed.stdout.splitlines()[0] == found.claim
    data = json.loads(CliRunner().invoke(cli, ["compare", str(tmp_path), "--json"]).stdout)
    assert (data["claim"], len(data["rows"])) == (found.claim, 2)
    smallest, largest = size_table(found).rows
    assert (smallest[0].text, largest[0].text) == (SMALL, LARGE)
    assert (smallest[9].text, largest[9].text) == ("", "+0.20")


def paired(folder: Path, *, same: bool) -> SizeComparison:
    """Control of each pair is drawn once, and both models have it, the larger one .1 more."""
    drawn = np.random.default_rng(0).uniform(0.2, 0.6, 200)
    for task in TASKS:
        for model, l0, d_model, more in ((SMALL, 4.0, 64, 0.0), (LARGE, 8.0, 128, 0.1)):
            start = f"IO|{model}/topk"
            weights = np.repeat((drawn + more)[:, None], 9, 1)
            values = np.concatenate([np.zeros((200, 1)), weights], 1).astype(np.float32)
            prompts = bytes(32) if same else model.encode().ljust(32)
            arrays = {
                f"{start}|{model}/topk|interpretable": values,
                f"{start}|*|clusters": np.arange(200),
                f"{start}|*|prompts": np.frombuffer(prompts, dtype=np.uint8),
            }
            result = size_result(model, task, 0.5, l0=l0, d_model=d_model)
            save_result(result, folder / f"{task}--{model}", arrays=arrays)
    return compare([folder])


def test_where_prompts_are_the_same_differences_are_taken_pair_by_pair(tmp_path: Path) -> None:
    """What every pair has more leaves a difference of .1 without any error."""
    found = paired(tmp_path, same=True)
    assert found.above is not None
    assert found.above[:2] == (pytest.approx(0.1, abs=1e-6), pytest.approx(0, abs=1e-6))
    assert found.matches[0].paired
    assert "asked the same prompts" in found.beside[1]


def test_where_prompts_differ_both_errors_count(tmp_path: Path) -> None:
    """Of 200 pairs, uniform over .4: sd .4/sqrt 12 = .115, standard error .0082 each, of the mean
    of three tasks that are drawn alike, and sqrt 2 of it for the difference."""
    found = paired(tmp_path, same=False)
    assert found.above is not None
    assert not found.matches[0].paired
    assert found.above.stderr == pytest.approx(2**0.5 * 0.4 / 12**0.5 / 200**0.5, rel=0.15)
