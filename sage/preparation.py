"""What comes before any SAE: a task as one model reads it, where its contrasts live, its features.

Method, sections 1 to 3. What is found here depends on no SAE, so that runs share it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sage.circuits.roles import HeadRole, head_roles
from sage.discovery import Discovery, DiscoverySettings, discover
from sage.models.base import Model
from sage.models.precision import check_precision
from sage.nodes import Node
from sage.recollection import remember
from sage.result import Gate
from sage.run import PLANS, Plan, Run
from sage.saes.suite import Suite
from sage.scores.data import SharedData, read_shared
from sage.task.metric import ANSWERS, find_metric
from sage.task.splits import Splits, SplitSizes, split
from sage.task.task import Task
from sage.task.token_audit import audit
from sage.task.tokens import Tokenized

GATE_PROMPTS = 500
ROLE_PROMPTS = 32


class Prepared(NamedTuple):
    """A task as far as a model's tokenizer can carry it, and its splits as the model reads them."""

    task: Task
    splits: Splits


def prepare(model: Model, task: Task, plan: Plan = PLANS["standard"]) -> Prepared:
    """Drop what the tokenizer cannot carry and split the rest; BadTask where too little is left."""
    usable = audit(task, model.tokenizer, bos=model.bos).task
    splits = split(
        usable,
        model.tokenize,
        seed=plan.seed,
        sizes=SplitSizes(
            discover=plan.discover,
            fit=plan.fit,
            fit_pairs=plan.decide,
            test=plan.pairs,
            detect=plan.detect,
        ),
    )
    return Prepared(usable, splits)


def measure_gate(model: Model, task: Task, prompts: Sequence[Tokenized]) -> Gate:
    """Whether the model does the task: how often it prefers the answer to the foil, the mean
    metric, and how often it says the answer among all that the prompts have. SageError for a model
    in half precision that is not what it is in float32."""
    check_precision(model, prompts)
    clean = model.write({}, prompts, find_metric(task.metric))
    accuracy = float((clean.metric > 0).float().mean())
    right = [
        choice in (ANSWERS, *prompt.answers)
        for choice, prompt in zip(clean.choice.tolist(), prompts, strict=True)
    ]
    return Gate(
        accuracy,
        float(clean.metric.mean()),
        len(prompts),
        task.gate,
        accuracy >= task.gate,
        sum(right) / len(right),
    )


def check_gate(model: Model, prepared: Prepared, run: Run) -> Gate:
    """Whether the model does the task on prompts of fit: found by an earlier run, or now."""
    prompts = prepared.splits.fit[:GATE_PROMPTS]
    return run.task_once("gate", lambda: measure_gate(model, prepared.task, prompts))


def find_sections(model: Model, prepared: Prepared, run: Run) -> Discovery:
    """Where every contrast lives: found by an earlier run, or now."""

    def search() -> dict[str, object]:
        settings = DiscoverySettings(seed=run.plan.seed)
        task, splits = prepared
        found = discover(model, task, splits, settings=settings)
        remember(run, task, found)
        return found.to_dict()

    return Discovery.from_dict(run.task_once("discovery", search))


def find_roles(
    model: Model, prepared: Prepared, discovery: Discovery, run: Run
) -> Sequence[HeadRole]:
    """What the heads do whose z some section has: found by an earlier run, or now."""
    nodes = {node for section in discovery.sections.values() for node in section.nodes}
    heads = sorted(node for node in nodes if node.kind == "z")
    prompts = prepared.splits.fit[:ROLE_PROMPTS]
    named = list(map(str, heads))
    return run.task_once("roles", lambda: head_roles(model, heads, prompts), named)


def read_features(
    model: Model, prepared: Prepared, discovery: Discovery, hooks: Collection[Node], run: Run
) -> SharedData:
    """What all contrasts share: prompts of fit at all nodes, and the features fitted on them."""
    task, splits = prepared
    sections = discovery.sections.values()
    nodes = sorted({str(node) for section in sections for node in section.nodes})
    return read_shared(
        run.reader(model),
        task,
        splits,
        sections,
        hooks=hooks,
        remember=lambda fit: run.task_once("features", fit, nodes),
        seed=run.plan.seed,
    )


def hooks_read(model: Model, discovery: Discovery, suites: Sequence[Suite]) -> set[Node]:
    """The residual streams that sections read and some suite has an SAE at."""
    hooks: set[Node] = set()
    for section in discovery.sections.values():
        hooks |= {model.anatomy.source(node) for node in section.nodes}
    return {hook for hook in hooks if any(suite.at(hook) for suite in suites)}
