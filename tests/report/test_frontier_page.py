"""The page of frontiers: pictures, fits, what was measured, and commands that work."""

from __future__ import annotations

import re
import shlex
from html import unescape
from pathlib import Path

import click
import pytest

from report.by_hand import make_result
from sage.cli import cli
from sage.fidelity.result_file import save_fidelity
from sage.frontier.panels import FrontierSettings
from sage.report.frontier_page import fidelity_table, write_frontier_page
from sage.report.frontiers import read_frontiers
from sage.report.write import write_report
from sage.result_file import save_result
from tests.fidelity.by_hand import measured_sae, result

SAES = [measured_sae("relu", f"relu{l0:g}", l0, 1 / (1 + l0)) for l0 in (2.0, 4.0, 8.0, 16.0)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of four SAEs whose hit is 1/(1 + L0)."""
    folder = tmp_path_factory.mktemp("page")
    save_fidelity(result(SAES), folder / "fidelity")
    found = read_frontiers([folder / "fidelity"], FrontierSettings(over="SAEs"))
    return write_frontier_page(folder, "index.html", found.pictures, found.fidelity)[-1]


def links(page: Path) -> list[str]:
    return re.findall(r'(?:src|href)="([^"#]+)"', page.read_text(encoding="utf-8"))


def test_every_file_that_the_page_shows_is_there(page: Path) -> None:
    shown = [link for link in links(page) if link.startswith("frontier-")]
    assert {Path(link).suffix for link in shown} == {".svg", ".csv"}
    assert all((page.parent / link).is_file() for link in shown)


def test_the_curve_and_what_must_be_said_of_it_stand_below_the_picture(page: Path) -> None:
    text = unescape(page.read_text(encoding="utf-8"))
    assert "Fitted curves" in text
    assert "half at L0" in text
    assert "relu: AICc" in text


def test_every_suite_is_measured_with_its_error() -> None:
    table = fidelity_table(result(SAES))
    assert [row[0].text for row in table.rows] == [f"relu{l0}" for l0 in (2, 4, 8, 16)]
    l0, recovered = table.rows[1][2:4]
    assert l0.text == "4.0"
    assert recovered.order == pytest.approx(1 - 1 / 5, abs=1e-6)
    assert recovered.beside.startswith("± ")


def test_the_commands_on_the_page_are_commands_of_sage(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    commands = [unescape(found) for found in re.findall(r"<code>(sage .*?)</code>", text)]
    assert [any(f"--{way} " in command for command in commands) for way in ("text", "task")] == [
        True,
        True,
    ]
    for command in commands:
        name, *arguments = shlex.split(command)[1:]
        given = [__file__ if argument == "FILE" else argument for argument in arguments]
        given = [str(page.parent) if argument == "out/text" else argument for argument in given]
        parsed = cli.commands[name].make_context(name, given)
        assert isinstance(parsed, click.Context)


def test_a_report_has_the_page_and_all_pages_lead_to_it(tmp_path: Path) -> None:
    scored = make_result({"tiny/topk4": 0.5, "tiny/topk8": 0.6})
    save_result(scored, tmp_path / "in" / "ioi--tiny")
    save_fidelity(result(SAES), tmp_path / "in" / "fidelity")
    first = write_report([tmp_path / "in"], tmp_path / "out").page
    frontiers = first.with_name("frontiers.html")
    assert "frontiers.html" in links(first)
    assert all((frontiers.parent / link).is_file() for link in links(frontiers) if ":" not in link)
    text = frontiers.read_text(encoding="utf-8")
    assert "performance hit" in text.lower()
    assert "interpretable control" in text
