"""Texts with labels, from a local file: what k-sparse probing is published on.

CSV, TSV or JSON lines, also compressed, with a column of texts and one of labels. The data sets
inside the wheel of `sae-probes` (Kantamneni et al. 2025, arXiv 2502.16681) are such files; their
columns are `prompt` and `target`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sage.errors import BadFile

if TYPE_CHECKING:
    from pandas import DataFrame

TEXTS, LABELS = ("prompt", "text", "sentence"), ("target", "label", "class")
COMPRESSED = (".gz", ".zst", ".bz2", ".xz", ".zip")
SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and the label of each, as a word; the name is that of the file."""

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]


def is_text_file(path: Path) -> bool:
    """Whether a file is named as one of these is."""
    return _suffix(path) in (*SEPARATORS, *JSON_LINES)


def read_labelled_texts(
    path: Path, *, text: str | None = None, label: str | None = None
) -> LabelledTexts:
    """The texts of a file, rows without a text or a label left out. Columns go by these names, else
    by the first of the usual ones that is there. BadFile where there is no such column or nothing
    in it."""
    if not path.is_file():
        raise BadFile(f"There is no file {path}.")
    table = _table(path)
    texts = _column(table, path, text, TEXTS, "texts")
    labels = _column(table, path, label, LABELS, "labels")
    kept = table[[texts, labels]].dropna()
    if kept.empty:
        raise BadFile(f"{path} has no row with both '{texts}' and '{labels}'.")
    name = path.name.removesuffix(path.suffix if path.suffix in COMPRESSED else "")
    return LabelledTexts(
        Path(name).stem, tuple(map(str, kept[texts])), tuple(map(str, kept[labels]))
    )


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix


def _table(path: Path) -> DataFrame:
    import pandas as pd

    try:
        if _suffix(path) in JSON_LINES:
            return pd.read_json(path, lines=True)
        separator = SEPARATORS.get(_suffix(path), ",")
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read as a table: {error}") from error
    except ImportError as error:
        raise BadFile(
            f"{path} is compressed in a way that needs another package ({error}). Unpack it first."
        ) from error


def _column(
    table: DataFrame, path: Path, wanted: str | None, usual: tuple[str, ...], what: str
) -> str:
    names = [wanted] if wanted else list(usual)
    for name in names:
        if name in table.columns:
            return name
    listed = ", ".join(map(str, table.columns))
    raise BadFile(
        f"{path} has no column of {what} named {' or '.join(names)}. Its columns: {listed}. "
        f"Name one with --{what.removesuffix('s')}."
    )
