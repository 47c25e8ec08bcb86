"""What of a task a tokenizer can carry: the values that are single tokens where they stand, and the
prompts that split as they should.

Values are filtered in the form in which they stand in the text, whole prompts where splitting
depends on neighbours (method, section 1).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
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
    """A task on one tokenizer. `task` has the usable values only and refuses prompts that split
    otherwise.

    `dropped[slot][value]` and `families[family]` say why; `refused[why]` counts prompts among
    `tried` that have usable values and still do not split as they should. In `example`, a named
    position falls on the token `positions` gives.
    """

    task: Task
    dropped: Mapping[str, Mapping[str, str]]
    families: Mapping[str, str]
    refused: Mapping[str, int]
    tried: int
    unequal: Mapping[str, Unequal]
    example: Tokenized
    positions: Mapping[str, str]

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
    touch are judged by whole prompts. Raises BadTask where fewer than two values of an attribute's
    slot remain (none of another's), or one of `required` is dropped.
    """
    dropped = {slot: _split_values(task, slot, tokenizer) for slot in task.slots}
    pool = _left(task.slots, dropped)
    _check_left(task, pool, dropped, tokenizer)
    families = {
        family: why
        for family in task.templates
        if (why := _never_fits(task, tokenizer, pool, family=family))
    }
    templates = {
        family: texts for family, texts in task.templates.items() if family not in families
    }
    if families and not templates:
        raise BadTask(
            f"Task {task.name}: no template suits {_called(tokenizer)}. {next(iter(families.values()))}."
        )
    for slot in task.slots:
        whys = {
            value: _never_fits(task, tokenizer, pool, fixed={slot: value}, without=families)
            for value in pool[slot]
        }
        dropped[slot] |= {value: why for value, why in whys.items() if why}
        pool = _left(task.slots, dropped)
        _check_left(task, pool, dropped, tokenizer, required)
    narrow = replace(task, slots=pool, templates=templates)
    sampled = narrow.sample(prompts, seed=0)
    refused = Counter(why for prompt in sampled if (why := _problem(task, prompt, tokenizer)))
    if refused.total() == len(sampled):
        raise BadTask(
            f"Task {task.name}: {_called(tokenizer)} splits none of {len(sampled)} prompts as it should. {next(iter(refused))}."
        )
    usable = replace(
        narrow,
        keep=lambda prompt: (
            (task.keep is None or task.keep(prompt)) and not _problem(task, prompt, tokenizer)
        ),
    )
    example, positions = _positions(usable, tokenizer, bos)
    unequal = {
        name: _unequal(usable, name, tokenizer) for name in (*task.contrast_names, *task.irrelevant)
    }
    return TokenAudit(
        usable,
        {s: why for s, why in dropped.items() if why},
        families,
        dict(refused),
        len(sampled),
        unequal,
        example,
        positions,
    )


def _split_values(task: Task, slot: str, tokenizer: FastTokenizer) -> Reasons:
    """The values of a slot that do not stand as one token in some template, with the tokens they
    are."""
    if slot not in task.single_token:
        return {}
    reasons: Reasons = {}
    others = {name: values[0] for name, values in task.slots.items()}
    for value in task.slots[slot]:
        for template in task.texts.values():
            text, spans = template.render({**others, slot: value})
            for occurrence in template.occurrences:
                if occurrence.slot == slot and (
                    tokens := _parts(text, spans[occurrence.name], tokenizer)
                ):
                    reasons[value] = f"{slot} '{value}' is {tokens}"
    return reasons


def _parts(text: str, span: tuple[int, int], tokenizer: FastTokenizer) -> str:
    """What a slot's characters are where they are not exactly one known token; nothing where they
    are."""
    pieces = encode(text, tokenizer)
    first, last = pieces.covering(span)
    if set(pieces.unknown) & set(range(first, last + 1)):
        return "not in the vocabulary"
    return (
        ""
        if first == last
        else " + ".join(f"'{text[slice(*piece)]}'" for piece in pieces.spans[first : last + 1])
    )


