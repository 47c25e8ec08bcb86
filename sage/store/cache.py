"""The cache: what a run computes that depends on no SAE, kept for every later run that asks for the
same.

Content-addressed: an entry's name is a sha256 of all that its numbers depend on, the bytes of
sage's own source among them, so that nothing is ever out of date. Two processes may use it at once;
entries are verified when they are read.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sage.errors import BadFile, SageError, SageWarning, unknown
from sage.store.checkpoints import Part, digest, read_part, write_part

# Bytes kept, unless SAGE_CACHE_GB says otherwise: whole residual streams of a model of GPT-2
# small's size take half a gigabyte a layer.
LIMIT = 20 * 10**9

_SUFFIX = ".safetensors"


class Entry(NamedTuple):
    """Something kept: what kind of thing it is, of what, how large, and when it was last used
    (seconds since 1970)."""

    kind: str
    of: str
    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class Cache:
    """Finished parts under a folder, by all they depend on: at most `limit` bytes, of which the
    least recently used go first."""

    folder: Path
    limit: int = LIMIT

    def part(
        self, kind: str, of: str, make: Callable[[], Part], *, depends: tuple[object, ...]
    ) -> Part:
        """The part of that kind (discovery), computed only if it is not there whole.

        `of` tells a reader what it is of; what its numbers depend on stands in `depends`, things
        that print the same whenever they are.
        """
        found = self.find(kind, of, depends=depends)
        if found is None:
            found = make()
            self.keep(kind, of, found, depends=depends)
        return found

    def find(self, kind: str, of: str, *, depends: tuple[object, ...]) -> Part | None:
        """The part, if it is there; of one that is damaged a warning says so, and that it is
        computed again."""
        path = self._path(kind, of, depends)
        if not path.is_file():
            return None
        try:
            found = read_part(path)
        except BadFile as error:
            warnings.warn(f"{error} It is computed again.", SageWarning, stacklevel=2)
            return None
        with suppress(FileNotFoundError):
            os.utime(path)
        return found

    def keep(self, kind: str, of: str, part: Part, *, depends: tuple[object, ...]) -> None:
        """Keep a part; where the folder cannot be written a warning says so."""
        path = self._path(kind, of, depends)
        try:
            write_part(path, part)
            self._forget_down_to(self.limit)
        except OSError as error:
            warnings.warn(
                f"{path} could not be kept: {error}. Set SAGE_CACHE to a folder that can be written.",
                SageWarning,
                stacklevel=2,
            )

    def _path(self, kind: str, of: str, depends: tuple[object, ...]) -> Path:
        return (
            self.folder
            / kind
            / f"{_readable(of)}-{digest(kind, code_version(), *depends)}{_SUFFIX}"
        )

    def _forget_down_to(self, limit: int) -> None:
        """Delete what has not been used for longest until no more than that is left."""
        entries = cache_entries(self.folder)
        over = sum(entry.bytes for entry in entries) - limit
        while over > 0:
            oldest = entries.pop()
            oldest.path.unlink(missing_ok=True)
            over -= oldest.bytes


def user_cache() -> Cache:
    """The cache in the folder that SAGE_CACHE names, else in that of the platform for caches; as
    large as SAGE_CACHE_GB allows."""
    return Cache(cache_folder(), cache_limit())


def cache_limit() -> int:
    """SAGE_CACHE_GB in bytes, else 20 GB."""
    given = os.environ.get("SAGE_CACHE_GB")
    try:
        limit = LIMIT if given is None else int(float(given) * 1e9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise SageError(
            f"SAGE_CACHE_GB is '{given}'. Set it to a number of gigabytes, such as 20, or to 0 to keep nothing."
        )
    return limit


def cache_folder() -> Path:
    """SAGE_CACHE, or `sage` in the platform's folder for caches."""
    if given := os.environ.get("SAGE_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return (
            Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser() / "sage" / "cache"
        )
    if sys.platform == "darwin":
        return Path("~/Library/Caches/sage").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sage"


def cache_entries(folder: Path | None = None, *, kind: str | None = None) -> list[Entry]:
    """All that is kept, or what is of one kind, the most recently used first; UnknownName where
    nothing of that kind is."""
    folder = folder or cache_folder()
    found = [entry for path in folder.glob(f"*/*{_SUFFIX}") if (entry := _entry(path)) is not None]
    kinds = {entry.kind for entry in found}
    if kind is not None and kind not in kinds:
        raise unknown("kind of entry", kind, kinds, remedy=f"These are kept in {folder}.")
    return sorted(
        (entry for entry in found if kind in (None, entry.kind)), key=lambda entry: -entry.used
    )


def clear_cache(folder: Path | None = None, *, kind: str | None = None) -> int:
    """Delete all entries, or those of one kind; returns how many bytes that freed. Other files are
    left alone."""
    freed = 0
    for entry in cache_entries(folder, kind=kind):
        entry.path.unlink(missing_ok=True)
        freed += entry.bytes
    return freed


@lru_cache(maxsize=1)
def code_version() -> str:
    """A sha256 of sage's own source files and of the versions of the libraries that compute with
    it."""
    from importlib.metadata import version

    root = Path(__file__).parents[1]
    files = [
        (path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*.py"))
    ]
    return digest(
        files, *(version(library) for library in ("torch", "transformers", "numpy", "scipy"))
    )


def _entry(path: Path) -> Entry | None:
    """None where another process has just deleted it."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return Entry(
        path.parent.name, path.stem.rpartition("-")[0], path, facts.st_size, facts.st_mtime
    )


def _readable(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "-" for letter in text)[:80]
