"""Prompts as a datasets.Dataset, and as .parquet or .jsonl files, with their labels and positions.

One row per prompt. Columns: text, family, variant, answers, foils, stratum; `slot.IO`,
`label.order` and `span.S1` (first character and the one after the last) for every name; for prompts
as a model reads them also ids, answer_ids, foil_ids and `position.S1`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sage.errors import BadFile
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = (".parquet", ".jsonl")

_TEXT, _TEXTS, _NUMBER, _NUMBERS = (
    "a text",
    "a list of texts",
    "a whole number",
    "a list of whole numbers",
)
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

    rows = [_row(prompt) for prompt in prompts]
    names = dict.fromkeys(name for row in rows for name in row)
    return Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})


def from_dataset(dataset: Dataset) -> list[Prompt] | list[Tokenized]:
    """The prompts of a Dataset that `to_dataset` made, or that has its columns; BadFile names a
    column that is missing or wrong."""
    return _prompts([cast("dict[str, Any]", row) for row in dataset], "The dataset")


def save(prompts: Iterable[Prompt | Tokenized], path: str | Path) -> Path:
    """Write the prompts as .parquet or .jsonl; returns the path."""
    path = _known(Path(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        to_dataset(prompts).to_parquet(str(path))
    else:
        path.write_text(
            "".join(json.dumps(_row(prompt), ensure_ascii=False) + "\n" for prompt in prompts),
            encoding="utf-8",
        )
    return path


def load(path: str | Path) -> list[Prompt] | list[Tokenized]:
    """The prompts in a .parquet or .jsonl file; BadFile says what is wrong with it."""
    path = _known(Path(path))
    if not path.is_file():
        raise BadFile(f"There is no file {path}.")
    return _prompts(_parquet(path) if path.suffix == ".parquet" else _jsonl(path), str(path))


def _known(path: Path) -> Path:
    if path.suffix not in FORMATS:
        raise BadFile(f"{path} does not end in {' or '.join(FORMATS)}, the formats of prompts.")
    return path


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as arrow
    from pyarrow import parquet

    try:
        return parquet.read_table(path).to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise BadFile(f"{path} is not a readable parquet file: {error}.") from error


def _jsonl(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8: {error}.") from error
    return [
        _parse(line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadFile(f"{where} is not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise BadFile(f"{where} is no object; write one JSON object per prompt.")
    return cast("dict[str, Any]", row)


def _row(prompt: Prompt | Tokenized) -> dict[str, Any]:
    if isinstance(prompt, Prompt):
        row: dict[str, Any] = {name: getattr(prompt, name) for name in _COLUMNS}
        groups: dict[str, Mapping[str, Any]] = {
            "slot": prompt.slots,
            "label": prompt.labels,
            "span": prompt.spans,
        }
    else:
        row = {
            **_row(prompt.prompt),
            "ids": prompt.ids,
            "answer_ids": prompt.answers,
            "foil_ids": prompt.foils,
        }
        groups = {"position": prompt.index}
    row |= {
        f"{group}.{name}": value
        for group, values in groups.items()
        for name, value in values.items()
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def _prompts(rows: Sequence[dict[str, Any]], where: str) -> list[Prompt] | list[Tokenized]:
    if not rows:
        raise BadFile(f"{where} has no prompts.")
    read = all("ids" in row for row in rows)
    for number, row in enumerate(rows, 1):
        _check(row, {**_COLUMNS, **(_TOKEN_COLUMNS if read else {})}, f"{where}, prompt {number}")
    return [_tokenized(row) for row in rows] if read else [_prompt(row) for row in rows]


def _check(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> None:
    if missing := [name for name in columns if row.get(name) is None]:
        raise BadFile(
            f"{where} has no '{missing[0]}'. Prompts have {', '.join(columns)}, and columns slot.X, label.X, span.X."
        )
    for name, value in row.items():
        kind = columns.get(name) or _GROUPS.get(name.partition(".")[0])
        if value is not None and kind is not None and not _fits(value, kind):
            raise BadFile(f"{where}: {name} is {value!r}; it must be {kind}.")


def _fits(value: object, kind: str) -> bool:
    if kind in (_TEXTS, _NUMBERS, _SPAN):
        entries = cast("list[object]", value) if isinstance(value, list) else [None]
        of = _TEXT if kind == _TEXTS else _NUMBER
        return all(_fits(entry, of) for entry in entries) and (kind != _SPAN or len(entries) == 2)
    return type(value) in {_TEXT: (str,), _NUMBER: (int,), _LABEL: (str, int)}[kind]


def _prompt(row: Mapping[str, Any]) -> Prompt:
    return Prompt(
        **{name: row[name] for name in ("text", "family", "variant", "stratum")},
        slots=_group(row, "slot"),
        labels=_group(row, "label"),
        spans={name: (start, end) for name, (start, end) in _group(row, "span").items()},
        answers=tuple(row["answers"]),
        foils=tuple(row["foils"]),
    )


def _tokenized(row: Mapping[str, Any]) -> Tokenized:
    return Tokenized(
        _prompt(row),
        tuple(row["ids"]),
        _group(row, "position"),
        tuple(row["answer_ids"]),
        tuple(row["foil_ids"]),
    )


def _group(row: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The columns `group.name` as name -> value; a name that a prompt does not have is empty in a
    table."""
    found = {
        name.partition(".")[2]: value for name, value in row.items() if name.startswith(f"{group}.")
    }
    return {name: value for name, value in found.items() if value is not None}
