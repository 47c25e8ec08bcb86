"""Counterfactuals: a prompt changed in what one contrast names, and in nothing else.

That nothing else changed is checked on the labels of every counterfactual (method, section 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from sage.task.declaration import TEMPLATE, Declaration
from sage.task.foreign import ask
from sage.task.making import allowed_prompt, label_of, read_text
from sage.task.prompt import Contrast, Prompt


def counterfactuals(
    task: Declaration, prompt: Prompt, rule: Contrast, *, rng: Random
) -> Iterator[Prompt]:
    """Every counterfactual of a prompt under a contrast, in random order."""
    if rule.set:
        changed = _with_positions_set(task, prompt, rule)
    elif rule.name in (task.variant, TEMPLATE):
        changed = _in_other_templates(task, prompt, rule, rng)
    else:
        changed = _with_slots_redrawn(task, prompt, rule, rng)
    for other in changed:
        if (
            other is not None
            and other.text != prompt.text
            and _changes_only(task, rule, prompt, other)
        ):
            yield other


def moved_labels(clean: Prompt, other: Prompt) -> set[str]:
    """The attributes whose labels differ between two prompts."""
    return {name for name, label in clean.labels.items() if other.labels[name] != label}


def _with_positions_set(
    task: Declaration, prompt: Prompt, rule: Contrast
) -> Iterator[Prompt | None]:
    """The text with other words at the positions that the rule sets, read anew."""
    text = prompt.text
    last_first = sorted(rule.set, key=lambda name: prompt.spans[name], reverse=True)
    for occurrence in last_first:
        start, end = prompt.spans[occurrence]
        text = text[:start] + prompt.slots[rule.set[occurrence]] + text[end:]
    readings = read_text(task, text, prompt.family)
    yield readings[0] if len(readings) == 1 else None


def _in_other_templates(
    task: Declaration, prompt: Prompt, rule: Contrast, rng: Random
) -> Iterator[Prompt | None]:
    """The same slot values in another variant of the family, or in another family."""
    if rule.name == task.variant:
        keys = [key for key in task.texts if key[0] == prompt.family and key[1] != prompt.variant]
    else:
        keys = [key for key in task.texts if key[1] == prompt.variant and key[0] != prompt.family]
    for family, variant in rng.sample(keys, len(keys)):
        yield allowed_prompt(task, family, variant, prompt.slots)


def _with_slots_redrawn(
    task: Declaration, prompt: Prompt, rule: Contrast, rng: Random
) -> Iterator[Prompt | None]:
    """Another value in one of the slots that can change the attribute."""
    moves = list[tuple[str, str]]()
    for slot in task.slots_behind(rule.name):
        moves += [(slot, value) for value in _targets(task, rule.name, slot, prompt.slots[slot])]
    for slot, value in rng.sample(moves, len(moves)):
        yield allowed_prompt(task, prompt.family, prompt.variant, {**prompt.slots, slot: value})


def _targets(task: Declaration, contrast: str, slot: str, value: str) -> Sequence[str]:
    """The values to which a contrast may lead from a slot's value."""
    if contrast not in task.maps:
        return [other for other in task.slots[slot] if other != value]
    mapped = task.maps[contrast]
    if callable(mapped):
        target = ask(f"Task {task.name}: the map of {contrast}", mapped, value)
    else:
        target = mapped.get(value)
    return [other for other in task.slots[slot] if other == target]


def _changes_only(task: Declaration, rule: Contrast, clean: Prompt, other: Prompt) -> bool:
    """Whether the labels that differ are those the contrast may move.

    They are its own, those of finer attributes inside it, and functions of it.
    """
    moved = moved_labels(clean, other)
    if rule.set:
        expected = moved == set(rule.names) if rule.names else moved <= set(task.attributes)
        return bool(moved) and expected
    if rule.name in task.irrelevant and (
        moved & set(task.attributes) or clean.answers != other.answers or clean.foils != other.foils
    ):
        return False
    if not _differs(task, clean, other, rule.name):
        return False
    if any(_differs(task, clean, other, coarse) for coarse in task.coarser(rule.name)):
        return False
    finer = {name for name in task.within if rule.name in task.coarser(name)}
    return moved <= {rule.name, *rule.names, *finer, *task.functions}


def _differs(task: Declaration, clean: Prompt, other: Prompt, name: str) -> bool:
    return label_of(task, clean, name) != label_of(task, other, name)
