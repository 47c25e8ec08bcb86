"""Task files: what one must define, and what is said of one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.errors import BadTask
from sage.task.catalog import load_task


def task_file(folder: Path, text: str) -> str:
    path = folder / "own.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "tasks = 1\n",
            r"must define `task`, a sage\.Task; it defines nothing of that name",
        ),
        ("task = 'ioi'\n", r"own\.py must define `task`.*; it defines str\."),
        ("a = 1\nb = a.none\n", r"own\.py, line 2: AttributeError"),
        ("a = 1\n\nb = = 2\n", r"own\.py, line 3: SyntaxError"),
    ],
)
def test_a_file_that_defines_no_task_is_refused_with_what_it_does(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(BadTask, match=message):
        load_task(task_file(tmp_path, text))
