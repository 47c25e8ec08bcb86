"""The house: who may import whom, and what a module must never do."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import sage
from sage.task.metric import logit_difference

ROOT = Path(__file__).parents[1]

# Rooms are files and folders directly inside sage/, listed from the ground up. A room imports from
# its own layer and from lower ones.
LAYERS = (
    (
        "errors",
        "arguments",
        "version",
        "nodes",
        "stats",
        "progress",
        "work_done",
        "stopwatch",
        "threads",
        "processes",
        "side_by_side",
        "files",
        "memory",
        "settings_file",
        "result",
    ),
    ("task",),
    ("models",),
    ("saes",),
    ("dictionaries",),
    ("circuits",),
    ("discovery",),
    ("scores",),
    (
        "store",
        "cost",
        "run_file",
        "run",
        "recollection",
        "preparation",
        "record",
        "result_file",
        "evaluation",
        "merging",
        "cells",
        "export",
        "screening",
        "seeds",
    ),
    ("fidelity",),
    ("frontier", "audit", "toy"),
    ("zoo",),
    ("report",),
    ("demo", "inspection", "real", "sweep"),
    ("cli", "__init__", "__main__"),
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

# A library that is slow to import, or that only one adapter may know, is imported under these paths
# alone.
HOMES: dict[str, str | tuple[str, ...]] = {
    "transformer_lens": "sage/models/hooked.py",
    "nnsight": "sage/models/traced.py",
    "sae_lens": "sage/saes/",
    "ray": "sage/sweep/on_ray/",
    "datasets": ("sage/task/dataset.py", "sage/fidelity/sequences.py"),
    "networkx": "sage/circuits/",
}
HEAVY = (
    "torch",
    "transformers",
    "transformer_lens",
    "nnsight",
    "sae_lens",
    "datasets",
    "networkx",
    "scipy",
    "matplotlib",
    "pandas",
    "numpy",
)

PICKLES = ("pickle", "cloudpickle", "dill", "joblib", "shelve")
TEXT = (".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".ipynb", ".html", ".css", ".js", "")
MAY_UNPICKLE = "sage/saes/formats/dictionary_learning.py"


class Import(NamedTuple):
    """`target` is a module of sage where it names one, else whatever the code says."""

    source: str
    target: str
    place: str


def _sources(folder: str) -> dict[str, Path]:
    """Module name -> file."""
    return {_dotted(path): path for path in sorted((ROOT / folder).rglob("*.py"))}


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SAGE = _sources("sage")
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SAGE.items()}


def _imports(source: str, tree: ast.Module, path: Path) -> Iterator[Import]:
    """Every import of a module, those inside functions and under TYPE_CHECKING too."""
    package = source if path.name == "__init__.py" else source.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = (
                package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            )
            base = ".".join([*above, *([node.module] if node.module else [])])
            inner = [f"{base}.{alias.name}" for alias in node.names]
            targets = [module if module in SAGE else base for module in inner]
        elif (
            isinstance(node, ast.Call)
            and _last_name(node.func) == "import_module"
            and isinstance(node.args[0], ast.Constant)
        ):
            targets = [str(node.args[0].value)]
        else:
            continue
        for target in targets:
            yield Import(source, target, f"{path.relative_to(ROOT)}:{node.lineno}")


def _last_name(node: ast.expr) -> str:
    return (
        node.attr
        if isinstance(node, ast.Attribute)
        else node.id
        if isinstance(node, ast.Name)
        else ""
    )


IMPORTS = [found for name, tree in TREES.items() for found in _imports(name, tree, SAGE[name])]
INSIDE = [found for found in IMPORTS if found.target.split(".")[0] == "sage"]


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_every_module_has_a_layer() -> None:
    unknown = sorted({_room(module) for module in SAGE} - set(HEIGHT))
    assert not unknown, (
        f"sage/ has rooms without a layer: {unknown}. Put each into LAYERS of "
        "tests/test_structure.py, no lower than what it imports."
    )


def test_imports_point_down_only() -> None:
    known = [
        found for found in INSIDE if _room(found.source) in HEIGHT and _room(found.target) in HEIGHT
    ]
    upward = [
        f"{i.place}: {i.source} imports {i.target}"
        for i in known
        if HEIGHT[_room(i.target)] > HEIGHT[_room(i.source)]
    ]
    assert upward == []


def test_no_import_closes_a_circle() -> None:
    """Within a layer too. A package is not the modules in it: `sage.models` stands for
    sage/models/__init__.py alone."""
    below: dict[str, set[str]] = {module: set() for module in SAGE}
    for found in INSIDE:
        if found.target != found.source:
            below[found.source].add(found.target)
    try:
        graphlib.TopologicalSorter(below).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"These modules import each other in a circle: {' <- '.join(error.args[1])}")


def test_imports_inside_sage_name_modules_that_exist() -> None:
    assert [f"{i.place}: {i.target}" for i in INSIDE if i.target not in SAGE] == []


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_its_home_only(library: str) -> None:
    strays = [
        i.place
        for i in IMPORTS
        if i.target.split(".")[0] == library and not i.place.startswith(HOMES[library])
    ]
    assert strays == []


def test_sage_knows_no_task_by_name() -> None:
    assert [
        i.place for i in IMPORTS if i.target.split(".")[0] in ("tasks", "circuits", "tests")
    ] == []


def test_a_task_needs_only_what_lies_below_models() -> None:
    """A task file imports from `sage` itself, or from the layers of tasks, tokens and metrics."""
    allowed = {"__init__", *(room for rooms in LAYERS[:3] for room in rooms)}
    tasks = {
        name: (ast.parse(path.read_text(encoding="utf-8")), path)
        for name, path in _sources("tasks").items()
    }
    found = [i for name, (tree, path) in tasks.items() for i in _imports(name, tree, path)]
    assert [
        f"{i.place}: {i.target}"
        for i in found
        if i.target.split(".")[0] == "sage" and _room(i.target) not in allowed
    ] == []


def test_nothing_is_unpickled_but_dictionary_learning_checkpoints() -> None:
    places = [i.place for i in IMPORTS if i.target.split(".")[0] in PICKLES]
    for name, tree in TREES.items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _unpickles(node)]
        places += [f"{SAGE[name].relative_to(ROOT)}:{call.lineno}" for call in calls]
    assert [place for place in places if not place.startswith(MAY_UNPICKLE)] == []


def _unpickles(call: ast.Call) -> bool:
    asked = any(
        keyword.arg == "allow_pickle" and getattr(keyword.value, "value", True)
        for keyword in call.keywords
    )
    return asked or ast.unparse(call.func) in ("torch.load", "pandas.read_pickle", "pd.read_pickle")


def test_every_module_opens_with_a_sentence() -> None:
    first = {
        name: (ast.get_docstring(tree) or "").partition("\n")[0] for name, tree in TREES.items()
    }
    assert [
        f"{name}: {line!r}"
        for name, line in first.items()
        if not re.fullmatch(r"\S+ .+ .*[.?!]", line)
    ] == []


def test_no_file_names_a_folder_of_someones_machine() -> None:
    folders = re.compile(r"(?<![\w.:/])/(?:work|root|home|Users|mnt|opt|srv)/\w")
    rooms = [ROOT / name for name in ("sage", "tasks", "circuits", "tests", "notebooks", ".ci")]
    files = [path for room in rooms for path in sorted(room.rglob("*"))] + sorted(ROOT.iterdir())
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in files
        if path.is_file() and path.suffix in TEXT
    }
    lines = [
        (path, number, line)
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
    ]
    assert [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, number, line in lines
        if folders.search(line)
    ] == []


@pytest.mark.parametrize("name", sage.__all__)
def test_every_public_name_is_importable(name: str) -> None:
    assert getattr(sage, name).__name__ == name


def test_public_names_agree_wherever_they_are_listed() -> None:
    """In `__all__`, in the table of homes, and in the imports that type checkers read."""
    typed = {i.target for i in INSIDE if i.source == "sage"} - {"sage.version", "sage.threads"}
    assert sorted(sage._HOME) == sorted(sage.__all__)
    assert set(sage._HOME.values()) == typed
    assert set(sage.__all__) <= set(dir(sage))


def test_no_public_name_is_also_a_module() -> None:
    """Importing `sage.x` sets the attribute x of the package, and would hide a function of that
    name."""
    assert [name for name in sage.__all__ if name in HEIGHT or f"sage.{name}" in SAGE] == []


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'sage' has no attribute 'evaluat'"):
        _ = sage.evaluat


@pytest.mark.parametrize("module", ["sage", "sage.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert (
        _run(f"import sys, {module}; print(*sorted(set({HEAVY}) & set(sys.modules)))").split() == []
    )


def test_help_prints_the_commands() -> None:
    assert "Usage: sage" in _run(
        "import sys; from sage.cli import main; sys.argv = ['sage', '--help']; main()"
    )


def test_shapes_are_checked_while_tests_run() -> None:
    with pytest.raises(TypeError, match="prompt vocab"):
        logit_difference(torch.zeros(3), [])
