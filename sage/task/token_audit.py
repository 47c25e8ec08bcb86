"""What of a task a tokenizer can carry: values that are single tokens, prompts that split well.

Values are filtered in the form in which they stand in the text, whole prompts where splitting
depends on neighbours (method, section 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import NamedTuple

from sage.errors import BadTask
from sage.task.task import Prompt, Task
from sage.task.tokens import FastTokenizer, Tokenized, continuation, encode, tokenize

_DRAWS = 30
_PAIRS = 100

Pool = Mapping[str, Sequence[str]]
Reasons = dict[str, str]


class Unequal(NamedTuple):
    """Pairs of a contrast whose two prompts have different numbers of tokens, among those tried."""

    unequal: int
    tried: int


@dataclass(frozen=True)
class TokenAudit:
    """A task on one tokenizer.

    `task` has the usable values only and refuses prompts that split otherwise.
    `dropped[slot][value]` and `families[family]` say why; `refused[why]` counts prompts among
    `tried` that have usable values and still do not split as they should. In `example`, a named
    position falls on the token `positions` gives. `declared` is the task that was narrowed: the one
    asked for, or what it asks otherwise; `notes` say so, and which nulls were left out.
    """

    task: Task
    dropped: Mapping[str, Mapping[str, str]]
    families: Mapping[str, str]
    refused: Mapping[str, int]
    tried: int
    unequal: Mapping[str, Unequal]
    example: Tokenized
    positions: Mapping[str, str]
    declared: Task
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> dict[str, tuple[str, ...]]:
        """The usable values of every slot."""
        return {slot: tuple(values) for slot, values in self.task.slots.items()}


def audit(
    task: Task,
    tokenizer: FastTokenizer,
    *,
    bos: bool,
    prompts: int = 200,
    required: Collection[str] = (),
) -> TokenAudit:
    """The task restricted to what the tokenizer can carry, and what was left out.

    Answers, foils and all slots but irrelevant ones and `multi_token` must be one token; slots that
    touch are judged by whole prompts. An irrelevant attribute with one value left is no null and is
    left out, with a note. A tokenizer that cannot carry the task is tried on its `otherwise`, where
    it has one. Raises BadTask where fewer than two values of an attribute's slot remain (none of
    another's), no irrelevant attribute does, or one of `required` is dropped.
    """
    try:
        return _audit(task, tokenizer, bos=bos, prompts=prompts, required=required)
    except BadTask as error:
        if not isinstance(task.otherwise, Task):
            raise
        other = audit(task.otherwise, tokenizer, bos=bos, prompts=prompts, required=required)
        why = str(error).partition(". ")[0].removeprefix(f"Task {task.name}: ")
        return replace(other, notes=(f"asked otherwise: {why}", *other.notes))


def _audit(
    task: Task,
    tokenizer: FastTokenizer,
    *,
    bos: bool,
    prompts: int,
    required: Collection[str],
) -> TokenAudit:
    """The audit of this very task."""
    declared = task
    dropped, families = _unfit(task, tokenizer, required)
    task, notes = _without_constants(task, dropped)
    templates = {name: texts for name, texts in task.templates.items() if name not in families}
    narrowed = replace(task, slots=_undropped(task.slots, dropped), templates=templates)
    sampled = narrowed.sample(prompts, seed=0)
    problems = [_problem(task, prompt, tokenizer) for prompt in sampled]
    refused = Counter(filter(None, problems))
    if refused.total() == len(sampled):
        raise BadTask(
            f"Task {task.name}: {_called(tokenizer)} splits none of {len(sampled)} prompts "
            f"as it should. {next(iter(refused))}."
        )
    usable = replace(narrowed, keep=_keep(task, tokenizer))
    example, positions = _example(usable, tokenizer, bos)
    contrasts = (*usable.contrast_names, *usable.irrelevant)
    return TokenAudit(
        task=usable,
        dropped={slot: reasons for slot, reasons in dropped.items() if reasons},
        families=families,
        refused=dict(refused),
        tried=len(sampled),
        unequal={contrast: _unequal(usable, contrast, tokenizer) for contrast in contrasts},
        example=example,
        positions=positions,
        declared=declared,
        notes=notes,
    )


def _without_constants(task: Task, dropped: Mapping[str, Reasons]) -> tuple[Task, tuple[str, ...]]:
    """The task without irrelevant attributes whose slot has one value left, and a note of each."""
    pool = _undropped(task.slots, dropped)
    constant = [name for name in task.irrelevant if len(pool.get(name, (1, 2))) < 2]
    if not constant:
        return task, ()
    irrelevant = tuple(name for name in task.irrelevant if name not in constant)
    if not irrelevant:
        raise BadTask(
            f"Task {task.name}: no irrelevant attribute has two values left: "
            f"{', '.join(constant)}. Give one more values that are one token."
        )
    notes = tuple(f"{name} has one value left and is no null" for name in constant)
    return replace(task, irrelevant=irrelevant), notes


def split_values(task: Task, tokenizer: FastTokenizer) -> dict[str, Reasons]:
    """The values that are not one token where they stand, by slot, with the tokens they are: what
    can be said even of a task that has too few others."""
    return {slot: _split_values(task, slot, tokenizer) for slot in task.slots}


def _keep(task: Task, tokenizer: FastTokenizer) -> Callable[[Prompt], bool]:
    """Whether a prompt is one that the task keeps and that splits as it should."""
    return lambda prompt: (
        (task.keep is None or task.keep(prompt)) and not _problem(task, prompt, tokenizer)
    )


def _unfit(
    task: Task, tokenizer: FastTokenizer, required: Collection[str]
) -> tuple[dict[str, Reasons], Reasons]:
    """Why values are dropped, by slot, and why template families are."""
    dropped = {slot: _split_values(task, slot, tokenizer) for slot in task.slots}
    pool = _undropped(task.slots, dropped)
    _check_pool(task, pool, dropped, tokenizer)
    families = _unfit_families(task, tokenizer, pool)
    for slot in task.slots:
        dropped[slot] |= _unfit_values(task, tokenizer, pool, slot, families)
        pool = _undropped(task.slots, dropped)
        _check_pool(task, pool, dropped, tokenizer, required)
    return dropped, families


def _split_values(task: Task, slot: str, tokenizer: FastTokenizer) -> Reasons:
    """The values of a slot that are not one token in some template, with the tokens they are."""
    if slot not in task.single_token:
        return {}
    reasons: Reasons = {}
    others = {name: values[0] for name, values in task.slots.items()}
    for value in task.slots[slot]:
        for template in task.texts.values():
            text, spans = template.render({**others, slot: value})
            for occurrence in template.occurrences:
                if occurrence.slot != slot:
                    continue
                tokens = _unless_one_token(text, spans[occurrence.name], tokenizer)
                if tokens:
                    reasons[value] = f"{slot} '{value}' is {tokens}"
    return reasons


def _unless_one_token(text: str, span: tuple[int, int], tokenizer: FastTokenizer) -> str:
    """The tokens that a slot's characters are; nothing where they are one known token."""
    tokens = encode(text, tokenizer)
    first, last = tokens.covering(span)
    if any(first <= at <= last for at in tokens.unknown):
        return "not in the vocabulary"
    if first == last:
        return ""
    return " + ".join(f"'{text[slice(*token)]}'" for token in tokens.spans[first : last + 1])


