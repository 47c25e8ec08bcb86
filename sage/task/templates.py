"""Template texts with slots: `When {IO} and {S} went to the {place}, {S} gave a {object} to`.

A slot used once gives its own name to its occurrence; a slot used more often numbers them (S1, S2).
Literal braces are doubled, as in Python's format strings. Families and variants are those of the
method, section 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import NamedTuple

from sage.errors import BadTask

Texts = dict[tuple[str, str], "Template"]


class Occurrence(NamedTuple):
    """One place where a slot stands: its name (IO, S2) and the slot."""

    name: str
    slot: str


class Rendered(NamedTuple):
    """A text and the characters of every occurrence in it."""

    text: str
    spans: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Template:
    """A text cut into literals and slots: before every slot a literal, perhaps empty, and one after
    the last."""

    literals: tuple[str, ...]
    occurrences: tuple[Occurrence, ...]

    @property
    def closing(self) -> str | None:
        """The occurrence that ends the text, where one does."""
        return self.occurrences[-1].name if self.occurrences and not self.literals[-1] else None

    def next_to(self, name: str) -> str | None:
        """The occurrence that follows this one with nothing but a space between, where one does."""
        at = [occurrence.name for occurrence in self.occurrences].index(name) + 1
        return (
            self.occurrences[at].name
            if at < len(self.occurrences) and not self.literals[at].strip()
            else None
        )

    def touching(self) -> set[str]:
        """The slots that stand against another slot without a space, as in {CC}{YY}."""
        between = zip(self.occurrences, self.literals[1:], self.occurrences[1:], strict=False)
        return {
            slot
            for left, literal, right in between
            if not literal
            for slot in (left.slot, right.slot)
        }

    def render(self, values: Mapping[str, str]) -> Rendered:
        """The text with a value in every slot."""
        text, spans = self.literals[0], dict[str, tuple[int, int]]()
        for (name, slot), literal in zip(self.occurrences, self.literals[1:], strict=True):
            start = len(text)
            text += values[slot]
            spans[name] = (start, len(text))
            text += literal
        return Rendered(text, spans)

    def readings(self, text: str, values: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
        """Every choice of slot values that renders to `text`."""
        if text.startswith(self.literals[0]):
            yield from self._read(text, values, at=len(self.literals[0]), chosen={}, step=0)

    def _read(
        self,
        text: str,
        values: Mapping[str, Sequence[str]],
        *,
        at: int,
        chosen: dict[str, str],
        step: int,
    ) -> Iterator[dict[str, str]]:
        if step == len(self.occurrences):
            if at == len(text):
                yield chosen
            return
        slot, literal = self.occurrences[step].slot, self.literals[step + 1]
        for value in (chosen[slot],) if slot in chosen else values[slot]:
            if text.startswith(value + literal, at):
                end = at + len(value) + len(literal)
                yield from self._read(
                    text, values, at=end, chosen={**chosen, slot: value}, step=step + 1
                )


def parse_template(text: str, *, where: str) -> Template:
    """The template written as `text`; `where` names it in errors."""
    literals, slots = [""], list[str]()
    try:
        for literal, slot, form, conversion in Formatter().parse(text):
            literals[-1] += literal
            if slot is not None:
                if not slot.isidentifier() or form or conversion:
                    raise BadTask(
                        f"{where}: '{{{slot}}}' is not a slot. A slot is a plain name in braces, as in '{{IO}}'."
                    )
                slots.append(slot)
                literals.append("")
    except ValueError as error:
        raise BadTask(
            f"{where}: {error}. Write slots as '{{IO}}' and double a brace that stands for itself."
        ) from error
    total, seen = Counter(slots), Counter[str]()
    occurrences = list[Occurrence]()
    for slot in slots:
        seen[slot] += 1
        occurrences.append(Occurrence(f"{slot}{seen[slot]}" if total[slot] > 1 else slot, slot))
    return Template(tuple(literals), tuple(occurrences))


def parse_families(
    task: str, templates: Mapping[str, Mapping[str, str]], slots: Mapping[str, Sequence[str]]
) -> Texts:
    """All templates of a task by (family, variant), checked against each other and the slots;
    BadTask where they disagree."""
    texts = {
        (family, variant): parse_template(text, where=f"Task {task}, template {family}/{variant}")
        for family, variants in templates.items()
        for variant, text in variants.items()
    }
    if not texts:
        raise BadTask(
            f"Task {task} has no templates. Write templates={{'family': {{'variant': 'text with {{slots}}'}}}}."
        )
    for place, template in texts.items():
        if template.literals[0][:1].isspace() or template.literals[-1][-1:].isspace():
            raise BadTask(
                f"Task {task}: template {'/'.join(place)} begins or ends with a space. The space before an answer is its own: drop it."
            )
    _check_slots(task, texts, slots)
    first, *others = templates
    for family in others:
        if set(templates[family]) != set(templates[first]):
            raise BadTask(
                f"Task {task}: family '{family}' has the variants {', '.join(templates[family])}, family '{first}' has "
                f"{', '.join(templates[first])}. Give every family the same variants."
            )
    used = {
        place: Counter(occurrence.slot for occurrence in template.occurrences)
        for place, template in texts.items()
    }
    (standard, expected), *rest = used.items()
    for place, found in rest:
        if found != expected:
            raise BadTask(
                f"Task {task}: template {'/'.join(place)} uses {_listed(found)}, template {'/'.join(standard)} uses {_listed(expected)}. "
                "Use the same slots equally often in all templates, so that every position exists in every prompt."
            )
    _check_closing(task, texts)
    return texts


def _check_slots(task: str, texts: Texts, slots: Mapping[str, Sequence[str]]) -> None:
    for place, template in texts.items():
        for _, slot in template.occurrences:
            if slot not in slots:
                raise BadTask(
                    f"Task {task}: template {'/'.join(place)} uses the slot '{slot}'. Slots with values: {', '.join(slots)}."
                )
    used = {occurrence.slot for template in texts.values() for occurrence in template.occurrences}
    for slot, values in slots.items():
        if slot not in used:
            raise BadTask(
                f"Task {task}: no template uses the slot '{slot}'. Used: {', '.join(sorted(used))}."
            )
        if isinstance(values, str) or not values or not all(values):
            raise BadTask(
                f"Task {task}: slot '{slot}' needs a list of values that are not empty; it has {values!r}."
            )
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise BadTask(
                f"Task {task}: slot '{slot}' lists {', '.join(map(repr, twice))} more than once. List each value once."
            )
    names = Counter(occurrence.name for occurrence in next(iter(texts.values())).occurrences)
    if clash := [name for name, count in names.items() if count > 1 or name == "END"]:
        raise BadTask(
            f"Task {task}: '{clash[0]}' would name two positions. Occurrences of a slot S are S1, S2, ...; rename a slot."
        )


def _check_closing(task: str, texts: Texts) -> None:
    """A position under two names would be edited twice: what closes one text must close all of
    them."""
    closing = {place: template.closing for place, template in texts.items()}
    if len(set(closing.values())) > 1:
        ends = "; ".join(
            f"{'/'.join(place)} ends in {f'slot {name}' if name else 'a word'}"
            for place, name in closing.items()
        )
        raise BadTask(
            f"Task {task}: {ends}. END would be another position's twin in some prompts: add a last word to those texts."
        )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(
        f"{slot} x {count}" if count > 1 else slot for slot, count in sorted(counts.items())
    )
