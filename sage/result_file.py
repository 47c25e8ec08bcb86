"""Result files: `result.json` and, with matrices and per-prompt columns, `result.safetensors`.

The first holds everything a report shows. Both are written atomically, validated on load, and read
back equal. Files of schema 1 are read too; their scores are of an older definition and carry
version 1.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sage.errors import BadFile
from sage.files import first_line, write_atomically
from sage.result import SCHEMA, Result, Row

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

RESULT, ARRAYS = "result.json", "result.safetensors"
OLD_SCHEMA = 1
_NOT_FINITE = re.compile(rb"NaN|Infinity|[0-9]e[0-9+]", re.IGNORECASE)
_HEADLINE_OPTION = ("joint", "frozen")


def save_result(
    result: Result, folder: Path, *, arrays: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Write result.json (and result.safetensors) into the folder, each whole or not at all; returns
    the path of the JSON."""
    from safetensors.numpy import save as pack

    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        write_atomically(folder / ARRAYS, pack(dict(arrays)))
    return write_atomically(folder / RESULT, _text(result).encode())


def load_result(path: Path | str) -> Result:
    """Read and validate a result; `path` is the JSON or its folder. Raises BadFile naming the field
    at fault.

        result = sage.load_result("out/ioi--tiny-gpt2--seed0")
    """
    from pydantic import TypeAdapter, ValidationError

    path = Path(path)
    file = path / RESULT if path.is_dir() else path
    if not file.is_file():
        raise BadFile(f"There is no result at {file}. `sage score ... --out DIR` writes one.")
    data = file.read_bytes()
    try:
        content = TypeAdapter(dict[str, Any]).validate_json(data)
        schema = content.get("schema")
        if schema == OLD_SCHEMA:
            data = json.dumps(_from_schema_1(content)).encode()
        elif schema != SCHEMA:
            raise BadFile(
                f"{file} has schema {schema}; this version reads schemas {OLD_SCHEMA} and "
                f"{SCHEMA}. Score again, or use the version that wrote it."
            )
        result = TypeAdapter(Result).validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BadFile(
            f"{file} is not a result of sage: {where}: {first['msg']}. Score again to write it "
            "anew."
        ) from error
    if _NOT_FINITE.search(data):
        _check_finite(asdict(result), file)
    for suite in result.suites:
        if not suite.saes:
            raise BadFile(
                f"{file}: suite '{suite.id}' has no SAEs. Score it with --again to write it anew."
            )
    return result


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The matrices and per-prompt columns beside a result; empty where the run had none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = (path if path.is_dir() else path.parent) / ARRAYS
    if not file.is_file():
        return {}
    try:
        return load_file(file)
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise BadFile(
            f"{file} is damaged ({error}). Score it with --again to write it anew."
        ) from error


def names(array: UInt8[np.ndarray, "byte"]) -> list[str]:
    """The names in an array beside a result: what the rows or columns of a matrix are called.
    BadFile where it holds none."""
    try:
        listed: object = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        told = first_line(error)
        raise BadFile(f"An array of names beside a result is damaged: {told}.") from error
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise BadFile("An array of names beside a result holds something else.")
    return cast("list[str]", listed)


def _check_finite(value: object, file: Path, where: str = "") -> None:
    """BadFile for a number that is none, at any depth; JSON has no word for one."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadFile(
            f"{file} is not a result of sage: {where or 'it'} is {value}. Score again to write it "
            "anew."
        )
    parts = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list | tuple):
        parts = enumerate(cast("list[object]", value))
    for name, part in cast("Iterable[tuple[object, object]]", parts):
        _check_finite(part, file, f"{where}.{name}" if where else str(name))


def _from_schema_1(content: dict[str, Any]) -> dict[str, Any]:
    """The same in the fields of today: rows without their floor and ceiling, as version 1.

    What is no list of rows is left to be refused with all else.
    """
    rows, run = content.get("rows"), content.get("run")
    if not isinstance(rows, list) or not isinstance(run, dict):
        return content
    seed = cast("dict[str, Any]", run).get("seed", 0)
    renewed = [_renewed(row, seed) for row in cast("list[object]", rows)]
    return {**content, "rows": renewed}


def _renewed(row: object, seed: object) -> object:
    """A row of schema 1 as one of today."""
    if not isinstance(row, dict):
        return row
    values = cast("dict[str, Any]", row)
    known = {entry.name for entry in fields(Row)}
    kept = {name: value for name, value in values.items() if name in known}
    option = (values.get("choice", "joint"), values.get("option", "frozen"))
    told = None if option == _HEADLINE_OPTION else ", ".join(map(str, option))
    return {**kept, "version": 1, "option": told, "seed": seed}


def _text(result: Result) -> str:
    """JSON with one line for each row, node, suite and section."""
    blocks = (f' "{name}": {_block(value)}' for name, value in asdict(result).items())
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def _block(value: object) -> str:
    if not isinstance(value, list) or not value:
        return _line(value)
    lines = map(_line, cast("list[object]", value))
    return "[\n  " + ",\n  ".join(lines) + "\n ]"


def _line(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
