"""What the author of a task writes down, and the checks that it does not contradict itself.

Template families, slots, attributes, contrasts and the rest are those of the method, section 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from sage.errors import BadTask, unknown
from sage.task.prompt import Contrast, Label, Prompt
from sage.task.templates import Texts, parse_families

Answer = str | Callable[[Prompt], str | Sequence[str]]
ValueMap = Mapping[str, str] | Callable[[str], str | None]

TEMPLATE = "template"
END = "END"

PLAIN_NAME = re.compile(r"[^\W_][\w.-]{0,79}")

_LISTS = (
    "attributes",
    "irrelevant",
    "contrasts",
    "positions",
    "distinct",
    "ordinal",
    "multi_token",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Declaration:
    """The fields of a task; BadTask says what contradicts what.

    `templates[family][variant]` is a text with slots; all texts use the same slots equally often.
    `attributes` are what a dictionary should know, `irrelevant` what it need not; both name a slot,
    `variant`, `template` (the family) or one of `functions`. `within` puts a fine attribute inside
    a coarse one. `maps` fixes where a contrast leads (dog -> dogs). `answer` and `foil` name a slot
    or are functions that return one continuation or several. `keep` refuses prompts. `multi_token`
    names slots that may be longer than one token, as irrelevant ones may; `before_answer` stands
    between text and answer. `otherwise` is a task of the same name that asks the same of
    tokenizers which cannot carry this one.
    """

    name: str
    source: str
    templates: Mapping[str, Mapping[str, str]]
    slots: Mapping[str, Sequence[str]]
    answer: Answer
    foil: Answer
    attributes: Sequence[str]
    irrelevant: Sequence[str]
    contrasts: Sequence[str | Contrast]
    variant: str = "variant"
    positions: Sequence[str] = ()
    distinct: Sequence[str] = ()
    functions: Mapping[str, Callable[[Prompt], Label]] = field(
        default_factory=dict[str, Callable[[Prompt], Label]]
    )
    within: Mapping[str, str] = field(default_factory=dict[str, str])
    ordinal: Sequence[str] = ()
    maps: Mapping[str, ValueMap] = field(default_factory=dict[str, ValueMap])
    strata: str | Callable[[Prompt], str] | None = None
    keep: Callable[[Prompt], bool] | None = None
    metric: str | Callable[..., Any] = "logit_difference"
    gate: float = 0.75
    multi_token: Sequence[str] = ()
    before_answer: str = " "
    equal_length: bool = False
    notes: str = ""
    otherwise: Declaration | None = None

    def __post_init__(self) -> None:
        _check_lists(self)
        _check_names(self)
        _check_rules(self)
        _check_nesting(self)
        _check_positions(self)

    @cached_property
    def texts(self) -> Texts:
        """The templates by (family, variant), cut into literals and slots."""
        return parse_families(self.name, self.templates, self.slots)

    @property
    def lot(self) -> str:
        """What this task's random draws come from, beside a seed."""
        return self.name

    @cached_property
    def contrast_names(self) -> tuple[str, ...]:
        """The task's contrasts, in its own order.

        Those of the irrelevant attributes go by the attributes' names.
        """
        return tuple(entry if isinstance(entry, str) else entry.name for entry in self.contrasts)

    @cached_property
    def slot_of(self) -> dict[str, str]:
        """Occurrence (IO, S2) -> its slot."""
        slots: dict[str, str] = {}
        for template in self.texts.values():
            slots |= {occurrence.name: occurrence.slot for occurrence in template.occurrences}
        return slots

    @cached_property
    def single_token(self) -> frozenset[str]:
        """The slots whose values must be one token wherever they stand.

        They are all but irrelevant ones, `multi_token`, and those that touch another slot.
        """
        touching = set[str]().union(*(template.touching() for template in self.texts.values()))
        return frozenset(self.slots) - touching - set(self.multi_token) - set(self.irrelevant)

    def coarser(self, attribute: str) -> tuple[str, ...]:
        """The attributes that contain an attribute, the nearest first."""
        if attribute not in self.within:
            return ()
        nearest = self.within[attribute]
        return (nearest, *self.coarser(nearest))

    def slots_behind(self, attribute: str) -> tuple[str, ...]:
        """The slots whose change can change an attribute: it, else those inside it, else any."""
        if attribute in self.slots:
            return (attribute,)
        inside = tuple(slot for slot in self.slots if attribute in self.coarser(slot))
        return inside or tuple(self.slots)


def _check_lists(task: Declaration) -> None:
    """What should be a list of names is not one string."""
    for name in _LISTS:
        if isinstance(given := getattr(task, name), str):
            raise BadTask(
                f"Task {task.name}: {name} is one string. "
                f"Write a list of names: {name}=('{given}',)."
            )


