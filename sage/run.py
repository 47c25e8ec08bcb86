"""How a run is done: its plan, what it has done before, and where its time goes.

`quick`, `standard` and `full` name the settings that a run may have; each says what it saves on, so
that no number stands without what it cost (method, section 5.9).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from sage.dictionaries.controls import control_names
from sage.dictionaries.options import NAMED_OPTIONS, options_named
from sage.errors import SageError, unknown
from sage.models.base import Model
from sage.progress import stage
from sage.scores.node_set import Settings
from sage.scores.suite import Wanted
from sage.settings_file import FileSetting, read_table, write_table
from sage.stopwatch import Stopwatch
from sage.store.key import RunKeys
from sage.store.mapping import StoredMapping
from sage.store.reading import Remembered
from sage.store.store import Store

Value = TypeVar("Value")

EVERY_CONTROL = (
    "mean only", "random", "permuted", "untrained", "text lookup", "task lookup", "PCA", "neurons",
    "identity",
)  # fmt: skip
WHOLE = "whole"


@dataclass(frozen=True)
class Plan:
    """How much is drawn, and what is measured.

    `pairs` per contrast are tested on, `discover` pairs find the sections, `decide` pairs of fit
    decide what is defined and which control is best; `fit` prompts are fitted on (None: 2,000, or
    20 for each value if that is more), `detect` prompts beyond the pairs detected on. Controls that
    are not `thorough` have T2 alone, but for lookup tables and the control best at T2. `copying`
    are the k of copying; `unbounded` wants edits of as many latents as help, `apart` own and moved
    nodes by themselves, `groups` each (kind, position) class, `also` options of copying.
    """

    name: str = "standard"
    seed: int = 0
    pairs: int = 500
    discover: int = 200
    decide: int = 200
    fit: int | None = None
    detect: int = 2000
    controls: tuple[str, ...] = EVERY_CONTROL
    thorough: bool = True
    copying: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    unbounded: bool = True
    apart: bool = True
    groups: bool = False
    also: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """Every setting, as it stands in a result."""
        settings = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
        }

    @property
    def settings(self) -> Settings:
        """How a node set is scored."""
        return Settings(self.seed, self.copying, self.unbounded)

    @property
    def wanted(self) -> Wanted:
        """What is scored beside a suite."""
        options = options_named(self.also)
        return Wanted(self.controls, self.thorough, self.groups, self.apart, options=options)

    def savings(self) -> list[str]:
        """What this plan saves on, against the standard one."""
        standard = PLANS["standard"]
        saved: list[str] = []
        for name in ("pairs", "discover", "decide", "detect"):
            if getattr(self, name) < getattr(standard, name):
                saved.append(f"{name} {getattr(self, name)} instead of {getattr(standard, name)}")
        if self.fit is not None and self.fit < LEAST_FIT:
            saved.append(f"fitted on {self.fit} prompts instead of {LEAST_FIT} or more")
        if not self.thorough:
            saved.append("controls have T2 alone, but for lookup tables and the control best at T2")
        if missing := [name for name in standard.controls if name not in self.controls]:
            saved.append(f"no {', '.join(missing)}")
        return saved


LEAST_FIT = 2000
PLANS = {
    "quick": Plan(
        "quick", pairs=50, discover=50, decide=50, fit=400, detect=0,
        controls=("mean only", "random", "permuted", "untrained", "text lookup", "task lookup",
                  "PCA"),
        thorough=False, copying=(4,), unbounded=False, apart=False,
    ),
    "standard": Plan(),
    "full": Plan(
        "full", groups=True, also=("per-node", "sources", "recomputed", "oracle"),
        controls=(*EVERY_CONTROL, "best-1", "best-4", "best-16", "best-64"),
    ),
}  # fmt: skip


PLAN_SETTINGS = {
    "base": FileSetting("text", "The plan that this one is based on.", tuple(PLANS)),
    "name": FileSetting("text", "What the plan is called; by default its base and what differs."),
    "seed": FileSetting("number", "What every random draw comes from."),
    "pairs": FileSetting("number", "Pairs of prompts that each contrast is tested on."),
    "discover": FileSetting("number", "Pairs of each contrast that find its section."),
    "decide": FileSetting("number", "Pairs of fit on which everything is decided."),
    "fit": FileSetting(
        "number or default",
        'Prompts that are fitted on; "default" is 2,000, or 20 for each value if that is more.',
    ),
    "detect": FileSetting("number", "Prompts beyond the pairs, to measure detection on."),
    "controls": FileSetting("texts", "Dictionaries that are scored beside a suite."),
    "thorough": FileSetting("yes or no", "Whether every control has every score."),
    "copying": FileSetting("numbers", "Numbers of latents that copying moves; none: no copying."),
    "unbounded": FileSetting("yes or no", "Whether edits of as many latents as help are run."),
    "apart": FileSetting("yes or no", "Whether own and moved nodes are scored by themselves too."),
    "groups": FileSetting("yes or no", "Whether each (kind, position) class is scored too."),
    "also": FileSetting("texts", "Options of copying that are run too.", tuple(NAMED_OPTIONS)),
}


def make_plan(name: str | Path = "standard", **changes: object) -> Plan:
    """The plan of that name, or that of a run file (.toml), with changes; one that is changed goes
    by a name of its own.

        plan = sage.make_plan("quick", pairs=100, seed=1)
    """
    if str(name).endswith(".toml"):
        return _changed(read_plan(Path(name)), changes)
    if name not in PLANS:
        raise unknown("plan", str(name), PLANS, remedy="A run file, FILE.toml, has a plan too.")
    return _changed(PLANS[str(name)], changes)


def read_plan(path: Path) -> Plan:
    """The plan of a run file: its base, with what the file says.

    Raises as `read_table` does.
    """
    changes = read_table(path, PLAN_SETTINGS, table="plan")
    base, name = changes.pop("base", "standard"), changes.pop("name", None)
    for control in changes.get("controls", ()):
        if control not in control_names():
            raise unknown(f"control for plan.controls in {path}", control, control_names())
    plan = make_plan(base, **changes)
    return plan if name is None else replace(plan, name=name)


def plan_table(plan: Plan) -> str:
    """Every setting of a plan as it stands in a run file."""
    start = plan.name.partition("-")[0]
    base = start if start in PLANS else "standard"
    settings = {entry.name: getattr(plan, entry.name) for entry in fields(plan)}
    name = settings.pop("name")
    named = {} if make_plan(base, **settings).name == name else {"name": name}
    return write_table({"base": base, **named, **settings}, PLAN_SETTINGS)


def _changed(base: Plan, changes: Mapping[str, object]) -> Plan:
    """The plan with changes, and with their names in its own."""
    known = {entry.name for entry in fields(Plan)}
    for key in changes:
        if key not in known:
            raise unknown("setting of a plan", key, known)
    changed = {key: value for key, value in changes.items() if value != getattr(base, key)}
    if not changed:
        return base
    told = [f"{key}-{_word(value)}" for key, value in changed.items() if key != "seed"]
    plan = replace(base, **changed, name="-".join([base.name, *told]))  # pyright: ignore[reportArgumentType]
    if min(plan.pairs, plan.discover, plan.decide) < 1:
        raise SageError("A plan needs at least one pair to test, to discover and to decide on.")
    return plan


def _word(value: object) -> str:
    """A setting as a part of a plan's name."""
    listed: Sequence[object] = value if isinstance(value, tuple) else (value,)
    text = "+".join(map(str, listed)) or "none"
    return "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in text)


