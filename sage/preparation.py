"""What comes before any score: a task as one model reads it, and whether the model does it at all.

Method, section 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sage.models.base import Model
from sage.result import Gate
from sage.run import PLANS, Plan
from sage.task.metric import ANSWERS, find_metric
from sage.task.splits import Splits, split
from sage.task.task import Task
from sage.task.token_audit import audit
from sage.task.tokens import Tokenized

GATE_PROMPTS = 500


class Prepared(NamedTuple):
    """A task restricted to what a model's tokenizer can carry, and its splits as the model reads
    them."""

    task: Task
    splits: Splits


def prepare(model: Model, task: Task, plan: Plan = PLANS["standard"]) -> Prepared:
    """Drop what the tokenizer cannot carry and split the rest; BadTask where too little is left."""
    usable = audit(task, model.tokenizer, bos=model.bos).task
    splits = split(
        usable,
        model.tokenize,
        seed=plan.seed,
        test=plan.pairs,
        discover=plan.discover,
        fit=plan.fit,
        fit_pairs=plan.decide,
        detect=plan.detect,
    )
    return Prepared(usable, splits)


def measure_gate(model: Model, task: Task, prompts: Sequence[Tokenized]) -> Gate:
    """Whether the model does the task: how often it prefers the answer to the foil, the mean
    metric, and how often it says the answer among all that the prompts have."""
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
