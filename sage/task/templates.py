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
    """A text cut into literals and slots.

    Before every slot stands a literal, perhaps empty, and one after the last.
    """

    literals: tuple[str, ...]
    occurrences: tuple[Occurrence, ...]

    @property
    def closing(self) -> str | None:
        """The occurrence that ends the text, where one does."""
        return self.occurrences[-1].name if self.occurrences and not self.literals[-1] else None

    def next_to(self, name: str) -> str | None:
        """The occurrence that follows this one with at most a space between, where one does."""
        following = [occurrence.name for occurrence in self.occurrences].index(name) + 1
        if following == len(self.occurrences) or self.literals[following].strip():
            return None
        return self.occurrences[following].name

    def touching(self) -> set[str]:
        """The slots that stand against another slot without a space, as in {CC}{YY}."""
        slots = set[str]()
        between = zip(self.occurrences, self.literals[1:], self.occurrences[1:], strict=False)
        for left, literal, right in between:
            if not literal:
                slots |= {left.slot, right.slot}
        return slots

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
            yield from self._read_on(text[len(self.literals[0]) :], values, chosen={}, done=0)

    def _read_on(
        self, rest: str, values: Mapping[str, Sequence[str]], *, chosen: dict[str, str], done: int
    ) -> Iterator[dict[str, str]]:
        """Choices for all slots, where `done` occurrences are read and `rest` is still to be."""
        if done == len(self.occurrences):
            if not rest:
                yield chosen
            return
        slot, literal = self.occurrences[done].slot, self.literals[done + 1]
        for value in (chosen[slot],) if slot in chosen else values[slot]:
            if rest.startswith(value + literal):
                after = rest[len(value) + len(literal) :]
                yield from self._read_on(
                    after, values, chosen={**chosen, slot: value}, done=done + 1
                )


def parse_template(text: str, *, where: str) -> Template:
    """The template written as `text`; `where` names it in errors (BadTask)."""
    literals, slots = [""], list[str]()
    try:
        for literal, slot, format_spec, conversion in Formatter().parse(text):
            literals[-1] += literal
            if slot is not None:
                if not slot.isidentifier() or format_spec or conversion:
                    raise BadTask(
                        f"{where}: '{{{slot}}}' is not a slot. "
                        "A slot is a plain name in braces, as in '{IO}'."
                    )
                slots.append(slot)
                literals.append("")
    except ValueError as error:
        raise BadTask(
            f"{where}: {error}. Write slots as '{{IO}}' and double a brace that stands for itself."
        ) from error
    return Template(tuple(literals), _occurrences(slots))


def parse_families(
    task: str, templates: Mapping[str, Mapping[str, str]], slots: Mapping[str, Sequence[str]]
) -> Texts:
    """All templates of a task by (family, variant).

    BadTask where they disagree with each other or with the slots.
    """
    texts: Texts = {}
    for family, variants in templates.items():
        for variant, text in variants.items():
            where = f"Task {task}, template {family}/{variant}"
            texts[family, variant] = parse_template(text, where=where)
    if not texts:
        raise BadTask(
            f"Task {task} has no templates. "
            "Write templates={'family': {'variant': 'text with {slots}'}}."
        )
    _check_spaces(task, texts)
    _check_slots(task, texts, slots)
    _check_positions(task, texts)
    _check_variants(task, templates)
    _check_equal_use(task, texts)
    _check_closing(task, texts)
    return texts


def _occurrences(slots: Sequence[str]) -> tuple[Occurrence, ...]:
    total, so_far = Counter(slots), Counter[str]()
    occurrences = list[Occurrence]()
    for slot in slots:
        so_far[slot] += 1
        occurrences.append(Occurrence(f"{slot}{so_far[slot]}" if total[slot] > 1 else slot, slot))
    return tuple(occurrences)


def _check_spaces(task: str, texts: Texts) -> None:
    for key, template in texts.items():
        if template.literals[0][:1].isspace() or template.literals[-1][-1:].isspace():
            raise BadTask(
                f"Task {task}: template {'/'.join(key)} begins or ends with a space. "
                "The space before an answer is its own: drop it."
            )


def _check_slots(task: str, texts: Texts, slots: Mapping[str, Sequence[str]]) -> None:
    """Every slot that a text uses has values, and every slot with values is used."""
    used = set[str]()
    for key, template in texts.items():
        for _, slot in template.occurrences:
            if slot not in slots:
                raise BadTask(
                    f"Task {task}: template {'/'.join(key)} uses the slot '{slot}'. "
                    f"Slots with values: {', '.join(slots)}."
                )
            used.add(slot)
    for slot, values in slots.items():
        if slot not in used:
            raise BadTask(
                f"Task {task}: no template uses the slot '{slot}'. Used: {', '.join(sorted(used))}."
            )
        if isinstance(values, str) or not values or not all(values):
            raise BadTask(
                f"Task {task}: slot '{slot}' needs a list of values that are not empty; "
                f"it has {values!r}."
            )
        repeated = [value for value, count in Counter(values).items() if count > 1]
        if repeated:
            raise BadTask(
                f"Task {task}: slot '{slot}' lists {', '.join(map(repr, repeated))} more than once."
                " List each value once."
            )


def _check_positions(task: str, texts: Texts) -> None:
    names = Counter(occurrence.name for occurrence in next(iter(texts.values())).occurrences)
    if clash := [name for name, count in names.items() if count > 1 or name == "END"]:
        raise BadTask(
            f"Task {task}: '{clash[0]}' would name two positions. "
            "Occurrences of a slot S are S1, S2, ...; rename a slot."
        )


def _check_variants(task: str, templates: Mapping[str, Mapping[str, str]]) -> None:
    first, *others = templates
    for family in others:
        if set(templates[family]) != set(templates[first]):
            raise BadTask(
                f"Task {task}: family '{family}' has the variants {', '.join(templates[family])}, "
                f"family '{first}' has {', '.join(templates[first])}. "
                "Give every family the same variants."
            )


def _check_equal_use(task: str, texts: Texts) -> None:
    standard, *others = texts
    expected = _slot_counts(texts[standard])
    for key in others:
        counts = _slot_counts(texts[key])
        if counts != expected:
            raise BadTask(
                f"Task {task}: template {'/'.join(key)} uses {_listed(counts)}, "
                f"template {'/'.join(standard)} uses {_listed(expected)}. Use the same slots "
                "equally often in all templates, so that every position exists in every prompt."
            )


def _check_closing(task: str, texts: Texts) -> None:
    """What closes one text closes all of them: a position under two names is edited twice."""
    if len({template.closing for template in texts.values()}) > 1:
        endings = list[str]()
        for key, template in texts.items():
            ending = f"slot {template.closing}" if template.closing else "a word"
            endings.append(f"{'/'.join(key)} ends in {ending}")
        raise BadTask(
            f"Task {task}: {'; '.join(endings)}. END would be another position's twin "
            "in some prompts: add a last word to those texts."
        )


def _slot_counts(template: Template) -> Counter[str]:
    return Counter(occurrence.slot for occurrence in template.occurrences)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(
        f"{slot} x {count}" if count > 1 else slot for slot, count in sorted(counts.items())
    )
