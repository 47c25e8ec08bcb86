"""Tasks: prompts whose attributes are known because the prompts were made from them.

A task gives template families with slots, attributes (a slot, the variant of a family, or a named
function of the prompt), answers and foils, and contrasts, each a rule that turns a prompt into one
that differs in one attribute (method, section 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product
from random import Random

from sage.errors import BadTask, unknown
from sage.task.declaration import END, TEMPLATE, Answer, Declaration, ValueMap
from sage.task.prompt import Contrast, Label, Pair, Prompt

__all__ = ["END", "TEMPLATE", "Answer", "Contrast", "Label", "Pair", "Prompt", "Task", "ValueMap"]

_TRIALS = 32
_PATIENCE = 1000


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(Declaration):
    """A behaviour with known attributes: draws prompts and their counterfactuals.

    The fields are those of Declaration. Checked as a whole when it is made, by trying its contrasts
    too (BadTask).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_by_trial(self)

    # What there is

    @cached_property
    def position_names(self) -> tuple[str, ...]:
        """Every named position once: occurrences of slots, `positions`, END. An occurrence that
        closes every text is END."""
        first = next(iter(self.texts.values()))
        names = dict.fromkeys(
            (*(occurrence.name for occurrence in first.occurrences), *self.positions)
        )
        return (*(name for name in names if name not in (first.closing, END)), END)

    @cached_property
    def size(self) -> int:
        """How many prompts there are at most: choices of family, variant and slot values, before
        `keep`."""
        pools = [self.slots[slot] for slot in self.distinct]
        same = all(set(pool) == set(pools[0]) for pool in pools)
        choices = (
            math.perm(len(pools[0]), len(pools)) if pools and same else math.prod(map(len, pools))
        )
        return (
            len(self.texts)
            * choices
            * math.prod(
                len(values) for slot, values in self.slots.items() if slot not in self.distinct
            )
        )

    @property
    def null_names(self) -> tuple[str, ...]:
        """The contrasts whose effect is noise: those of the irrelevant attributes."""
        return tuple(self.irrelevant)

    def contrast(self, name: str) -> Contrast:
        """The contrast of that name, or the plain one of an irrelevant attribute; UnknownName
        otherwise."""
        for entry in self.contrasts:
            if isinstance(entry, Contrast) and entry.name == name:
                return entry
        if name in self.contrast_names or name in self.irrelevant or name == TEMPLATE:
            return Contrast(name)
        raise unknown(
            f"contrast of task {self.name}", name, (*self.contrast_names, *self.irrelevant)
        )

    def named(self, contrast: str) -> tuple[str, ...]:
        """The attributes that a contrast names: its own, and for a compound one all whose labels
        change."""
        rule = self.contrast(contrast)
        if not rule.set:
            return (rule.name, *rule.names)
        moved = {
            name
            for pair in self.tried(contrast)
            for name in _moved(pair.clean, pair.counterfactual)
        }
        return rule.names or tuple(name for name in self.attributes if name in moved)

    def changes_answer(self, contrast: str) -> bool:
        """Whether the right answer changes with the contrast (on most of a few dozen prompts
        tried)."""
        changed = [
            pair.clean.answers != pair.counterfactual.answers for pair in self.tried(contrast)
        ]
        return 2 * sum(changed) > len(changed)

    def is_deterministic(self, contrast: str) -> bool:
        """Whether no prompt has two counterfactuals under the contrast (a map, a set position, one
        of two variants)."""
        found = (
            self.counterfactuals(pair.clean, contrast, rng=Random(0))
            for pair in self.tried(contrast)
        )
        return all(len(list(islice(others, 2))) < 2 for others in found)

    def values(self, attribute: str) -> tuple[Label, ...]:
        """Every value of an attribute, in the task's own order; those of a function are found by
        trying every slot value."""
        if attribute not in self._values:
            self._values[attribute] = self._find_values(attribute)
        return self._values[attribute]

    def tried(self, contrast: str) -> list[Pair]:
        """A few dozen pairs of a contrast, for what can only be known by trying."""
        if contrast not in self._trials:
            rng = Random(f"{self.name} trials {contrast}")
            found = (
                (prompt, self.counterfactual(prompt, contrast, rng=rng))
                for prompt in self.sample(_TRIALS, seed=0)
            )
            self._trials[contrast] = [
                Pair(prompt, other, contrast) for prompt, other in found if other is not None
            ]
        return self._trials[contrast]

    def label(self, prompt: Prompt, name: str) -> Label:
        """The value of a slot, the variant, `template` or a function on a prompt, whether it is an
        attribute or not."""
        if name in prompt.labels:
            return prompt.labels[name]
        if name in self.functions:
            return self.functions[name](prompt)
        return {self.variant: prompt.variant, TEMPLATE: prompt.family, **prompt.slots}[name]

    # Prompts

    def make(self, family: str, variant: str, slots: Mapping[str, str]) -> Prompt:
        """The prompt with these values; nothing is refused here."""
        text, spans = self.texts[family, variant].render(slots)
        labels = dict[str, Label]()
        prompt = Prompt(text, family, variant, dict(slots), labels, spans, (), ())
        for name in (*self.attributes, *self.irrelevant):
            labels[name] = self.label(prompt, name)
        stratum = (
            self.strata(prompt)
            if callable(self.strata)
            else ""
            if self.strata is None
            else str(self.label(prompt, self.strata))
        )
        answers, foils = (
            self._continuations(prompt, self.answer),
            self._continuations(prompt, self.foil),
        )
        return replace(prompt, answers=answers, foils=foils, stratum=stratum)

    def parse(self, text: str, *, family: str | None = None) -> Prompt:
        """The one prompt of the task (or of a family) with that text; BadTask where there is none
        or more than one."""
        found = self._readings(text, family)
        if len(found) == 1:
            return found[0]
        where = f"in family {family} of task {self.name}" if family else f"in task {self.name}"
        raise BadTask(
            f"'{text}' has {len(found) or 'no'} readings {where}; a labelled prompt has exactly one."
        )

    def draw(self, rng: Random) -> Prompt:
        """One prompt at random: every family, variant and value is equally likely, up to `distinct`
        and `keep`."""
        prompt = self._try(rng, {})
        if prompt is None:
            raise BadTask(
                f"Task {self.name}: {_PATIENCE} draws met no prompt with distinct values, answer and foil that `keep` accepts."
            )
        return prompt

    def draw_with(self, rng: Random, attribute: str, value: Label) -> Prompt | None:
        """One prompt at random where an attribute has that value; None where a thousand draws meet
        none."""
        if attribute in self.slots:
            return self._try(rng, {attribute: str(value)})
        drawn = (self.draw(rng) for _ in range(_PATIENCE))
        return next((prompt for prompt in drawn if self.label(prompt, attribute) == value), None)

    def sample(self, n: int, *, seed: int) -> list[Prompt]:
        """`n` different prompts at random; all there are where there are fewer."""
        rng = Random(f"{self.name} sample {seed}")
        if self.size <= 4 * n:
            everything = list(self.every())
            return rng.sample(everything, min(n, len(everything)))
        found, repeats = dict[str, Prompt](), 0
        while len(found) < n and repeats < n + _PATIENCE:
            prompt = self.draw(rng)
            repeats += prompt.text in found
            found.setdefault(prompt.text, prompt)
        return list(found.values())

    def every(self) -> Iterator[Prompt]:
        """Every prompt once, in the order of the task's lists."""
        seen = set[str]()
        for family, variant in self.texts:
            for values in product(*self.slots.values()):
                prompt = self._accept(family, variant, dict(zip(self.slots, values, strict=True)))
                if prompt is not None and prompt.text not in seen:
                    seen.add(prompt.text)
                    yield prompt

    def counterfactual(self, prompt: Prompt, contrast: str, *, rng: Random) -> Prompt | None:
        """The prompt changed in the contrast and in nothing else, drawn at random; None where there
        is none."""
        return next(self.counterfactuals(prompt, contrast, rng=rng), None)

    def counterfactuals(self, prompt: Prompt, contrast: str, *, rng: Random) -> Iterator[Prompt]:
        """Every counterfactual of a prompt under a contrast, in random order.

        A slot is redrawn, inside its coarse value where it has one; a coarse attribute redraws the
        fine slot, or takes it where `maps` says; the variant moves inside the family and `template`
        between families, all slots equal; a contrast that sets a position is read anew. Only
        prompts in which nothing else changed come out.
        """
        rule = self.contrast(contrast)
        for other in self._changed(prompt, rule, rng):
            if (
                other is not None
                and other.text != prompt.text
                and self._changes_only(rule, prompt, other)
            ):
                yield other

    # How they are made

    def _changed(self, prompt: Prompt, rule: Contrast, rng: Random) -> Iterator[Prompt | None]:
        if rule.set:
            found = self._readings(self._with_set(prompt, rule), prompt.family)
            yield found[0] if len(found) == 1 else None
        elif rule.name in (self.variant, TEMPLATE):
            here = (prompt.family, prompt.variant)
            fixed = 0 if rule.name == self.variant else 1
            places = [
                place for place in self.texts if place != here and place[fixed] == here[fixed]
            ]
            for family, variant in rng.sample(places, len(places)):
                yield self._accept(family, variant, prompt.slots)
        else:
            moves = [
                (slot, value)
                for slot in self._slots_of(rule.name)
                for value in self._targets(rule.name, slot, prompt.slots[slot])
            ]
            for slot, value in rng.sample(moves, len(moves)):
                yield self._accept(prompt.family, prompt.variant, {**prompt.slots, slot: value})

    def _changes_only(self, rule: Contrast, clean: Prompt, other: Prompt) -> bool:
        """Whether the labels that differ are those the contrast may move: its own, finer ones
        inside it, functions of it."""
        moved = _moved(clean, other)
        if rule.set:
            return bool(moved) and (
                moved == set(rule.names) if rule.names else moved <= set(self.attributes)
            )
        if rule.name in self.irrelevant and (
            moved & set(self.attributes)
            or clean.answers != other.answers
            or clean.foils != other.foils
        ):
            return False
        if not self._differs(clean, other, rule.name) or any(
            self._differs(clean, other, coarse) for coarse in self._around(rule.name)
        ):
            return False
        inside = {name for name in self.within if rule.name in self._around(name)}
        return moved <= {rule.name, *rule.names, *inside, *self.functions}

    def _differs(self, clean: Prompt, other: Prompt, name: str) -> bool:
        return self.label(clean, name) != self.label(other, name)

    def _around(self, name: str) -> tuple[str, ...]:
        """The coarser attributes that contain an attribute, the nearest first."""
        return (self.within[name], *self._around(self.within[name])) if name in self.within else ()

    def _slots_of(self, name: str) -> tuple[str, ...]:
        """The slots whose change can change an attribute: itself, else the slots inside it, else
        any."""
        if name in self.slots:
            return (name,)
        return tuple(slot for slot in self.slots if name in self._around(slot)) or tuple(self.slots)

    def _targets(self, contrast: str, slot: str, value: str) -> Sequence[str]:
        if contrast not in self.maps:
            return [other for other in self.slots[slot] if other != value]
        mapped = self.maps[contrast]
        target = mapped(value) if callable(mapped) else mapped.get(value)
        return [other for other in self.slots[slot] if other == target]

    def _with_set(self, prompt: Prompt, rule: Contrast) -> str:
        text = prompt.text
        for occurrence, origin in sorted(
            rule.set.items(), key=lambda entry: prompt.spans[entry[0]], reverse=True
        ):
            start, end = prompt.spans[occurrence]
            text = text[:start] + prompt.slots[origin] + text[end:]
        return text

    def _readings(self, text: str, family: str | None) -> list[Prompt]:
        places = [place for place in self.texts if family in (None, place[0])]
        read = [
            self._accept(*place, slots)
            for place in places
            for slots in self.texts[place].readings(text, self.slots)
        ]
        return [prompt for prompt in read if prompt is not None]

    def _try(self, rng: Random, fixed: Mapping[str, str]) -> Prompt | None:
        places = list(self.texts)
        for _ in range(_PATIENCE):
            family, variant = rng.choice(places)
            slots = {
                slot: fixed[slot] if slot in fixed else rng.choice(values)
                for slot, values in self.slots.items()
            }
            if (prompt := self._accept(family, variant, slots)) is not None:
                return prompt
        return None

    def _accept(self, family: str, variant: str, slots: Mapping[str, str]) -> Prompt | None:
        """The prompt, unless values that must be distinct are equal, an answer is also a foil, or
        `keep` refuses it."""
        if len({slots[slot] for slot in self.distinct}) < len(self.distinct):
            return None
        prompt = self.make(family, variant, slots)
        clash = set(prompt.answers) & set(prompt.foils)
        return None if clash or (self.keep is not None and not self.keep(prompt)) else prompt

    def _continuations(self, prompt: Prompt, answer: Answer) -> tuple[str, ...]:
        given = prompt.slots[answer] if isinstance(answer, str) else answer(prompt)
        texts = (given,) if isinstance(given, str) else tuple(given)
        return tuple(self.before_answer + text.removeprefix(self.before_answer) for text in texts)

    def _find_values(self, attribute: str) -> tuple[Label, ...]:
        if attribute in self.slots:
            return tuple(self.slots[attribute])
        if attribute in (self.variant, TEMPLATE):
            return tuple(dict.fromkeys(place[attribute != TEMPLATE] for place in self.texts))
        if attribute not in self.functions:
            raise unknown(
                f"attribute of task {self.name}",
                attribute,
                (*self.attributes, *self.irrelevant, TEMPLATE),
            )
        rng = Random(f"{self.name} values")
        tried = [
            self._try(rng, {slot: value})
            for slot in self._slots_of(attribute)
            for value in self.slots[slot]
        ]
        return tuple(
            dict.fromkeys(self.label(prompt, attribute) for prompt in tried if prompt is not None)
        )

    @cached_property
    def _values(self) -> dict[str, tuple[Label, ...]]:
        return {}

    @cached_property
    def _trials(self) -> dict[str, list[Pair]]:
        return {}


def _moved(clean: Prompt, other: Prompt) -> set[str]:
    return {name for name, label in clean.labels.items() if other.labels[name] != label}


def _check_by_trial(task: Task) -> None:
    """Contrasts lead somewhere, one of them changes the answer, and every prompt has answers and
    foils."""
    prompt = task.draw(Random(f"{task.name} trial"))
    if not prompt.answers or not prompt.foils:
        have = f"answers {prompt.answers} and foils {prompt.foils}"
        raise BadTask(
            f"Task {task.name}: '{prompt.text}' has {have}; it needs at least one of each."
        )
    for name in (*task.contrast_names, *task.irrelevant):
        if not task.tried(name):
            kind = "irrelevant attribute" if name in task.irrelevant else "contrast"
            rest = "labels, answers and foils" if name in task.irrelevant else "labels"
            raise BadTask(
                f"Task {task.name}: {kind} '{name}' cannot change with all other {rest} equal, in {_TRIALS} prompts. Give it more values."
            )
    if not any(task.changes_answer(name) for name in task.contrast_names):
        tried = ", ".join(task.contrast_names)
        raise BadTask(
            f"Task {task.name}: no contrast changes the right answer ({tried} tried). Add one that does."
        )
