"""Find tasks by name or by path, in a checkout, an editable install and a wheel alike.

A task's name is the name of its file in tasks/; a path to a .py file that defines `task`, or to a
JSONL of prompt pairs, works wherever a name does.
"""

from __future__ import annotations

import importlib.util
import traceback
from pathlib import Path

from sage.errors import BadFile, BadTask, unknown
from sage.files import first_line, given_path
from sage.task.foreign import say_that_it_runs
from sage.task.lines import line_of_complaint
from sage.task.task import Task

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(kind: str) -> Path:
    """Where `tasks` or `circuits` are: inside an installed package, or beside it in a checkout."""
    installed = _PACKAGE / "_catalog" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def task_names() -> list[str]:
    """The tasks that come with sage."""
    stems = [path.stem for path in folder("tasks").glob("*.py")]
    return sorted(stem for stem in stems if not stem.startswith("_"))


def task_path(name: str) -> Path:
    """The file of a task given by name or by path.

    UnknownName where no task has the name, BadFile where no file has the path.
    """
    if is_path(name, (".py", ".jsonl")):
        path = given_path(name)
        if not path.is_file():
            raise BadFile(
                f"There is no task file {path}. Write one with `sage new-task {path.stem}`, "
                f"or name one of: {', '.join(task_names())}."
            )
        return path
    if name not in task_names():
        raise unknown(
            "task",
            name,
            task_names(),
            remedy="A path to a .py task file or to a .jsonl of prompt pairs works too.",
        )
    return folder("tasks") / f"{name}.py"


def load_task(name: str) -> Task:
    """The task of that name, or the one in the file of that path.

    A task file is a program, and loading it runs it: that is said the first time a file outside the
    catalog is used. Raises UnknownName, BadFile where the file is missing, and BadTask where it
    fails, would end the program, or does not define `task`.

        task = sage.load_task("ioi")
        task = sage.load_task("my_task.py")
    """
    path = task_path(name)
    if path.suffix == ".jsonl":
        from sage.task.pairs import load_pairs

        return load_pairs(path)
    if path.parent != folder("tasks"):
        say_that_it_runs(path)
    defined = _task_defined_by(path)
    if not isinstance(defined, Task):
        what = "nothing of that name" if defined is None else type(defined).__name__
        raise BadTask(f"{path} must define `task`, a sage.Task; it defines {what}.")
    return defined


def describe_task(name: str) -> dict[str, object]:
    """A task in one row."""
    task = load_task(name)
    return {
        "task": name,
        "attributes": ", ".join(task.attributes),
        "irrelevant": ", ".join(task.irrelevant),
        "contrasts": ", ".join(task.contrast_names),
        "prompts": task.size,
        "source": task.source,
    }


def is_path(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a name is a path: it has a folder, or ends as such files do."""
    return name.endswith(suffixes) or "/" in name


def _task_defined_by(path: Path) -> object:
    """What a file defines as `task`, None where it does not.

    What goes wrong in the file is its author's to mend: BadTask names the line.
    """
    spec = importlib.util.spec_from_file_location(f"sage_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadTask(
            f"{path} is not a Python file. "
            "A task is a .py file that defines `task`, or a .jsonl of prompt pairs."
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BadTask as error:
        line = line_of_complaint(path, str(error))
        where = f"{path}" if line is None else f"{path}, line {line}"
        raise BadTask(f"{where}: {error}") from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {first_line(error)}"
        raise BadTask(f"{path}, {_line_of(error, path)}: {what}") from error
    return getattr(module, "task", None)


def _line_of(error: BaseException, path: Path) -> str:
    """The last line of the file that ran."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"line {lines[-1]}" if lines else "on import"
