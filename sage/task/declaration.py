"""What the author of a task writes down, and the checks that it does not contradict itself.

Template families, slots, attributes, contrasts and the rest are those of the method, section 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sage.errors import BadTask, unknown
from sage.task.prompt import Contrast, Label, Prompt
from sage.task.templates import Texts, parse_families

Answer = str | Callable[[Prompt], str | Sequence[str]]
ValueMap = Mapping[str, str] | Callable[[str], str | None]

TEMPLATE = "template"
END = "END"


@dataclass(frozen=True, eq=False, kw_only=True)
class Declaration:
    """The fields of a task; BadTask says what contradicts what.

    `templates[family][variant]` is a text with slots; all texts use the same slots equally often.
    `attributes` are what a dictionary should know, `irrelevant` what it need not; both name a slot,
    `variant`, `template` (the family) or one of `functions`. `within` puts a fine attribute inside
    a coarse one. `maps` fixes where a contrast leads (dog -> dogs). `answer` and `foil` name a slot
    or are functions that return one continuation or several. `keep` refuses prompts. `multi_token`
    names slots that may be longer than one token, as irrelevant ones may; `before_answer` stands
    between text and answer.
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

    def __post_init__(self) -> None:
        _check_names(self)
        _check_rules(self)
        _check_positions(self)

    @cached_property
    def texts(self) -> Texts:
        """The templates by (family, variant), cut into literals and slots."""
        return parse_families(self.name, self.templates, self.slots)

    @cached_property
    def contrast_names(self) -> tuple[str, ...]:
        """The task's contrasts, in its own order; those of the irrelevant attributes go by the
        attributes' names."""
        return tuple(entry if isinstance(entry, str) else entry.name for entry in self.contrasts)

    @cached_property
    def slot_of(self) -> dict[str, str]:
        """Occurrence (IO, S2) -> its slot."""
        return {
            occurrence.name: occurrence.slot
            for template in self.texts.values()
            for occurrence in template.occurrences
        }

    @cached_property
    def single_token(self) -> frozenset[str]:
        """The slots whose values must be one token wherever they stand: all but irrelevant ones,
        `multi_token`, and those that touch."""
        touching = {slot for template in self.texts.values() for slot in template.touching()}
        return frozenset(self.slots) - touching - set(self.multi_token) - set(self.irrelevant)


def _check_names(task: Declaration) -> None:
    """Every name the task uses is defined, once."""
    listed = (
        "attributes",
        "irrelevant",
        "contrasts",
        "positions",
        "distinct",
        "ordinal",
        "multi_token",
    )
    if single := [name for name in listed if isinstance(getattr(task, name), str)]:
        raise BadTask(
            f"Task {task.name}: {single[0]} is one string. Write a list of names: {single[0]}=('{getattr(task, single[0])}',)."
        )
    defined = [*task.slots, task.variant, TEMPLATE, *task.functions]
    if twice := [name for name, count in Counter(defined).items() if count > 1]:
        raise BadTask(
            f"Task {task.name}: '{twice[0]}' is defined twice, as slot, function, variant or template. Rename one."
        )
    attributes = (*task.attributes, *task.irrelevant)
    answers = [answer for answer in (task.answer, task.foil) if isinstance(answer, str)]
    rules = [entry for entry in task.contrasts if isinstance(entry, Contrast)]
    plain = [
        entry if isinstance(entry, str) else entry.name
        for entry in task.contrasts
        if isinstance(entry, str) or not entry.set
    ]
    set_at = {name for rule in rules for name in rule.set}
    for what, names, possible in (
        ("attribute", attributes, defined),
        ("slot for an answer or foil", answers, task.slots),
        ("slot in distinct", task.distinct, task.slots),
        ("slot in multi_token", task.multi_token, task.slots),
        ("attribute in within", (*task.within, *task.within.values()), task.attributes),
        ("attribute in ordinal", task.ordinal, attributes),
        ("attribute for a contrast", plain, task.attributes),
        (
            "attribute named by a contrast",
            [name for rule in rules for name in rule.names],
            task.attributes,
        ),
        ("position to set", set_at, task.slot_of),
        (
            "slot to set a position to",
            [origin for rule in rules for origin in rule.set.values()],
            task.slots,
        ),
        ("contrast in maps", task.maps, (*task.contrast_names, *task.irrelevant)),
        ("position", [re.sub(r"(:first|\+1)$", "", name) for name in task.positions], task.slot_of),
        (
            "attribute for the strata",
            [task.strata] if isinstance(task.strata, str) else [],
            defined,
        ),
    ):
        if strange := [name for name in names if name not in possible]:
            raise BadTask(f"Task {task.name}: {unknown(what, strange[0], possible)}")


def _check_rules(task: Declaration) -> None:
    """Attributes, contrasts and nesting fit together."""
    for what, names in (("attributes", task.attributes), ("contrasts", task.contrast_names)):
        if not names:
            raise BadTask(f"Task {task.name} has no {what}. Give at least one.")
    if not task.irrelevant:
        raise BadTask(
            f"Task {task.name} has no irrelevant attribute. Give one, or 'template': what it moves in a model is the noise level."
        )
    if shared := [name for name in task.attributes if name in task.irrelevant]:
        raise BadTask(
            f"Task {task.name}: '{shared[0]}' is both an attribute and irrelevant. Choose."
        )
    compound = [entry.name for entry in task.contrasts if isinstance(entry, Contrast) and entry.set]
    if taken := [
        name for name in compound if name in (*task.attributes, *task.irrelevant, TEMPLATE)
    ]:
        raise BadTask(
            f"Task {task.name}: the contrast '{taken[0]}' sets a position but bears the name of an attribute. Rename it."
        )
    for what, names in (
        ("attributes", task.attributes),
        ("irrelevant", task.irrelevant),
        ("contrasts", task.contrast_names),
    ):
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise BadTask(f"Task {task.name}: {what} lists '{twice[0]}' twice. List it once.")
    for name in task.within:
        seen, at = [name], name
        while at in task.within:
            at = task.within[at]
            if at in seen:
                raise BadTask(
                    f"Task {task.name}: within goes round in a circle: {' in '.join([*seen, at])}."
                )
            seen.append(at)


def _check_positions(task: Declaration) -> None:
    """A position has one name: under two it would be edited twice."""
    for position in task.positions:
        for place, template in task.texts.items():
            if position.endswith("+1") and (twin := template.next_to(position.removesuffix("+1"))):
                where = f"position {position} is {twin} in template {'/'.join(place)}"
                raise BadTask(f"Task {task.name}: {where}. A position has one name: use {twin}.")
