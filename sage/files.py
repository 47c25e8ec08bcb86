"""Files: written whole or not at all, told apart by their bytes, and where the cache lies."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any, cast

from sage.errors import BadFile


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> Path:
    """Write a file so that a reader, or a run that is killed, never sees half of it.

    One that is not `durable` may be lost, or cut short, where the whole machine fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def write_json(path: Path, data: object) -> Path:
    """Write JSON data, whole or not at all."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    return write_atomically(path, f"{text}\n".encode())


def parse_object(text: str, where: str, expected: str) -> dict[str, Any]:
    """The JSON object that a text is; BadFile says where it stands and what was expected."""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadFile(f"{where} is not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise BadFile(f"{where} is no object; {expected}.")
    return cast("dict[str, Any]", parsed)


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """SAGE_CACHE, or `sage` in the platform's folder for caches."""
    if given := os.environ.get("SAGE_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
        return local.expanduser() / "sage" / "cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/sage").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sage"
