"""What `sage tasks` shows: what a task is, and what a model and its tokenizer make of it."""

from __future__ import annotations

from typing import NamedTuple

from sage.errors import BadTask
from sage.models.base import Model
from sage.preparation import GATE_PROMPTS, measure_gate
from sage.task.catalog import load_task
from sage.task.task import Task
from sage.task.token_audit import TokenAudit, audit, split_values, unknown_words


class Inspection(NamedTuple):
    """Rows for tables: one for the whole task, one per position, dropped value and contrast."""

    summary: dict[str, object]
    positions: list[dict[str, object]]
    dropped: list[dict[str, object]]
    contrasts: list[dict[str, object]]


class Explanation(NamedTuple):
    """Why a tokenizer drops what it drops: a row for each slot and for what is dropped, and what to
    do about it, a sentence each."""

    slots: list[dict[str, object]]
    dropped: list[dict[str, object]]
    remedies: list[str]


# Of a reason that holds these words, what to do.
REMEDIES = {
    "not in the vocabulary": "'not in the vocabulary': write other words; this model never saw "
    "these, or not at the beginning of a text.",
    " + ": "'a' + 'b': give values that are one token, or name the slot in `multi_token` where "
    "their length does not matter.",
    "more than one token": "'more than one token': give values that are one token, or name the "
    "slot in `multi_token`.",
    "shares a token": "'shares a token with its neighbour': put a space, or a word, between "
    "the slot and what stands beside it.",
    "the answer": "'the answer is not one token': give answers and foils that are, or set "
    "`before_answer` to what stands between text and answer.",
}


def explain(model: Model, name: str) -> Explanation:
    """What a model's tokenizer drops of a task, and how to mend it; also of a task that it cannot
    carry at all."""
    task = load_task(name)
    kept = {slot: list(values) for slot, values in task.slots.items()}
    why = ""
    dropped: list[dict[str, object]] = []
    try:
        audited = audit(task, model.tokenizer, bos=model.bos)
        kept = {slot: list(values) for slot, values in audited.kept.items()}
        dropped = _dropped_rows(audited)
    except BadTask as error:
        why = str(error)
        split = split_values(task, model.tokenizer)
        words = unknown_words(task, model.tokenizer)
        kept = {
            slot: [v for v in values if v not in split[slot] and f"{slot} {v}" not in words]
            for slot, values in kept.items()
        }
        reasons = {
            f"{slot} {value}": reason for slot in split for value, reason in split[slot].items()
        }
        dropped = [{"what": what, "why": told} for what, told in (reasons | words).items()]
    rows: list[dict[str, object]] = [
        {
            "slot": slot,
            "kept": f"{len(kept[slot])} of {len(values)}",
            "one token": slot in task.single_token,
            "values kept": ", ".join(kept[slot]) or "none",
        }
        for slot, values in task.slots.items()
    ]
    if why and not dropped:
        return Explanation(rows, dropped, [why])
    return Explanation(rows, dropped, [*([why] if why else []), *_remedies(task, dropped)])


def _remedies(task: Task, dropped: list[dict[str, object]]) -> list[str]:
    """What to do about these reasons; nothing is to be done where nothing is dropped."""
    reasons = " ".join(str(row["why"]) for row in dropped)
    remedies = [remedy for words, remedy in REMEDIES.items() if words in reasons]
    opening = [
        f"{'/'.join(key)} ({template.occurrences[0].name})"
        for key, template in task.texts.items()
        if template.occurrences and not template.literals[0]
    ]
    if remedies and opening:
        remedies.append(
            f"A slot opens the text of {', '.join(opening)}: without a space before it a word is "
            "another token, or none. Begin with a word of your own."
        )
    return remedies or ["Nothing needs to be mended."]


def inspect(model: Model, name: str) -> Inspection:
    """A task on a model: the token audit, where the named positions fall, and the gate.

    sage.inspect(sage.load_model("tiny-gpt2"), "ioi").summary["gate"]  # passed
    """
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
