"""Settings in a TOML file: each with a sentence that says what it is, and refused by name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from sage.errors import BadFile, unknown
from sage.files import first_line

Kind = Literal["number", "number or default", "yes or no", "text", "texts", "numbers"]

_WANTED: dict[Kind, str] = {
    "number": "a whole number, such as 50",
    "number or default": 'a whole number, such as 400, or "default"',
    "yes or no": "true or false",
    "text": 'text in quotes, such as "quick"',
    "texts": 'a list of texts, such as ["ioi"]',
    "numbers": "a list of whole numbers, such as [1, 4]",
}
DEFAULT = "default"


class FileSetting(NamedTuple):
    """What kind of value a setting has, what it is for, and the values it may have, if they are
    few."""

    kind: Kind
    what: str
    possible: tuple[str, ...] = ()


Settings = Mapping[str, FileSetting]


def read_table(path: Path, settings: Settings, *, table: str = "") -> dict[str, Any]:
    """The settings that a file gives, or those of one of its tables: lists as tuples, "default" as
    None.

    BadFile for a file that is missing or no TOML, and for a value of another kind; UnknownName for
    a setting or value that there is none of. Other tables are left alone.
    """
    given = _read(path)
    if table:
        inner = given.get(table, {})
        if not isinstance(inner, dict):
            raise BadFile(f"{path}: {table} must be a table, [{table}], of settings.")
        given = cast("dict[str, Any]", inner)
    return _values(path, given, settings, table)


def read_tables(path: Path, settings: Settings, *, table: str) -> list[dict[str, Any]]:
    """The settings that each of a file's tables of one name, [[table]], gives; raises as
    `read_table` does."""
    given = _read(path).get(table, [])
    if not _are_tables(given):
        raise BadFile(f"{path}: {table} must be tables of settings, each below [[{table}]].")
    return [_values(path, inner, settings, table) for inner in given]


def check_not_empty(path: Path) -> None:
    """BadFile where a file says nothing at all."""
    if not _read(path):
        raise BadFile(f"{path} is empty: it has no setting. --save-plan writes a file with all.")


def check_tables(path: Path, tables: Sequence[str]) -> None:
    """UnknownName for a table of the file that is none of these."""
    for key, value in _read(path).items():
        if _is_table(value) and key not in tables:
            raise unknown(f"table in {path}", key, tables)


def write_table(values: Mapping[str, object], settings: Settings) -> str:
    """Settings as lines of TOML, each below what it is for; None is written "default"."""
    lines: list[str] = []
    for name, value in values.items():
        setting = settings[name]
        few = f" One of: {', '.join(setting.possible)}." if setting.possible else ""
        lines += [f"# {setting.what}{few}", f"{name} = {_as_toml(value)}"]
    return "\n".join(lines) + "\n"


def _values(
    path: Path, given: Mapping[str, object], settings: Settings, table: str
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in given.items():
        if not table and _is_table(value):
            continue
        name = f"{table}.{key}" if table else key
        if key not in settings:
            raise unknown(f"setting in {path}", name, _names(settings, table))
        values[key] = _checked(path, name, value, settings[key])
    return values


def _is_table(value: object) -> bool:
    """Whether it is a table, or several of one name."""
    return isinstance(value, dict) or (value != [] and _are_tables(value))


def _are_tables(value: object) -> bool:
    entries = cast("list[object]", value) if isinstance(value, list) else None
    return entries is not None and all(isinstance(entry, dict) for entry in entries)


def _names(settings: Settings, table: str) -> list[str]:
    return [f"{table}.{name}" if table else name for name in settings]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(f"There is no file {path}. `--save-plan {path}` writes one.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} cannot be read as TOML: {first_line(error)}.") from error


def _checked(path: Path, name: str, value: object, setting: FileSetting) -> object:
    if not _is(value, setting.kind):
        raise BadFile(f"{path}: {name} is {value!r}. It must be {_WANTED[setting.kind]}.")
    words: Sequence[object] = cast("list[object]", value) if isinstance(value, list) else [value]
    for word in words if setting.possible else ():
        if word not in setting.possible:
            raise unknown(f"value of {name} in {path}", str(word), setting.possible)
    if setting.kind == "number or default" and value == DEFAULT:
        return None
    return tuple(words) if isinstance(value, list) else value


def _is(value: object, kind: Kind) -> bool:
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    entries = cast("list[object]", value) if isinstance(value, list) else None
    match kind:
        case "number":
            return number
        case "number or default":
            return number or value == DEFAULT
        case "yes or no":
            return isinstance(value, bool)
        case "text":
            return isinstance(value, str)
        case "texts":
            return entries is not None and all(isinstance(entry, str) for entry in entries)
        case "numbers":
            return entries is not None and all(_is(entry, "number") for entry in entries)


def _as_toml(value: object) -> str:
    if value is None:
        return f'"{DEFAULT}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple | list):
        return f"[{', '.join(_as_toml(entry) for entry in cast('Sequence[object]', value))}]"
    # What JSON escapes in a text TOML escapes alike, but for one letter.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
