"""Splits disjoint in prompts: discover finds where a contrast lives, fit decides, test measures.

Method, section 1, with the directions of section 2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from sage.errors import BadTask
from sage.task.ownership import DISCOVER, ELSEWHERE, FIT, TEST, Drop, SplitOwners
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

    Pairs are by contrast; `discover_null`, `fit_null` and `test_null` are pairs of the irrelevant
    attributes, by attribute (those without any are left out). `detect` are prompts of test beyond
    those of its pairs. `drops` counts the prompts that were left out, by reason.
    """

    discover: Pairs
    discover_null: Pairs
    fit: tuple[Tokenized, ...]
    fit_pairs: Pairs
    fit_null: Pairs
    test: Pairs
    test_null: Pairs
    detect: tuple[Tokenized, ...]
    drops: Mapping[Drop, int]

    def prompts(self) -> Iterator[Tokenized]:
        """Every prompt of every split, both sides of every pair."""
        yield from (*self.fit, *self.detect)
        paired = (self.discover, self.discover_null, self.fit_pairs, self.fit_null, self.test)
        for pairs_by_name in (*paired, self.test_null):
            for pair in chain.from_iterable(pairs_by_name.values()):
                yield pair.clean
                yield pair.counterfactual

    @property
    def counts(self) -> dict[str, int]:
        """The number of different clean prompts in each split."""
        return {
            DISCOVER: _different_prompts(self.discover),
            FIT: len(self.fit),
            TEST: _different_prompts(self.test),
        }

    @property
    def unequal(self) -> dict[str, int]:
        """The number of test pairs of unequal token length, by contrast (kept, read by name)."""
        return {contrast: sum(map(_is_unequal, pairs)) for contrast, pairs in self.test.items()}

    def notes(self) -> list[str]:
        """What a reader of results should know about the prompts, one sentence each.

        The prompts left out, by contrast and reason; the test pairs of unequal length, where there
        are any; and the test pairs in each stratum, where the task has several.
        """
        return [*self._drop_notes(), *self._length_notes(), *self._stratum_notes()]

    def _drop_notes(self) -> list[str]:
        by_split: dict[tuple[str, str], dict[str, int]] = {}
        for drop, count in self.drops.items():
            by_split.setdefault((drop.contrast, drop.why), {})[drop.split] = count
        notes = list[str]()
        for (contrast, why), counts in by_split.items():
            prompts = _counted(sum(counts.values()), "prompt")
            if contrast:
                by_name = ", ".join(f"{name} {count}" for name, count in counts.items())
                what = f"Left out of the pairs of {contrast}: {prompts} ({by_name})"
            else:
                what = f"Left out of all splits: {prompts}"
            notes.append(f"{what}, because {why}.")
        return notes

    def _length_notes(self) -> list[str]:
        return [
            f"Unequal token length: {count} of {_counted(len(self.test[contrast]), 'test pair')} "
            f"of {contrast}, kept and read by name."
            for contrast, count in self.unequal.items()
            if count
        ]

    def _stratum_notes(self) -> list[str]:
        tested = {contrast: _count_strata(pairs) for contrast, pairs in self.test.items()}
        strata = sorted({prompt.prompt.stratum for prompt in self.fit}.union(*tested.values()))
        if len(strata) < 2:
            return []
        notes = list[str]()
        for contrast, counts in tested.items():
            listed = ", ".join(f"{stratum} {counts[stratum]}" for stratum in strata)
            notes.append(f"Test pairs of {contrast} by stratum: {listed}.")
        return notes


@dataclass(frozen=True)
class SplitSizes:
    """How large splits are wanted; a task with few prompts gives less.

    `discover` and `test` are pairs for each contrast, `fit` is prompts, by default 2,000 or 20 for
    each value if that is more, `fit_pairs` are pairs of fit for each contrast, to decide on, and
    `detect` is prompts of test beyond the pairs.
    """

    discover: int = 200
    fit: int | None = None
    fit_pairs: int = FIT_PAIRS
    test: int = 500
    detect: int = 0

    @property
    def per_value(self) -> int:
        """How many prompts of fit have each value at least."""
        return FIT_PER_VALUE if self.fit is None else 1

    def prompts(self, task: Task) -> dict[str, int]:
        """How many clean prompts each split has, by its name."""
        most_values = max(len(task.values(attribute)) for attribute in task.attributes)
        default = max(FIT_PROMPTS, FIT_PER_VALUE * most_values)
        fit = default if self.fit is None else self.fit
        return {TEST: self.test, DISCOVER: self.discover, FIT: fit}

    def pairs(self, task: Task) -> dict[str, int]:
        """How many pairs each split has for a contrast, by its name."""
        decided_on = min(self.fit_pairs, self.prompts(task)[FIT])
        return {DISCOVER: self.discover, FIT: decided_on, TEST: self.test}


