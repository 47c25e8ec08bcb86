"""Lenses and verdicts: what is concluded from numbers, by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.audit.audit_result import load_audit, save_audit, shipped_audit, verdict_on
from sage.audit.cell import Cell
from sage.audit.gaming import judge_gaming
from sage.audit.judging import judge
from sage.audit.metrics import AuditedMetric, audited, versions
from sage.audit.ordering import kendall, ordered_rightly, ordering
from sage.audit.panel import NEAR_TRUTH
from sage.audit.plan import LENSES, QUICK
from sage.audit.records import Measured, Unit, once
from sage.audit.reseed import Noise, judge_reseed, noise, seeds_needed
from sage.audit.run import run_audit
from sage.audit.trajectory import judge_trajectory
from sage.audit.transfer import EVERY, SOME, judge_transfer
from sage.audit.truth import Panel, judge_truth, peak_l0
from sage.errors import BadFile, UnknownName
from sage.toy.panel import CHAINS, CONTROLS, PANEL

METRIC = AuditedMetric("interpretable", 2, "T3, sage")


def test_noise_of_three_runs_by_hand() -> None:
    """1, 2, 3: sd 1; chi-square of 2 degrees has .0506 and 7.378 at its ends, so the sd lies
    between sqrt(2 / 7.378) and sqrt(2 / .0506). The mean is 3.46 of its errors: it has a share."""
    drawn = noise([1.0, 2.0, 3.0])
    expected = (2, 1, math.sqrt(2 / 7.37776), math.sqrt(2 / 0.0506356), 0.5)
    assert drawn[:5] == pytest.approx(expected, rel=1e-5)
    assert drawn.tells == pytest.approx(2.77)
    assert drawn.runs_tell(3) == pytest.approx(2.77645 * math.sqrt(2 / 3), rel=1e-5)


def test_a_mean_that_is_not_told_from_0_has_no_share() -> None:
    assert noise([-1.0, 0.5, 1.0]).cv is None
    assert judge_reseed({"w": noise([-1.0, 0.5, 1.0])}, "x")[0].passed is None


def test_seeds_needed_by_hand() -> None:
    """7.85 (s_d / d)^2: .1 for .1 takes 8, half the difference four times as many."""
    assert seeds_needed(0.1, 0.1) == 8
    assert seeds_needed(0.1, 0.05) == 32
    assert seeds_needed(0.0, 0.05) == 2


@pytest.mark.parametrize(("cv", "passed"), [(0.049, True), (0.051, False)])
def test_reseed_passes_at_a_twentieth(cv: float, passed: bool) -> None:
    assert judge_reseed({"w": Noise(1.0, cv, 0.0, 1.0, cv, 5)}, "x")[0].passed is passed


def test_pairs_ordered_rightly_by_hand() -> None:
    """0 and .05 are too near to be a pair; of the four others one is wrong and one is tied."""
    quality = np.array([0.0, 0.05, 0.5, 1.0])
    score = np.array([0.2, 0.3, 0.2, 0.25])
    assert ordered_rightly(quality, score) == pytest.approx((0.5 + 1 + 0 + 0 + 1) / 5)
    assert math.isnan(ordered_rightly(np.zeros(3), score[:3]))


def test_an_ordering_leaves_out_what_has_no_score() -> None:
    told = ordering([0.0, 0.5, 1.0, 0.7], [0.0, 0.4, 0.9, math.nan])
    assert told.n == 3
    assert (told.rightly.value, told.spearman.value, told.kendall.value) == (1, 1, pytest.approx(1))
    assert told.rightly.low <= 1 <= told.rightly.high


def test_kendall_of_a_constant_is_0() -> None:
    assert kendall([0.0, 1.0, 2.0], [0.5, 0.5, 0.5]) == 0
    assert kendall([0.0, 1.0, 2.0], [0.1, 0.3, 0.2]) == pytest.approx(1 / 3)


def test_kendall_is_that_of_scipy_with_ties() -> None:
    from scipy.stats import kendalltau

    first, second = [0.0, 1.0, 1.0, 2.0, 5.0], [0.3, 0.3, 0.1, 0.7, 0.2]
    assert kendall(first, second) == pytest.approx(kendalltau(first, second)[0])


def entry(
    name: str, role: str, value: float, *, quality: float | None = None, l0: float = 8.0
) -> Measured:
    good = value if quality is None else quality
    told = {"atoms": good, "mcc": good, "f1": good, "fvu": 1 - good, "l0": l0}
    return Measured("truth", "w", name, role, {METRIC.name: value}, told)


def sound_panel(**changed: float) -> Panel:
    """A panel that a metric orders as it should, but for what is changed by name."""
    values = {"truth": 1.0, **dict.fromkeys(NEAR_TRUTH[1:], 0.8), **dict.fromkeys(CONTROLS, 0.05)}
    for names in CHAINS.values():
        values |= {name: values.get(name, 0.3) for name in names}
    ends = {names[-1] for chain, names in CHAINS.items() if chain != "dead"}
    values |= {name: min(values[name], 0.75) for name in ends}
    values |= {"dead": 1.0, "merged pairs": 0.3, "merged quads": 0.2}
    values |= changed
    entries = [
        entry(built.name, "control" if built.name in CONTROLS else "built", values[built.name])
        for built in PANEL
    ]
    sparsities = {"topk 4": (4.0, 0.5), "topk 8": (8.0, 0.95), "topk 16": (16.0, 0.6)}
    entries += [
        entry(name, "trained", changed.get(name, good), quality=good, l0=l0)
        for name, (l0, good) in sparsities.items()
    ]
    entries.append(entry("topk 8, decoder frozen", "frozen", changed.get("frozen", 0.1)))
    return Panel("w", 8.0, METRIC, entries, sd=0.01)


def test_a_metric_that_orders_all_passes() -> None:
    cell = judge_truth(sound_panel())
    assert (cell.passed, cell.failed) == (True, ())
    assert cell.figures["peak L0"] == 8
    assert cell.figures["pairs ordered rightly"] == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rotated 30": 0.9}, "puts rotated 30 above rotated 15"),
        ({"merged quads": 0.9, "merged pairs": 0.95}, "falls 0.10 from truth to merged quads"),
        ({"split x2": 1.1}, "puts 1 above the oracle, split x2 first"),
        ({"lookup 512": 0.9}, "puts lookup 512 above"),
        ({"frozen": 0.99}, "puts topk 8, decoder frozen above topk 8"),
        ({"topk 16": 1.0}, "peaks at 2.00 of the true L0"),
    ],
    ids=str,
)
def test_what_stands_where_it_must_not_fails_and_is_named(
    changed: dict[str, float], said: str
) -> None:
    cell = judge_truth(sound_panel(**changed))
    assert cell.passed is False
    assert any(reason.startswith(said) for reason in cell.failed), cell.failed


def test_two_sd_of_noise_violate_no_order() -> None:
    assert judge_truth(sound_panel(**{"rotated 30": 0.819})).passed
    assert not judge_truth(sound_panel(**{"rotated 30": 0.821})).passed


def test_a_metric_of_something_else_is_held_against_that_alone() -> None:
    """One that ranks by explained variance may put a merged dictionary first."""
    panel = sound_panel(**{"merged pairs": 0.99})
    claims = replace(panel, metric=METRIC._replace(claim="explained"))
    assert judge_truth(claims).passed
    assert "peak L0" not in judge_truth(claims).figures


def test_the_peak_is_of_the_mean_over_seeds() -> None:
    again = entry("topk 16, seed 1", "trained", 1.2, l0=16.0)
    dull = entry("topk 8, seed 1", "trained", 0.2, l0=8.0)
    panel = sound_panel(**{"topk 16": 0.9})
    assert peak_l0(replace(panel, entries=[*panel.entries, again, dull])) == 16


def course(values: Sequence[float], soft: float, role: str = "snapshot") -> list[Measured]:
    records = [
        Measured("discriminability", "w", f"after {at}", role, {"x": value}, at=float(at))
        for at, value in zip((0, 10, 100, 1000), values, strict=True)
    ]
    return [*records, Measured("discriminability", "w", "soft", "soft-frozen", {"x": soft})]


def test_a_course_that_rises_above_the_null_passes() -> None:
    """.1 .3 .5 for 10, 100, 1000 steps: .2 for each tenfold."""
    [cell] = judge_trajectory(course([0.0, 0.1, 0.3, 0.5], 0.4), "x", {})
    assert cell.passed
    assert cell.figures["tau"] == pytest.approx(1)
    assert cell.figures["slope"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("values", "soft", "said"),
    [([0.0, 0.3, 0.1, 0.5], 0.4, "tau 0.67"), ([0.0, 0.1, 0.3, 0.5], 0.6, "does not put every")],
)
def test_a_course_that_wavers_or_ends_below_the_null_fails(
    values: list[float], soft: float, said: str
) -> None:
    [cell] = judge_trajectory(course(values, soft), "x", {})
    assert cell.passed is False
    assert cell.failed[0].startswith(said)


def test_every_sae_that_was_trained_to_its_end_counts() -> None:
    """The last snapshot has .5, an SAE without snapshots .3: their mean is the null's, and the null
    stands above one of them."""
    finished = Measured("discriminability", "w", "other", "finished", {"x": 0.3})
    [cell] = judge_trajectory([*course([0.0, 0.1, 0.3, 0.5], 0.4), finished], "x", {})
    assert cell.figures["trained"] == pytest.approx(0.4)
    assert cell.failed == ("does not put every trained above every soft-frozen",)


def test_snr_is_the_sd_between_saes_over_that_of_a_redraw() -> None:
    """0 and .2 have an sd of .1414."""
    apart = [Measured("truth", "w", str(value), "trained", {"x": value}) for value in (0.0, 0.2)]
    given = [*course([0.0, 0.1, 0.3, 0.5], 0.4), *apart]
    [cell] = judge_trajectory(given, "x", {"w": Noise(1.0, 0.02, 0.0, 1.0, None, 5)})
    assert cell.figures["SNR"] == pytest.approx(0.2 / math.sqrt(2) / 0.02)


@pytest.mark.parametrize(
    ("after", "quality", "passed"),
    [(0.52, 0.5, True), (0.6, 0.5, False)],
    ids=["within noise", "gamed"],
)
def test_blind_edits_may_gain_no_more_than_noise(
    after: float, quality: float, passed: bool
) -> None:
    """Noise of one run: 2.77 x .01."""

    def record(role: str, value: float, atoms: float) -> Measured:
        at = 7.0 if role.startswith("after") else 0.0
        return Measured("gaming", "w", "sae", role, {"x": value}, {"atoms": atoms}, at=at)

    records = [
        record("before, seen", 0.5, 0.5), record("after, seen", 0.7, quality),
        record("before, fresh", 0.5, 0.5), record("after, fresh", after, quality),
    ]  # fmt: skip
    [cell] = judge_gaming(records, "x", {"w": Noise(1.0, 0.01, 0.0, 1.0, None, 5)})
    assert cell.passed is passed
    assert cell.figures["gain where climbed"] == pytest.approx(0.2)
    assert "7 edits kept" in cell.said


@pytest.mark.parametrize(("some", "passed"), [(0.66, True), (0.6, False)])
def test_transfer_loses_no_more_than_supervised_features_do(some: float, passed: bool) -> None:
    """Those lose .1; an SAE may lose .05 more: .8 - .15 = .65."""
    values = {("supervised", EVERY): 0.9, ("supervised", SOME): 0.8,
              ("sae", EVERY): 0.8, ("sae", SOME): some}  # fmt: skip
    records = [Measured("transfer", "w", name, role, {"control": value})
               for (name, role), value in values.items()]  # fmt: skip
    [cell] = judge_transfer(records, "control")
    assert cell.passed is passed
    assert cell.figures["supervised"] == pytest.approx(0.1)


def cell(lens: str, passed: bool | None, figures: Mapping[str, float] | None = None) -> Cell:
    return Cell(
        METRIC.name, lens, "w", passed, "said", figures or {}, () if passed else ("by this",)
    )


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        ([], "not audited"),
        ([cell("truth", True), cell("reseed", None)], "use"),
        ([cell("truth", True), cell("reseed", False, {"CV": 0.1})], "use with care"),
        (
            [cell("truth", False, {"of the trained": 0.74, "of the trained, high": 0.89})],
            "do not use",
        ),
        (
            [cell("truth", False, {"of the trained": 0.74, "of the trained, high": 1.0})],
            "use with care",
        ),
        ([cell("truth", False, {"above the oracle": 1.0})], "do not use"),
        ([cell("truth", True), cell("reseed", False, {"CV": 0.26})], "do not use"),
        ([cell("discriminability", True, {"SNR": 1.9})], "do not use"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_verdicts_follow_from_cells(cells: list[Cell], word: str) -> None:
    verdict = judge(METRIC, cells)
    assert verdict.word == word
    assert bool(verdict.why) == (word in ("use with care", "do not use"))


def test_a_part_is_measured_once_and_anew_for_another_plan(tmp_path: Path) -> None:
    measured: list[int] = []

    def measure() -> list[Measured]:
        measured.append(1)
        return [Measured("truth", "w", "sae", "trained", {"x": None}, {"l0": 8.0}, at=3.0)]

    unit = Unit("truth", "w", "built")
    first = once(unit, QUICK, tmp_path, measure)
    assert once(unit, QUICK, tmp_path, measure) == first
    assert len(measured) == 1
    once(unit, replace(QUICK, pairs=7), tmp_path, measure)
    assert len(measured) == 2


def test_unknown_metrics_and_lenses_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="No metric is named 'T9'"):
        run_audit(QUICK, tmp_path, metrics=["T9"])
    with pytest.raises(UnknownName, match="No lens is named 'trut'"):
        run_audit(QUICK, tmp_path, lenses=["trut"])


def test_every_score_and_three_peers_are_audited() -> None:
    assert {*audited()} == {
        "interpretable", "control", "approximation", "geometry", "move", "copying", "coverage",
        "isolation", "decoding", "k-sparse probing", "TPP", "SCR",
    }  # fmt: skip


def test_the_shipped_verdicts_are_of_the_metrics_that_scores_print() -> None:
    """Another version of a metric needs another audit: its verdict is said to be of an older one
    until there is."""
    audit = shipped_audit()
    assert audit is not None
    assert {verdict.metric: verdict.version for verdict in audit.verdicts} == versions()
    assert audit.command.startswith("sage audit")
    for metric, version in versions().items():
        verdict = audit.verdict(metric)
        assert verdict is not None
        assert verdict == judge(audited()[metric], audit.cells)
        said = verdict_on(metric, version)
        assert said == (None if verdict.word == "use" else str(verdict))
        assert verdict_on(metric, version + 1) == f"{verdict.word}, of an older version"
        assert verdict_on(metric, version - 1) == f"{verdict.word}, of a newer version"
    assert verdict_on("accuracy", 1) == "not audited"


def test_an_audit_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    audit = shipped_audit()
    assert audit is not None
    assert load_audit(save_audit(audit, tmp_path)) == audit
    assert {*audit.table()[0]} == {"metric", "version", "verdict", *LENSES}
    (tmp_path / "audit.json").write_text('{"schema": 1, "date": 3}')
    with pytest.raises(BadFile, match="is not an audit of sage: date"):
        load_audit(tmp_path)
