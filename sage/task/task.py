"""Tasks: prompts whose attributes are known because the prompts were made from them.

A task gives template families with slots, attributes (a slot, the variant of a family, or a named
function of the prompt), answers and foils, and contrasts, each a rule that turns a prompt into one
that differs in one attribute (method, section 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, product
from random import Random

from sage.errors import BadTask, unknown
from sage.task.counterfactuals import counterfactuals, moved_labels
from sage.task.declaration import END, TEMPLATE, Answer, Declaration, ValueMap
from sage.task.making import (
    DRAWS,
    allowed_prompt,
    draw_prompt,
    fill_template,
    label_of,
    read_text,
    values_of,
)
from sage.task.prompt import Contrast, Label, Pair, Prompt

__all__ = ["END", "TEMPLATE", "Answer", "Contrast", "Label", "Pair", "Prompt", "Task", "ValueMap"]

_TRIALS = 32


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
        """Every named position once: occurrences of slots, `positions`, END.

        An occurrence that closes every text is END.
        """
        template = next(iter(self.texts.values()))
        occurrences = [occurrence.name for occurrence in template.occurrences]
        names = dict.fromkeys((*occurrences, *self.positions))
        return (*(name for name in names if name not in (template.closing, END)), END)

    @cached_property
    def size(self) -> int:
        """How many prompts there are at most, before `keep`.

        Counted are choices of family, variant and slot values; values that must be distinct are
        counted as such where their slots have the same ones.
        """
        distinct = [self.slots[slot] for slot in self.distinct]
        free = [len(values) for slot, values in self.slots.items() if slot not in self.distinct]
        if distinct and all(set(values) == set(distinct[0]) for values in distinct):
            choices = math.perm(len(distinct[0]), len(distinct))
        else:
            choices = math.prod(map(len, distinct))
        return len(self.texts) * choices * math.prod(free)

    @property
    def null_contrasts(self) -> tuple[str, ...]:
        """The contrasts whose effect is noise: those of the irrelevant attributes."""
        return tuple(self.irrelevant)

    def contrast(self, name: str) -> Contrast:
        """The contrast of that name, or the plain one of an irrelevant attribute.

        UnknownName where there is neither.
        """
        for entry in self.contrasts:
            if isinstance(entry, Contrast) and entry.name == name:
                return entry
        names = (*self.contrast_names, *self.irrelevant)
        if name in names or name == TEMPLATE:
            return Contrast(name)
        raise unknown(f"contrast of task {self.name}", name, names)

    def attributes_of(self, contrast: str) -> tuple[str, ...]:
        """The attributes that a contrast names.

        They are its own, and those of a compound contrast are all whose labels change.
        """
        rule = self.contrast(contrast)
        if not rule.set:
            return (rule.name, *rule.names)
        if rule.names:
            return rule.names
        moved = set[str]()
        for pair in self.trial_pairs(contrast):
            moved |= moved_labels(pair.clean, pair.counterfactual)
        return tuple(name for name in self.attributes if name in moved)

    def changes_answer(self, contrast: str) -> bool:
        """Whether the right answer changes with the contrast (on most of a few dozen prompts)."""
        pairs = self.trial_pairs(contrast)
        changed = sum(pair.clean.answers != pair.counterfactual.answers for pair in pairs)
        return 2 * changed > len(pairs)

    def is_deterministic(self, contrast: str) -> bool:
        """Whether no prompt has two counterfactuals under the contrast.

        So it is under a map, a set position, and where there are two variants.
        """
        for pair in self.trial_pairs(contrast):
            others = self.counterfactuals(pair.clean, contrast, rng=Random(0))
            if len(list(islice(others, 2))) == 2:
                return False
        return True

    def values(self, attribute: str) -> tuple[Label, ...]:
        """Every value of an attribute, in the task's own order; UnknownName for any other name."""
        known = self._values.get(attribute)
        return values_of(self, attribute) if known is None else known

    def trial_pairs(self, contrast: str) -> Sequence[Pair]:
        """A few dozen pairs of a contrast, for what can only be known by trying."""
        return self._trial_pairs[self.contrast(contrast).name]

    # Prompts

    def make(self, family: str, variant: str, slots: Mapping[str, str]) -> Prompt:
        """The prompt with these values; nothing is refused here."""
        return fill_template(self, family, variant, slots)

    def parse(self, text: str, *, family: str | None = None) -> Prompt:
        """The one prompt of the task (or of a family) with that text.

        BadTask where there is none or more than one.
        """
        readings = read_text(self, text, family)
        if len(readings) == 1:
            return readings[0]
        where = f"in family {family} of task {self.name}" if family else f"in task {self.name}"
        raise BadTask(
            f"'{text}' has {len(readings) or 'no'} readings {where}; "
            "a labelled prompt has exactly one."
        )

    def draw(self, rng: Random) -> Prompt:
        """One prompt at random.

        Every family, variant and value is equally likely, up to `distinct` and `keep`.
        """
        prompt = draw_prompt(self, rng, {})
        if prompt is None:
            raise BadTask(
                f"Task {self.name}: {DRAWS} draws met no prompt with distinct values, "
                "answer and foil that `keep` accepts."
            )
        return prompt

    def draw_with(self, rng: Random, attribute: str, value: Label) -> Prompt | None:
        """One prompt at random where an attribute has that value.

        None where a thousand draws meet none.
        """
        if attribute in self.slots:
            return draw_prompt(self, rng, {attribute: str(value)})
        drawn = (self.draw(rng) for _ in range(DRAWS))
        return next(
            (prompt for prompt in drawn if label_of(self, prompt, attribute) == value), None
        )

    def sample(self, n: int, *, seed: int) -> list[Prompt]:
        """`n` different prompts at random; all there are where there are fewer."""
        rng = Random(f"{self.lot} sample {seed}")
        if self.size <= 4 * n:
            everything = list(self.every())
            return rng.sample(everything, min(n, len(everything)))
        by_text, repeats = dict[str, Prompt](), 0
        while len(by_text) < n and repeats < n + DRAWS:
            prompt = self.draw(rng)
            repeats += prompt.text in by_text
            by_text.setdefault(prompt.text, prompt)
        return list(by_text.values())

    def every(self) -> Iterator[Prompt]:
        """Every prompt once, in the order of the task's lists."""
        texts = set[str]()
        for family, variant in self.texts:
            for values in product(*self.slots.values()):
                slots = dict(zip(self.slots, values, strict=True))
                prompt = allowed_prompt(self, family, variant, slots)
                if prompt is not None and prompt.text not in texts:
                    texts.add(prompt.text)
                    yield prompt

    def counterfactual(self, prompt: Prompt, contrast: str, *, rng: Random) -> Prompt | None:
        """The prompt changed in the contrast and in nothing else, drawn at random.

        None where there is none.
        """
        return next(self.counterfactuals(prompt, contrast, rng=rng), None)

    def counterfactuals(self, prompt: Prompt, contrast: str, *, rng: Random) -> Iterator[Prompt]:
        """Every counterfactual of a prompt under a contrast, in random order.

        A slot is redrawn, inside its coarse value where it has one; a coarse attribute redraws the
        fine slot, or takes it where `maps` says; the variant moves inside the family and `template`
        between families, all slots equal; a contrast that sets a position is read anew. Only
        prompts in which nothing else changed come out.
        """
        return counterfactuals(self, prompt, self.contrast(contrast), rng=rng)

    @cached_property
    def _values(self) -> dict[str, tuple[Label, ...]]:
        attributes = (*self.attributes, *self.irrelevant)
        return {attribute: values_of(self, attribute) for attribute in attributes}

    @cached_property
    def _trial_pairs(self) -> dict[str, list[Pair]]:
        prompts = self.sample(_TRIALS, seed=0)
        contrasts = (*self.contrast_names, *self.null_contrasts, TEMPLATE)
        return {name: _pairs_of(self, prompts, name) for name in dict.fromkeys(contrasts)}


