"""Where results lie: the files to report on, and which task, model and seed each is of.

Only the head of a file is read here, so that names and links of all pages are known before the
first page is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from sage.errors import BadFile, SageError
from sage.result import load

FILE = "result.json"
HEAD = 65_536

_ADVICE = "`sage score ... --out DIR` writes results, `sage demo` as well."
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._]*(-[a-z0-9._]+)*")


class Source(NamedTuple):
    """One result file and what it is of; `d_model` orders models by size."""

    path: Path
    task: str
    model: str
    seed: int
    d_model: int

    @property
    def is_of(self) -> tuple[str, str, int]:
        """What tells its page from others."""
        return self.task, self.model, self.seed

    @property
    def slug(self) -> str:
        """The name of its page and of its folder of figures, without an ending."""
        return slug(self.task, self.model, *([f"seed-{self.seed}"] if self.seed else []))


def find_sources(folders: Sequence[Path]) -> list[Source]:
    """Every result in the folders, smaller models first.

    Raises SageError where there is none, or two of one task, model and seed.
    """
    paths = list(dict.fromkeys(path.resolve() for folder in folders for path in _results(folder)))
    sources = sorted(
        map(_read_head, paths),
        key=lambda source: (source.d_model, source.model, source.task, source.seed),
    )
    for source, following in pairwise(sources):
        if source.is_of == following.is_of:
            raise SageError(
                f"{source.path} and {following.path} are both of task '{source.task}' on"
                f" {source.model} with seed {source.seed}. Name the folders to report on one by"
                " one, and leave one of these out."
            )
    return sources


def slug(*parts: str) -> str:
    """A name for files, different for different parts.

    It is the parts themselves where they are plain, else their plain letters and a hash of them.
    """
    text = "--".join(parts)
    if all(_PLAIN.fullmatch(part) for part in parts) and len(text) <= 80:
        return text
    plain = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:60]
    return f"{plain}-{sha256(json.dumps(parts).encode()).hexdigest()[:10]}"


def _results(folder: Path) -> list[Path]:
    """The folder's own result, or all results below it; hidden folders hold unfinished ones."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BadFile(f"There is no folder {folder}. {_ADVICE}")
    if (folder / FILE).is_file():
        return [folder / FILE]
    below = folder.rglob(FILE)
    results = sorted(path for path in below if not _is_hidden(path.relative_to(folder)))
    if not results:
        raise BadFile(f"There is no {FILE} in {folder} or below it. {_ADVICE}")
    return results


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_head(path: Path) -> Source:
    """What a result is of.

    A file whose head does not say so is read whole, which says what is wrong with it.
    """
    with path.open("rb") as file:
        head = file.read(HEAD).decode(errors="ignore")
    fields = TypeAdapter(dict[str, object])
    try:
        result = fields.validate_python(from_json(head, allow_partial=True))
        task, model, run = (
            fields.validate_python(result[name]) for name in ("task", "model", "run")
        )
        return TypeAdapter(Source).validate_python(
            (path, task["name"], model["name"], run["seed"], model["d_model"]), strict=True
        )
    except (ValidationError, ValueError, KeyError):
        whole = load(path)
        return Source(path, whole.task.name, whole.model.name, whole.run.seed, whole.model.d_model)