def split(task: Task, encode: Encode, *, seed: int, sizes: SplitSizes | None = None) -> Splits:
    """Splits of a task for the model that `encode` reads for; the same seed gives the same splits.

    The pairs of different contrasts are on the same clean prompts where these have the contrast. A
    task with few prompts gets what a split of 20/50/30 gives. Raises BadTask where the test split
    has fewer than 30 prompts, a contrast has no pairs, or a value in another split is unseen in
    fit.
    """
    sizes = sizes or SplitSizes()
    owners = _owners(task, encode, sizes, seed)
    pairs = _pairs_by_split(owners, task.contrast_names, sizes.pairs(task))
    null = _pairs_by_split(owners, task.null_contrasts, sizes.pairs(task))
    splits = Splits(
        discover=pairs[DISCOVER],
        discover_null=_without_empty(null[DISCOVER]),
        fit=tuple(map(owners.tokenized, _enough(owners.prompts[FIT], task, sizes))),
        fit_pairs=pairs[FIT],
        fit_null=_without_empty(null[FIT]),
        test=pairs[TEST],
        test_null=_without_empty(null[TEST]),
        detect=_beyond_pairs(owners, pairs[TEST], sizes.detect),
        drops={drop: count for drop, count in owners.drops.items() if count},
    )
    _check_test_size(task, splits.counts[TEST], owners, sizes.test)
    _check_pairs(task, pairs, splits.fit, owners)
    return splits


def _beyond_pairs(owners: SplitOwners, pairs: Pairs, count: int) -> tuple[Tokenized, ...]:
    """Up to `count` prompts of test that are in none of its pairs."""
    paired = chain.from_iterable(pairs.values())
    texts = {side.prompt.text for pair in paired for side in (pair.clean, pair.counterfactual)}
    return tuple(map(owners.tokenized, owners.beyond(TEST, count, without=texts)))


def interleave(
    pairs: Mapping[str, Sequence[TokenizedPair]], *, most: int
) -> tuple[TokenizedPair, ...]:
    """At most `most` pairs, one of each kind in turn.

    Any first n hold equally many of each kind while there are any left.
    """
    in_turn = chain.from_iterable(zip_longest(*pairs.values()))
    return tuple(pair for pair in in_turn if pair is not None)[:most]


def directions(pairs: Iterable[TokenizedPair], contrast: str, task: Task) -> list[Hashable]:
    """The direction of each pair, within which effects may be averaged (method, section 2.3).

    The ordered pair of labels of the first attribute the contrast names that has at most 4 values;
    else, for an ordinal attribute, the sign of its change; else one direction for all.
    """
    attributes = task.attributes_of(contrast)
    few_values = [name for name in attributes if len(task.values(name)) <= FEW_VALUES]
    ordinal = [name for name in attributes if name in task.ordinal]
    if few_values:
        return [_labels(pair, few_values[0]) for pair in pairs]
    if ordinal:
        return [_sign(task, ordinal[0], pair) for pair in pairs]
    return [contrast for _ in pairs]


def _owners(task: Task, encode: Encode, sizes: SplitSizes, seed: int) -> SplitOwners:
    """The prompts of each split, drawn or divided.

    They are drawn where the task has several times as many as may be needed.
    """
    quotas = sizes.prompts(task)
    if min(quotas.values()) < 1:
        wanted = ", ".join(f"{name} {quota}" for name, quota in quotas.items())
        raise BadTask(f"Every split needs prompts; {wanted} were asked for.")
    moves = 1 + len(task.contrast_names) + len(task.null_contrasts)
    paired = sizes.test + sizes.discover + max(sizes.fit_pairs, FIT_PAIRS)
    plenty = _PLENTY * (paired * moves + quotas[FIT])
    owners = SplitOwners(task, encode, seed)
    drawn = (
        not task.equal_length
        and task.size >= plenty
        and owners.draw(quotas, per_value=sizes.per_value)
    )
    if not drawn:
        owners.divide()
    return owners


def _pairs_by_split(
    owners: SplitOwners, contrasts: Sequence[str], quotas: Mapping[str, int]
) -> dict[str, Pairs]:
    by_split: dict[str, Pairs] = {}
    for split, quota in quotas.items():
        by_split[split] = {name: owners.pairs(split, name, quota) for name in contrasts}
    return by_split