def unknown_words(task: Task, tokenizer: FastTokenizer) -> Reasons:
    """The words of every template that are not in the vocabulary, and the values of slots that may
    have several tokens, by `template NAME` and `slot VALUE`."""
    values = {slot: choices[0] for slot, choices in task.slots.items()}
    unknown: Reasons = {}
    for key in task.texts:
        prompt = task.make(*key, values)
        tokens = encode(prompt.text, tokenizer)
        spans = [tokens.spans[place] for place in tokens.unknown]
        words = dict.fromkeys(
            prompt.text[slice(*span)].strip()
            for span in spans
            if not any(start < span[1] and span[0] < end for start, end in prompt.spans.values())
        )
        if words:
            told = ", ".join(f"'{word}'" for word in words)
            unknown[f"template {'/'.join(key)}"] = f"not in the vocabulary: {told}"
    for slot in (slot for slot in task.slots if slot not in task.single_token):
        for value in task.slots[slot]:
            if encode(f" {value}", tokenizer).unknown:
                unknown[f"{slot} {value}"] = "not in the vocabulary"
    return unknown


def _unfit_families(task: Task, tokenizer: FastTokenizer, pool: Pool) -> Reasons:
    """The template families none of whose prompts split as they should; BadTask if all are."""
    reasons = {
        family: _why_none_splits(task, tokenizer, pool, family=family) for family in task.templates
    }
    unfit = {family: why for family, why in reasons.items() if why}
    if len(unfit) == len(task.templates) > 0:
        raise BadTask(
            f"Task {task.name}: no template suits {_called(tokenizer)}. "
            f"{next(iter(unfit.values()))}."
        )
    return unfit


def _unfit_values(
    task: Task, tokenizer: FastTokenizer, pool: Pool, slot: str, unfit_families: Collection[str]
) -> Reasons:
    """The values of a slot none of whose prompts split as they should."""
    reasons: Reasons = {}
    for value in pool[slot]:
        why = _why_none_splits(
            task, tokenizer, pool, fixed={slot: value}, unfit_families=unfit_families
        )
        if why:
            reasons[value] = why
    return reasons


