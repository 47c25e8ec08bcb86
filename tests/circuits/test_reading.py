"""What a circuit's TOML file may say, and what is said where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.circuits.circuit import Circuit, Group
from sage.circuits.reading import read_circuit
from sage.errors import BadFile

MINIMAL = """
task = "toy"
model = "tiny"
source = "Nobody 2020"
where = "Table 1"
heads_total = 6
[[groups]]
role = "mover"
heads = ["1.0", "1.1"]
"""


def load(text: str, folder: Path) -> Circuit:
    (folder / "toy.toml").write_text(text, encoding="utf-8")
    return read_circuit(folder / "toy.toml")


def test_a_minimal_file_is_a_circuit_named_after_it(tmp_path: Path):
    assert load(MINIMAL, tmp_path) == Circuit(
        "toy", "toy", "tiny", "Nobody 2020", "Table 1", 6, (Group("mover", ("1.0", "1.1")),)
    )


def test_disputed_may_be_a_whole_group_or_an_mlp(tmp_path: Path):
    assert load(MINIMAL + "mlps = [2]\ndisputed = true\n", tmp_path).disputed == {
        "1.0",
        "1.1",
        "2.mlp",
    }
    assert load(MINIMAL + 'mlps = [2]\ndisputed = ["2.mlp"]\n', tmp_path).disputed == {"2.mlp"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "heads_total",
            "heads_totl",
            r"toy\.toml: No key is named 'heads_totl'\. Did you mean 'heads_total'",
        ),
        ("role =", "roll =", r"groups\[0\]: No key is named 'roll'\. Did you mean 'role'"),
        ('where = "Table 1"', "", r"toy\.toml: the key 'where' is missing; expected text"),
        ('role = "mover"', "", r"groups\[0\]: the key 'role' is missing"),
        ('source = "Nobody 2020"', 'source = ""', r"'source' is ''; expected text"),
        (
            "heads_total = 6",
            'heads_total = "6"',
            r"'heads_total' is '6'; expected the number of heads",
        ),
        ("heads_total = 6", "heads_total = true", r"'heads_total' is True"),
        ("heads_total = 6", "heads_total = 1", r"'heads_total' is 1; expected at least 2"),
        ('"1.1"', '"1,1"', r"groups\[0\]: 'heads' is \['1\.0', '1,1'\]; expected a list of heads"),
        ('"1.1"', '"1.01"', r"expected a list of heads"),
        ('"1.1"', '"1.0"', r"expected a list of heads, layer\.head, each once"),
        ('heads = ["1.0", "1.1"]', "", r"groups\[0\] \('mover'\) has neither 'heads' nor 'mlps'"),
        ('heads = ["1.0", "1.1"]', "heads = []", r"has neither 'heads' nor 'mlps'"),
        ('heads = ["1.0", "1.1"]', 'mlps = ["1"]', r"'mlps' is \['1'\]; expected a list of layers"),
        (
            'role = "mover"',
            'role = "mover"\nfeeds = ["movr"]',
            r"'feeds' has 'movr'.*Did you mean 'mover'",
        ),
        (
            'role = "mover"',
            'role = "mover"\ndisputed = ["2.2"]',
            r"'disputed' has '2\.2'; expected members of the group: 1\.0, 1\.1",
        ),
        (
            'role = "mover"',
            'role = "mover"\ndisputed = false',
            r"'disputed' is False; expected true, or a list",
        ),
        ("[[groups]]", "[groups]", r"'groups' is .*; expected \[\[groups\]\] tables"),
        ('task = "toy"', 'task = "toy', r"toy\.toml cannot be read as TOML"),
    ],
)
def test_a_bad_file_is_refused_with_the_key_what_stands_there_and_what_should(
    old: str, new: str, message: str, tmp_path: Path
):
    assert MINIMAL.count(old) == 1
    with pytest.raises(BadFile, match=message):
        load(MINIMAL.replace(old, new), tmp_path)


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(BadFile, match=r"There is no file .*none\.toml"):
        read_circuit(tmp_path / "none.toml")
