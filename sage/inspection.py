"""What `sage tasks` shows: what a task is, and what a model's tokenizer and the model itself make
of it."""

from __future__ import annotations

from typing import NamedTuple

from sage.errors import BadTask
from sage.evaluation import GATE_PROMPTS, measure_gate
from sage.models.base import Model
from sage.task.catalog import load_task
from sage.task.task import Task
from sage.task.token_audit import TokenAudit, audit


class Inspection(NamedTuple):
    """Rows for tables: one for the task as a whole, and one per named position, dropped value and
    contrast."""

    summary: dict[str, object]
    positions: list[dict[str, object]]
    dropped: list[dict[str, object]]
    contrasts: list[dict[str, object]]


def inspect(model: Model, name: str) -> Inspection:
    """A task on a model: the token audit, where the named positions fall, and the gate."""
    task = load_task(name)
    found = audit(task, model.tokenizer, bos=model.bos)
    gate = measure_gate(
        model,
        found.task,
        [model.tokenize(prompt) for prompt in found.task.sample(GATE_PROMPTS, seed=0)],
    )
    values = {slot: f"{len(found.kept[slot])}/{len(listed)}" for slot, listed in task.slots.items()}
    summary: dict[str, object] = {
        "task": name,
        "gate": "passed" if gate.passed else f"below {gate.threshold}",
        "accuracy": gate.accuracy,
        "mean metric": gate.mean_logit_difference,
        "n": gate.n,
        "usable values": ", ".join(f"{slot} {count}" for slot, count in values.items()),
        "prompts refused": f"{sum(found.refused.values())}/{found.tried}",
        "example": found.example.prompt.text,
    }
    return Inspection(summary, _positions(found), _dropped(found), _contrasts(task, found))


def summarise(model: Model, name: str) -> dict[str, object]:
    """A task on a model in one row; one that the model's tokenizer cannot carry says so instead."""
    try:
        return inspect(model, name).summary
    except BadTask as error:
        nothing = dict.fromkeys(
            ("accuracy", "mean metric", "n", "usable values", "prompts refused")
        )
        return {
            "task": name,
            "gate": "not on this tokenizer",
            **nothing,
            "example": str(error).split(". ", 1)[0],
        }


def _positions(found: TokenAudit) -> list[dict[str, object]]:
    return [
        {"position": name, "index": found.example.index[name], "token": repr(token)}
        for name, token in found.positions.items()
    ]


def _dropped(found: TokenAudit) -> list[dict[str, object]]:
    whys = [
        (f"{slot} {value}", why)
        for slot, values in found.dropped.items()
        for value, why in values.items()
    ]
    whys += [(f"template {family}", why) for family, why in found.families.items()]
    whys += [(f"{count} of {found.tried} prompts", why) for why, count in found.refused.items()]
    return [{"what": what, "why": why} for what, why in whys]


def _contrasts(task: Task, found: TokenAudit) -> list[dict[str, object]]:
    return [
        {
            "contrast": name,
            "attributes changed": ", ".join(task.named(name)),
            "changes the answer": task.changes_answer(name),
            "irrelevant": name in task.irrelevant,
            "pairs of unequal length": f"{count.unequal}/{count.tried}",
        }
        for name, count in found.unequal.items()
    ]