def _why_none_splits(
    task: Task,
    tokenizer: FastTokenizer,
    pool: Pool,
    *,
    family: str = "",
    fixed: Mapping[str, str] | None = None,
    unfit_families: Collection[str] = (),
) -> str:
    """What is most often wrong with random prompts of a family, or with a slot fixed.

    Nothing where one of them splits as it should.
    """
    rng = Random(f"{task.lot} {family} {fixed}")
    keys = [key for key in task.texts if key[0] not in unfit_families and family in ("", key[0])]
    problems = Counter[str]()
    for _ in range(_DRAWS):
        values = {slot: rng.choice(choices) for slot, choices in pool.items()} | dict(fixed or {})
        problem = _problem(task, task.make(*rng.choice(keys), values), tokenizer)
        if not problem:
            return ""
        problems[problem] += 1
    return problems.most_common(1)[0][0]


def _problem(task: Task, prompt: Prompt, tokenizer: FastTokenizer) -> str:
    """What keeps a prompt from being read; nothing where it can be.

    An unknown word, a slot that shares a token or has two, or an answer of two tokens.
    """
    tokens = encode(prompt.text, tokenizer)
    if tokens.unknown:
        word = prompt.text[slice(*tokens.spans[tokens.unknown[0]])]
        return f"'{word.strip()}' is not in the vocabulary"
    for name, (start, end) in prompt.spans.items():
        first, last = tokens.covering((start, end))
        slot = task.slot_of.get(name, name)
        if tokens.spans[last][1] > end or prompt.text[tokens.spans[first][0] : start].strip():
            return f"{slot} shares a token with its neighbour"
        if first != last and slot in task.single_token:
            return f"{slot} is more than one token"
    for answer in (*prompt.answers, *prompt.foils):
        if continuation(prompt.text, answer, tokenizer) is None:
            return f"the answer '{answer}' is not one token"
    return ""


def _undropped(slots: Pool, dropped: Mapping[str, Reasons]) -> dict[str, tuple[str, ...]]:
    pool: dict[str, tuple[str, ...]] = {}
    for slot, values in slots.items():
        pool[slot] = tuple(value for value in values if value not in dropped[slot])
    return pool


def _check_pool(
    task: Task,
    pool: Pool,
    dropped: Mapping[str, Reasons],
    tokenizer: FastTokenizer,
    required: Collection[str] = (),
) -> None:
    """Every slot has values enough, and all that are required."""
    for slot, values in pool.items():
        needed = 2 if slot in task.attributes else 1
        reasons = dropped[slot]
        if len(values) < needed:
            raise BadTask(
                f"Task {task.name}: {_called(tokenizer)} leaves slot '{slot}' too few values "
                f"({needed} needed). Kept: {', '.join(values) or 'none'}. "
                f"Dropped: {'; '.join(reasons.values())}. Give it more that are one token."
            )
        if lost := [value for value in required if value in reasons]:
            raise BadTask(
                f"Task {task.name}: the value '{lost[0]}' cannot be used with "
                f"{_called(tokenizer)}: {reasons[lost[0]]}."
            )


def _example(task: Task, tokenizer: FastTokenizer, bos: bool) -> tuple[Tokenized, dict[str, str]]:
    """An example prompt and the token at each of its positions.

    BadTask where two positions are one in some prompt.
    """
    examples = [tokenize(prompt, tokenizer, bos=bos) for prompt in task.sample(_DRAWS, seed=0)]
    for prompt in examples:
        _check_one_name(task, prompt)
    example, text = examples[0], examples[0].prompt.text
    tokens = [text[slice(*span)] for span in encode(text, tokenizer).spans]
    if bos:
        tokens.insert(0, "BOS")
    names = [name for name in task.position_names if name in example.index]
    return example, {name: tokens[example.index[name]] for name in names}


def _check_one_name(task: Task, prompt: Tokenized) -> None:
    names = [name for name in task.position_names if name in prompt.index]
    for first, second in combinations(names, 2):
        if prompt.index[first] == prompt.index[second]:
            raise BadTask(
                f"Task {task.name}: {first} and {second} are the same token in "
                f"'{prompt.prompt.text}'. A position has one name: drop one."
            )


def _unequal(task: Task, contrast: str, tokenizer: FastTokenizer) -> Unequal:
    rng = Random(f"{task.lot} unequal {contrast}")
    unequal = tried = 0
    for prompt in task.sample(task.size if task.equal_length else _PAIRS, seed=1):
        other = task.counterfactual(prompt, contrast, rng=rng)
        if other is not None:
            lengths = {len(encode(text, tokenizer).ids) for text in (prompt.text, other.text)}
            unequal += len(lengths) == 2
            tried += 1
    return Unequal(unequal, tried)


def _called(tokenizer: FastTokenizer) -> str:
    name = str(getattr(tokenizer, "name_or_path", ""))
    return f"the tokenizer of {Path(name).name}" if name else "this tokenizer"
