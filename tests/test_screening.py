"""Screening gives the `move` of a whole run, and runs the model under no edit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage.evaluation import evaluate
from sage.models.base import Model
from sage.result import Row
from sage.saes.suite import Suite
from sage.screening import screen
from sage.store.store import Store
from wired_runs import PLAN, planted, wired_model, wired_task

CONTRASTS = ("kind", "owner")


@pytest.fixture(scope="module")
def wired() -> Model:
    return wired_model()


@pytest.fixture(scope="module")
def suites(wired: Model) -> list[Suite]:
    """All features, those of the first layers, and none that any node reads."""
    half = planted(wired, "half", hooks=3)
    saes = {hook: replace(sae, W_dec=0.5 * sae.W_dec) for hook, sae in half.saes.items()}
    return [replace(half, saes=saes), planted(wired, "whole"), planted(wired, "none", hooks=1)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def rows(wired: Model, suites: list[Suite], store: Store) -> list[dict[str, object]]:
    return screen(wired, wired_task(*CONTRASTS), suites, plan=PLAN, store=store)


@pytest.fixture(scope="module")
def scored(wired: Model, suites: list[Suite], store: Store) -> dict[tuple[str, str, str], Row]:
    """The rows of a whole run, by suite, contrast and what tells them apart."""
    result = evaluate(wired, wired_task(*CONTRASTS), suites, plan=PLAN, store=store).result
    return {
        (row.suite, row.section, row.at or ""): row
        for row in result.rows
        if row.metric in ("move", "reach") and row.suite == row.dictionary
    }


def test_every_contrast_and_suite_has_a_row_the_highest_first(
    rows: list[dict[str, object]],
) -> None:
    listed = [(row["contrast"], row["suite"]) for row in rows]
    assert sorted(listed[:3]) == [("kind", name) for name in ("half", "none", "whole")]
    assert [name for _, name in listed[:2]] == ["whole", "half"]
    assert {contrast for contrast, _ in listed[3:]} == {"owner"}


def test_it_is_the_move_of_a_whole_run(
    rows: list[dict[str, object]], scored: dict[tuple[str, str, str], Row]
) -> None:
    """Which calls it undefined where control is; its raw value is the same."""
    compared = 0
    for row in rows:
        suite, contrast = str(row["suite"]), str(row["contrast"])
        if row["move"] is None:
            continue
        whole = scored[suite, contrast, ""]
        everything = scored[suite, contrast, "all latents"]
        assert row["move"] == pytest.approx(max(0, whole.raw), abs=1e-6)
        assert row["move, all latents"] == pytest.approx(max(0, everything.raw), abs=1e-6)
        assert row["n"] == 30
        compared += 1
    assert compared >= 4


def test_what_a_suite_does_not_reach_it_does_not_move(rows: list[dict[str, object]]) -> None:
    none = [row for row in rows if row["suite"] == "none" and row["contrast"] == "kind"]
    assert [(row["reach"], row["move"]) for row in none] == [(0, None)]


def test_reach_stands_beside_it(
    rows: list[dict[str, object]], scored: dict[tuple[str, str, str], Row]
) -> None:
    for row in rows:
        if row["move"] is not None:
            assert 0 < float(str(row["reach"])) <= 1
    assert {row["reach"] for row in rows if row["suite"] == "whole"} == {1.0}
    assert len(scored) > 0


def test_no_edit_is_run(wired: Model, suites: list[Suite], store: Store) -> None:
    """All that is read was read before: not a token goes through the model."""
    before = wired.counter.tokens
    screen(wired, wired_task(*CONTRASTS), suites[:2], plan=PLAN, store=store)
    assert wired.counter.tokens == before
