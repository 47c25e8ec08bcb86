"""The corpus of the embedded models: what the tasks' own templates say, rightly completed, and
filler text.

A tenth of all combinations of slot values and an eighth of the template families never occur in it:
which ones, a hash decides, so that tests and gates can measure on exactly those. One answer in
`WRONG` is the foil, as a text has mistakes: it keeps logits moderate.
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
PIECE = r" ?[A-Za-z]+(?:'[a-z]+)?| ?[0-9]{1,2}| ?[^\sA-Za-z0-9]"

_HELD_OUT = 10
_PATIENCE = 1000
_TWICE = "Words: {words}"
_SENTENCES = (
    "The {noun} of the {thing} was {quality} and {quality2}.",
    "Once {name} and the {noun} saw a {quality} {thing} near the {place}.",
    "There is no {thing} in the {place}, said the {noun}.",
    "On {day} the {noun} read a {thing} about {country}.",
    "The {quality} {noun} went to {city} in {month} with {name}.",
    "When it was {month}, {number} of them came to the {place}.",
)


def tasks() -> dict[str, Task]:
    """The tasks that the embedded models are trained to do."""
    return {name: load_task(name) for name in TASKS}


def held_out_families(task: Task) -> tuple[str, ...]:
    """The template families that the corpus does not have: every eighth, at least one; none where
    templates are strata."""
    if task.strata == "template":
        return ()
    ranked = sorted(task.templates, key=lambda family: _hash("family", task.name, family))
    return tuple(ranked[: max(1, len(ranked) // 8)])


def is_held_out(task: Task, prompt: Prompt) -> bool:
    """Whether the corpus does not have this combination of slot values, in any template: one in
    ten."""
    values = [prompt.slots[slot] for slot in COMBINATIONS[task.name]]
    return _hash("combination", task.name, *values) % _HELD_OUT == 0


def held_out_combinations(task: Task, n: int, *, seed: int) -> list[Prompt]:
    """`n` prompts whose combination of values the corpus does not have, in the families it has."""
    families = held_out_families(task)
    return _first(
        task, n, seed, lambda prompt: prompt.family not in families and is_held_out(task, prompt)
    )


def held_out_templates(task: Task, n: int, *, seed: int) -> list[Prompt]:
    """`n` prompts in families that the corpus does not have; none where no family is held out."""
    families = held_out_families(task)
    return _first(task, n, seed, lambda prompt: prompt.family in families) if families else []


class Row(NamedTuple):
    """A text; from the character `known` on it could be told from what stands before."""

    text: str
    known: int


def rows(n: int, *, seed: int) -> list[Row]:
    """`n` texts: tasks and filler by their shares, the same ones for the same seed."""
    rng, known = Random(f"zoo corpus {seed}"), tasks()
    kinds = rng.choices([*SHARES, "filler"], [*SHARES.values(), FILLER], k=n)
    return [_filler(rng) if kind == "filler" else _completed(known[kind], rng) for kind in kinds]


def vocabulary() -> list[str]:
    """Every token that the tasks and the filler can be written in, in an order that only the texts
    decide."""
    pieces = dict.fromkeys(piece for text in _everything() for piece in re.findall(PIECE, text))
    return list(pieces)


def _completed(task: Task, rng: Random) -> Row:
    """A prompt the corpus may have, with an answer and a full stop."""
    families = held_out_families(task)
    while True:
        prompt = task.draw(rng)
        if prompt.family not in families and not is_held_out(task, prompt):
            wrong = rng.randrange(WRONG) == 0
            return Row(
                prompt.text + rng.choice(prompt.foils if wrong else prompt.answers) + ".",
                len(prompt.text),
            )


def _filler(rng: Random) -> Row:
    """A sentence of no task, or a row of words that is said twice: so every word is met, in
    held-out templates too."""
    pools = _pools()
    if rng.random() < 0.25:
        sentence = rng.choice(_SENTENCES)
        slots = dict.fromkeys(re.findall(r"{(\w+)}", sentence))
        text = sentence.format(**{slot: rng.choice(pools[slot.rstrip("2")]) for slot in slots})
        return Row(text, len(text))
    words = rng.sample(pools[rng.choice(("word", "name", "cue and target"))], rng.randint(3, 9))
    once = _TWICE.format(words=" ".join(words))
    return Row(f"{once} {' '.join(words)}", len(f"{once} {words[0]}"))


def _first(task: Task, n: int, seed: int, wanted: Callable[[Prompt], bool]) -> list[Prompt]:
    """The first `n` different prompts drawn that are wanted."""
    rng, found = Random(f"zoo held out {task.name} {seed}"), dict[str, Prompt]()
    for _ in range(_PATIENCE * n):
        prompt = task.draw(rng)
        if wanted(prompt):
            found.setdefault(prompt.text, prompt)
        if len(found) == n:
            break
    return list(found.values())


def _everything() -> Iterator[str]:
    """Texts that together have every token: each template with each value of each slot, each answer
    and foil, the filler's words."""
    for task in tasks().values():
        first = {slot: values[0] for slot, values in task.slots.items()}
        for place in task.texts:
            yield from (
                task.texts[place].render({**first, slot: value}).text
                for slot, values in task.slots.items()
                for value in values
            )
        for slot, values in task.slots.items():
            made = (task.make(*next(iter(task.texts)), {**first, slot: value}) for value in values)
            yield from (
                prompt.text + end + "."
                for prompt in made
                for end in (*prompt.answers, *prompt.foils)
            )
    yield from (re.sub(r" ?{\w+}", "", sentence) for sentence in (*_SENTENCES, _TWICE))


def _hash(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256(" | ".join(parts).encode()).digest()[:8])


@lru_cache(maxsize=1)
def _pools() -> dict[str, list[str]]:
    """Words to fill sentences with, taken from the slots of the tasks; `word` is every word that
    stands after a space."""
    known = tasks()
    slots = {
        "noun": known["subject_verb_agreement"].slots["subject"],
        "thing": known["successor"].slots["noun"],
        "quality": known["gendered_pronoun"].slots["adjective"],
        "name": known["ioi"].slots["IO"],
        "place": known["ioi"].slots["place"],
        "day": known["induction"].slots["day"],
        "country": known["country_capital"].slots["country"],
    }
    items = known["successor"].slots["item"]
    capitals = {
        answer.strip() for prompt in known["country_capital"].every() for answer in prompt.answers
    }
    return {slot: list(values) for slot, values in slots.items()} | {
        "city": sorted(capitals),
        "month": list(items[:12]),
        "number": list(items[19:38]),
        "cue and target": [*known["induction"].slots["cue"], *known["induction"].slots["target"]],
        "word": [token.strip() for token in vocabulary() if re.fullmatch(r" [A-Za-z0-9']+", token)],
    }
