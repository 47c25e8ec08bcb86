"""The commands on the pages are carried out, page by page, as far as they cost next to nothing.

Results that a page's commands read are made by hand. Of `sage score` on a model that ships all is
done but the scoring: its model, tasks and suites are loaded, and the README's is estimated.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import sage.models.load
from pages import COMMANDS, NAMED
from report.by_hand import make_result, write_results
from sage.cells import Cell, ScoredCell
from sage.cli import cli
from sage.saes.suite import Suite

DOWNLOADS = "weights of the model are downloaded"
SECONDS = "takes five seconds or more"
ALIKE = "another of its kind is carried out"
CLUSTER = "needs Ray, and a cluster"
# Commands that are not carried out -> why; test_readme.py parses these too. Each is the beginning
# of a line, and of no line that is carried out.
NOT_RUN = {
    "score ioi subject_verb_agreement --model gpt2-small": DOWNLOADS,
    "score ioi --model pythia-70m-deduped": DOWNLOADS,
    "score ioi --model gemma-2-2b": DOWNLOADS,
    "score subject_verb_agreement gendered_pronoun greater_than --model tiny-gpt2": ALIKE,
    "score gendered_pronoun subject_verb_agreement greater_than country_capital": ALIKE,
    "score gendered_pronoun country_capital successor": ALIKE,
    "score ioi --model tiny-gpt2 --sae tiny-gpt2 --plan quick --screen": SECONDS,
    "report out/sizes": ALIKE,
    "report out/first": ALIKE,
    "compare out/sizes --out": ALIKE,
    "tasks --model gpt2-small": DOWNLOADS,
    "discover ioi --model gpt2-small": DOWNLOADS,
    "discover my_task.py": SECONDS,
    "audit --quick": SECONDS,
    "audit --metric": SECONDS,
    "probe": SECONDS,
    "fidelity": SECONDS,
    "sweep sweep.toml --dry-run": SECONDS,
    "sweep sweep.toml --workers": SECONDS,
    "sweep sweep.toml --screen": SECONDS,
    "sweep sweep.toml --ray": CLUSTER,
    "toy composite": SECONDS,
    "real": DOWNLOADS,
}
# Whole lines of that kind: others begin like them.
NOT_RUN_ALONE = {"audit": SECONDS}
# Those of sentences that are carried out; others are names, or need what a reader puts in.
IN_SENTENCES = ("models", "cache", "--help", "sweep --example > sweep.toml")
ESTIMATED = "score gendered_pronoun --model tiny-gpt2"
RUN = {
    line: page
    for page, line in COMMANDS
    if not line.startswith(tuple(NOT_RUN)) and line not in NOT_RUN_ALONE
}
Carry = Callable[[str], Result]
load_once = cache(sage.models.load.load_model)


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Carry:
    """Carry a command out, in a folder with the results and files that pages speak of."""
    results = [make_result({"topk": 0.5, "relu": 0.25}, model=model) for model in ("tiny", "large")]
    for name in ("out/jb", "out/fidelity"):
        write_results(tmp_path / name, results[0])
    write_results(tmp_path / "out" / "sizes", *results)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Cell, "score", scored_by_hand)
    monkeypatch.setattr(sage.models.load, "load_model", load_once)

    def carry(line: str) -> Result:
        words, _, target = line.partition(" > ")
        made = CliRunner().invoke(cli, shlex.split(words), catch_exceptions=False)
        if target:
            Path(target).write_text(made.stdout)
        return made

    return carry


def scored_by_hand(cell: Cell, suites: Sequence[Suite], **_how: Any) -> ScoredCell:
    names = tuple(suite.id for suite in suites)
    result = make_result(
        dict.fromkeys(names, 0.5),
        task=cell.task.name,
        model=cell.model.name,
        seed=cell.plan.seed,
    )
    return ScoredCell(result, cell.folder, (), names)


def test_what_is_not_carried_out_stands_on_a_page() -> None:
    lines = [line for _, line in COMMANDS]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []
    assert lines.count("audit") == 1


@pytest.mark.parametrize("page", dict.fromkeys(RUN.values()))
def test_the_commands_of_a_page_work_one_after_another(page: str, carried: Carry) -> None:
    for line in (line for line, at in RUN.items() if at == page):
        is_estimated = line.startswith(ESTIMATED)
        quiet = " -q" if line.startswith("score") and not is_estimated else ""
        made = carried(line + quiet)
        assert (line, made.exit_code) == (line, 0), made.output
        assert made.stdout or " --out " in line or line.startswith("new-task"), line
        assert ("This will take about" in made.stderr) == is_estimated


@pytest.mark.parametrize("line", IN_SENTENCES)
def test_a_command_of_a_sentence_works(line: str, carried: Carry) -> None:
    assert any(line in named for named in NAMED.values())
    made = carried(line)
    assert made.exit_code == 0, made.output
    assert Path("sweep.toml").read_text() if ">" in line else made.stdout
