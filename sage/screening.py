"""Screening: `move` alone, for many SAEs, without a run of the model under any edit.

Method, section 5.4. How far the latents of each suite take the activations towards the aim, with
the latents that mean something (levels of T3) and with all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sage.cells import cell_name
from sage.dictionaries.projected import project
from sage.dictionaries.projection import reach, reached
from sage.models.base import Model
from sage.preparation import find_sections, hooks_read, prepare, read_features
from sage.progress import expect, learned, stage
from sage.run import PLANS, Plan, begin
from sage.saes.suite import Suite, judgeable, on_model
from sage.scores.control import Along, EditOutcomes, make_aim, make_edits
from sage.scores.data import ContrastData, read_contrast
from sage.scores.levels import ANY, LEVELS
from sage.scores.move import move_statistic
from sage.scores.node_set import NodeSet
from sage.scores.score import at_means
from sage.stopwatch import Stopwatch
from sage.store.key import run_keys
from sage.store.store import Store
from sage.task.task import Task


def screen(
    model: Model,
    task: Task,
    suites: Sequence[Suite],
    *,
    plan: Plan = PLANS["standard"],
    store: Store | None = None,
) -> list[dict[str, object]]:
    """One row per contrast and suite for a table, the highest move first within a contrast.

    rows = sage.screen(model, task, suites, plan=plan, store=sage.user_store())
    """
    anatomy = model.anatomy
    suites = [on_model(judgeable(suite, anatomy), anatomy, model.device) for suite in suites]
    with stage(cell_name(task, model, plan)):
        with stage("prompts"):
            prepared = prepare(model, task, plan)
        watch = Stopwatch(lambda: model.counter.tokens)
        run = begin(run_keys(model, *prepared, plan), plan, watch=watch, store=store)
        with run.stage("discovery"):
            discovery = find_sections(model, prepared, run)
        learned(discovery)
        hooks = hooks_read(model, discovery, suites)
        with run.stage("features"):
            shared = read_features(model, prepared, discovery, hooks, run)
        rows: list[dict[str, object]] = []
        with run.stage("screen"):
            expect(len(suites) * len(discovery.sections))
            for section in discovery.sections.values():
                reader, splits = run.reader(model), prepared.splits
                data = read_contrast(reader, splits, section, shared, hooks=hooks)
                rows += _rows(model, data, suites, plan, task=prepared.task.name)
    return rows


def _rows(
    model: Model, data: ContrastData, suites: Sequence[Suite], plan: Plan, *, task: str
) -> list[dict[str, object]]:
    """One contrast: a row per suite, the highest move first."""
    contrast = data.section.contrast
    moved: list[tuple[Suite, _Move]] = []
    for suite in suites:
        with stage(f"{contrast}, {suite.id}"):
            moved.append((suite, _moved(model, data, suite, plan)))
    return [
        {
            "task": task,
            "contrast": contrast,
            "suite": suite.id,
            "reach": reach(suite, model.anatomy, data.section),
            "move": move.meaningful,
            "move, all latents": move.all_latents,
            "n": len(data.test.base),
        }
        for suite, move in sorted(moved, key=lambda entry: -(entry[1].meaningful or 0.0))
    ]


class _Move(NamedTuple):
    """Move with the latents that mean something, and with all; None where a suite reaches no
    node."""

    meaningful: float | None
    all_latents: float | None


def _moved(model: Model, data: ContrastData, suite: Suite, plan: Plan) -> _Move:
    nodes = reached(suite, model.anatomy, data.section.nodes)
    if not nodes:
        return _Move(None, None)
    node_set = NodeSet(model, data.on(nodes), plan.settings)
    judged = project(suite, model.anatomy, node_set.nodes, node_set.data.moments)
    contender = node_set.contender(judged)
    aim = make_aim(contender.features, node_set.needs, unbounded=False)
    base, labels = node_set.data.test.base, node_set.data.test.labels
    assert contender.candidates is not None
    along = [Along(node_set.masks(contender))]
    (edits,) = make_edits(contender.candidates, base, labels, aim, along=along)
    moved = [EditOutcomes.distances(edits, levels) for levels in (LEVELS, (ANY,))]
    return _Move(*(at_means(columns, move_statistic) for columns in moved))
