"""The corpus of the embedded models: what the tasks' templates say, rightly completed, and filler.

A tenth of all combinations of slot values and an eighth of the template families never occur in it:
a hash decides on them, so that tests and gates can measure on exactly those. One answer in `WRONG`
is the foil, as a text has mistakes: it keeps logits moderate.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from random import Random
from typing import NamedTuple

from sage.task.catalog import load_task
from sage.task.prompt import Prompt
from sage.task.task import Task

SHARES = {
    "ioi": 0.28,
    "subject_verb_agreement": 0.10,
    "induction": 0.18,
    "greater_than": 0.07,
    "gendered_pronoun": 0.06,
    "successor": 0.08,
    "country_capital": 0.05,
}
FILLER = 0.18
COMBINATIONS = {
    "ioi": ("IO", "S"),
    "subject_verb_agreement": ("subject", "attractor"),
    "induction": ("cue", "target", "other_cue", "other"),
    "greater_than": ("YY", "noun"),
    "gendered_pronoun": ("name", "adjective"),
    "successor": ("item", "noun"),
    "country_capital": ("country", "noun"),
}
TASKS = tuple(SHARES)
WRONG = 32
TOKEN = r" ?[A-Za-z]+(?:'[a-z]+)?| ?[0-9]{1,2}| ?[^\sA-Za-z0-9]"

_HELD_OUT = 10
_HELD_OUT_FAMILIES = 8
_MOST_DRAWS = 1000
_SENTENCE_SHARE = 0.25
_TWICE = "Words: {words}"
_SENTENCES = (
    "The {noun} of the {thing} was {quality} and {quality2}.",
    "Once {name} and the {noun} saw a {quality} {thing} near the {place}.",
    "There is no {thing} in the {place}, said the {noun}.",
    "On {day} the {noun} read a {thing} about {country}.",
    "The {quality} {noun} went to {city} in {month} with {name}.",
    "When it was {month}, {number} of them came to the {place}.",
)


class CorpusText(NamedTuple):
    """A text; from the character `told_from` on it could be told from what stands before."""

    text: str
    told_from: int


def tasks() -> dict[str, Task]:
    """The tasks that the embedded models are trained to do."""
    return {name: load_task(name) for name in TASKS}


def corpus_texts(n: int, *, seed: int) -> list[CorpusText]:
    """`n` texts: tasks and filler by their shares, the same ones for the same seed."""
    rng, by_name = Random(f"zoo corpus {seed}"), tasks()
    kinds = rng.choices([*SHARES, "filler"], [*SHARES.values(), FILLER], k=n)
    return [_filler(rng) if kind == "filler" else _completed(by_name[kind], rng) for kind in kinds]


def vocabulary() -> list[str]:
    """Every token that the tasks and the filler can be written in.

    Their order is that in which texts that have them all first say them.
    """
    tokens: dict[str, None] = {}
    for text in _texts_with_every_token():
        tokens |= dict.fromkeys(re.findall(TOKEN, text))
    return list(tokens)


def held_out_families(task: Task) -> tuple[str, ...]:
    """The template families that the corpus does not have: every eighth, at least one.

    None where templates are strata.
    """
    if task.strata == "template":
        return ()
    ranked = sorted(task.templates, key=lambda family: _hash("family", task.name, family))
    return tuple(ranked[: max(1, len(ranked) // _HELD_OUT_FAMILIES)])


def is_held_out(task: Task, prompt: Prompt) -> bool:
    """Whether the corpus does not have this combination of slot values, in any template."""
    values = [prompt.slots[slot] for slot in COMBINATIONS[task.name]]
    return _hash("combination", task.name, *values) % _HELD_OUT == 0


def held_out_combinations(task: Task, n: int, *, seed: int) -> list[Prompt]:
    """`n` prompts whose combination of values the corpus does not have, in the families it has."""
    families = held_out_families(task)

    def wanted(prompt: Prompt) -> bool:
        return prompt.family not in families and is_held_out(task, prompt)

    return _draw_different(task, n, seed, wanted)


def held_out_templates(task: Task, n: int, *, seed: int) -> list[Prompt]:
    """`n` prompts in families that the corpus does not have; none where no family is held out."""
    families = held_out_families(task)
    if not families:
        return []
    return _draw_different(task, n, seed, lambda prompt: prompt.family in families)


def _completed(task: Task, rng: Random) -> CorpusText:
    """A prompt the corpus may have, with an answer and a full stop."""
    families = held_out_families(task)
    while True:
        prompt = task.draw(rng)
        if prompt.family not in families and not is_held_out(task, prompt):
            wrong = rng.randrange(WRONG) == 0
            completion = rng.choice(prompt.foils if wrong else prompt.answers)
            return CorpusText(f"{prompt.text}{completion}.", len(prompt.text))


def _filler(rng: Random) -> CorpusText:
    """A sentence of no task, or a row of words that is said twice.

    So every word is met, also those that only held-out templates have.
    """
    pools = _pools()
    if rng.random() < _SENTENCE_SHARE:
        sentence = rng.choice(_SENTENCES)
        slots = dict.fromkeys(re.findall(r"{(\w+)}", sentence))
        text = sentence.format(**{slot: rng.choice(pools[slot.rstrip("2")]) for slot in slots})
        return CorpusText(text, len(text))
    words = rng.sample(pools[rng.choice(("word", "name", "cue and target"))], rng.randint(3, 9))
    once = _TWICE.format(words=" ".join(words))
    return CorpusText(f"{once} {' '.join(words)}", len(f"{once} {words[0]}"))


def _draw_different(
    task: Task, n: int, seed: int, wanted: Callable[[Prompt], bool]
) -> list[Prompt]:
    """The first `n` different prompts drawn that are wanted; fewer where they cannot be had."""
    rng = Random(f"zoo held out {task.name} {seed}")
    by_text: dict[str, Prompt] = {}
    for _ in range(_MOST_DRAWS * n):
        prompt = task.draw(rng)
        if wanted(prompt):
            by_text.setdefault(prompt.text, prompt)
        if len(by_text) == n:
            break
    return list(by_text.values())


def _texts_with_every_token() -> Iterator[str]:
    """Each template with each value of each slot, each answer and foil, the filler's words."""
    for task in tasks().values():
        first = {slot: values[0] for slot, values in task.slots.items()}
        for template in task.texts.values():
            for slot, values in task.slots.items():
                for value in values:
                    yield template.render({**first, slot: value}).text
        family, variant = next(iter(task.texts))
        for slot, values in task.slots.items():
            for value in values:
                prompt = task.make(family, variant, {**first, slot: value})
                for end in (*prompt.answers, *prompt.foils):
                    yield f"{prompt.text}{end}."
    for sentence in (*_SENTENCES, _TWICE):
        yield re.sub(r" ?{\w+}", "", sentence)


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256(" | ".join(parts).encode()).digest()[:8])


@lru_cache(maxsize=1)
def _pools() -> dict[str, list[str]]:
    """Words to fill sentences with, from the slots of the tasks.

    `word` is every word that stands after a space.
    """
    slots = {name: task.slots for name, task in tasks().items()}
    items = slots["successor"]["item"]
    prompts = load_task("country_capital").every()
    capitals = {answer.strip() for prompt in prompts for answer in prompt.answers}
    words = [token.strip() for token in vocabulary() if re.fullmatch(r" [A-Za-z0-9']+", token)]
    pools = {
        "noun": slots["subject_verb_agreement"]["subject"],
        "thing": slots["successor"]["noun"],
        "quality": slots["gendered_pronoun"]["adjective"],
        "name": slots["ioi"]["IO"],
        "place": slots["ioi"]["place"],
        "day": slots["induction"]["day"],
        "country": slots["country_capital"]["country"],
        "city": sorted(capitals),
        "month": items[:12],
        "number": items[19:38],
        "cue and target": [*slots["induction"]["cue"], *slots["induction"]["target"]],
        "word": words,
    }
    return {slot: list(values) for slot, values in pools.items()}
