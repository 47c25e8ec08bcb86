"""Successor in text: a list goes on, in prose that a language model has met.

Three items in order stand in the prompt, and the next is asked for. The foil is the one after it:
neither stands in the prompt, so that nothing is gained by copying. Sentences are our own.

`successor` asks the same of single items, in the words that the embedded models were trained on.
"""

from __future__ import annotations

from sage import Prompt, Task

MONTHS = (
    "January February March April May June July August September October November December".split()
)
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUMBER_WORDS = "one two three four five six seven eight nine ten eleven twelve".split()
NUMERALS = [str(number) for number in range(1, 31)]
LISTS = {
    "month": [*MONTHS, *MONTHS[:4]],
    "weekday": [*WEEKDAYS, *WEEKDAYS[:4]],
    "number word": NUMBER_WORDS,
    "numeral": NUMERALS,
}
SHOWN = 3
RUNS = {
    ", ".join(items[start : start + SHOWN]): (kind, *items[start + SHOWN : start + SHOWN + 2])
    for kind, items in LISTS.items()
    for start in range(len(items) - SHOWN - 1)
}
NOUNS = """
    letter book list map story lesson poem song report paper magazine film drawing table speech exam
    game picture diary notebook catalogue manual puzzle programme article
""".split()


def kind(prompt: Prompt) -> str:
    return RUNS[prompt.slots["items"]][0]


task = Task(
    name="successor_in_text",
    source="Lan et al. 2023, https://arxiv.org/abs/2311.04131; Gould et al. 2023, https://arxiv.org/abs/2312.09230",
    templates={
        "list": {"plain": "The {noun} has them all in order: {items},"},
        "aloud": {"plain": "She read from the {noun} aloud, and slowly: {items},"},
        "wrote": {"plain": "He copied the beginning of the {noun}, which was {items},"},
        "page": {"plain": "On the first page of the {noun} we found {items},"},
        "remember": {"plain": "What I remember of that {noun} is how it went: {items},"},
        "count": {"plain": "They went through the {noun} one by one: {items},"},
    },
    slots={"items": list(RUNS), "noun": NOUNS},
    answer=lambda prompt: RUNS[prompt.slots["items"]][1],
    foil=lambda prompt: RUNS[prompt.slots["items"]][2],
    attributes=("kind", "items"),
    irrelevant=("noun", "template"),
    functions={"kind": kind},
    within={"items": "kind"},
    contrasts=("kind", "items"),
    multi_token=("items",),
    strata=kind,
    notes="Months and weekdays go round. The foil is the item after the answer.",
)
