"""What an audit found: cells, verdicts and the panel behind them, in one file.

The audit that ships lies beside this module; its verdicts stand beside every score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from sage.audit.cell import Cell
from sage.audit.plan import LENSES
from sage.audit.verdict import UNKNOWN, Verdict
from sage.errors import BadFile
from sage.files import write_json
from sage.result import HEADLINES, Result

SCHEMA = 1
AUDIT = "audit.json"
SHIPPED = Path(__file__).with_name("shipped.json")
DIGITS = 4


@dataclass(frozen=True)
class PanelDot:
    """One dictionary of a panel, for pictures: its L0, its quality, and what every metric says."""

    world: str
    dictionary: str
    role: str
    l0: float
    quality: float
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class AuditResult:
    """Everything a page shows of an audit; `command` makes it anew, in `seconds` of processor."""

    date: str
    sage: str
    command: str
    seconds: float
    plan: Mapping[str, Any]
    libraries: Mapping[str, str]
    true_l0: Mapping[str, float]
    verdicts: Sequence[Verdict]
    cells: Sequence[Cell]
    panel: Sequence[PanelDot] = field(default=())

    @property
    def quick(self) -> bool:
        """Whether it drew little."""
        return self.plan["name"] == "quick"

    def verdict(self, metric: str) -> Verdict | None:
        """The verdict on a metric of any version."""
        return next((one for one in self.verdicts if one.metric == metric), None)

    def at(self, metric: str, lens: str) -> list[Cell]:
        """The cells of a metric under a lens, place by place."""
        return [cell for cell in self.cells if (cell.metric, cell.lens) == (metric, lens)]

    def table(self) -> list[dict[str, str]]:
        """One row a metric, one column a lens with the figure of its worst place, and the
        verdict."""
        from sage.audit.metrics import audited

        metrics = audited()
        rows: list[dict[str, str]] = []
        for verdict in self.verdicts:
            row = {"metric": metrics[verdict.metric].title if verdict.metric in metrics
                   else verdict.metric, "version": str(verdict.version)}  # fmt: skip
            row |= {lens: summary(self.at(verdict.metric, lens)) for lens in LENSES}
            rows.append(row | {"verdict": str(verdict)})
        return rows


def summary(cells: Sequence[Cell]) -> str:
    """A lens in few words: whether it passed and how often, and the figure of the worst place."""
    judged = [cell for cell in cells if cell.passed is not None]
    if not judged:
        return cells[0].said if cells else "-"
    failed = [cell for cell in judged if not cell.passed]
    shown = (failed or judged)[0]
    count = f"{len(judged) - len(failed)}/{len(judged)}"
    if not failed:
        return f"pass {count}; {shown.where}: {shown.said}"
    reasons = "; ".join(shown.failed[:2]) or shown.said
    return f"FAIL {count}; {shown.where}: {reasons}"


def save_audit(result: AuditResult, folder: Path) -> Path:
    """Write audit.json; returns its path."""
    return write_json(folder / AUDIT, {"schema": SCHEMA, **_rounded(asdict(result))})


def load_audit(path: Path) -> AuditResult:
    """Read an audit from its file or folder. BadFile where it is none."""
    from pydantic import TypeAdapter, ValidationError

    file = path / AUDIT if path.is_dir() else path
    if not file.is_file():
        raise BadFile(f"There is no audit at {file}. `sage audit --out DIR` writes one.")
    content = json.loads(file.read_text(encoding="utf-8"))
    schema = content.pop("schema", None) if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise BadFile(f"{file} has schema {schema}; this version reads schema {SCHEMA}.")
    try:
        return TypeAdapter(AuditResult).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise BadFile(f"{file} is not an audit of sage: {where}: {first['msg']}.") from error


@cache
def shipped_audit() -> AuditResult | None:
    """The audit that ships with this version."""
    return load_audit(SHIPPED) if SHIPPED.is_file() else None


def verdict_on(metric: str, version: int) -> str | None:
    """What to say beside a score of this version where the verdict is not 'use': the verdict, that
    it is of an older or a newer version, or that there is none. None where it is 'use'."""
    audit = shipped_audit()
    verdict = audit.verdict(metric) if audit else None
    if verdict is None or verdict.word == UNKNOWN:
        return UNKNOWN
    if verdict.version != version:
        age = "an older" if verdict.version < version else "a newer"
        return f"{verdict.word}, of {age} version"
    return None if verdict.word == "use" else str(verdict)


def verdict_notes(result: Result | None = None) -> list[str]:
    """A sentence for every headline score whose verdict is not 'use', of the version that stands in
    a result, or of the audit's own."""
    audit = shipped_audit()
    if audit is None:
        return []
    rows = result.rows if result else []
    versions = {row.metric: row.version for row in rows if row.metric in HEADLINES}
    notes: list[str] = []
    for metric, label in HEADLINES.items():
        audited_as = audit.verdict(metric)
        version = versions.get(metric, audited_as.version if audited_as else 0)
        said = verdict_on(metric, version)
        if said is not None:
            notes.append(f"{label}, by the audit of {audit.date}: {said}.")
    return notes


def _rounded(value: Any) -> Any:
    """Numbers with as many digits as are told; None where they are undefined."""
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
