"""Splits disjoint in prompts: discover finds where a contrast lives, fit decides everything, test
only measures.

Method, section 1, with the shuffled labels of section 6 and the directions of section 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from random import Random

from sage.errors import BadTask
from sage.task.ownership import DISCOVER, FIT, TEST, Ledger
from sage.task.prompt import Label, Prompt
from sage.task.task import Task
from sage.task.tokens import Encode, Tokenized, TokenizedPair

FIT_PROMPTS = 2000
FIT_PER_VALUE = 20
FIT_PAIRS = 200
LEAST_TEST = 30
FEW_VALUES = 4

_PLENTY = 3

Pairs = Mapping[str, tuple[TokenizedPair, ...]]


@dataclass(frozen=True)
class Splits:
    """The prompts of a task as one model reads them, in three splits that share no prompt.

    Pairs are by contrast; `null`, `fit_null` and `test_null` are pairs of the irrelevant
    attributes, by attribute (those without any are left out). `counts` is the number of different
    clean prompts in each split, `unequal` of test pairs of unequal token length for each contrast
    (kept, read by name), `drops` of prompts and pairs left out, with the reason.
    """

    discover: Pairs
    null: Pairs
    fit: tuple[Tokenized, ...]
    fit_pairs: Pairs
    fit_null: Pairs
    test: Pairs
    test_null: Pairs
    counts: Mapping[str, int]
    unequal: Mapping[str, int]
    drops: Mapping[str, int]


def split(
    task: Task,
    encode: Encode,
    *,
    seed: int,
    test: int = 500,
    discover: int = 200,
    fit: int | None = None,
    tried: int = FIT_PAIRS,
) -> Splits:
    """Splits of a task for the model that `encode` reads for; the same seed gives the same splits.

    `discover` and `test` are pairs for each contrast, on the same clean prompts where they have the
    contrast; `fit` is prompts, by default 2,000 or 20 for each value if that is more, and `tried`
    pairs of it, to decide on. A task with few prompts gets what a split of 20/50/30 gives. Raises
    BadTask where the test split has fewer than 30 prompts, a contrast has no pairs, or a value in
    another split is unseen in fit.
    """
    per_value = FIT_PER_VALUE if fit is None else 1
    largest = max(len(task.values(attribute)) for attribute in task.attributes)
    quotas = {
        TEST: test,
        DISCOVER: discover,
        FIT: max(FIT_PROMPTS, FIT_PER_VALUE * largest) if fit is None else fit,
    }
    ledger = _ledger(task, encode, quotas, max(tried, FIT_PAIRS), per_value, seed)
    pairs = {
        place: {name: ledger.pairs(place, name, quota) for name in task.contrast_names}
        for place, quota in _pair_quotas(quotas, tried)
    }
    null = {
        place: {name: ledger.pairs(place, name, quota) for name in task.null_names}
        for place, quota in _pair_quotas(quotas, tried)
    }
    null = {
        place: {name: found for name, found in by_name.items() if found}
        for place, by_name in null.items()
    }
    fitted = tuple(
        ledger.read(prompt)
        for prompt in _enough(ledger.prompts[FIT], quotas[FIT], per_value, task.attributes)
    )
    counts = {
        place: len({pair.clean.prompt.text for found in pairs[place].values() for pair in found})
        for place in (DISCOVER, TEST)
    }
    _check(task, pairs, fitted, counts[TEST])
    return Splits(
        discover=pairs[DISCOVER],
        null=null[DISCOVER],
        fit=fitted,
        fit_pairs=pairs[FIT],
        fit_null=null[FIT],
        test=pairs[TEST],
        test_null=null[TEST],
        counts={DISCOVER: counts[DISCOVER], FIT: len(fitted), TEST: counts[TEST]},
        unequal={
            name: sum(len(p.clean.ids) != len(p.counterfactual.ids) for p in found)
            for name, found in pairs[TEST].items()
        },
        drops={why: count for why, count in ledger.drops.items() if count},
    )


def shuffled(prompts: Sequence[Tokenized], *, seed: int) -> list[Tokenized]:
    """The same prompts with their labels dealt out anew among them, each prompt's labels staying
    together (a control)."""
    labels = [prompt.prompt.labels for prompt in prompts]
    Random(f"shuffled labels {seed}").shuffle(labels)
    return [
        replace(prompt, prompt=replace(prompt.prompt, labels=dealt))
        for prompt, dealt in zip(prompts, labels, strict=True)
    ]


def in_turn(
    pairs: Mapping[str, Sequence[TokenizedPair]], *, most: int
) -> tuple[TokenizedPair, ...]:
    """At most `most` pairs, one of each kind in turn, so that any first n hold equally many of each
    while there are any left."""
    return tuple(
        pair for pair in chain.from_iterable(zip_longest(*pairs.values())) if pair is not None
    )[:most]


def directions(pairs: Iterable[TokenizedPair], contrast: str, task: Task) -> list[Hashable]:
    """The direction of each pair, within which effects may be averaged (method, section 2.3).

    The ordered pair of labels of the first attribute the contrast names that has at most 4 values;
    else, for an ordinal attribute, the sign of its change; else one direction for all.
    """
    named = task.named(contrast)
    few = [name for name in named if len(task.values(name)) <= FEW_VALUES]
    ordinal = [name for name in named if name in task.ordinal]
    if few:
        return [
            (pair.clean.prompt.labels[few[0]], pair.counterfactual.prompt.labels[few[0]])
            for pair in pairs
        ]
    if ordinal:
        return [_sign(task, ordinal[0], pair) for pair in pairs]
    return [contrast for _ in pairs]


def _sign(task: Task, attribute: str, pair: TokenizedPair) -> int:
    """+1 where the value grows: numbers as such, other values by their place in the task's list."""
    before, after = (
        _rank(task, attribute, prompt.prompt.labels[attribute])
        for prompt in (pair.clean, pair.counterfactual)
    )
    return (after > before) - (after < before)


