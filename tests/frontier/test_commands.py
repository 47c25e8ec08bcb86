"""`sage fidelity` and `sage frontier` as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sage.cli import cli
from sage.errors import SageError
from sage.fidelity.measures import MEASURES
from sage.fidelity.result import LATENT_MEASURES
from sage.fidelity.result_file import save_fidelity
from tests.fidelity.by_hand import measured_sae, result

TEXT = """When Mary and John went to the store, John gave a book to Mary
Then Alice and Bob went to the school, and Bob gave a drink to Alice
The boys near the teacher are here
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a measurement, and what was printed."""
    folder = tmp_path_factory.mktemp("fidelity")
    text = folder / "text.txt"
    text.write_text(TEXT)
    suites = [f"--sae=tiny-neox/{name}" for name in ("topk4", "topk8", "topk16", "relu")]
    return folder, _run(
        "fidelity", "--model", "tiny-neox", *suites, "--text", text, "--out", folder / "out"
    )


def _run(*arguments: str | Path) -> Result:
    invocation = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(invocation.exception, SageError):
        raise invocation.exception
    return invocation


def test_fidelity_prints_every_suite_with_errors(measured: tuple[Path, Result]) -> None:
    folder, printed = measured
    assert printed.exit_code == 0
    assert "3 sequences, every next token" in printed.stdout
    for told in ("tiny-neox/topk16", "mean over 2 hooks", "loss recovered (mean)", "FVU", " ± "):
        assert told in printed.stdout
    assert f"Wrote {folder / 'out' / 'fidelity.json'}" in printed.stderr


def test_fidelity_prints_every_number_for_machines(measured: tuple[Path, Result]) -> None:
    folder, _ = measured
    text = folder / "text.txt"
    given = ("--model", "tiny-neox", "--sae", "tiny-neox/topk4/1.resid_pre", "--text", text)
    rows = json.loads(_run("fidelity", *given, "--json", "-q").stdout)
    assert [row["measure"] for row in rows] == [*MEASURES, *LATENT_MEASURES]
    before = json.loads((folder / "out" / "fidelity.json").read_text())["rows"]
    same = {row["measure"]: row["value"] for row in before if row["sae"] == rows[0]["sae"]}
    assert {row["measure"]: row["value"] for row in rows} == pytest.approx(same, rel=1e-5)


def test_fidelity_says_where_ablation_loses_nothing() -> None:
    """At the last token of a task the stream before it may hold nothing that counts."""
    given = ("--model", "tiny-neox", "--sae", "tiny-neox/topk4", "--task", "gendered_pronoun")
    printed = _run("fidelity", *given, "--prompts", "20", "--each", "-q").stdout
    assert "the answer at END" in printed
    assert "is not seen to lose anything here" in printed


def test_one_sequence_has_no_error(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The boys near the teacher are here")
    with pytest.raises(SageError, match="has one sequence"):
        _run("fidelity", "--model", "tiny-neox", "--sae", "tiny-neox/topk4", "--text", text)


def test_text_and_tasks_are_not_mixed(measured: tuple[Path, Result]) -> None:
    text = measured[0] / "text.txt"
    refused = _run(
        "fidelity", "--model", "tiny-neox", "--sae", "tiny-neox/topk4", "--text", text, "--task",
        "ioi",
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "not both" in refused.stderr


def test_frontier_prints_its_table_and_writes_pictures(
    measured: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, _ = measured
    printed = _run("frontier", folder, "--out", tmp_path)
    assert printed.exit_code == 0
    assert max(map(len, printed.stdout.splitlines())) <= 80
    assert "No curve for relu; topk" in printed.stdout
    assert f"Wrote {tmp_path / 'frontier-fidelity.svg'}" in printed.stderr
    data = json.loads(_run("frontier", folder, "--out", tmp_path, "--json", "-q").stdout)
    assert len(data["fidelity"]["points"]) == 4


def test_frontier_prints_what_json_can_say(tmp_path: Path) -> None:
    """Four SAEs are too few for the AICc of two parameters."""
    saes = [measured_sae("relu", f"relu{l0:g}", l0, 1 / (1 + l0)) for l0 in (2.0, 4.0, 8.0, 16.0)]
    save_fidelity(result(saes), tmp_path)
    given = ("frontier", tmp_path, "--out", tmp_path / "out", "--over", "saes", "--json", "-q")
    curves = json.loads(_run(*given).stdout, parse_constant=pytest.fail)["fidelity"]["curves"]
    scores = {row["curve"]: row["AICc"] for row in curves}
    assert scores["hill"] is None
    assert scores["hill1"] is not None
    assert {row["over"] for row in curves} == {"SAEs"}


@pytest.mark.parametrize(
    "options", [("--each-hook",), ("--relative",), ("--over", "saes"), ("--without", "*relu")]
)
def test_frontier_takes_its_options(
    measured: tuple[Path, Result], tmp_path: Path, options: tuple[str, ...]
) -> None:
    printed = _run("frontier", measured[0], "--out", tmp_path, "--curve", "hill1", *options, "-q")
    assert printed.exit_code == 0
