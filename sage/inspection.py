"""What `sage tasks` shows: what a task is, and what a model and its tokenizer make of it."""

from __future__ import annotations

from typing import NamedTuple

from sage.errors import BadTask
from sage.models.base import Model
from sage.preparation import GATE_PROMPTS, measure_gate
from sage.task.catalog import load_task
from sage.task.task import Task
from sage.task.token_audit import TokenAudit, audit


class Inspection(NamedTuple):
    """Rows for tables: one for the whole task, one per position, dropped value and contrast."""

    summary: dict[str, object]
    positions: list[dict[str, object]]
    dropped: list[dict[str, object]]
    contrasts: list[dict[str, object]]


def inspect(model: Model, name: str) -> Inspection:
    """A task on a model: the token audit, where the named positions fall, and the gate."""
    task = load_task(name)
    audited = audit(task, model.tokenizer, bos=model.bos)
    prompts = [model.tokenize(prompt) for prompt in audited.task.sample(GATE_PROMPTS, seed=0)]
    gate = measure_gate(model, audited.task, prompts)
    declared = audited.declared.slots
    usable = [
        f"{slot} {len(audited.kept[slot])}/{len(values)}" for slot, values in declared.items()
    ]
    summary: dict[str, object] = {
        "task": name,
        "gate": "passed" if gate.passed else f"below {gate.threshold}",
        "accuracy": gate.accuracy,
        "mean metric": gate.mean_logit_difference,
        "n": gate.n,
        "usable values": ", ".join(usable),
        "prompts refused": f"{sum(audited.refused.values())}/{audited.tried}",
        "example": audited.example.prompt.text,
    }
    return Inspection(
        summary,
        _position_rows(audited),
        _dropped_rows(audited),
        _contrast_rows(audited.declared, audited),
    )


def summarise(model: Model, name: str) -> dict[str, object]:
    """A task on a model in one row; one that the model's tokenizer cannot carry says so instead."""
    try:
        return inspect(model, name).summary
    except BadTask as error:
        unmeasured = ("accuracy", "mean metric", "n", "usable values", "prompts refused")
        return {
            "task": name,
            "gate": "not on this tokenizer",
            **dict.fromkeys(unmeasured),
            "example": str(error).split(". ", 1)[0],
        }


def _position_rows(audited: TokenAudit) -> list[dict[str, object]]:
    return [
        {"position": name, "index": audited.example.index[name], "token": repr(token)}
        for name, token in audited.positions.items()
    ]


def _dropped_rows(audited: TokenAudit) -> list[dict[str, object]]:
    reasons: list[tuple[str, str]] = []
    for slot, dropped in audited.dropped.items():
        reasons += [(f"{slot} {value}", why) for value, why in dropped.items()]
    reasons += [(f"template {family}", why) for family, why in audited.families.items()]
    reasons += [
        (f"{count} of {audited.tried} prompts", why) for why, count in audited.refused.items()
    ]
    reasons += [("task", note) for note in audited.notes]
    return [{"what": what, "why": why} for what, why in reasons]


def _contrast_rows(task: Task, audited: TokenAudit) -> list[dict[str, object]]:
    return [
        {
            "contrast": name,
            "attributes changed": ", ".join(task.attributes_of(name)),
            "changes the answer": task.changes_answer(name),
            "irrelevant": name in task.irrelevant,
            "pairs of unequal length": f"{lengths.unequal}/{lengths.tried}",
        }
        for name, lengths in audited.unequal.items()
    ]
