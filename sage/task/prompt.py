"""The nouns of a task: a prompt with its labels, a pair of prompts, and the rule of a contrast.

Words are those of the method, sections 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Label = str | int


@dataclass(frozen=True)
class Prompt:
    """One prompt of a task with everything that is known about it.

    `labels` has a value for every attribute, irrelevant ones included. `spans` gives for every
    named occurrence of a slot (IO, S1, S2) its characters in `text`: the first, and the one after
    the last. Answers and foils are continuations as they stand after the text (" Mary").
    """

    text: str
    family: str
    variant: str
    slots: Mapping[str, str]
    labels: Mapping[str, Label]
    spans: Mapping[str, tuple[int, int]]
    answers: tuple[str, ...]
    foils: tuple[str, ...]
    stratum: str = ""


@dataclass(frozen=True)
class Pair:
    """A prompt and its counterfactual under one contrast."""

    clean: Prompt
    counterfactual: Prompt
    contrast: str


@dataclass(frozen=True)
class Contrast:
    """A rule that changes one attribute, or several at once when it sets a position.

    By default the attribute `name` is changed: a slot is redrawn, the variant moves inside its
    family, a function of a slot redraws that slot until its value changes; `names` lists what else
    may change with it. `set` instead puts the value of a slot at a named occurrence (S2 := IO), and
    `names` then lists all labels that change; left empty, they are found by trying.
    """

    name: str
    set: Mapping[str, str] = field(default_factory=dict[str, str])
    names: tuple[str, ...] = ()
