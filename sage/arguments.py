"""What a Python caller gives: taken in the forms that are meant alike, and refused by kind.

Without it a text in the place of a model is an AttributeError somewhere inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from sage.errors import SageError


def of_kind(what: str, given: object, kind: type, *, how: str) -> None:
    """SageError where a value is not of a kind; `how` says how one is had."""
    if not isinstance(given, kind):
        raise SageError(f"{what} is {told(given)}. {how}")


def several(what: str, given: object, kind: type, *, how: str) -> None:
    """SageError where a value is not a list of things of a kind, or an empty one."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise SageError(f"{what} are {told(given)}, and must be a list. {how}")
    if not given:
        raise SageError(f"{what} are an empty list. {how}")
    for entry in cast("Sequence[object]", given):
        if not isinstance(entry, kind):
            raise SageError(f"Among {what.lower()} is {told(entry)}. {how}")


def a_path(what: str, given: object) -> Path:
    """A path that may be given as text."""
    if isinstance(given, str | Path):
        return Path(given)
    raise SageError(f"{what} is {told(given)}, and must be a path, such as 'out'.")


def paths(what: str, given: object, *, how: str = "") -> list[Path]:
    """One path or several, each of which may be given as text."""
    if isinstance(given, str | Path):
        return [Path(given)]
    found: list[Path] = []
    for entry in given if isinstance(given, Iterable) else [given]:
        if not isinstance(entry, str | Path):
            raise SageError(f"Among {what} is {told(entry)}, and no path. {how}".rstrip())
        found.append(Path(entry))
    return found


def told(given: object) -> str:
    """A value in a few words: its text where that is short, else its kind."""
    kind = type(given).__name__
    return f"{given!r} (a {kind})" if isinstance(given, str | int | float | Path) else f"a {kind}"
