"""Panels of frontiers out of results, their pictures and their data."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from report.by_hand import every_case, write_results
from sage.errors import SageError
from sage.fidelity.result_file import save_fidelity
from sage.frontier.panels import FrontierPanel, FrontierSettings, make_panels
from sage.frontier.points import FrontierPoint, fidelity_points
from sage.report.frontiers import (
    FIDELITY_HIT,
    curve_rows,
    find_frontiers,
    point_rows,
    remarks,
    score_points,
    summary_rows,
    write_frontiers,
)
from sage.report.ranking import over_tasks, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import NoneOfToday, find_sources
from sage.result_file import save_result
from tests.fidelity.by_hand import measured_sae, result
from tests.frontier.planted import hits

L0 = np.array([2.0, 4, 8, 16, 32])


def family(architecture: str, half: float, *, hook: str = "1.resid_pre"):
    """Five SAEs of an architecture; with sequences that differ a little."""
    planted = hits(L0, half=half, k=1, noise=0.05, seed=int(100 * half))
    return [
        measured_sae(architecture, f"{architecture}{l0:g}", l0, hit, hook=hook, noise=0.01, seed=n)
        for n, (l0, hit) in enumerate(zip(L0, planted, strict=True))
    ]


@pytest.fixture(scope="module")
def panel() -> FrontierPanel:
    measured = [
        *family("gated", 2.0),
        *family("relu", 0.5),
        measured_sae("prolu", "prolu", 8, 0.3),
        measured_sae("topk", "topk8-soft-frozen-1", 8, 0.2),
        measured_sae("relu", "relu-too-good", 64, -0.01),
    ]
    (made,) = make_panels(fidelity_points([result(measured)]), FrontierSettings(model="hill1"))
    return made


def test_a_panel_has_a_curve_for_each_series_with_enough_saes(panel: FrontierPanel) -> None:
    assert panel.name == "tiny, 1.resid_pre"
    assert panel.series == ["gated", "prolu", "relu"]
    assert set(panel.frontiers) == {"gated", "relu"}
    assert list(panel.unfitted) == ["prolu"]
    assert panel.frontiers["relu"].points.left_out == 1
    assert panel.frontiers["gated"].half == pytest.approx(2, rel=0.2)
    assert panel.frontiers["gated"].over == "both"


def test_nulls_are_no_part_of_a_frontier(panel: FrontierPanel) -> None:
    assert "topk8-soft-frozen-1" not in {placed.point.name for placed in panel.points}


def test_what_is_dominated_is_marked(panel: FrontierPanel) -> None:
    dominated = {placed.point.name for placed in panel.points if placed.dominated}
    assert dominated == {"relu2", "relu4", "relu8", "relu16", "relu32", "prolu"}


def test_the_curves_are_compared_in_words(panel: FrontierPanel) -> None:
    said = "\n".join(remarks(panel))
    assert "gated needs" in said
    assert "times fewer latents than relu" in said
    assert "No curve for prolu: one takes 4 SAEs" in said
    assert "gated: AICc hill" in said
    assert "Dominated" in said


def test_its_data_has_every_sae_and_every_curve(panel: FrontierPanel) -> None:
    points = {row["name"]: row for row in point_rows([panel])}
    assert len(points) == 12
    assert points["gated4"]["L0"] == pytest.approx(4)
    assert points["gated4"]["L0/D"] == pytest.approx(4 / 32)
    assert points["gated4"]["low"] < points["gated4"]["hit"] < points["gated4"]["high"]
    assert (points["relu-too-good"]["fitted"], points["gated4"]["fitted"]) == (False, True)
    curves = curve_rows([panel])
    assert {row["curve"] for row in curves} == {"hill", "hill1", "line", "power"}
    assert {row["curve"] for row in curves if row["chosen"]} == {"hill1"}
    assert all((row["low"] is None) != row["chosen"] for row in curves)


def test_its_table_fits_a_terminal_and_says_what_has_no_curve(panel: FrontierPanel) -> None:
    rows = {row["series"]: row for row in summary_rows(panel)}
    assert rows["prolu"]["curve"] is None
    assert (rows["relu"]["SAEs"], rows["prolu"]["SAEs"]) == ("5 of 6", "1")
    widths = [max(len(name), *(len(str(row[name])) for row in rows.values())) + 2
              for name in rows["relu"]]  # fmt: skip
    assert sum(widths) <= 80


def test_hooks_and_models_share_a_panel_only_where_they_may() -> None:
    two_hooks = [
        measured_sae("relu", "relu2", 2, 0.5, hook="1.resid_pre"),
        measured_sae("relu", "relu2", 4, 0.3, hook="2.resid_pre"),
        measured_sae("relu", "relu4", 4, 0.3, hook="1.resid_pre"),
    ]
    small, large = result(two_hooks), result(two_hooks, model="large", d_model=64)
    over_hooks = fidelity_points([small, large])
    assert [(point.panel, point.l0_value) for point in over_hooks[:2]] == [
        ("tiny, mean over 1.resid_pre, 2.resid_pre", 3),
        ("tiny, 1.resid_pre", 4),
    ]
    by_hook = fidelity_points([small, large], each_hook=True)
    assert len({point.panel for point in by_hook}) == 4
    relative = make_panels(
        fidelity_points([small, large], relative=True), FrontierSettings(relative=True)
    )
    assert [one.name for one in relative] == ["text.txt"]
    assert relative[0].series == ["relu, large", "relu, tiny"]
    assert {placed.sparsity for placed in relative[0].points} == {32 / 3, 8, 64 / 3, 16}


def test_other_texts_have_other_panels() -> None:
    first = result([measured_sae("relu", "relu2", 2, 0.5)])
    second = replace(first, text=replace(first.text, source="other.txt", sha256="abcdefgh"))
    panels = [point.panel for point in fidelity_points([first, second])]
    assert panels == ["tiny, 1.resid_pre, text.txt (sha)", "tiny, 1.resid_pre, other.txt (abcdef)"]


def test_models_on_one_axis_are_not_ranked() -> None:
    """The larger model loses less at every L0/D, and dominates nothing of the smaller one."""
    small = result(family("relu", 0.5))
    large = result([measured_sae("relu", "relu0", 4, 0.005), *family("relu", 4.0)], model="large")
    (made,) = make_panels(
        fidelity_points([small, large], relative=True), FrontierSettings(relative=True)
    )
    assert set(made.frontiers) == {"relu, tiny", "relu, large"}
    assert made.ratios == ()
    dominated = [placed.point.suite for placed in made.points if placed.dominated]
    assert dominated == ["relu4", "relu8", "relu16", "relu32"]


def test_suites_are_left_out_by_name() -> None:
    points = fidelity_points([result([*family("gated", 2.0), *family("relu", 0.5)])])
    (made,) = make_panels(points, FrontierSettings(without=("relu*", "gated2")))
    assert [placed.point.name for placed in made.points] == [
        "gated4", "gated8", "gated16", "gated32",
    ]  # fmt: skip


def test_no_point_that_is_defined_is_an_error() -> None:
    nowhere = FrontierPoint("panel", "relu", "relu", "a", "a", "tiny", 32, 4.0, float("nan"))
    with pytest.raises(SageError, match="No SAE here has both"):
        make_panels([nowhere])


def test_points_without_draws_have_intervals_over_saes() -> None:
    hit = hits(L0, half=1.0, k=1, noise=0.1)
    points = [
        FrontierPoint(
            "tiny", "relu", "relu", "a", f"{l0:g}", "tiny", 32, float(l0), float(y), (y / 2, 2 * y)
        )
        for l0, y in zip(L0, hit, strict=True)
    ]
    (made,) = make_panels(points)
    assert made.frontiers["relu"].over == "SAEs"
    assert made.points[0].point.ends == (hit[0] / 2, 2 * hit[0])


def test_pictures_and_data_are_written(tmp_path: Path) -> None:
    first = result([*family("gated", 2.0), *family("relu", 0.5)])
    second = replace(first, saes=tuple(family("topk", 1.0)))
    save_fidelity(first, tmp_path / "fidelity" / "a")
    save_fidelity(second, tmp_path / "fidelity" / "b")
    pictures = find_frontiers([tmp_path / "fidelity"], FrontierSettings())
    assert [(picture.name, picture.y) for picture in pictures] == [("fidelity", FIDELITY_HIT)]
    assert len(pictures[0].panels) == 1
    files = write_frontiers(pictures, tmp_path / "out")
    assert [file.name for file in files] == [
        "frontier-fidelity.svg",
        "frontier-fidelity.csv",
        "frontier-fidelity-curves.csv",
    ]
    svg = files[0].read_text()
    for told in ("gated", "relu", "topk", "1/L0, sparsity", "hollow: dominated"):
        assert told in svg
    with files[1].open() as file:
        assert len(list(csv.DictReader(file))) == 15
    again = write_frontiers(find_frontiers([tmp_path / "fidelity"], FrontierSettings()), tmp_path)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


def test_scores_have_the_same_pictures(tmp_path: Path) -> None:
    """Of suites that are compared, 1 - score against 1/L0, with the interval turned round."""
    results = write_results(tmp_path / "results", *every_case())
    pictures = find_frontiers([results], FrontierSettings())
    assert [picture.name for picture in pictures] == [
        "interpretable",
        "control",
        "approximation",
        "geometry",
    ]
    assert pictures[1].y == "1 - control (T2)"
    sources, _ = find_sources([results])
    suites = over_tasks([summarise_run(read_run(source)) for source in sources])
    suite = next(suite for suite in suites if suite.compared and suite.score("control").low)
    point = next(point for point in score_points(suites, "control") if point.name == suite.suite)
    score = suite.score("control")
    assert score.value is not None
    assert score.low is not None
    assert score.high is not None
    assert (point.l0_value, point.hit_value) == (suite.l0, 1 - score.value)
    assert point.ends == (1 - score.high, 1 - score.low)
    shown = [point.name for point in score_points(suites, "control")]
    scored = [suite for suite in suites if suite.score("control").value is not None]
    assert shown == [suite.suite for suite in scored if suite.compared]
    names = [file.name for file in write_frontiers(pictures, tmp_path / "out")]
    assert "frontier-interpretable.svg" in names


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SageError, match="nothing to draw"):
        find_frontiers([tmp_path], FrontierSettings())


def test_scores_of_other_versions_are_left_out_and_fidelity_is_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_fidelity(result([*family("relu", 0.5)]), tmp_path / "fidelity")
    made = every_case()[0]
    save_result(replace(made, run=replace(made.run, scores={})), tmp_path / "scores")
    assert find_frontiers([tmp_path], FrontierSettings())
    assert "are of other versions of the scores" in caplog.text
    with pytest.raises(NoneOfToday, match="of other versions of the scores"):
        find_frontiers([tmp_path / "scores"], FrontierSettings())