def _without_empty(pairs: Pairs) -> Pairs:
    return {name: listed for name, listed in pairs.items() if listed}


def _enough(prompts: Sequence[Prompt], task: Task, sizes: SplitSizes) -> list[Prompt]:
    """As many prompts of different text as fit has, and beyond them those that a value needs.

    A value needs a prompt where fewer than `per_value` before it have the value.
    """
    quota = sizes.prompts(task)[FIT]
    by_text = dict[str, Prompt]()
    for prompt in prompts:
        by_text.setdefault(prompt.text, prompt)
    counts, chosen = Counter[tuple[str, Label]](), list[Prompt]()
    for prompt in by_text.values():
        values = [(name, prompt.labels[name]) for name in task.attributes]
        if len(chosen) < quota or any(counts[value] < sizes.per_value for value in values):
            counts.update(values)
            chosen.append(prompt)
    return chosen


def _check_test_size(task: Task, prompts: int, owners: SplitOwners, asked: int) -> None:
    if prompts >= LEAST_TEST:
        return
    if asked < LEAST_TEST:
        raise BadTask(
            f"{asked} test pairs per contrast were asked for. Ask for {LEAST_TEST} or more: on "
            "fewer no interval can be trusted."
        )
    has = f"Task {task.name} has {prompts} different prompts to test on"
    linked = _linked(owners, TEST)
    more = "Give it more prompts, or a tokenizer that keeps more."
    if prompts + linked >= LEAST_TEST:
        more = _told_links(linked)
    raise BadTask(f"{has} that have a counterfactual there, and needs {LEAST_TEST}. {more}")


def _linked(owners: SplitOwners, split: str, contrast: str | None = None) -> int:
    """How many prompts of a split are in no pair because their counterfactual is in another."""
    return sum(
        count
        for drop, count in owners.drops.items()
        if (drop.split, drop.why) == (split, ELSEWHERE) and contrast in (None, drop.contrast)
    )


def _told_links(count: int) -> str:
    return (
        f"{_counted(count, 'more prompt')} are linked to prompts of other splits, because one "
        "prompt's counterfactual is another's too. Give pairs that share no prompt, or more of "
        "them."
    )


def _check_pairs(
    task: Task,
    pairs_by_split: Mapping[str, Pairs],
    fit: Sequence[Tokenized],
    owners: SplitOwners,
) -> None:
    """Every contrast has pairs in every split, and no value in them is unseen in fit."""
    seen: dict[str, set[Label]] = {}
    for attribute in task.attributes:
        seen[attribute] = {prompt.prompt.labels[attribute] for prompt in fit}
    for split, by_contrast in pairs_by_split.items():
        for contrast, pairs in by_contrast.items():
            if not pairs:
                linked = _linked(owners, split, contrast)
                more = _told_links(linked) if linked else "Give the task more prompts."
                raise BadTask(
                    f"Task {task.name}: contrast '{contrast}' has no pair inside the split "
                    f"'{split}'. {more}"
                )
            for attribute, values in seen.items():
                labels = chain.from_iterable(_labels(pair, attribute) for pair in pairs)
                if unseen := [label for label in labels if label not in values]:
                    raise BadTask(
                        f"Task {task.name}: {attribute} = {unseen[0]!r} is in the split '{split}' "
                        f"and in none of the {len(fit)} prompts of fit. "
                        "Ask for more prompts to fit, or give fewer values."
                    )


def _labels(pair: TokenizedPair, attribute: str) -> tuple[Label, Label]:
    """The value before and the value after the contrast."""
    return pair.clean.prompt.labels[attribute], pair.counterfactual.prompt.labels[attribute]


def _sign(task: Task, attribute: str, pair: TokenizedPair) -> int:
    """+1 where the value grows: numbers as such, other values by their place in the task's list."""
    before, after = (_rank(task, attribute, label) for label in _labels(pair, attribute))
    return (after > before) - (after < before)


def _rank(task: Task, attribute: str, label: Label) -> int:
    return label if isinstance(label, int) else task.values(attribute).index(label)


def _count_strata(pairs: Iterable[TokenizedPair]) -> Counter[str]:
    return Counter(pair.clean.prompt.stratum for pair in pairs)


def _is_unequal(pair: TokenizedPair) -> bool:
    return len(pair.clean.ids) != len(pair.counterfactual.ids)


def _different_prompts(pairs: Pairs) -> int:
    """How many texts the clean prompts of some pairs have."""
    texts = set[str]()
    for of_contrast in pairs.values():
        texts |= {pair.clean.prompt.text for pair in of_contrast}
    return len(texts)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
