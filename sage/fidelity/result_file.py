"""Fidelity files: `fidelity.json`, which can be read, and `fidelity.safetensors` beside it.

The second has the sums of each sequence, of which the rows of the first are made again on loading.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from sage.errors import BadFile
from sage.fidelity.measures import COLUMNS
from sage.fidelity.reconstruction import LatentShare
from sage.fidelity.result import FidelityResult, FidelityRow, MeasuredSAE, TextInfo
from sage.files import one_process_at_once, write_atomically
from sage.result import ModelInfo

FIDELITY, SUMS = "fidelity.json", "fidelity.safetensors"
SCHEMA = 1


@dataclass(frozen=True)
class _StoredSAE:
    suite: str
    id: str
    hook: str
    architecture: str
    width: int


@dataclass(frozen=True)
class _Stored:
    """What the JSON file holds."""

    schema: int
    model: ModelInfo
    text: TextInfo
    clusters: list[str]
    saes: list[_StoredSAE]
    columns: list[str]
    rows: list[FidelityRow]


def save_fidelity(result: FidelityResult, folder: Path) -> Path:
    """Write both files into the folder, each whole or not at all, both of one process; returns the
    path of the JSON."""
    from safetensors.numpy import save as pack

    arrays: dict[str, np.ndarray] = {}
    for number, sae in enumerate(result.saes):
        arrays[f"{number}.columns"] = sae.columns
        for name in ("dead", "dense"):
            share: LatentShare = getattr(sae, name)
            arrays[f"{number}.{name}"] = np.array([share.whole, *share.without])
    saes = [
        _StoredSAE(sae.suite, sae.id, sae.hook, sae.architecture, sae.width) for sae in result.saes
    ]
    stored = _Stored(
        SCHEMA,
        result.model,
        result.text,
        list(result.clusters),
        saes,
        list(COLUMNS),
        result.rows(),
    )
    with one_process_at_once(folder):
        write_atomically(folder / SUMS, pack(arrays))
        return write_atomically(folder / FIDELITY, _text(stored).encode())


def load_fidelity(path: Path | str) -> FidelityResult:
    """Read and validate a fidelity result; `path` is the JSON or its folder. BadFile says what is
    wrong with it."""
    from pydantic import TypeAdapter, ValidationError
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(path)
    file = path / FIDELITY if path.is_dir() else path
    if not file.is_file():
        raise BadFile(
            f"There is no fidelity result at {file}. `sage fidelity ... --out DIR` writes one."
        )
    try:
        stored = TypeAdapter(_Stored).validate_json(file.read_bytes(), strict=True)
        arrays = load_file(file.parent / SUMS)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BadFile(
            f"{file} is not a fidelity result of sage: {where}: {first['msg']}. Measure again."
        ) from error
    except (OSError, SafetensorError) as error:
        raise BadFile(
            f"{file.parent / SUMS} is missing or damaged ({error}). Measure again."
        ) from error
    if (stored.schema, stored.columns) != (SCHEMA, list(COLUMNS)):
        raise BadFile(f"{file} was written by another version of sage. Measure again.")
    saes = [_measured_sae(arrays, number, sae, file) for number, sae in enumerate(stored.saes)]
    return FidelityResult(stored.model, stored.text, tuple(stored.clusters), tuple(saes))


def fidelity_files(paths: Sequence[Path]) -> list[Path]:
    """Every fidelity result in or below these paths, each once, in order; none where there is
    none. Hidden folders are left out."""
    files: dict[Path, None] = {}
    for path in paths:
        below = [path] if path.name == FIDELITY else sorted(path.rglob(FIDELITY))
        for file in below:
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if not hidden:
                files[file.resolve()] = None
    return list(files)


def join_fidelity(results: Sequence[FidelityResult]) -> list[FidelityResult]:
    """Results of one model on one text as one; an SAE that stands in several is taken from the
    first."""
    joined: list[FidelityResult] = []
    for result in results:
        for number, other in enumerate(joined):
            if (other.model, other.text, other.clusters) == (
                result.model,
                result.text,
                result.clusters,
            ):
                present = {(sae.suite, sae.hook) for sae in other.saes}
                new = [sae for sae in result.saes if (sae.suite, sae.hook) not in present]
                joined[number] = replace(other, saes=(*other.saes, *new))
                break
        else:
            joined.append(result)
    return joined


def _measured_sae(
    arrays: dict[str, np.ndarray], number: int, stored: _StoredSAE, file: Path
) -> MeasuredSAE:
    try:
        columns, *shares = (arrays[f"{number}.{name}"] for name in ("columns", "dead", "dense"))
    except KeyError as error:
        raise BadFile(f"{file.parent / SUMS} lacks {error}. Measure again.") from error
    dead, dense = (LatentShare(float(share[0]), share[1:]) for share in shares)
    return MeasuredSAE(**asdict(stored), columns=columns, dead=dead, dense=dense)


def _text(stored: _Stored) -> str:
    """JSON with one line for each SAE and row."""
    blocks: list[str] = []
    for name, value in asdict(stored).items():
        if name in ("saes", "rows"):
            lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value)
            blocks.append(f' "{name}": [\n  {lines}\n ]')
        else:
            blocks.append(f' "{name}": {json.dumps(value, allow_nan=False, ensure_ascii=False)}')
    return "{\n" + ",\n".join(blocks) + "\n}\n"
