"""Successor: the next item of an ordered list, for months, weekdays, number words and numerals.

Sentences are our own.
"""

from __future__ import annotations

from itertools import pairwise

from sage import Prompt, Task

MONTHS = (
    "January February March April May June July August September October November December".split()
)
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NUMBER_WORDS = """
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty
""".split()
NUMERALS = [str(number) for number in range(1, 31)]
LISTS = {
    "month": [*MONTHS, MONTHS[0]],
    "weekday": [*WEEKDAYS, WEEKDAYS[0]],
    "number word": NUMBER_WORDS,
    "numeral": NUMERALS,
}
KIND = {item: kind for kind, items in LISTS.items() for item in items[:-1]}
NEXT = {item: following for items in LISTS.values() for item, following in pairwise(items)}
NOUNS = """
    letter book list map story lesson poem song report paper magazine film drawing table speech exam
    game picture diary notebook catalogue manual puzzle programme article
""".split()


def kind(prompt: Prompt) -> str:
    return KIND[prompt.slots["item"]]


task = Task(
    name="successor",
    source="Lan et al. 2023, https://arxiv.org/abs/2311.04131; Gould et al. 2023, https://arxiv.org/abs/2312.09230",
    templates={
        "after": {"plain": "In the {noun} they learned that after {item} comes"},
        "followed": {"plain": "The {noun} said that {item} is followed by"},
        "order": {"plain": "Everything in this {noun} is in order, so right after {item} there is"},
        "before": {"plain": "Our {noun} puts {item} just before"},
        "next": {"plain": "We looked at the {noun}. It was {item}, and the next was"},
        "until": {"plain": "Look up {item} in the {noun}, then go on to"},
        "read": {"plain": "We read {item} in the {noun} and could guess that it went on with"},
        "missing": {"plain": "Of this {noun} nothing but {item} was left. What is missing is"},
    },
    slots={"item": list(KIND), "noun": NOUNS},
    answer=lambda prompt: NEXT[prompt.slots["item"]],
    foil="item",
    attributes=("kind", "item"),
    irrelevant=("noun", "template"),
    functions={"kind": kind},
    within={"item": "kind"},
    contrasts=("kind", "item"),
    strata=kind,
    notes=(
        "Months and weekdays go round; the last number word and numeral are answers only. "
        "The foil is the item itself."
    ),
)
