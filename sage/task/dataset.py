"""Prompts as a datasets.Dataset, and as .parquet or .jsonl files, with their labels and positions.

One row per prompt. Columns: text, family, variant, answers, foils, stratum; `slot.IO`,
`label.order` and `span.S1` (first character and the one after the last) for every name; for prompts
as a model reads them also ids, answer_ids, foil_ids and `position.S1`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sage.errors import BadFile
from sage.files import parse_object, read_lines
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = (".parquet", ".jsonl")

_TEXT, _TEXTS = "a text", "a list of texts"
_NUMBER, _NUMBERS = "a whole number", "a list of whole numbers"
_SPAN, _LABEL = "two whole numbers", "a text or a whole number"
_COLUMNS = {
    "text": _TEXT,
    "family": _TEXT,
    "variant": _TEXT,
    "answers": _TEXTS,
    "foils": _TEXTS,
    "stratum": _TEXT,
}
_TOKEN_COLUMNS = {"ids": _NUMBERS, "answer_ids": _NUMBERS, "foil_ids": _NUMBERS}
_GROUPS = {"slot": _TEXT, "label": _LABEL, "span": _SPAN, "position": _NUMBER}


def to_dataset(prompts: Iterable[Prompt | Tokenized]) -> Dataset:
    """The prompts as a Dataset, one row each; `from_dataset` gives them back equal."""
    from datasets import Dataset

    rows = [_to_row(prompt) for prompt in prompts]
    names = dict.fromkeys(chain.from_iterable(rows))
    columns: dict[str, list[Any]] = {}
    for name in names:
        columns[name] = [row.get(name) for row in rows]
    return Dataset.from_dict(columns)


def from_dataset(dataset: Dataset) -> list[Prompt] | list[Tokenized]:
    """The prompts of a Dataset that `to_dataset` made, or that has its columns.

    BadFile names a column that is missing or wrong.
    """
    return _from_rows([cast("dict[str, Any]", row) for row in dataset], "The dataset")


def save(prompts: Iterable[Prompt | Tokenized], path: str | Path) -> Path:
    """Write the prompts as .parquet or .jsonl (BadFile for another ending); returns the path."""
    path = _checked_format(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        to_dataset(prompts).to_parquet(str(path))
    else:
        lines = [json.dumps(_to_row(prompt), ensure_ascii=False) + "\n" for prompt in prompts]
        path.write_text("".join(lines), encoding="utf-8")
    return path


def load(path: str | Path) -> list[Prompt] | list[Tokenized]:
    """The prompts in a .parquet or .jsonl file; BadFile says what is wrong with it."""
    path = _checked_format(Path(path))
    if not path.is_file():
        raise BadFile(f"There is no file {path}.")
    rows = _read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path)
    return _from_rows(rows, str(path))


def _checked_format(path: Path) -> Path:
    if path.suffix not in FORMATS:
        raise BadFile(f"{path} does not end in {' or '.join(FORMATS)}, the formats of prompts.")
    return path


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        return parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise BadFile(f"{path} is not a readable parquet file: {error}.") from error


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} cannot be read as UTF-8: {error}.") from error
    return [
        parse_object(line, f"{path}, line {number}", "write one JSON object per prompt")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _to_row(prompt: Prompt | Tokenized) -> dict[str, Any]:
    if isinstance(prompt, Prompt):
        row: dict[str, Any] = {column: getattr(prompt, column) for column in _COLUMNS}
        row |= _columns_of("slot", prompt.slots)
        row |= _columns_of("label", prompt.labels)
        row |= _columns_of("span", prompt.spans)
    else:
        row = _to_row(prompt.prompt)
        row |= {"ids": prompt.ids, "answer_ids": prompt.answers, "foil_ids": prompt.foils}
        row |= _columns_of("position", prompt.index)
    return {
        column: list(value) if isinstance(value, tuple) else value for column, value in row.items()
    }


def _columns_of(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """name -> value as columns `group.name`."""
    return {f"{group}.{name}": value for name, value in values.items()}


def _values_of(group: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns `group.name` as name -> value.

    A name that a prompt does not have is empty in a table.
    """
    start = f"{group}."
    return {
        column.removeprefix(start): value
        for column, value in row.items()
        if column.startswith(start) and value is not None
    }


def _from_rows(rows: Sequence[dict[str, Any]], where: str) -> list[Prompt] | list[Tokenized]:
    if not rows:
        raise BadFile(f"{where} has no prompts.")
    tokenized = all("ids" in row for row in rows)
    columns = _COLUMNS | _TOKEN_COLUMNS if tokenized else _COLUMNS
    for number, row in enumerate(rows, 1):
        _check_row(row, columns, f"{where}, prompt {number}")
    return [_tokenized(row) for row in rows] if tokenized else [_prompt(row) for row in rows]


def _check_row(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> None:
    if missing := [column for column in columns if row.get(column) is None]:
        raise BadFile(
            f"{where} has no '{missing[0]}'. "
            f"Prompts have {', '.join(columns)}, and columns slot.X, label.X, span.X."
        )
    for column, value in row.items():
        kind = columns.get(column) or _GROUPS.get(column.partition(".")[0])
        if value is not None and kind is not None and not _fits(value, kind):
            raise BadFile(f"{where}: {column} is {value!r}; it must be {kind}.")


def _fits(value: object, kind: str) -> bool:
    if kind in (_TEXTS, _NUMBERS, _SPAN):
        if not isinstance(value, list):
            return False
        entries = cast("list[object]", value)
        entry_kind = _TEXT if kind == _TEXTS else _NUMBER
        right_length = kind != _SPAN or len(entries) == 2
        return right_length and all(_fits(entry, entry_kind) for entry in entries)
    types = {_TEXT: (str,), _NUMBER: (int,), _LABEL: (str, int)}
    return type(value) in types[kind]


def _prompt(row: Mapping[str, Any]) -> Prompt:
    return Prompt(
        text=row["text"],
        family=row["family"],
        variant=row["variant"],
        slots=_values_of("slot", row),
        labels=_values_of("label", row),
        spans={name: (start, end) for name, (start, end) in _values_of("span", row).items()},
        answers=tuple(row["answers"]),
        foils=tuple(row["foils"]),
        stratum=row["stratum"],
    )


def _tokenized(row: Mapping[str, Any]) -> Tokenized:
    return Tokenized(
        prompt=_prompt(row),
        ids=tuple(row["ids"]),
        index=_values_of("position", row),
        answers=tuple(row["answer_ids"]),
        foils=tuple(row["foil_ids"]),
    )