def _pairs_of(task: Task, prompts: Sequence[Prompt], contrast: str) -> list[Pair]:
    rng = Random(f"{task.lot} trials {contrast}")
    pairs = list[Pair]()
    for prompt in prompts:
        other = task.counterfactual(prompt, contrast, rng=rng)
        if other is not None:
            pairs.append(Pair(prompt, other, contrast))
    return pairs


def _check_by_trial(task: Task) -> None:
    """Contrasts lead somewhere, one changes the answer, and prompts have answers and foils."""
    prompt = task.draw(Random(f"{task.lot} trial"))
    if not prompt.answers or not prompt.foils:
        raise BadTask(
            f"Task {task.name}: '{prompt.text}' has answers {prompt.answers} "
            f"and foils {prompt.foils}; it needs at least one of each."
        )
    for name in (*task.contrast_names, *task.irrelevant):
        if not task.trial_pairs(name):
            kind = "irrelevant attribute" if name in task.irrelevant else "contrast"
            rest = "labels, answers and foils" if name in task.irrelevant else "labels"
            raise BadTask(
                f"Task {task.name}: {kind} '{name}' cannot change with all other {rest} equal, "
                f"in {_TRIALS} prompts. Give it more values."
            )
    if not any(task.changes_answer(name) for name in task.contrast_names):
        raise BadTask(
            f"Task {task.name}: no contrast changes the right answer "
            f"({', '.join(task.contrast_names)} tried). Add one that does."
        )
