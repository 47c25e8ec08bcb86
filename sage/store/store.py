"""The store: values kept under a kind and a key, for later runs and for a run that goes on.

Content-addressed: a key is a digest of all that decides the value, so that nothing is ever out of
date. A value comes back as it was kept, to the last bit; whoever keeps one goes on with what a
later run will find. Two processes may use one folder at once.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sage.errors import BadFile, SageError, SageWarning, unknown
from sage.files import cache_folder, clean_leftovers
from sage.progress import found
from sage.store.entry import read_entry, write_entry
from sage.store.key import Key
from sage.store.pack import pack, unpack

Value = TypeVar("Value")

# Bytes kept for later runs, unless SAGE_CACHE_GB says otherwise: whole residual streams of a model
# of GPT-2 small's size take half a gigabyte a layer.
CACHE_BYTES = 20 * 10**9

_SUFFIX = ".safetensors"
_FILE = re.compile(r"(?P<of>.*)-[0-9a-f]{64}\.safetensors")
_KIND = re.compile(r"[a-z][a-z0-9 -]*")
# The folder is measured anew when this share of the limit was written since.
_UNMEASURED_SHARE = 0.01


class StoredEntry(NamedTuple):
    """What is kept in one file: its kind, of what it is, its size, and when it was last used.

    `used` is in seconds since 1970.
    """

    kind: str
    of: str
    path: Path
    bytes: int
    used: float


@dataclass(eq=False)
class Unmeasured:
    """How many bytes were written since the folder was last measured: before the first time, any
    number."""

    bytes: float = math.inf


@dataclass(frozen=True)
class Store:
    """Values under a folder, by kind and key; without a folder nothing is found or kept.

    It holds at most `limit` bytes, if there is a limit, up to a hundredth more between two looks:
    the least recently used go first. `unmeasured` changes as values are kept.
    """

    folder: Path | None
    limit: int | None = None
    unmeasured: Unmeasured = field(default_factory=Unmeasured, repr=False, compare=False)

    def find(self, kind: str, key: Key) -> Any | None:
        """The value of that kind and key; None where it is not kept.

        Of an entry that is damaged, or lies under another's name, a warning says so.
        """
        if self.folder is None:
            return None
        path = _path(self.folder, kind, key)
        try:
            value = unpack(read_entry(path, kind=kind, key=key.digest))
        except FileNotFoundError:
            return None
        except BadFile as error:
            warnings.warn(f"{error} It is computed again.", SageWarning, stacklevel=2)
            return None
        with suppress(OSError):
            os.utime(path)
        found(kind)
        return value

    def has(self, kind: str, key: Key) -> bool:
        """Whether a value of that kind and key is kept, as far as its file's name tells."""
        return self.folder is not None and _path(self.folder, kind, key).is_file()

    def keep(self, kind: str, key: Key, value: Value) -> Value:
        """Keep a value, replacing one of the same kind and key; returns it as it will be found.

        TypeError for what cannot be packed. Where the folder cannot be written a warning says so.
        """
        packed = pack(value)
        if self.folder is not None:
            path = _path(self.folder, kind, key)
            try:
                write_entry(path, packed, kind=kind, key=key.digest)
                self._make_room(path.stat().st_size)
            except OSError as error:
                warnings.warn(f"{path} could not be kept: {error}.", SageWarning, stacklevel=2)
        return unpack(packed)

    def once(self, kind: str, key: Key, make: Callable[[], Value]) -> Value:
        """The value kept, or the one made now and kept."""
        value = self.find(kind, key)
        return self.keep(kind, key, make()) if value is None else value

    def entries(self, *, kind: str | None = None) -> list[StoredEntry]:
        """All that is kept, or what is of one kind, the most recently used first.

        UnknownName where nothing of that kind is kept.
        """
        files = self.folder.glob(f"*/*{_SUFFIX}") if self.folder else ()
        entries = [entry for path in files if (entry := _entry(path)) is not None]
        kinds = {entry.kind for entry in entries}
        if kind is not None and kind not in kinds:
            remedy = f"These are kept in {self.folder}."
            raise unknown("kind of entry", kind, kinds, remedy=remedy)
        chosen = [entry for entry in entries if kind in (None, entry.kind)]
        return sorted(chosen, key=lambda entry: -entry.used)

    def clear(self, *, kind: str | None = None) -> int:
        """Delete all entries, or those of one kind, and folders that are empty then.

        Returns how many bytes that freed. Other files are left alone.
        """
        entries = self.entries(kind=kind)
        for entry in entries:
            entry.path.unlink(missing_ok=True)
        if self.folder is not None:
            for folder in (*{entry.path.parent for entry in entries}, self.folder):
                _remove_if_empty(folder)
        return sum(entry.bytes for entry in entries)

    def _make_room(self, written: int) -> None:
        """Delete what has not been used for longest until no more than the limit is left."""
        if self.folder is None or self.limit is None:
            return
        self.unmeasured.bytes += written
        if self.unmeasured.bytes < _UNMEASURED_SHARE * self.limit:
            return
        self.unmeasured.bytes = 0
        _delete_abandoned(self.folder)
        entries = self.entries()
        excess = sum(entry.bytes for entry in entries) - self.limit
        while excess > 0:
            oldest = entries.pop()
            oldest.path.unlink(missing_ok=True)
            excess -= oldest.bytes


def user_store() -> Store:
    """The store in the user's cache folder, as large as SAGE_CACHE_GB allows."""
    return Store(cache_folder(), cache_limit())


def cache_limit() -> int:
    """SAGE_CACHE_GB in bytes, else 20 GB."""
    given = os.environ.get("SAGE_CACHE_GB")
    try:
        limit = CACHE_BYTES if given is None else int(float(given) * 1e9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise SageError(
            f"SAGE_CACHE_GB is '{given}'. Set it to a number of gigabytes, such as 20, or to 0 to "
            "keep nothing."
        )
    return limit


def _path(folder: Path, kind: str, key: Key) -> Path:
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no kind of entry: kinds are words in small letters")
    letters = (letter if letter.isalnum() or letter in "._" else "-" for letter in key.of)
    readable = "".join(letters)[:80]
    return folder / kind / f"{readable}-{key.digest}{_SUFFIX}"


def _entry(path: Path) -> StoredEntry | None:
    """None for a file that is none of ours, or that another process has just deleted."""
    name = _FILE.fullmatch(path.name)
    if name is None:
        return None
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return StoredEntry(path.parent.name, name["of"], path, facts.st_size, facts.st_mtime)


def _delete_abandoned(folder: Path) -> None:
    """Delete what runs that were killed left half written."""
    for kind in folder.iterdir():
        if kind.is_dir():
            clean_leftovers(kind)


def _remove_if_empty(folder: Path) -> None:
    """Delete a folder that holds nothing; another process may fill it, or delete it, just now."""
    with suppress(OSError):
        folder.rmdir()
