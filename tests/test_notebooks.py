"""The notebooks run from start to end, say what is true, and are committed as they ran."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"

# What each notebook tells, asked of its own variables where it ends.
CLAIMS = {
    "composite": """
assert all(fall["T3"] > 0.3 for fall in small.falls().values())
assert all(fall["T4"] < 0.3 for fall in small.falls().values())
atoms, composites = larger.saes
assert composites.latents.share("composite") > atoms.latents.share("composite") + 0.3
assert atoms.scores["interpretable"] > composites.scores["interpretable"] + 0.3
assert {sae.architecture for sae in small.saes} == {"topk", "relu", "gated"}
""",
    "score_an_sae_release": """
scores = controls.loc["tiny-neox/topk4"]
assert scores.sage["supervised"] > scores.sage["tiny-neox/topk4"] > scores.sage["text lookup"]
assert scores.T2["tiny-neox/topk4"] > max(scores.T2["PCA"], scores.T2["random"])
assert abs(scores.sage["shuffled labels"]) < 0.02
assert any(note.startswith("plan quick: pairs 50 instead of 500") for note in result.notes)
assert len(table) == len(result.rows)
""",
    "add_a_task": """
assert (found.summary["gate"], larger.summary["gate"]) == ("passed", "below 0.75")
sections = {name: bool(section.nodes) for name, section in discovery.sections.items()}
assert sections == {"gender": True, "other_gender": False}
assert {entry["what"] for entry in found.dropped} == {"name Zelda", "other Zelda"}
""",
    "read_a_report": """
of_suite = controls.loc["tiny-neox/topk4"]
assert of_suite.sage["task lookup"] > of_suite.sage["text lookup"]
assert of_suite.sage["supervised"] > of_suite.sage["tiny-neox/topk4"]
assert of_suite.sage["shuffled labels"] == 0
assert report.claim == "Nothing is ranked here: a ranking takes 3 tasks, and here there is 1."
assert all(status.startswith("undefined") for status in rows.status[rows.value.isna()])
""",
    # Offline, so on tiny-gpt2: all eight heads of its last two layers.
    "on_real_models": """
assert (model.name, model.sink, found.summary["gate"]) == ("tiny-gpt2", True, "passed")
assert (len(heads), len(prompts)) == (8, 32)
assert heads.loc["2.1", "attends to"].startswith("S2")
assert heads.direct.idxmax() == "2.1"
assert (norms.typical > 0).all()
""",
}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_notebook_runs_and_what_it_tells_holds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = _read(name)
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS[name]))
    NotebookClient(
        notebook,
        timeout=280,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()


def test_every_notebook_is_run_here() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(CLAIMS)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_notebook_is_committed_as_it_ran_from_the_top_with_outputs_that_are_small(
    name: str,
) -> None:
    cells = [cell for cell in _read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.get("name", output.output_type) for output in outputs} <= {
        "stdout",
        "execute_result",
        "display_data",
    }
    assert re.findall(r"(?<![\w<.:/-])/(?:tmp|home|root|work|Users|var)\b\S*", str(outputs)) == []
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 100_000


def _read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