@dataclass(frozen=True, eq=False)
class Run:
    """A run under way: what it may find of earlier ones and keeps for later ones."""

    plan: Plan
    keys: RunKeys
    store: Store
    parts: Store
    watch: Stopwatch

    def reader(self, model: Model) -> Remembered:
        """The model, as far as it is read, with what was read of it before."""
        return Remembered(model, self.store, self.keys.model)

    def task_once(self, kind: str, make: Callable[[], Value], *decides: object) -> Value:
        """What the model does on the task, whatever is scored: found, or made now and kept."""
        key = self.keys.task.about(*decides)
        return self.parts.once(kind, key, lambda: self.store.once(kind, key, make))

    def task_has(self, kind: str, *decides: object) -> bool:
        """Whether `task_once` would find it."""
        key = self.keys.task.about(*decides)
        return self.parts.has(kind, key) or self.store.has(kind, key)

    def part_once(self, kind: str, make: Callable[[], Value], *decides: object) -> Value:
        """A finished part of this run: found after an interruption, or made now and kept."""
        return self.parts.once(kind, self.keys.run.about(*decides), make)

    def memo(self, *decides: object) -> StoredMapping[str, Any]:
        """What is measured at one node set whatever the suite; empty where nothing was before."""
        return StoredMapping(self.store, "scores", self.keys.task.about(*decides))

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """A stage of the work, timed."""
        with self.watch.stage(name), stage(name):
            yield


UNFINISHED = ".unfinished"


def begin(
    keys: RunKeys,
    plan: Plan,
    *,
    watch: Stopwatch,
    store: Store | None = None,
    folder: Path | None = None,
) -> Run:
    """A run of a plan: `store` keeps what other runs may use, `folder` holds the parts that are
    finished until all of it is."""
    parts = Store(folder and folder / UNFINISHED)
    return Run(plan, keys, store or Store(None), parts, watch)
