"""What is kept between runs is never taken for something else: keys under random changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.inputs import fill, model_files
from tests.attack.store_keys import attack_keys, model_of


@pytest.mark.parametrize(("name", "cases"), [("model", 6), ("SAE", 15), ("task", 5), ("plan", 14)])
def test_what_computes_something_else_has_another_key(
    name: str, cases: int, tmp_path: Path
) -> None:
    counts = attack_keys(name, cases, tmp_path)
    assert counts["stale"] == 0
    assert counts["another key or the same value"] > 0


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("config.json", b'"layer_norm_epsilon": 1e-05', b'"layer_norm_epsilon": 0.1'),
        ("config.json", b'"activation_function": "gelu_new"', b'"activation_function": "relu"'),
    ],
)
def test_a_setting_of_a_model_is_in_its_key(
    file: str, before: bytes, after: bytes, tmp_path: Path
) -> None:
    files = dict(model_files())
    fill(tmp_path / "m", files)
    plain = model_of(tmp_path / "m")
    assert before in files[file]
    fill(tmp_path / "m", {**files, file: files[file].replace(before, after)})
    changed = model_of(tmp_path / "m")
    assert changed.value != plain.value
    assert changed.key != plain.key
