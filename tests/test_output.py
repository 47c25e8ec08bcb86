"""What commands print: tables that fit a terminal, whole lines in a pipe, help with examples."""

from __future__ import annotations

import shlex

import click
import pytest
from click.testing import CliRunner

from sage.cli import cli, output
from sage.cli.examples import EXAMPLES
from sage.cli.output import print_rows, short_number, with_interval

ROWS = [
    {
        "suite": f"topk8-soft-frozen-{number}",
        "what it says": "one two three four five six seven eight nine ten eleven",
        "source": "https://example.org/an/address/that/is/far/longer/than/any/column/may/be/here",
        "value": 0.25,
    }
    for number in range(2)
]
WIDE = {f"column {letter}": "x" * 12 for letter in "abcdefgh"}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(output, "terminal_width", lambda: 80)
    return 80


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [click.unstyle(line) for line in capsys.readouterr().out.splitlines()]


def test_in_a_pipe_a_row_is_one_line_with_every_column_in_full(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS, title="Suites", details=("source",))
    title, head, *rows = printed(capsys)
    assert (title, len(rows)) == ("Suites", 2)
    assert head.split() == ["suite", "what", "it", "says", "source", "value"]
    for row, given in zip(rows, ROWS, strict=True):
        assert all(str(given[name]) in row for name in ("suite", "what it says", "source"))


def test_a_terminal_is_not_overrun_and_no_name_is_broken(
    terminal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows(ROWS, title="Suites", details=("source",))
    lines = printed(capsys)
    assert max(map(len, lines)) <= terminal
    assert all(any(str(row["suite"]) in line for line in lines) for row in ROWS)
    assert not any("https" in line for line in lines)
    assert lines[-1] == "(--wide also shows: source)"


def test_columns_beyond_the_width_stand_in_blocks_beside_the_first(
    terminal: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight columns of 12 and a name of 4: (80 - 4) // 14 = 5 fit, so there are two blocks."""
    print_rows([{"name": "topk", **WIDE}], title="Wide")
    lines = printed(capsys)
    assert max(map(len, lines)) <= terminal
    assert [line.split()[0] for line in lines[1:] if line] == ["name", "topk"] * 2
    assert "\n".join(lines).count("x" * 12) == len(WIDE)


def test_wide_shows_what_is_left_out(terminal: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, title="Suites", details=("source",), wide=True)
    lines = printed(capsys)
    assert sum(str(ROWS[0]["source"]) in line for line in lines) == 2
    assert terminal == 80


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.234, ".23"), (-0.05, "-.05"), (1.0, "1.00"), (0.0, ".00"), (None, "-"), (-1.25, "-1.25")],
)
def test_a_score_has_no_zero_before_its_point(value: float | None, told: str) -> None:
    assert short_number(value) == told


def test_an_interval_stands_beside_its_score_where_there_is_one() -> None:
    assert with_interval(0.23, 0.2, 0.26) == ".23 [.20, .26]"
    assert with_interval(0.23, None, None) == ".23"


def test_the_help_of_every_command_fits_80_columns_and_cuts_no_sentence() -> None:
    for arguments in ([], *([name] for name in cli.commands)):
        shown = CliRunner().invoke(cli, [*arguments, "--help"], terminal_width=80).stdout
        assert max(map(len, shown.splitlines())) <= 80, arguments
        listed = shown.partition("\nCommands:\n")[2].partition("\n\n")[0]
        assert "..." not in listed


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_of_the_help_is_a_command_that_parses(name: str) -> None:
    shown = CliRunner().invoke(cli, [name, "--help"], terminal_width=120).stdout
    for example in EXAMPLES[name]:
        assert example in shown
        sage, command, *arguments = shlex.split(example)
        assert (sage, command) == ("sage", name)
        named = cli.commands[command]
        if isinstance(named, click.Group):
            named = named.commands[arguments.pop(0)]
        context = click.Context(named, info_name=command, **named.context_settings)
        _, rest, _ = named.make_parser(context).parse_args(list(arguments))
        assert [argument for argument in rest if argument.startswith("-")] == []