def _check_names(task: Declaration) -> None:
    """The task's name is a plain word, which folders of results are called by; every name the task
    uses is defined, once."""
    name = cast("object", task.name)
    if not (isinstance(name, str) and PLAIN_NAME.fullmatch(name)):
        raise BadTask(
            f"A task is called {str(name)[:80]!r}. A name is up to 80 letters, digits, -, _ and ., "
            "the first a letter or a digit."
        )
    defined = [*task.slots, task.variant, TEMPLATE, *task.functions]
    if repeated := _repeated(defined):
        raise BadTask(
            f"Task {task.name}: '{repeated}' is defined twice, "
            "as slot, function, variant or template. Rename one."
        )
    for what, names, possible in (*_references(task, defined), *_contrast_references(task)):
        if strange := [name for name in names if name not in possible]:
            raise BadTask(f"Task {task.name}: {unknown(what, strange[0], possible)}")


def _references(
    task: Declaration, defined: Sequence[str]
) -> Iterator[tuple[str, Collection[str], Collection[str]]]:
    """What a field names, the names it gives, and those it may give."""
    attributes = (*task.attributes, *task.irrelevant)
    answers = [answer for answer in (task.answer, task.foil) if isinstance(answer, str)]
    strata = [task.strata] if isinstance(task.strata, str) else []
    occurrences = [re.sub(r"(:first|\+1)$", "", name) for name in task.positions]
    yield "attribute", attributes, defined
    yield "slot for an answer or foil", answers, task.slots
    yield "slot in distinct", task.distinct, task.slots
    yield "slot in multi_token", task.multi_token, task.slots
    yield "attribute in within", (*task.within, *task.within.values()), task.attributes
    yield "attribute in ordinal", task.ordinal, attributes
    yield "contrast in maps", task.maps, (*task.contrast_names, *task.irrelevant)
    yield "position", occurrences, task.slot_of
    yield "attribute for the strata", strata, defined


def _contrast_references(
    task: Declaration,
) -> Iterator[tuple[str, Collection[str], Collection[str]]]:
    """The same for each contrast."""
    for contrast in task.contrasts:
        if isinstance(contrast, str):
            yield "attribute for a contrast", [contrast], task.attributes
            continue
        if not contrast.set:
            yield "attribute for a contrast", [contrast.name], task.attributes
        yield "attribute named by a contrast", contrast.names, task.attributes
        yield "position to set", contrast.set, task.slot_of
        yield "slot to set a position to", contrast.set.values(), task.slots


def _check_rules(task: Declaration) -> None:
    """There are attributes and contrasts, each listed once and in one role."""
    if not task.attributes:
        raise BadTask(f"Task {task.name} has no attributes. Give at least one.")
    if not task.contrast_names:
        raise BadTask(f"Task {task.name} has no contrasts. Give at least one.")
    if not task.irrelevant:
        raise BadTask(
            f"Task {task.name} has no irrelevant attribute. "
            "Give one, or 'template': what it moves in a model is the noise level."
        )
    if shared := [name for name in task.attributes if name in task.irrelevant]:
        raise BadTask(
            f"Task {task.name}: '{shared[0]}' is both an attribute and irrelevant. Choose."
        )
    attributes = (*task.attributes, *task.irrelevant, TEMPLATE)
    for contrast in task.contrasts:
        if isinstance(contrast, Contrast) and contrast.set and contrast.name in attributes:
            raise BadTask(
                f"Task {task.name}: the contrast '{contrast.name}' sets a position "
                "but bears the name of an attribute. Rename it."
            )
    for what, names in (
        ("attributes", task.attributes),
        ("irrelevant", task.irrelevant),
        ("contrasts", task.contrast_names),
    ):
        if repeated := _repeated(names):
            raise BadTask(f"Task {task.name}: {what} lists '{repeated}' twice. List it once.")


def _check_nesting(task: Declaration) -> None:
    """No attribute is inside itself."""
    for name in task.within:
        chain = [name]
        while chain[-1] in task.within:
            chain.append(task.within[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise BadTask(
                    f"Task {task.name}: within goes round in a circle: {' in '.join(chain)}."
                )


def _check_positions(task: Declaration) -> None:
    """A position has one name: under two it would be edited twice."""
    for position in task.positions:
        if not position.endswith("+1"):
            continue
        for key, template in task.texts.items():
            if twin := template.next_to(position.removesuffix("+1")):
                raise BadTask(
                    f"Task {task.name}: position {position} is {twin} in template {'/'.join(key)}."
                    f" A position has one name: use {twin}."
                )


def _repeated(names: Sequence[str]) -> str | None:
    """The first name that is listed more than once."""
    counts = Counter(names)
    return next((name for name in names if counts[name] > 1), None)
