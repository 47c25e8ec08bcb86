"""The main path: what a model does on a task, where, with which features, and how well SAEs know
them.

One call per step of the method: split, gate, discover, read, fit, score. A run that is killed and
repeated goes on where it was and ends with the same numbers; what does not depend on an SAE is
computed once and shared by all suites, and by later runs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sage.dictionaries.projected import options_named
from sage.discovery import Discovery, DiscoverySettings, discover
from sage.models.base import Model
from sage.nodes import Node
from sage.preparation import GATE_PROMPTS, measure_gate, prepare
from sage.progress import Progress, silent
from sage.record import Findings, make_result
from sage.result import Result
from sage.result_file import save_result
from sage.run import PLANS, WHOLE, Plan, Run, begin
from sage.saes.suite import Suite, on_model
from sage.scores.data import SharedData, read_contrast, read_shared
from sage.scores.node_set import Settings
from sage.scores.suite import NodeSets, SuiteScores, Wanted, check_names, score_suite
from sage.scores.text import Text, no_text
from sage.stopwatch import Stopwatch
from sage.store.key import suite_digest
from sage.store.store import Store
from sage.task.splits import Splits
from sage.task.task import Task


class Evaluation(NamedTuple):
    """A result and the arrays beside it."""

    result: Result
    arrays: dict[str, np.ndarray]


def evaluate(
    model: Model,
    task: Task,
    suites: Sequence[Suite],
    *,
    plan: Plan = PLANS["standard"],
    text: Text = no_text,
    folder: Path | None = None,
    store: Store | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Score suites on one task and model.

    With a folder result.json and result.safetensors are written there; finished parts are kept on
    the way, and a repeated call goes on from them. A store keeps what depends on no SAE, for other
    runs too. `text` reads ordinary text for the text lookup. Raises SageError for an SAE that does
    not fit the model, a task that its tokenizer cannot run, too few prompts.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    watch = Stopwatch(lambda: model.counter.tokens)
    check_names(suites)
    suites = [on_model(suite, model.anatomy.d_model, model.device) for suite in suites]
    with watch.stage(WHOLE):
        with watch.stage("prompts"):
            task, splits = prepare(model, task, plan)
        run = begin(
            model, task, splits, plan, watch=watch, store=store, folder=folder, progress=progress
        )
        with run.stage("gate"):
            prompts = splits.fit[:GATE_PROMPTS]
            gate = run.task_once("gate", lambda: measure_gate(model, task, prompts))
        found = Findings(task, splits, gate, None, None, {})
        if gate.passed:
            found = _score(model, found, suites, plan, run, text)
    result = make_result(model, suites, plan, found, started=started, watch=watch)
    arrays = {name: array for part in found.parts for name, array in part.arrays.items()}
    if folder is not None:
        save_result(result, folder, arrays=arrays)
        run.parts.clear()
    return Evaluation(result, arrays)


def _score(
    model: Model, found: Findings, suites: Sequence[Suite], plan: Plan, run: Run, text: Text
) -> Findings:
    """Discover, read, fit, and score every contrast of every suite."""
    task, splits = found.task, found.splits
    with run.stage("discovery"):
        discovery = _discover(model, task, splits, plan, run)
    sections = discovery.sections
    hooks = {
        hook
        for section in sections.values()
        for hook in map(model.anatomy.source, section.nodes)
        if any(suite.at(hook) for suite in suites)
    }
    with run.stage("features"):
        shared = _read_shared(model, found, discovery, hooks, run)
    settings = Settings(plan.seed, plan.copying, plan.unbounded)
    wanted = Wanted(
        plan.controls, plan.thorough, plan.groups, plan.apart, options=options_named(plan.also)
    )
    parts: dict[tuple[str, str], SuiteScores] = {}
    with run.stage("scores"):
        streams = text(run.reader(model), hooks)
        for contrast, section in sections.items():
            data = read_contrast(run.reader(model), splits, section, shared, hooks=hooks)
            node_sets = NodeSets(
                model, data, settings, streams,
                lambda own: run.memo(own, settings, streams is None),
            )  # fmt: skip
            for suite in suites:
                parts[contrast, suite.id] = run.part_once(
                    "scores",
                    lambda suite=suite, at=node_sets: score_suite(at, suite, wanted),
                    contrast,
                    suite.id,
                    suite_digest(suite),
                )
                run.progress(f"{task.name}: score", len(parts), len(sections) * len(suites))
    return found._replace(discovery=discovery, shared=shared, by_suite=parts)


def _discover(model: Model, task: Task, splits: Splits, plan: Plan, run: Run) -> Discovery:
    def search() -> dict[str, object]:
        settings = DiscoverySettings(seed=plan.seed)
        discovery = discover(model, task, splits, settings=settings, progress=run.progress)
        return discovery.to_dict()

    return Discovery.from_dict(run.task_once("discovery", search))


def _read_shared(
    model: Model, found: Findings, discovery: Discovery, hooks: Collection[Node], run: Run
) -> SharedData:
    sections = discovery.sections.values()
    nodes = sorted({str(node) for section in sections for node in section.nodes})
    return read_shared(
        run.reader(model),
        found.task,
        found.splits,
        sections,
        hooks=hooks,
        remember=lambda fit: run.task_once("features", fit, nodes),
        seed=run.plan.seed,
    )
