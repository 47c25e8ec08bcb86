"""What the README and the pages of docs/ show works as it stands on the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from benchmarks import readme_numbers
from pages import COMMANDS, PAGES, ROOT
from report.by_hand import three_tasks, write_results
from sage.circuits.catalog import load_circuit
from sage.cli import cli
from sage.models.catalog import known_models
from sage.saes.releases import suite_specs
from sage.task.catalog import load_task

TEXT = PAGES["README.md"]
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_task_of_the_readme_loads_and_has_the_positions_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file, use = PYTHON
    (tmp_path / "who_got_it.py").write_text(file, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(use, names)
    assert getattr(names["task"], "position_names", None) == (
        "IO",
        "S1",
        "place",
        "S2",
        "object",
        "END",
    )
    assert len(file.splitlines()) <= 25


def test_the_python_of_the_readme_scores_an_sae_above_random_directions() -> None:
    names: dict[str, Any] = {}
    exec(PYTHON[0], names)
    rows = {row["dictionary"]: row for row in names["result"].controls()}
    assert rows["tiny-neox/topk4"]["sage"] > 2 * rows["task lookup"]["sage"]
    assert rows["tiny-neox/topk4"]["T2"] > 2 * rows["random"]["T2"]
    assert rows["supervised"]["sage"] > 0.5
    (row,) = names["result"].overview()
    assert {"L0", "reach", "best control", "gain", "supervised", "T2"} <= set(row)


def test_the_table_of_the_readme_is_filled_from_the_results_of_a_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results(tmp_path, *three_tasks({"topk": 0.5, "relu": 0.25}))
    readme_numbers.main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        "| suite | L0 | reach | tasks | sage [95 %] | best control | gain [95 %] | supervised |"
        " T2 | T1 | T4 | move |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        "| tiny/topk | 8.0 | 1.00 | 3 | .50 [.48, .52] | .20 | .30 [.28, .32] | .95 |"
        " .50 | .50 | .50 | .50 |",
        "| tiny/relu | 12.0 | 1.00 | 3 | .25 [.23, .27] | .20 | .05 [.03, .07] | .95 |"
        " .25 | .25 | .25 | .25 |",
    ]
    filled = readme_numbers.filled(TEXT, printed)
    assert f"{readme_numbers.START}\n{printed}{readme_numbers.END}" in filled
    assert readme_numbers.filled(filled, printed) == filled


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_a_page_is_one_that_sage_takes(page: str, line: str) -> None:
    name, *words = shlex.split(line)
    command = cli.commands[name]
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    given = _options(command, words)
    if page != "README.md":
        return
    for task in given.get("tasks", [given["task"]] if "task" in given else []):
        assert load_task(task).name == task
    assert given.get("model") in {None, *(model.name for model in known_models())}
    assert all(suite_specs(spec) for spec in given.get("specs", []))


def test_the_pages_show_the_options_of_scoring() -> None:
    given = {word for _, line in COMMANDS for word in line.split() if word.startswith("--")}
    assert {"--plan", "--nulls", "--screen", "--seeds", "--out"} <= given
    assert "`--again`" in PAGES["score-a-release.md"]


def test_the_readme_shows_how_to_score_and_how_to_report() -> None:
    shown = {line.split()[0] for page, line in COMMANDS if page == "README.md"}
    assert shown >= {"score", "report", "export"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_named_in_a_sentence_exist(page: str) -> None:
    named = set(re.findall(r"`sage ([a-z][a-z-]+)", PAGES[page]))
    assert named <= set(cli.commands)
    if page == "README.md":
        assert {"new-task", "check", "train-sae", "fidelity", "frontier"} <= named
        assert load_circuit("ioi").task == "ioi"


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(
        re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert set(re.findall(r"^    make (\w+)", TEXT, re.MULTILINE)) == {"demo", "test"}
    assert set(re.findall(r"\bmake (\w+)`", TEXT)) <= targets
    assert {"demo", "test", "figures"} <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])
    folder = ROOT if page == "README.md" else ROOT / "docs"
    assert [link for link in links if not (folder / link).exists()] == []


def _options(command: click.Command, words: list[str]) -> dict[str, Any]:
    """What a command line gives to each parameter, without converting it: an unknown option raises,
    a file need not exist."""
    context = click.Context(command, info_name=command.name)
    values, left, _ = command.make_parser(context).parse_args(list(words))
    assert left == []
    return {name: value for name, value in values.items() if isinstance(value, str | list | tuple)}
