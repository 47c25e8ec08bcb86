"""The audit as it runs: parts measured once, what a climb may do, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sage.audit import units as units_file
from sage.audit.audit_result import load_audit, shipped_audit, verdict_notes
from sage.audit.gaming import MOST_L0, ROUNDING, climb
from sage.audit.plan import FULL, LENSES, QUICK, AuditPlan
from sage.audit.run import run_audit
from sage.audit.units import Unit, units
from sage.cli import cli
from sage.result import HEADLINES
from sage.toy.planted import INDEPENDENT
from sage.toy.training import ToyRecipe, snapshots

SMALL = AuditPlan(
    "small", contrasts=1, prompts=300, pairs=20, detect=200, steps=10, edits=3, worlds=1,
    seeds=(42, 123), sae_seeds=(0,), snapshot_seeds=(0,),
)  # fmt: skip


def test_every_lens_has_its_parts_and_truth_brings_the_noise_it_is_judged_by() -> None:
    lenses = {unit.lens for unit in units(QUICK, LENSES)}
    assert lenses == {*LENSES}
    assert {unit.lens for unit in units(QUICK, ["truth"])} == {"truth", "reseed"}
    assert {unit.lens for unit in units(QUICK, ["transfer"])} == {"transfer"}
    tasks = {unit.where for unit in units(FULL, ["discriminability"])} - {
        unit.where for unit in units(QUICK, ["discriminability", "truth"])
    }
    assert tasks == {f"{task} on tiny-gpt2" for task in FULL.tasks}


def test_an_audit_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that add up carry over to pairs of values never met: nobody loses anything."""
    wanted = {"metrics": ["T2"], "lenses": ["transfer"], "command": "sage audit"}
    first = run_audit(SMALL, tmp_path, **wanted)
    [cell] = first.cells
    assert (cell.metric, cell.lens, cell.where) == ("control", "transfer", "independent")
    assert cell.figures["supervised"] == pytest.approx(0, abs=0.06)
    assert cell.command(quick=True) == "sage audit --metric control --lens transfer --quick"
    monkeypatch.setattr(units_file, "_MEASURES", {})
    again = run_audit(SMALL, tmp_path, **wanted)
    assert (again.cells, again.seconds) == (first.cells, first.seconds)
    assert [verdict.metric for verdict in load_audit(tmp_path).verdicts] == ["control"]


def test_a_climb_never_falls_where_it_climbs_and_makes_nothing_better() -> None:
    sae = snapshots(INDEPENDENT, ToyRecipe(k=16, steps=40), at=(40,))[0]
    ends = {record.role: record for record in climb(INDEPENDENT, sae, SMALL, metric="move")}
    assert {*ends} == {"before, seen", "after, seen", "before, fresh", "after, fresh"}
    before, after = ends["before, seen"], ends["after, seen"]
    assert after.score("move") >= before.score("move")
    for name in ("atoms", "mcc", "f1"):
        assert after.quality[name] <= before.quality[name] + ROUNDING
    assert after.quality["l0"] == pytest.approx(before.quality["l0"], rel=1.5 * MOST_L0)


def test_the_shipped_audit_prints_a_row_for_every_metric_and_writes_its_page(
    tmp_path: Path,
) -> None:
    told = CliRunner().invoke(cli, ["audit", "--shipped", "--json", "--out", str(tmp_path)])
    assert told.exit_code == 0, told.output
    rows = json.loads(told.stdout)
    assert [row["metric"] for row in rows][:4] == ["T3, sage", "T2", "T1", "T4"]
    page = (tmp_path / "report" / "audit.html").read_text(encoding="utf-8")
    for row in rows:
        assert f"<strong>{row['metric']}</strong>" in page
    assert "sage audit --metric TPP --lens truth" in page
    for name in ("metric-against-l0", "metric-against-quality", "probe-against-control"):
        assert (tmp_path / "report" / "figures" / "audit" / f"{name}.csv").is_file()


def test_what_stands_beside_scores_is_what_the_audit_concluded() -> None:
    audit = shipped_audit()
    assert audit is not None
    words = {label: audit.verdict(metric) for metric, label in HEADLINES.items()}
    expected = [
        f"{label}, by the audit of {audit.date}: {verdict}."
        for label, verdict in words.items()
        if verdict is not None and verdict.word != "use"
    ]
    assert verdict_notes() == expected


def test_parts_are_told_apart_by_their_names() -> None:
    names = [unit.name for unit in units(FULL, LENSES)]
    assert len(set(names)) == len(names)
    assert Unit("transfer", "nested", "").name == "transfer, nested"
