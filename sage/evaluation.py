"""The main path: what a model does on a task, where, with which features, and how SAEs know them.

One call per step of the method: split, gate, discover, read, fit, score. A run that is killed and
repeated goes on where it was and ends with the same numbers; what does not depend on an SAE is
computed once and shared by all suites, and by later runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sage.arguments import a_path, of_kind, several, told
from sage.errors import SageError
from sage.models.base import Model
from sage.preparation import (
    Prepared,
    check_gate,
    find_roles,
    find_sections,
    hooks_read,
    prepare,
    read_features,
)
from sage.progress import expect, learned, stage
from sage.record import Findings, make_result
from sage.result import Gate, Result
from sage.result_file import save_result
from sage.run import PLANS, WHOLE, Plan, Run, begin
from sage.saes.suite import Suite, judgeable, on_model
from sage.scores.data import read_contrast
from sage.scores.suite import NodeSets, SuiteScores, check_names, score_suite
from sage.scores.text import Text, no_text
from sage.stopwatch import Stopwatch
from sage.store.key import digest, run_keys, suite_digest
from sage.store.store import Store
from sage.task.task import Task

NO_TEXT = (
    "No text lookup stands among the controls: no ordinary text of this model was given. In Python "
    "text=sage.default_text(model) is that of a model that ships."
)


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
    folder: Path | str | None = None,
    store: Store | None = None,
) -> Evaluation:
    """Score suites on one task and model.

    With a folder result.json and result.safetensors are written there; finished parts are kept on
    the way, and a repeated call goes on from them. A store keeps what depends on no SAE, for other
    runs too. `text` reads ordinary text for the text lookup, `sage.default_text(model)` that of a
    model that ships; without it a note says that there is none. Raises SageError for an SAE that
    does not fit the model, a task that its tokenizer cannot run, too few prompts, and for
    arguments of another kind.

        plan, text = sage.make_plan("quick"), sage.default_text(model)
        result = sage.evaluate(model, task, suites, plan=plan, text=text).result
    """
    _check_kinds(model, task, suites, plan, text)
    folder = None if folder is None else a_path("folder", folder)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    watch = Stopwatch(lambda: model.counter.tokens)
    check_names(suites)
    anatomy = model.anatomy
    suites = [on_model(judgeable(suite, anatomy), anatomy, model.device) for suite in suites]
    with watch.stage(WHOLE):
        with watch.stage("prompts"), stage("prompts"):
            prepared = prepare(model, task, plan)
        keys = run_keys(model, *prepared, plan)
        run = begin(keys, plan, watch=watch, store=store, folder=folder)
        with run.stage("gate"):
            gate = check_gate(model, prepared, run)
        found = Findings(*prepared, gate, None, None, {})
        if gate.passed:
            found = _score(model, prepared, gate, suites, run, text)
    with stage("result", work=0):
        result = make_result(model, suites, plan, found, started=started, watch=watch)
        if gate.passed and text is no_text:
            result = replace(result, notes=[*result.notes, NO_TEXT])
    arrays = {name: array for part in found.parts for name, array in part.arrays.items()}
    if folder is not None:
        save_result(result, folder, arrays=arrays)
        run.parts.clear()
    return Evaluation(result, arrays)


def _check_kinds(model: object, task: object, suites: object, plan: object, text: object) -> None:
    """SageError for an argument of another kind than is meant."""
    of_kind("The model", model, Model, how="sage.load_model(name) gives one.")
    of_kind("The task", task, Task, how="sage.load_task(name) gives one.")
    several("Suites", suites, Suite, how="sage.load_suites and sage.as_suite give some.")
    of_kind("The plan", plan, Plan, how='sage.make_plan("quick") gives one.')
    if not callable(text):
        raise SageError(
            f"text is {told(text)}, and must read activations: sage.default_text(model) does."
        )


def _score(
    model: Model, prepared: Prepared, gate: Gate, suites: Sequence[Suite], run: Run, text: Text
) -> Findings:
    """Discover, read, fit, and score every contrast of every suite."""
    with run.stage("discovery"):
        discovery = find_sections(model, prepared, run)
        roles = find_roles(model, prepared, discovery, run)
    learned(discovery)
    hooks = hooks_read(model, discovery, suites)
    with run.stage("features"):
        shared = read_features(model, prepared, discovery, hooks, run)
    settings, wanted = run.plan.settings, run.plan.wanted
    parts: dict[tuple[str, str], SuiteScores] = {}
    with run.stage("scores"):
        expect(len(suites) * len(discovery.sections))
        with stage("text", work=0):
            streams = text(run.reader(model), hooks)
        memory = digest(settings, streams)
        tables = run.memo("lookup tables", memory)
        for contrast, section in discovery.sections.items():
            with stage(f"{contrast}: pairs", work=0):
                reader = run.reader(model)
                data = read_contrast(reader, prepared.splits, section, shared, hooks=hooks)
            node_sets = NodeSets(
                model, data, settings, streams, tables, lambda at: run.memo(at, memory)
            )
            for suite in suites:
                with stage(f"{contrast}, {suite.id}"):
                    parts[contrast, suite.id] = run.part_once(
                        "scores",
                        lambda suite=suite, at=node_sets: score_suite(at, suite, wanted),
                        *(contrast, suite.id, suite_digest(suite), memory),
                    )
    return Findings(*prepared, gate, discovery, shared, parts, roles)
