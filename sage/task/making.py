"""Prompts made from a declaration: filled in and labelled, drawn at random, read back from a text.

What a prompt knows about itself it knows because it was made from it (method, section 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from random import Random
from typing import cast

from sage.errors import BadTask, unknown
from sage.task.declaration import TEMPLATE, Answer, Declaration
from sage.task.foreign import ask
from sage.task.prompt import Label, Prompt

DRAWS = 1000


def fill_template(task: Declaration, family: str, variant: str, slots: Mapping[str, str]) -> Prompt:
    """The prompt with these values; nothing is refused here."""
    text, spans = task.texts[family, variant].render(slots)
    labels = dict[str, Label]()
    prompt = Prompt(text, family, variant, dict(slots), labels, spans, (), ())
    for name in (*task.attributes, *task.irrelevant):
        labels[name] = label_of(task, prompt, name)
    return replace(
        prompt,
        answers=_continuations(task, prompt, task.answer),
        foils=_continuations(task, prompt, task.foil),
        stratum=_stratum(task, prompt),
    )


def allowed_prompt(
    task: Declaration, family: str, variant: str, slots: Mapping[str, str]
) -> Prompt | None:
    """The prompt with these values; None where the task refuses it.

    It does where values that must be distinct are equal, an answer is also a foil, or `keep` says
    no.
    """
    if len({slots[slot] for slot in task.distinct}) < len(task.distinct):
        return None
    prompt = fill_template(task, family, variant, slots)
    if set(prompt.answers) & set(prompt.foils):
        return None
    if task.keep is None or ask(f"Task {task.name}: keep", task.keep, prompt):
        return prompt
    return None


def draw_prompt(task: Declaration, rng: Random, fixed: Mapping[str, str]) -> Prompt | None:
    """A prompt at random with the `fixed` slot values; None where DRAWS draws meet none."""
    keys = list(task.texts)
    for _ in range(DRAWS):
        family, variant = rng.choice(keys)
        slots = {
            slot: fixed[slot] if slot in fixed else rng.choice(values)
            for slot, values in task.slots.items()
        }
        prompt = allowed_prompt(task, family, variant, slots)
        if prompt is not None:
            return prompt
    return None


def read_text(task: Declaration, text: str, family: str | None = None) -> list[Prompt]:
    """Every prompt of the task, or of a family, with that text."""
    prompts = list[Prompt]()
    for key, template in task.texts.items():
        if family not in (None, key[0]):
            continue
        readings = (
            allowed_prompt(task, *key, slots) for slots in template.readings(text, task.slots)
        )
        prompts += [prompt for prompt in readings if prompt is not None]
    return prompts


def label_of(task: Declaration, prompt: Prompt, name: str) -> Label:
    """The value of a slot, the variant, `template` or a function, an attribute or not."""
    if name in prompt.labels:
        return prompt.labels[name]
    if name in task.functions:
        said = ask(f"Task {task.name}: the function '{name}'", task.functions[name], prompt)
        label = cast("object", said)
        if not isinstance(label, str | int):
            raise BadTask(
                f"Task {task.name}: the function '{name}' says {label!r} of '{prompt.text}'. A "
                "label is a text or a whole number."
            )
        return label
    return {task.variant: prompt.variant, TEMPLATE: prompt.family, **prompt.slots}[name]


def values_of(task: Declaration, attribute: str) -> tuple[Label, ...]:
    """Every value of an attribute, in the task's own order; UnknownName where nothing defines it.

    The values of a function are found by trying every slot value.
    """
    if attribute in task.slots:
        return tuple(task.slots[attribute])
    if attribute == TEMPLATE:
        return tuple(dict.fromkeys(family for family, _ in task.texts))
    if attribute == task.variant:
        return tuple(dict.fromkeys(variant for _, variant in task.texts))
    if attribute not in task.functions:
        known = (*task.attributes, *task.irrelevant, TEMPLATE)
        raise unknown(f"attribute of task {task.name}", attribute, known)
    rng = Random(f"{task.name} values")
    values = dict[Label, None]()
    for slot in task.slots_behind(attribute):
        for value in task.slots[slot]:
            prompt = draw_prompt(task, rng, {slot: value})
            if prompt is not None:
                values[label_of(task, prompt, attribute)] = None
    return tuple(values)


def _continuations(task: Declaration, prompt: Prompt, answer: Answer) -> tuple[str, ...]:
    """Answers or foils as they stand after the text."""
    what = f"Task {task.name}: what answers, or is the foil,"
    return ask(what, partial(_words, task, answer), prompt)


def _words(task: Declaration, answer: Answer, prompt: Prompt) -> tuple[str, ...]:
    before = task.before_answer
    given = prompt.slots[answer] if isinstance(answer, str) else answer(prompt)
    listed = (given,) if isinstance(given, str) else tuple(given)
    return tuple(before + word.removeprefix(before) for word in listed)


def _stratum(task: Declaration, prompt: Prompt) -> str:
    if task.strata is None:
        return ""
    if callable(task.strata):
        return ask(f"Task {task.name}: strata", task.strata, prompt)
    return str(label_of(task, prompt, task.strata))
