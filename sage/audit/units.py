"""The work of an audit, cut into parts, and what is done for each.

Every part stands for itself, so that parts run side by side and an audit can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from sage.audit.gaming import CLIMBED, climb
from sage.audit.measuring import WorldBench
from sage.audit.panel import (
    SNAPSHOTS,
    Workshop,
    frozen_recipes,
    middling,
    soft_recipes,
    trained_recipes,
    true_k,
)
from sage.audit.plan import AuditPlan
from sage.audit.records import PARTS, Measured, Unit, defined, once
from sage.audit.shipped_snapshots import MODEL, score_snapshots
from sage.audit.transfer import transferred
from sage.audit.wired import WIRED, measure_wired
from sage.dictionaries.dictionary import Dictionary
from sage.toy.panel import CONTROLS, PANEL
from sage.toy.planted import WORLDS, World
from sage.toy.quality import planted_quality
from sage.toy.training import ToyRecipe

BY_NAME: Mapping[str, World] = {world.name: world for world in WORLDS}


@dataclass(frozen=True)
class Work:
    """A unit with what it needs: fit for pickling, so that it can run in another process."""

    unit: Unit
    plan: AuditPlan
    folder: Path

    @property
    def workshop(self) -> Workshop:
        """Where trained SAEs lie."""
        return Workshop(self.folder / "saes")

    @property
    def world(self) -> World:
        """The planted world of the unit."""
        return BY_NAME[self.unit.where]

    @cached_property
    def bench(self) -> WorldBench:
        """The world as drawn from the first seed."""
        return WorldBench(self.world, self.plan)

    def records(
        self, dictionaries: Iterable[Dictionary], role: Callable[[str], str], bench: WorldBench
    ) -> list[Measured]:
        """Every dictionary measured; `role` says of a name what it is there for."""
        listed = list(dictionaries)
        scores = bench.measure(listed)
        return [
            Measured(
                self.unit.lens,
                self.unit.where,
                dictionary.name,
                role(dictionary.name),
                defined(scores[dictionary.name]),
                planted_quality(self.world, dictionary)._asdict(),
                seed=bench.seed,
            )
            for dictionary in listed
        ]


def units(plan: AuditPlan, lenses: Sequence[str]) -> list[Unit]:
    """Every part of the work of these lenses, the longest first. Truth is judged in units of
    reseed noise, and so is gaming: reseed comes with both."""
    parts = [Unit("truth", WIRED, "built")] if "truth" in lenses else []
    for number, world in enumerate(BY_NAME):
        looked_at = number < plan.worlds
        if {"truth", "discriminability"} & {*lenses}:
            parts += [Unit("truth", world, f"trained, seed {seed}") for seed in plan.sae_seeds]
        if "truth" in lenses:
            parts += [Unit("truth", world, part) for part in ("built", "frozen")]
        if "discriminability" in lenses and looked_at:
            snapshots = [f"seed {seed}" for seed in plan.snapshot_seeds]
            parts += [Unit("discriminability", world, part) for part in snapshots]
        if {"reseed", "truth", "gaming", "discriminability"} & {*lenses}:
            parts += [Unit("reseed", world, f"seed {seed}") for seed in plan.seeds]
        if "gaming" in lenses and looked_at:
            parts += [Unit("gaming", world, metric) for metric in CLIMBED]
        if "transfer" in lenses and looked_at:
            parts.append(Unit("transfer", world, ""))
    if "discriminability" in lenses:
        parts += [Unit("discriminability", f"{task} on {MODEL}", "") for task in plan.tasks]
    return sorted(parts, key=lambda unit: LONGEST.index(unit.lens))


LONGEST = ("truth", "gaming", "discriminability", "reseed", "transfer")


def run_unit(work: Work) -> list[Measured]:
    """The records of a unit, measured or found."""
    return once(work.unit, work.plan, work.folder / PARTS, lambda: _MEASURES[work.unit.lens](work))


def _truth(work: Work) -> list[Measured]:
    if work.unit.where == WIRED:
        return measure_wired(work.plan)
    part, world, plan = work.unit.part, work.world, work.plan
    if part == "built":
        built = (entry.on(world) for entry in PANEL)
        controls = {*CONTROLS}
        return work.records(
            built, lambda name: "control" if name in controls else "built", work.bench
        )
    recipes, role = frozen_recipes(world, plan), "frozen"
    if part != "frozen":
        seed = int(part.removeprefix("trained, seed "))
        recipes, role = [r for r in trained_recipes(world, plan) if r.seed == seed], "trained"
    saes = (work.workshop.sae(world, recipe).dictionary for recipe in recipes)
    return work.records(saes, lambda _: role, work.bench)


def _reseed(work: Work) -> list[Measured]:
    seed = int(work.unit.part.removeprefix("seed "))
    bench = WorldBench(work.world, work.plan, seed)
    sae = work.workshop.sae(work.world, middling(work.world, work.plan))
    return work.records([sae.dictionary], lambda _: "reseeded", bench)


def _discriminability(work: Work) -> list[Measured]:
    if not work.unit.part:
        task = work.unit.where.removesuffix(f" on {MODEL}")
        return score_snapshots(task, work.folder / "scored")
    world, plan = work.world, work.plan
    seed = int(work.unit.part.removeprefix("seed "))
    recipe = ToyRecipe(k=true_k(world), steps=plan.steps, seed=seed)
    steps = tuple(round(share * plan.steps) for share in SNAPSHOTS)
    records: list[Measured] = []
    course = work.workshop.course(world, recipe, steps)
    named = [
        replace(sae, name=f"{sae.name} after {at}") for sae, at in zip(course, steps, strict=True)
    ]
    soft = [work.workshop.sae(world, r) for r in soft_recipes(world, plan) if r.seed == seed]
    measured = work.records(
        (sae.dictionary for sae in (*named, *soft)), lambda _: "snapshot", work.bench
    )
    for record, at in zip(measured, (*steps, None), strict=True):
        role = "soft-frozen" if at is None else "snapshot"
        when = None if at is None else float(at)
        records.append(replace(record, role=role, at=when, seed=seed))
    return records


def _gaming(work: Work) -> list[Measured]:
    sae = work.workshop.sae(work.world, middling(work.world, work.plan))
    return climb(work.world, sae, work.plan, metric=work.unit.part)


def _transfer(work: Work) -> list[Measured]:
    world, plan = work.world, work.plan
    recipes = (ToyRecipe(k=true_k(world), steps=plan.steps), middling(world, plan))
    saes = [work.workshop.sae(world, recipe).dictionary for recipe in recipes]
    return transferred(world, saes, plan)


_MEASURES: Mapping[str, Callable[[Work], list[Measured]]] = {
    "truth": _truth,
    "reseed": _reseed,
    "discriminability": _discriminability,
    "gaming": _gaming,
    "transfer": _transfer,
}
