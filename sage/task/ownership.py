"""Which split owns which prompt text, so that no prompt is in two splits (method, section 1).

Prompts are drawn where a task has far more of them than are asked for; else all are divided,
prompts that are each other's only counterfactual together, so that pairs can be formed inside a
split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from random import Random
from typing import NamedTuple

from sage.task.task import Label, Prompt, Task
from sage.task.tokens import Encode, Tokenized, TokenizedPair, align

DISCOVER, FIT, TEST = "discover", "fit", "test"
SHARES = {DISCOVER: 0.2, FIT: 0.5, TEST: 0.3}

ELSEWHERE = "no counterfactual of theirs belongs to their split"
UNEQUAL = "their counterfactuals have another number of tokens"

# The share of all prompts that a piece has, of a group that hangs together and is too large.
_PIECE = 0.1
_DRAWS = 1000
_MISSES = 100


class Drop(NamedTuple):
    """Prompts left out of the pairs of a contrast in a split, or of all splits where none is named.

    `why` is ELSEWHERE or UNEQUAL.
    """

    why: str
    contrast: str = ""
    split: str = ""


@dataclass
class SplitOwners:
    """The prompts of each split in random order, and the split that owns each text.

    `owner[text]` is also set for the counterfactuals of pairs as they are formed. `drops` counts
    the prompts left out so far. `drawing` says that the task has prompts beyond those of the
    splits, so that a text without an owner may still be given to one.
    """

    task: Task
    encode: Encode
    seed: int
    prompts: dict[str, list[Prompt]] = field(default_factory=dict[str, list[Prompt]])
    owner: dict[str, str] = field(default_factory=dict[str, str])
    drops: Counter[Drop] = field(default_factory=Counter[Drop])
    drawing: bool = False
    _tokenized: dict[tuple[str, ...], Tokenized] = field(
        default_factory=dict[tuple[str, ...], Tokenized]
    )

    def rng(self, *purpose: str) -> Random:
        """Randomness for one purpose, the same in every process."""
        return Random(" ".join((self.task.lot, str(self.seed), *purpose)))

    def draw(self, quotas: Mapping[str, int], *, per_value: int) -> bool:
        """Draw each split's prompts; whether there were enough.

        Fit gets at least `per_value` of every value of every attribute.
        """
        self.drawing = True
        for split, quota in quotas.items():
            rng, drawn = self.rng(split), self.prompts.setdefault(split, [])
            misses = 0
            while len(drawn) < quota and misses < _MISSES:
                misses = 0 if self._claim(self.task.draw(rng), split) else misses + 1
            if len(drawn) < quota:
                return False
        for attribute in self.task.attributes:
            self._fill_values(attribute, per_value)
        return True

    def divide(self) -> None:
        """Give every prompt to a split, 20/50/30.

        Prompts that are each other's only counterfactual go to the same one, unless so many hang
        together that they would fill a split: these are cut into pieces, along what links them, and
        pairs that are cut through are left out. Fit first gets a prompt of every value, or nothing
        could be said of that value elsewhere.
        """
        groups = self._inseparable(self._usable_prompts())
        self.rng("divide").shuffle(groups)
        self.drawing, self.owner = False, {}
        self.prompts = {split: [] for split in SHARES}
        fit_values, others = set[tuple[str, Label]](), list[list[Prompt]]()
        for group in groups:
            values = self._values(group)
            if values <= fit_values:
                others.append(group)
            else:
                fit_values |= values
                self._give(group, FIT)
        total = sum(map(len, groups))
        for group in others:
            lacking = {
                split: share * total - len(self.prompts[split]) for split, share in SHARES.items()
            }
            self._give(group, max(lacking, key=lambda split: lacking[split]))
        for split, prompts in self.prompts.items():
            self.rng("order", split).shuffle(prompts)

    def pairs(self, split: str, contrast: str, quota: int) -> tuple[TokenizedPair, ...]:
        """Up to `quota` pairs of a contrast with both prompts in a split, in the split's order."""
        rng, pairs = self.rng(split, contrast), list[TokenizedPair]()
        for prompt in chain(self.prompts[split], self._drawn_for(split, contrast)):
            if len(pairs) == quota:
                break
            pair = self._pair(prompt, split, contrast, rng)
            if pair is not None:
                pairs.append(pair)
        return tuple(pairs)

    def beyond(self, split: str, count: int, *, without: Collection[str]) -> list[Prompt]:
        """Up to `count` different prompts of a split, none of whose texts are in `without`."""
        rng = self.rng(split, "beyond")
        drawn = (self.task.draw(rng) for _ in range(4 * count if self.drawing else 0))
        chosen: dict[str, Prompt] = {}
        for prompt in chain(self.prompts[split], drawn):
            if len(chosen) == count:
                break
            if prompt.text not in without and self.admits(split, prompt.text):
                self.owner[prompt.text] = split
                chosen.setdefault(prompt.text, prompt)
        return list(chosen.values())

    def tokenized(self, prompt: Prompt) -> Tokenized:
        """The prompt as the model reads it; one object for one prompt.

        Its length joins the stratum where lengths must be equal.
        """
        key = (prompt.text, *prompt.answers, *prompt.foils)
        if key not in self._tokenized:
            tokenized = self.encode(prompt)
            if self.task.equal_length:
                stratum = f"{prompt.stratum} x {len(tokenized.ids)} tokens"
                tokenized = replace(tokenized, prompt=replace(prompt, stratum=stratum))
            self._tokenized[key] = tokenized
        return self._tokenized[key]

    def admits(self, split: str, text: str) -> bool:
        """Whether a text may be in a split: it is in it, or drawn prompts are in no split yet."""
        return self.owner.get(text, split if self.drawing else "") == split

    def _pair(self, prompt: Prompt, split: str, contrast: str, rng: Random) -> TokenizedPair | None:
        clean, why = self.tokenized(prompt), ""
        for other in self.task.counterfactuals(prompt, contrast, rng=rng):
            if not self.admits(split, other.text):
                why = why or ELSEWHERE
                continue
            counterfactual = self.tokenized(other)
            if self.task.equal_length and len(clean.ids) != len(counterfactual.ids):
                why = UNEQUAL
                continue
            self.owner[other.text] = split
            return TokenizedPair(clean, align(clean, counterfactual), contrast)
        if why:
            self.drops[Drop(why, contrast, split)] += 1
        return None

    def _drawn_for(self, split: str, contrast: str) -> Iterator[Prompt]:
        """New prompts of a split where prompts are drawn: not every one has the contrast."""
        rng = self.rng(split, contrast, "more")
        for _ in range(10 * len(self.prompts[split]) if self.drawing else 0):
            prompt = self.task.draw(rng)
            if self.admits(split, prompt.text):
                self.owner[prompt.text] = split
                yield prompt

    def _claim(self, prompt: Prompt, split: str) -> bool:
        """Give a prompt to a split, if no split has it; whether it was given."""
        if prompt.text in self.owner:
            return False
        self._give([prompt], split)
        return True

    def _give(self, prompts: list[Prompt], split: str) -> None:
        self.prompts[split] += prompts
        self.owner |= {prompt.text: split for prompt in prompts}

    def _fill_values(self, attribute: str, least: int) -> None:
        """Add prompts to fit until each value of an attribute stands in `least` of them."""
        rng = self.rng(FIT, attribute)
        counts = Counter(prompt.labels[attribute] for prompt in self.prompts[FIT])
        for value in self.task.values(attribute):
            lacking = least - counts[value]
            for _ in range(_DRAWS):
                prompt = self.task.draw_with(rng, attribute, value) if lacking > 0 else None
                if prompt is None:
                    break
                lacking -= self._claim(prompt, FIT)

    def _values(self, prompts: list[Prompt]) -> set[tuple[str, Label]]:
        """Attribute and value of every label of an attribute."""
        values = set[tuple[str, Label]]()
        for prompt in prompts:
            values |= {(attribute, prompt.labels[attribute]) for attribute in self.task.attributes}
        return values

    def _usable_prompts(self) -> list[Prompt]:
        """All prompts.

        Where lengths must be equal, those that are in no pair of equal length, and are in one of
        unequal length, are left out and counted.
        """
        prompts = list(self.task.every())
        if not self.task.equal_length:
            return prompts
        equal, unequal = set[str](), set[str]()
        for prompt in prompts:
            for name in self.task.contrast_names:
                for other in self.task.counterfactuals(prompt, name, rng=self.rng()):
                    if self._can_pair(prompt, other):
                        equal |= {prompt.text, other.text}
                    else:
                        unequal.add(prompt.text)
        matched = [
            prompt for prompt in prompts if prompt.text in equal or prompt.text not in unequal
        ]
        self.drops[Drop(UNEQUAL)] += len(prompts) - len(matched)
        return matched

    def _inseparable(self, prompts: list[Prompt]) -> list[list[Prompt]]:
        """Groups of prompts with equal texts, or linked by contrasts that lead to one prompt; one
        larger than the smallest split is in pieces."""
        links = self._links(prompts)
        by_text: dict[str, list[tuple[int, Prompt]]] = {}
        for place, prompt in enumerate(prompts):
            by_text.setdefault(prompt.text, []).append((place, prompt))
        most = min(SHARES.values()) * len(prompts)
        groups: list[list[Prompt]] = []
        for texts in _linked_groups(links):
            placed = [entry for text in texts for entry in by_text[text]]
            if len(placed) > most:
                linked = [prompt for _, prompt in placed]
                groups += _pieces(linked, size=max(1, int(_PIECE * len(prompts))))
            else:
                groups.append([prompt for _, prompt in sorted(placed, key=itemgetter(0))])
        return groups

    def _can_pair(self, prompt: Prompt, other: Prompt) -> bool:
        if not self.task.equal_length:
            return True
        return len(self.tokenized(prompt).ids) == len(self.tokenized(other).ids)

    def _links(self, prompts: list[Prompt]) -> dict[str, list[str]]:
        """The texts that each text is linked to, by a contrast that leads to one prompt alone; a
        pair of unequal length links nothing where such pairs are left out."""
        contrasts = (*self.task.contrast_names, *self.task.null_contrasts)
        fixed = [name for name in contrasts if self.task.is_deterministic(name)]
        links: dict[str, list[str]] = {prompt.text: [] for prompt in prompts}
        for prompt in prompts:
            for name in fixed:
                other = self.task.counterfactual(prompt, name, rng=self.rng())
                if other is not None and other.text in links and self._can_pair(prompt, other):
                    links[prompt.text].append(other.text)
                    links[other.text].append(prompt.text)
        return links


def _linked_groups(links: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Texts that hang together, each group in an order in which a text follows one that it is
    linked to where there is one left."""
    seen = set[str]()
    groups: list[list[str]] = []
    for first in links:
        if first in seen:
            continue
        group, waiting = list[str](), [first]
        while waiting:
            text = waiting.pop()
            if text not in seen:
                seen.add(text)
                group.append(text)
                waiting += reversed(links[text])
        groups.append(group)
    return groups


def _pieces(prompts: list[Prompt], *, size: int) -> list[list[Prompt]]:
    """Prompts of one text stay in one piece."""
    pieces: list[list[Prompt]] = [[]]
    for prompt in prompts:
        if len(pieces[-1]) >= size and pieces[-1][-1].text != prompt.text:
            pieces.append([])
        pieces[-1].append(prompt)
    return pieces
