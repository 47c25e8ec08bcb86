"""What docs/method.md and CONTRIBUTING.md say: sections that are cited exist, examples work."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sage.circuits.catalog import load_circuit
from sage.cli import cli
from sage.task.catalog import load_task

ROOT = Path(__file__).parents[1]
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
LONGEST_LINE = 140

SECTIONS = re.findall(r"^##+ (\d+(?:\.\d+)?) \S", METHOD, re.MULTILINE)
NUMBERED = [
    *("0", "1"),
    *("2", "2.1", "2.2", "2.3", "2.4", "2.5"),
    *("3", "4"),
    *("5", "5.1", "5.2", "5.3", "5.4", "5.5", "5.6", "5.7", "5.8", "5.9"),
    *("6", "7", "8", "9", "10"),
]

_NUMBERS = r"\d+(?:\.\d+)*(?:(?:,|,?\s+and|,?\s+to)\s+\d+(?:\.\d+)*)*"
_CITATION = re.compile(
    rf"(?P<ours>\b[Mm]ethod(?:'s)?,?\s+)?\b[Ss]ections?\s+(?P<sections>{_NUMBERS})"
    rf"(?P<ours_too>\s+of\s+the\s+method)?(?:,\s+points?\s+(?P<points>{_NUMBERS}))?"
)
_PUBLISHED = re.compile(r"\b(?:19|20)\d\d\b|\b\d{4}\.\d{4,5}\b")
_CLAUSE_ENDS = re.compile(r";|\n\s*\n|\"\"\"|[.:?!]\s+(?=[A-Z*`])")


def cited(text: str) -> Iterator[str]:
    """The sections of the method that a text cites, `2.3` for point 3 of section 2.

    A section named in the same clause as a year or an arXiv number is that of another publication,
    unless the method is named with it.
    """
    for found in _CITATION.finditer(text):
        clause = _CLAUSE_ENDS.split(text[: found.start() + 1])[-1]
        ours = found["ours"] or found["ours_too"] or not _PUBLISHED.search(clause)
        if ours:
            sections = re.findall(r"\d[\d.]*\b", found["sections"])
            yield from sections
            for point in re.findall(r"\d+", found["points"] or ""):
                yield f"{sections[-1]}.{point}"


def _texts() -> Iterator[tuple[Path, str]]:
    """Everything that may cite the method, but these tests."""
    rooms = [
        path for room in ("sage", "tasks", "tests", "docs") for path in (ROOT / room).rglob("*")
    ]
    for path in sorted([*rooms, *ROOT.glob("*.md")]):
        if path.suffix in (".py", ".md") and path != Path(__file__):
            yield path, path.read_text(encoding="utf-8")


# The file that an example of CONTRIBUTING.md would be -> its text.
EXAMPLES = dict(
    re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", CONTRIBUTING, re.MULTILINE | re.DOTALL)
)
# What an example in Python defines, by the folder it would be in.
DEFINES = {
    "sage/models/families": "family",
    "sage/saes/architectures": "architecture",
    "sage/saes/formats": "load",
    "sage/scores": "SCORE",
    "sage/dictionaries/controls": "make",
    "sage/report/figures": "figure",
}

CITED = [(path, section) for path, text in _texts() for section in cited(text)]


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("of the attributes (method, section 1).", ["1"]),
        ("Method, section 4. With the clean scale", ["4"]),
        ("the moves of the method, section 5.3, at a site", ["5.3"]),
        ("wrapped in a docstring (method,\n    section 5, T2)", ["5"]),
        ("(method, section\n    2.3)", ["2.3"]),
        ("Words are those of the method, sections 0 and 1.", ["0", "1"]),
        ("measured on test (method, sections 1, 5 and 6)", ["1", "5", "6"]),
        ("Section 2 of the method. Candidates are ranked", ["2"]),
        ("by the method's section 3", ["3"]),
        ("the same label and the same length (section 2.3).", ["2.3"]),
        (
            "Method, section 1, with the null of section 6 and the groups of section 2.4",
            ["1", "6", "2.4"],
        ),
        ("Section 2 of the method, point 3. A plain mean", ["2", "2.3"]),
        ("Section 2 of the method, points 2 and 3.", ["2", "2.2", "2.3"]),
        ("method, section 2, point 1", ["2", "2.1"]),
        ("there is none (method, section 11)", ["11"]),
        ("(Makelov, Lange and Nanda 2024, section 4.2)", []),
        ("after Makelov (arXiv 2405.08366, section 5.1): greedy", []),
        ("bounded, not guessed (Higham 2002, sections 2.1 and 3.1).", []),
        ("(AtP*, Kramár et al. 2024, section 3.1.1; method, section 2, point 1)", ["2", "2.1"]),
        ("Method, section 5 (T2), after Makelov 2024 (arXiv 2405.08366, section 5.1)", ["5"]),
        ("Hanna et al. 2024 (2403.17806). Section 6 explains it", ["6"]),
        ("sections of a contrast, section by section, 3 sections", []),
    ],
)
def test_a_citation_is_read_for_what_it_is(text: str, sections: list[str]) -> None:
    assert list(cited(text)) == sections


def test_the_method_keeps_its_numbers() -> None:
    assert SECTIONS == NUMBERED


def test_the_code_cites_the_method() -> None:
    """A pattern that matches nothing would pass every other test here."""
    assert len([path for path, _ in CITED if path.suffix == ".py"]) > 40


def test_every_section_that_is_cited_exists() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: section {section}"
        for path, section in CITED
        if section not in SECTIONS
    ]
    assert missing == []


def test_lines_of_the_method_fit_a_page() -> None:
    long = [n for n, line in enumerate(METHOD.splitlines(), 1) if len(line) > LONGEST_LINE]
    assert long == []


def test_the_folders_and_files_that_contributing_names_exist() -> None:
    named = set(re.findall(r"`((?:sage|tasks|circuits|tests)/[\w./]*)`", CONTRIBUTING))
    assert "tests/test_structure.py" in named
    missing = {name for name in named - set(EXAMPLES) if not (ROOT / name).exists()}
    assert missing == set()
    assert not any((ROOT / name).exists() for name in EXAMPLES)


def test_the_commands_of_contributing_exist() -> None:
    named = set(re.findall(r"^    sage ([a-z-]+)", CONTRIBUTING, re.MULTILINE))
    assert {"tasks", "check", "score", "report", "train-sae"} <= named
    assert named <= set(cli.commands)


def test_the_task_of_contributing_is_one(tmp_path: Path) -> None:
    task = load_task(str(_write("tasks/pronoun_because.py", tmp_path)))
    assert task.name == "pronoun_because"
    assert task.changes_answer("gender")


def test_the_circuit_of_contributing_is_one(tmp_path: Path) -> None:
    circuit = load_circuit(str(_write("circuits/ioi_movers.toml", tmp_path)))
    assert (circuit.task, len(circuit.heads)) == ("ioi", 7)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("sage/")])
def test_an_example_of_contributing_is_a_module_of_its_room(name: str, tmp_path: Path) -> None:
    """It is imported under the name it would have, and defines what its room asks for."""
    module = name.removesuffix(".py").replace("/", ".")
    spec = importlib.util.spec_from_file_location(module, _write(name, tmp_path))
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules[module] = example
    try:
        spec.loader.exec_module(example)
    finally:
        del sys.modules[module]
    assert hasattr(example, DEFINES[str(Path(name).parent)])
    assert (example.__doc__ or "").partition("\n")[0].endswith((".", "?"))


def _write(example: str, folder: Path) -> Path:
    path = folder / Path(example).name
    path.write_text(EXAMPLES[example], encoding="utf-8")
    return path
