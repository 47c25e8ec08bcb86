"""Files: written whole or not at all, told apart by their bytes, and where the cache lies."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import sys
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from sage.errors import BadFile

# A file half written is called after the process that writes it; after a day nobody does.
_OWNER = re.compile(r"\.((?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{12}|[0-9a-f]{32})$")
_ABANDONED_SECONDS = 24 * 3600
# What a spreadsheet takes for the beginning of a formula, and what is a number all the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Half of a character, which no text can hold: JSON may write one as an escape.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# The last are oneDNN's words, and C++'s.
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "cannot allocate memory",
    "can't allocate",
    "could not create a primitive",
    "bad_alloc",
)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> Path:
    """Write a file so that a reader, or a run that is killed, never sees half of it.

    One that is not `durable` may be lost, or cut short, where the whole machine fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if durable:
        clean_leftovers(path.parent, name=path.name)
    unfinished = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:12]}")
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


def clean_leftovers(folder: Path, *, name: str = "*") -> None:
    """Delete what writers of files of that name, in this folder, left when they were killed.

    A file half written belongs to a process that its name tells: one of this machine that is gone,
    or one of another machine, which is given a day.
    """
    for path in folder.glob(f".{name}.*"):
        owner = _OWNER.search(path.name)
        if owner is None:
            continue
        with suppress(OSError):
            is_old = time.time() - path.stat().st_mtime > _ABANDONED_SECONDS
            is_ours = owner["machine"] == _machine()
            if is_old or (is_ours and not _is_alive(int(owner["process"]))):
                path.unlink()


@contextmanager
def one_process_at_once(folder: Path) -> Generator[None]:
    """Only one process is inside for a folder; others wait, and say so. The lock stands beside the
    folder, and goes with its process however that ends."""
    from filelock import FileLock, Timeout

    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock_of(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logging.getLogger("sage").warning("Another process writes into %s: waiting.", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_in_use(folder: Path) -> bool:
    """Whether a process is inside for a folder, at this moment."""
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_of(folder))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def remove_shared(folder: Path) -> None:
    """Delete a folder that one process at once is inside, once nobody is, and its lock."""
    import shutil

    with one_process_at_once(folder):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            _lock_of(folder).unlink()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


@cache
def _machine() -> str:
    """Eight digits for this machine."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def write_json(path: Path, data: object) -> Path:
    """Write JSON data, whole or not at all."""
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    return write_atomically(path, f"{text}\n".encode())


def parse_object(text: str, where: str, expected: str) -> dict[str, Any]:
    """The JSON object that a text is; BadFile says where it stands and what was expected."""
    try:
        parsed = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{where} is not JSON: {first_line(error)}.") from error
    if not isinstance(parsed, dict):
        raise BadFile(f"{where} is no object; {expected}.")
    return cast("dict[str, Any]", parsed)


def given_path(text: str) -> Path:
    """The path that a user gave, `~` expanded; BadFile for what cannot be one: a name too long, a
    user that there is none of, a folder that may not be looked into."""
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadFile(f"'{text[:80]}' cannot be looked up ({first_line(error, 80)}).") from error
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file: a line feed ends one, and nothing else that Unicode breaks
    lines at, which a line of JSON may hold. OSError or UnicodeDecodeError where it is none."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def spreadsheet_text(value: object) -> object:
    """A value for a cell of CSV: a text that a spreadsheet would run as a formula in quotes."""
    runs = isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return f"'{value}" if runs else value


def first_line(error: BaseException, most: int = 160) -> str:
    """What an error says, in one line of that length at most; its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most] or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is exhausted: torch says so in words."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(words in said for words in _NO_MEMORY)


def file_digest(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """SAGE_CACHE, or `sage` in the platform's folder for caches."""
    if given := os.environ.get("SAGE_CACHE"):
        return given_path(given)
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
        return local.expanduser() / "sage" / "cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/sage").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sage"
