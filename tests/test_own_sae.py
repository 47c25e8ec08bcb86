"""docs/own-sae.md: an SAE that trains is scored on the way, as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "own-sae.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_a_training_loop_scores_its_sae_every_hundred_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder trained to reconstruct takes names further than the random one it began with."""
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path))
    (example,) = (code for code in EXAMPLES if "for step in" in code)
    names: dict[str, Any] = {}
    exec(example, names)
    moves = names["moves"]
    assert list(moves) == [0, 100, 200]
    assert all(0 <= move <= 1 for by_contrast in moves.values() for move in by_contrast.values())
    assert moves[200]["name"] > moves[0]["name"]
    kinds = {path.parent.name for path in tmp_path.rglob("*.safetensors")}
    assert {"discovery", "features"} <= kinds


def test_every_example_of_the_page_is_python() -> None:
    for example in EXAMPLES:
        compile(example, "docs/own-sae.md", "exec")