def _rank(task: Task, attribute: str, label: Label) -> int:
    return label if isinstance(label, int) else task.values(attribute).index(label)


def _ledger(
    task: Task, encode: Encode, quotas: Mapping[str, int], tried: int, per_value: int, seed: int
) -> Ledger:
    """The prompts of each split: drawn where the task has several times as many as may be needed,
    divided where not."""
    if min(quotas.values()) < 1:
        raise BadTask(
            f"Every split needs prompts; {', '.join(f'{name} {quota}' for name, quota in quotas.items())} were asked for."
        )
    moves = 1 + len(task.contrast_names) + len(task.null_names)
    needed = (quotas[TEST] + quotas[DISCOVER] + tried) * moves + quotas[FIT]
    ledger = Ledger(task, encode, seed)
    if (
        task.equal_length
        or task.size < _PLENTY * needed
        or not ledger.draw(quotas, per_value=per_value)
    ):
        ledger.divide()
    return ledger


def _pair_quotas(quotas: Mapping[str, int], tried: int) -> list[tuple[str, int]]:
    return [(DISCOVER, quotas[DISCOVER]), (FIT, min(tried, quotas[FIT])), (TEST, quotas[TEST])]


def _enough(
    prompts: Sequence[Prompt], quota: int, per_value: int, attributes: Sequence[str]
) -> list[Prompt]:
    """`quota` prompts of different text, and beyond it those with a value that fewer than
    `per_value` before them have."""
    counts, found, different = Counter[tuple[str, Label]](), list[Prompt](), dict[str, Prompt]()
    for prompt in prompts:
        different.setdefault(prompt.text, prompt)
    for prompt in different.values():
        values = [(name, prompt.labels[name]) for name in attributes]
        if len(found) < quota or any(counts[value] < per_value for value in values):
            counts.update(values)
            found.append(prompt)
    return found


def _check(task: Task, pairs: Mapping[str, Pairs], fit: Sequence[Tokenized], tested: int) -> None:
    if tested < LEAST_TEST:
        have = f"{tested} different prompts to test on that have a counterfactual there"
        raise BadTask(
            f"Task {task.name} has {have}, and needs {LEAST_TEST}. Give it more prompts, or a tokenizer that keeps more."
        )
    for place, by_contrast in pairs.items():
        for name, found in by_contrast.items():
            if not found:
                raise BadTask(
                    f"Task {task.name}: contrast '{name}' has no pair inside the split '{place}'. Give the task more prompts."
                )
            for attribute in task.attributes:
                seen = {prompt.prompt.labels[attribute] for prompt in fit}
                both = (
                    prompt.prompt.labels[attribute]
                    for pair in found
                    for prompt in (pair.clean, pair.counterfactual)
                )
                if unseen := [label for label in both if label not in seen]:
                    where = (
                        f"is in the split '{place}' and in none of the {len(fit)} prompts of fit"
                    )
                    raise BadTask(
                        f"Task {task.name}: {attribute} = {unseen[0]!r} {where}. Ask for more prompts to fit, or give fewer values."
                    )
