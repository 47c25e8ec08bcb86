"""The line of a task file that a complaint is about: where what it names stands in `Task(...)`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from sage.task.declaration import Declaration

_QUOTED = re.compile(r"'([^']+)'")


def line_of_complaint(path: Path, complaint: str) -> int | None:
    """The first line in the task's declaration that holds what the complaint quotes, else that of
    the field which it names, else where the declaration begins; None where there is none."""
    text = path.read_text(encoding="utf-8")
    call = _declaration(ast.parse(text))
    if call is None:
        return None
    last = call.end_lineno or call.lineno
    lines = dict(enumerate(text.splitlines(), 1))
    for quoted in _QUOTED.findall(complaint):
        for number in range(call.lineno, last + 1):
            if _stands_in(quoted, lines[number]):
                return number
    for name, number in _fields(call):
        if re.search(rf"\b{name}\b", complaint):
            return number
    return call.lineno


def _declaration(tree: ast.Module) -> ast.Call | None:
    """The call that makes the task."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if getattr(call.func, "id", None) == "Task"]
    return named[0] if named else None


def _fields(call: ast.Call) -> Iterator[tuple[str, int]]:
    """The fields of the declaration that are given, with their lines."""
    known = {entry.name for entry in fields(Declaration)} - {"name"}
    for keyword in call.keywords:
        if keyword.arg in known:
            yield str(keyword.arg), keyword.value.lineno


def _stands_in(quoted: str, line: str) -> bool:
    """Whether a line holds the words as a string, a slot in braces or part of a text."""
    marks = (f'"{quoted}"', f"'{quoted}'", f"{{{quoted}}}")
    return any(mark in line for mark in marks) or (len(quoted) > 12 and quoted in line)
