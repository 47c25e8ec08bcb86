"""Screening: `move` alone, for many SAEs, without a run of the model under any edit.

Method, section 5.4. How far the latents of each suite take the activations towards the aim, with
the latents that mean something (levels of T3) and with all.
"""

from __future__ import annotations

from collections.abc import Sequence

from sage.dictionaries.projected import project
from sage.dictionaries.projection import reach, reached
from sage.discovery import Discovery, DiscoverySettings, discover
from sage.models.base import Model
from sage.preparation import prepare
from sage.progress import Progress, silent
from sage.run import PLANS, Plan, begin
from sage.saes.suite import Suite, on_model
from sage.scores.control import Control, make_aim, make_edits
from sage.scores.data import ContrastData, read_contrast, read_shared
from sage.scores.levels import ANY
from sage.scores.move import move_statistic
from sage.scores.node_set import NodeSet, Settings
from sage.scores.score import at_means
from sage.stopwatch import Stopwatch
from sage.store.store import Store
from sage.task.task import Task


def screen(
    model: Model,
    task: Task,
    suites: Sequence[Suite],
    *,
    plan: Plan = PLANS["standard"],
    store: Store | None = None,
    progress: Progress = silent,
) -> list[dict[str, object]]:
    """One row per contrast and suite for a table, the highest move first within a contrast."""
    task, splits = prepare(model, task, plan)
    suites = [on_model(suite, model.anatomy.d_model, model.device) for suite in suites]
    watch = Stopwatch(lambda: model.counter.tokens)
    run = begin(model, task, splits, plan, watch=watch, store=store, progress=progress)

    def search() -> dict[str, object]:
        settings = DiscoverySettings(seed=plan.seed)
        return discover(model, task, splits, settings=settings, progress=progress).to_dict()

    sections = Discovery.from_dict(run.task_once("discovery", search)).sections
    reader = run.reader(model)
    shared = read_shared(reader, task, splits, sections.values(), seed=plan.seed)
    rows: list[dict[str, object]] = []
    for contrast, section in sections.items():
        data = read_contrast(reader, splits, section, shared)
        moved = [_moved(model, data, suite, plan) for suite in suites]
        ranked = sorted(zip(suites, moved, strict=True), key=lambda entry: -(entry[1][0] or 0.0))
        for suite, (interpretable, everything) in ranked:
            rows.append(
                {
                    "task": task.name,
                    "contrast": contrast,
                    "suite": suite.id,
                    "reach": reach(suite, model.anatomy, data.section),
                    "move": interpretable,
                    "move, all latents": everything,
                    "n": len(data.test.base),
                }
            )
    return rows


def _moved(
    model: Model, data: ContrastData, suite: Suite, plan: Plan
) -> tuple[float | None, float | None]:
    """Move with the latents that mean something, and with all; None where the suite reaches no
    node."""
    nodes = reached(suite, model.anatomy, data.section.nodes)
    if not nodes:
        return None, None
    node_set = NodeSet(model, data.on(nodes), Settings(plan.seed))
    judged = project(suite, model.anatomy, node_set.nodes, node_set.data.moments)
    contender = node_set.contender(judged)
    aim = make_aim(contender.features, node_set.needs, unbounded=False)
    base, labels = node_set.data.test.base, node_set.data.test.labels
    assert contender.candidates is not None
    masks = node_set.masks(contender)
    edits = make_edits(contender.candidates, base, labels, aim, masks=masks)
    levels = [level for level in masks if level != ANY]
    moved = [Control.distances(edits, some) for some in (levels, [ANY])]
    meaningful, everything = (at_means(columns, move_statistic) for columns in moved)
    return meaningful, everything
