"""What the audit measured: one record for each dictionary in each place, kept part by part.

A part is one unit of the work. Its file says what it was made from, so that an audit that is
interrupted goes on where it was, and one by other code or another plan begins anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import process_time
from typing import Any

from sage.audit.metrics import versions
from sage.audit.plan import AuditPlan
from sage.files import write_json
from sage.version import __version__

# Raised whenever what a part measures changes.
REVISION = 2
# Settings of a plan that say which parts there are, and change none of them.
_WHICH_PARTS = ("name", "tasks", "worlds", "sae_seeds", "snapshot_seeds", "seeds")
# The folder of an audit in which its parts lie.
PARTS = "parts"


@dataclass(frozen=True)
class Measured:
    """One dictionary, measured by every metric that can be had there.

    `where` is a planted world or `task on model`; `role` what it is there to show (built, control,
    trained, frozen, soft-frozen, snapshot, reseeded, climbed, ...), `seed` from which it, or what
    it was measured on, was drawn, `at` how far along it is (steps of training, edits kept).
    `quality` is how good it is by the planted features, empty where they are not known. A metric
    that is undefined is None; `errors` has half the width of its 95 % interval where it has one.
    """

    lens: str
    where: str
    dictionary: str
    role: str
    scores: Mapping[str, float | None]
    quality: Mapping[str, float] = field(default_factory=dict[str, float])
    seed: int = 0
    at: float | None = None
    low: Mapping[str, float] = field(default_factory=dict[str, float])
    high: Mapping[str, float] = field(default_factory=dict[str, float])

    def score(self, metric: str) -> float:
        """A metric of it; NaN where it has none."""
        value = self.scores.get(metric)
        return math.nan if value is None else value


@dataclass(frozen=True)
class Unit:
    """One part of the work: a lens somewhere, and which part of it."""

    lens: str
    where: str
    part: str

    @property
    def name(self) -> str:
        """`truth, nested, built`: that of its file too."""
        return ", ".join(word for word in (self.lens, self.where, self.part) if word)


def defined(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Scores with None where they are undefined, as files have them."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def once(
    unit: Unit, plan: AuditPlan, folder: Path, measure: Callable[[], Sequence[Measured]]
) -> list[Measured]:
    """The records of a unit: read from its file where that was made alike, else measured."""
    path, key = folder / f"{unit.name}.json", _key(unit, plan)
    if path.is_file():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] == key:
            return [Measured(**record) for record in content["records"]]
    started = process_time()
    records = list(measure())
    listed = [asdict(record) for record in records]
    write_json(path, {"key": key, "seconds": process_time() - started, "records": listed})
    return records


def seconds_taken(units: Sequence[Unit], folder: Path) -> float:
    """How long the processor took for these parts, whenever they were measured."""
    files = [folder / f"{unit.name}.json" for unit in units]
    return sum(json.loads(file.read_text(encoding="utf-8"))["seconds"] for file in files)


def _key(unit: Unit, plan: AuditPlan) -> str:
    made_from: dict[str, Any] = {
        "unit": asdict(unit),
        "plan": {name: fact for name, fact in plan.facts.items() if name not in _WHICH_PARTS},
        "metrics": versions(),
        "sage": __version__,
        "revision": REVISION,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
