"""Fidelity files: read back equal, refused where damaged, brought together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sage.errors import BadFile
from sage.fidelity.measures import COLUMNS
from sage.fidelity.reconstruction import LatentShare
from sage.fidelity.result_file import (
    FIDELITY,
    SUMS,
    fidelity_files,
    join_fidelity,
    load_fidelity,
    save_fidelity,
)
from tests.fidelity.by_hand import measured_sae, result


def test_a_result_is_read_back_equal(tmp_path: Path) -> None:
    before = result([measured_sae("topk", "a", l0=4, hit=0.2), measured_sae("relu", "b", 8, 0.1)])
    path = save_fidelity(before, tmp_path / "out")
    after = load_fidelity(path)
    assert after.rows() == before.rows()
    assert load_fidelity(tmp_path / "out").rows() == before.rows()
    assert (after.model, after.text, after.clusters) == (
        before.model,
        before.text,
        before.clusters,
    )


def test_its_rows_are_there_to_be_read(tmp_path: Path) -> None:
    path = save_fidelity(result([measured_sae("topk", "a", l0=4, hit=0.2)]), tmp_path)
    rows = {row["measure"]: row for row in json.loads(path.read_text())["rows"]}
    assert rows["loss_recovered_mean"]["value"] == pytest.approx(0.8)
    assert rows["l0"]["value"] == pytest.approx(4)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no fidelity result"):
        load_fidelity(tmp_path)
    path = save_fidelity(result([measured_sae("topk", "a", l0=4, hit=0.2)]), tmp_path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema": 99}))
    with pytest.raises(BadFile, match="another version"):
        load_fidelity(path)
    path.write_text(json.dumps({**content, "text": {}}))
    with pytest.raises(BadFile, match=r"text\.source"):
        load_fidelity(path)
    path.write_text(json.dumps({**content, "saes": content["saes"] * 2}))
    with pytest.raises(BadFile, match=r"lacks '1\.columns'"):
        load_fidelity(path)
    (tmp_path / SUMS).unlink()
    with pytest.raises(BadFile, match="missing or damaged"):
        load_fidelity(path)


def test_results_are_found_below_a_folder_but_not_in_hidden_ones(tmp_path: Path) -> None:
    made = result([measured_sae("topk", "a", l0=4, hit=0.2)])
    for folder in ("one", "two", ".unfinished"):
        save_fidelity(made, tmp_path / folder)
    files = fidelity_files([tmp_path, tmp_path / "one" / FIDELITY])
    assert [file.parent.name for file in files] == ["one", "two"]


def test_results_on_one_text_come_together_and_others_stay_apart() -> None:
    first = result([measured_sae("topk", "a", l0=4, hit=0.2)])
    second = result([measured_sae("topk", "a", 4, 0.2), measured_sae("topk", "b", 8, 0.1)])
    elsewhere = replace(first, text=replace(first.text, sha256="other"))
    joined = join_fidelity([first, second, elsewhere])
    assert [[sae.suite for sae in one.saes] for one in joined] == [["a", "b"], ["a"]]


def test_a_suite_leaves_out_hooks_where_a_measure_is_undefined() -> None:
    """Ablation to the mean loses nothing at one of its hooks."""
    defined = measured_sae("topk", "a", l0=4, hit=0.2, hook="1.resid_pre")
    columns = defined.columns.copy()
    columns[:, COLUMNS.index("cross_entropy_mean")] = columns[:, COLUMNS.index("cross_entropy")]
    lost = replace(
        defined, hook="2.resid_pre", columns=columns, dead=LatentShare(0.5, np.array([0.5, 0.5]))
    )
    (suite,) = result([defined, lost]).suites
    assert suite.measures["loss_recovered_mean"].value == pytest.approx(0.8)
    assert suite.undefined["loss_recovered_mean"] == ("2.resid_pre",)
    assert suite.undefined["kl"] == ()
    assert suite.latents["dead"].value == pytest.approx(0.3)
