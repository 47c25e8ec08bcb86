"""The wheel works outside the checkout, with the tasks and circuits that come with sage."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = {".html", ".css", ".js", ".safetensors", ".json"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout as it is; nothing is fetched."""
    folder = tmp_path_factory.mktemp("wheel")
    _run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel's content; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    quiet = ("--quiet", "--no-deps", "--no-index")
    _run("-m", "pip", "install", *quiet, "--target", str(folder), str(wheel), cwd=folder)
    return folder


def _run(*arguments: str, cwd: Path, **environment: str) -> str:
    """What Python prints, run with these arguments; its error output is shown where it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _files(suffixes: set[str]) -> set[str]:
    """The files of the package that end so, as a wheel names them."""
    files = [path for path in (ROOT / "sage").rglob("*") if path.suffix in suffixes]
    return {path.relative_to(ROOT).as_posix() for path in files}


def test_the_wheel_holds_every_module_task_and_circuit_and_nothing_else_of_the_checkout(
    wheel: Path,
) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules, shipped = _files({".py"}), _files(SHIPPED)
    tasks = {f"sage/_catalog/tasks/{path.name}" for path in (ROOT / "tasks").glob("*.py")}
    toml = (ROOT / "circuits").glob("*.toml")
    circuits = {f"sage/_catalog/circuits/{path.name}" for path in toml}
    assert modules | tasks | circuits | shipped <= names
    assert {Path(name).suffix for name in shipped} == SHIPPED
    assert tasks
    assert circuits
    assert {name.split("/")[0] for name in names} == {"sage"}


def test_the_installed_command_lists_the_tasks_from_any_folder(
    installed: Path, tmp_path: Path
) -> None:
    listed = _run(str(installed / "bin" / "sage"), "tasks", cwd=tmp_path, PYTHONPATH=str(installed))
    for name in ("ioi", "induction", "subject_verb_agreement"):
        assert name in listed


def test_the_installed_package_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    where = _run("-c", "import sage; print(sage.__file__)", cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(where.strip()).is_relative_to(installed)
