"""Settings in TOML: written below what they are for, read back equal, refused by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage.errors import BadFile, UnknownName
from sage.settings_file import FileSetting, check_tables, read_table, write_table

SETTINGS = {
    "pairs": FileSetting("number", "Pairs to test on."),
    "fit": FileSetting("number or default", "Prompts to fit on."),
    "thorough": FileSetting("yes or no", "Whether all is measured."),
    "base": FileSetting("text", "The plan.", ("quick", "full")),
    "tasks": FileSetting("texts", "Names."),
    "copying": FileSetting("numbers", "Numbers of latents."),
}
VALUES = {
    "pairs": 40,
    "fit": None,
    "thorough": False,
    "base": "quick",
    "tasks": ("ioi", 'a "b"\\c'),
    "copying": (),
}


def file(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_setting_stands_below_what_it_is_for() -> None:
    assert write_table(VALUES, SETTINGS).splitlines() == [
        "# Pairs to test on.",
        "pairs = 40",
        "# Prompts to fit on.",
        'fit = "default"',
        "# Whether all is measured.",
        "thorough = false",
        "# The plan. One of: quick, full.",
        'base = "quick"',
        "# Names.",
        r'tasks = ["ioi", "a \"b\"\\c"]',
        "# Numbers of latents.",
        "copying = []",
    ]


def test_what_was_written_is_read_back_at_the_top_and_in_a_table(tmp_path: Path) -> None:
    text = write_table(VALUES, SETTINGS)
    assert read_table(file(tmp_path, text), SETTINGS) == VALUES
    assert read_table(file(tmp_path, f"x = 1\n[plan]\n{text}"), SETTINGS, table="plan") == VALUES
    assert read_table(file(tmp_path, "[other]\nx = 1"), SETTINGS) == {}
    assert read_table(file(tmp_path, ""), SETTINGS, table="plan") == {}


@given(text=st.text())
def test_any_text_is_read_back_as_it_was(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    written = write_table({"tasks": (text,)}, SETTINGS)
    assert tomllib.loads(written) == {"tasks": [text]}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('pairs = "many"', r"plan\.pairs is 'many'\. It must be a whole number"),
        ("pairs = true", "plan.pairs is True"),
        ("pairs = -1", "plan.pairs is -1"),
        ("pairs = 2.5", "plan.pairs is 2.5"),
        ('fit = "all"', '"default"'),
        ("thorough = 1", "true or false"),
        ("base = 7", "text in quotes"),
        ('tasks = "ioi"', r"a list of texts, such as \[\"ioi\"\]"),
        ('copying = [1, "4"]', "a list of whole numbers"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_key_and_file_and_what_is_possible(
    tmp_path: Path, line: str, says: str
) -> None:
    with pytest.raises(BadFile, match=says) as refused:
        read_table(file(tmp_path, f"[plan]\n{line}"), SETTINGS, table="plan")
    assert "run.toml" in str(refused.value)


def test_unknown_keys_values_and_tables_are_refused_with_those_there_are(tmp_path: Path) -> None:
    path = file(tmp_path, "[plan]\npair = 40\n")
    with pytest.raises(UnknownName, match=r"run\.toml.*'plan\.pair'.*'plan\.pairs'"):
        read_table(path, SETTINGS, table="plan")
    with pytest.raises(UnknownName, match=r"base in .*run\.toml.*'quik'.*'quick'"):
        read_table(file(tmp_path, 'base = "quik"'), SETTINGS)
    with pytest.raises(UnknownName, match=r"table in .*run\.toml.*'plam'.*'plan'"):
        check_tables(file(tmp_path, "[plam]\n"), ("plan",))
    with pytest.raises(BadFile, match=r"plan must be a table"):
        read_table(file(tmp_path, "plan = 3"), SETTINGS, table="plan")


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"no file .*none\.toml.*--save-plan"):
        read_table(tmp_path / "none.toml", SETTINGS)
    with pytest.raises(BadFile, match="cannot be read as TOML"):
        read_table(file(tmp_path, "pairs ="), SETTINGS)
    with pytest.raises(BadFile, match="cannot be read as TOML"):
        read_table(tmp_path, SETTINGS)
