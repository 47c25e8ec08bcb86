"""Entries: one packed value in one file, which is read only as it was written and where it belongs.

A file is written whole or not at all, as long as the machine runs. Its checksum covers the value,
the kind and the key, so that neither a damaged entry nor one that lies under another's name is ever
taken for the right one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sage.errors import BadFile
from sage.files import write_atomically
from sage.store.pack import Packed

if TYPE_CHECKING:
    import numpy as np

_DATA, _NAME, _SHA256 = "data", "name", "sha256"


def write_entry(path: Path, packed: Packed, *, kind: str, key: str) -> None:
    """Write a packed value, to be found under this kind and key."""
    from safetensors.numpy import save

    name, data = _name(kind, key), json.dumps(packed.data)
    checksum = _checksum(name, data, packed.arrays)
    metadata = {_NAME: name, _DATA: data, _SHA256: checksum}
    write_atomically(path, save(packed.arrays, metadata=metadata), durable=False)


def read_entry(path: Path, *, kind: str, key: str) -> Packed:
    """The packed value of this kind and key.

    Raises FileNotFoundError where there is no file, BadFile for one that is not to the last byte
    what was written there.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        name, data, checksum = metadata[_NAME], metadata[_DATA], metadata[_SHA256]
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError) as error:
        raise BadFile(f"{path} is damaged: {error}.") from error
    if checksum != _checksum(name, data, arrays):
        raise BadFile(f"{path} is damaged: its contents are not what was written.")
    if name != _name(kind, key):
        raise BadFile(f"{path} holds another entry, {name}.")
    return Packed(json.loads(data), arrays)


def _name(kind: str, key: str) -> str:
    return f"{kind} {key}"


def _checksum(name: str, data: str, arrays: Mapping[str, np.ndarray]) -> str:
    import numpy as np

    checksum = hashlib.sha256(f"{name}\n{data}\n".encode())
    for label, array in sorted(arrays.items()):
        checksum.update(f"{label} {array.dtype} {array.shape}\n".encode())
        checksum.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return checksum.hexdigest()
