"""Where results lie: the files to report on, and which task, model, plan and seed each is of.

Only the head and the end of a file are read here, so that names and links of all pages are known
before the first page is written. Results of one cell (suites scored at different times or places)
are one source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from sage.errors import BadFile, SageError
from sage.report.words import count
from sage.result import SCHEMA
from sage.result_file import RESULT, load_result

HEAD, TAIL = 65_536, 256
# The plan that goes without saying.
STANDARD = "standard"

_ADVICE = "`sage score ... --out DIR` writes results, `sage demo` as well."
_PLAIN = re.compile(r"[a-z0-9_][a-z0-9._]*(-[a-z0-9._]+)*")
_LAST_SCHEMA = re.compile(rb'"schema":\s*(\d+)\s*\}\s*\Z')


class Source(NamedTuple):
    """The files of one cell and what it is of; `d_model` orders models by size.

    `plan_told` says that the plan goes with the model's name, as there are results of others.
    """

    paths: tuple[Path, ...]
    task: str
    model: str
    seed: int
    d_model: int
    plan: str = STANDARD
    plan_told: bool = False

    @property
    def is_of(self) -> tuple[str, str, str, int]:
        """What tells its page from others."""
        return self.model, self.plan, self.task, self.seed

    @property
    def lines_up(self) -> tuple[int, str, str, str, int]:
        """Its place among others: smaller models first."""
        return self.d_model, *self.is_of

    @property
    def model_and_plan(self) -> str:
        """The model, with the plan where there are several."""
        return f"{self.model}, plan {self.plan}" if self.plan_told else self.model

    @property
    def slug(self) -> str:
        """The name of its page and of its folder of figures, without an ending."""
        parts = [self.task, self.model]
        parts += [] if self.plan == STANDARD else [self.plan]
        parts += [f"seed-{self.seed}"] if self.seed else []
        return slug(*parts)


class ReportSources(NamedTuple):
    """What there is to report on, and how many results of other versions of the scores were left
    out."""

    listed: list[Source]
    outdated: int

    @property
    def left_out(self) -> str | None:
        """What a reader must know of the results that were left out."""
        if not self.outdated:
            return None
        are = "is" if self.outdated == 1 else "are"
        return (
            f"Left out: {count(self.outdated, 'result')} of other versions of the scores, which "
            f"{are} not to be compared with those of today. Score again (`--again`) to have them."
        )


class NoneOfToday(SageError):
    """All results are of other versions of the scores."""


class _Head(NamedTuple):
    """What one file is of."""

    source: Source
    schema: int
    scores: Mapping[str, int]

    @property
    def of_today(self) -> bool:
        """Whether its scores are defined as today's."""
        from sage.scores.score import defined_as_today

        return self.schema == SCHEMA and defined_as_today(self.scores)


def find_sources(folders: Sequence[Path]) -> ReportSources:
    """Every result in the folders, smaller models first; those of one cell are one source.

    Results of other versions of the scores are counted and left out: they are not to be compared.
    Raises NoneOfToday where nothing else is there.
    """
    paths = list(dict.fromkeys(path.resolve() for folder in folders for path in _results(folder)))
    heads = [_read_head(path) for path in paths]
    cells: dict[tuple[str, str, str, int], Source] = {}
    for head in heads:
        if head.of_today:
            source = head.source
            before = cells.get(source.is_of)
            cells[source.is_of] = (
                source if before is None else before._replace(paths=before.paths + source.paths)
            )
    outdated = sum(not head.of_today for head in heads)
    if not cells:
        raise NoneOfToday(
            f"All results here ({outdated}) are of other versions of the scores, which are not to "
            "be compared with those of today. Score again, with --again or into another folder."
        )
    several = len({source.plan for source in cells.values()}) > 1
    sources = [source._replace(plan_told=several) for source in cells.values()]
    return ReportSources(sorted(sources, key=lambda source: source.lines_up), outdated)


def slug(*parts: str) -> str:
    """A name for files, different for different parts.

    It is the parts themselves where they are plain, else their plain letters and a hash of them.
    """
    text = "--".join(parts)
    if all(_PLAIN.fullmatch(part) for part in parts) and len(text) <= 80:
        return text
    plain = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:60]
    return f"{plain}-{sha256(json.dumps(parts).encode()).hexdigest()[:10]}"


def _results(folder: Path) -> Iterable[Path]:
    """The folder's own result, or all results below it; hidden folders hold unfinished ones."""
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise BadFile(f"There is no folder {folder}. {_ADVICE}")
    if (folder / RESULT).is_file():
        return [folder / RESULT]
    below = folder.rglob(RESULT)
    results = sorted(path for path in below if not _is_hidden(path.relative_to(folder)))
    if not results:
        raise BadFile(f"There is no {RESULT} in {folder} or below it. {_ADVICE}")
    return results


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_head(path: Path) -> _Head:
    """What a result is of.

    A file whose head and end do not say so is read whole, which says what is wrong with it.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
        file.seek(max(0, path.stat().st_size - TAIL))
        last = _LAST_SCHEMA.search(file.read())
    fields = TypeAdapter(dict[str, object])
    try:
        result = fields.validate_python(from_json(head.decode(errors="ignore"), allow_partial=True))
        schema = result["schema"] if last is None else int(last[1])
        task, model, run = (
            fields.validate_python(result[name]) for name in ("task", "model", "run")
        )
        plan = fields.validate_python(run.get("plan", {})).get("name", STANDARD)
        values = ((path,), task["name"], model["name"], run["seed"], model["d_model"], plan)
        source = TypeAdapter(Source).validate_python(values, strict=True)
        scores = TypeAdapter(dict[str, int]).validate_python(run.get("scores", {}))
        return _Head(source, TypeAdapter(int).validate_python(schema, strict=True), scores)
    except (ValidationError, ValueError, KeyError):
        whole = load_result(path)
        plan = str(whole.run.plan.get("name", STANDARD))
        run, model = whole.run, whole.model
        source = Source((path,), whole.task.name, model.name, run.seed, model.d_model, plan)
        return _Head(source, whole.schema, whole.run.scores)