def _never_fits(
    task: Task,
    tokenizer: FastTokenizer,
    pool: Pool,
    *,
    family: str = "",
    without: Collection[str] = (),
    fixed: Mapping[str, str] | None = None,
) -> str:
    """Why none of some random prompts of a family, or with a slot fixed, splits as it should (most
    often); nothing where one does."""
    rng = Random(f"{task.name} {family} {fixed}")
    places = [place for place in task.texts if place[0] not in without and family in ("", place[0])]
    whys = Counter[str]()
    for _ in range(_DRAWS):
        values = {slot: rng.choice(choices) for slot, choices in pool.items()} | dict(fixed or {})
        found = _problem(task, task.make(*rng.choice(places), values), tokenizer)
        if not found:
            return ""
        whys[found] += 1
    return whys.most_common(1)[0][0]


def _problem(task: Task, prompt: Prompt, tokenizer: FastTokenizer) -> str:
    """What keeps a prompt from being read: an unknown word, a shared or a second token in a slot,
    an answer of two tokens."""
    pieces = encode(prompt.text, tokenizer)
    if pieces.unknown:
        return f"'{prompt.text[slice(*pieces.spans[pieces.unknown[0]])].strip()}' is not in the vocabulary"
    for name, span in prompt.spans.items():
        first, last = pieces.covering(span)
        slot = task.slot_of.get(name, name)
        if pieces.spans[last][1] > span[1] or prompt.text[pieces.spans[first][0] : span[0]].strip():
            return f"{slot} shares a token with its neighbour"
        if first != last and slot in task.single_token:
            return f"{slot} is more than one token"
    for answer in (*prompt.answers, *prompt.foils):
        if continuation(prompt.text, answer, tokenizer) is None:
            return f"the answer '{answer}' is not one token"
    return ""


def _left(slots: Pool, dropped: Mapping[str, Reasons]) -> dict[str, tuple[str, ...]]:
    return {
        slot: tuple(value for value in values if value not in dropped[slot])
        for slot, values in slots.items()
    }


def _check_left(
    task: Task,
    pool: Pool,
    dropped: Mapping[str, Reasons],
    tokenizer: FastTokenizer,
    required: Collection[str] = (),
) -> None:
    for slot, values in pool.items():
        needed = 2 if slot in (*task.attributes, *task.irrelevant) else 1
        if len(values) < needed:
            left = (
                f"Kept: {', '.join(values) or 'none'}. Dropped: {'; '.join(dropped[slot].values())}"
            )
            few = f"leaves slot '{slot}' too few values ({needed} needed). {left}. Give it more that are one token"
            raise BadTask(f"Task {task.name}: {_called(tokenizer)} {few}.")
        if lost := [value for value in required if value in dropped[slot]]:
            raise BadTask(
                f"Task {task.name}: the value '{lost[0]}' cannot be used with {_called(tokenizer)}: {dropped[slot][lost[0]]}."
            )


def _positions(task: Task, tokenizer: FastTokenizer, bos: bool) -> tuple[Tokenized, dict[str, str]]:
    """An example prompt and the token at each of its positions; BadTask where two positions are one
    in some prompt."""
    read = [tokenize(prompt, tokenizer, bos=bos) for prompt in task.sample(_DRAWS, seed=0)]
    for prompt in read:
        for one, other in combinations(
            [name for name in task.position_names if name in prompt.index], 2
        ):
            if prompt.index[one] == prompt.index[other]:
                where = f"'{prompt.prompt.text}'"
                raise BadTask(
                    f"Task {task.name}: {one} and {other} are the same token in {where}. A position has one name: drop one."
                )
    example, text = read[0], read[0].prompt.text
    shown = ("BOS", *(text[slice(*span)] for span in encode(text, tokenizer).spans))[
        0 if bos else 1 :
    ]
    return example, {
        name: shown[example.index[name]] for name in task.position_names if name in example.index
    }


def _unequal(task: Task, contrast: str, tokenizer: FastTokenizer) -> Unequal:
    rng = Random(f"{task.name} unequal {contrast}")
    pairs = [
        (prompt, task.counterfactual(prompt, contrast, rng=rng))
        for prompt in task.sample(task.size if task.equal_length else _PAIRS, seed=1)
    ]
    lengths = [
        (len(encode(p.text, tokenizer).ids), len(encode(q.text, tokenizer).ids))
        for p, q in pairs
        if q is not None
    ]
    return Unequal(sum(one != other for one, other in lengths), len(lengths))


def _called(tokenizer: FastTokenizer) -> str:
    name = str(getattr(tokenizer, "name_or_path", ""))
    return f"the tokenizer of {Path(name).name}" if name else "this tokenizer"
