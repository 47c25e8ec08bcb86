"""Checkpoints: the finished parts of a run, kept until all of it is done, so that a killed run goes
on where it was.

A part belongs to a key made of everything its numbers depend on; parts of another key are never
read. Files are written whole or not at all and hold a sha256 of what is in them; one that is
damaged is computed again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage.errors import BadFile
from sage.files import write_atomically
from sage.store.pack import Packed as Part

if TYPE_CHECKING:
    import numpy as np

_DATA, _SHA256 = "data", "sha256"


@dataclass(frozen=True)
class Checkpoints:
    """The parts of one run under a folder; without a folder nothing is kept or found."""

    folder: Path | None
    key: str

    def load(self, name: str) -> Part | None:
        """The part of that name, if it is there and whole."""
        path = self._path(name)
        if path is None or not path.is_file():
            return None
        try:
            return read_part(path)
        except BadFile:
            return None

    def save(self, name: str, data: Any, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Keep a finished part."""
        path = self._path(name)
        if path is not None:
            write_part(path, Part(data, dict(arrays or {})))

    def clear(self) -> None:
        """Forget every part of this key: the run is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder / self.key, ignore_errors=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def _path(self, name: str) -> Path | None:
        readable = "".join(letter if letter.isalnum() else "-" for letter in name)[:60]
        return (
            self.folder and self.folder / self.key / f"{readable}-{digest(name)[:10]}.safetensors"
        )


def write_part(path: Path, part: Part) -> None:
    """Write a part to a file, whole or not at all."""
    from safetensors.numpy import save

    data = json.dumps(part.data)
    write_atomically(
        path, save(part.arrays, metadata={_DATA: data, _SHA256: _checksum(data, part.arrays)})
    )


def read_part(path: Path) -> Part:
    """The part in a file; BadFile unless it is to the last byte what was written."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            written = file.metadata() or {}
        if _checksum(written[_DATA], arrays) == written[_SHA256]:
            return Part(json.loads(written[_DATA]), arrays)
    except (SafetensorError, OSError, KeyError) as error:
        raise BadFile(f"{path} is damaged: {error}.") from error
    raise BadFile(f"{path} is damaged: its contents are not what was written.")


def _checksum(data: str, arrays: Mapping[str, np.ndarray]) -> str:
    import numpy as np

    found = hashlib.sha256(data.encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return found.hexdigest()


def digest(*parts: object) -> str:
    """A sha256 of things that print the same whenever they are the same."""
    return hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()
