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

_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._]*(-[a-z0-9._]+)*")


class Source(NamedTuple):
    """One result file and what it is of; `d_model` orders models by size."""

    path: Path
    task: str
    model: str
    seed: int
    d_model: int

    @property
    def slug(self) -> str:
        """The name of its page and of its folder of figures, without an ending."""
        return slug(self.task, self.model, *([f"seed-{self.seed}"] if self.seed else []))


def find_sources(folders: Sequence[Path]) -> list[Source]:
    """Every result in the folders, smaller models first. Raises SageError where there is none, or
    two of one task, model and seed."""
    paths = list(dict.fromkeys(path.resolve() for folder in folders for path in _results(folder)))
    sources = sorted(
        (_peek(path) for path in paths),
        key=lambda found: (found.d_model, found.model, found.task, found.seed),
    )
    for one, other in pairwise(sources):
        if (one.task, one.model, one.seed) == (other.task, other.model, other.seed):
            raise SageError(
                f"{one.path} and {other.path} are both of task '{one.task}' on {one.model} with seed {one.seed}. "
                "Name the folders to report on one by one, and leave one of these out."
            )
    return sources


def slug(*parts: str) -> str:
    """A name for files, different for different parts: the parts themselves where they are plain,
    else with a hash of them."""
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
        raise BadFile(
            f"There is no folder {folder}. `sage score ... --out DIR` writes results, `sage demo` as well."
        )
    if (folder / FILE).is_file():
        return [folder / FILE]
    found = sorted(
        path
        for path in folder.rglob(FILE)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise BadFile(
            f"There is no {FILE} in {folder} or below it. `sage score ... --out DIR` writes results, `sage demo` as well."
        )
    return found


def _peek(path: Path) -> Source:
    """What a result is of; a file whose head does not say so is read whole, which says what is
    wrong with it."""
    with path.open("rb") as file:
        head = file.read(HEAD).decode(errors="ignore")
    try:
        found = TypeAdapter(dict[str, object]).validate_python(from_json(head, allow_partial=True))
        task = TypeAdapter(dict[str, object]).validate_python(found["task"])
        model = TypeAdapter(dict[str, object]).validate_python(found["model"])
        run = TypeAdapter(dict[str, object]).validate_python(found["run"])
        return TypeAdapter(Source).validate_python(
            (path, task["name"], model["name"], run["seed"], model["d_model"]), strict=True
        )
    except (ValidationError, ValueError, KeyError):
        result = load(path)
        return Source(
            path, result.task.name, result.model.name, result.run.seed, result.model.d_model
        )
