"""Which split owns which text, so that no prompt is in two splits (method, section 1).

Prompts are drawn where a task has far more of them than are asked for; else all are divided,
prompts that are each other's only counterfactual together, so that pairs can be formed inside a
split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from random import Random

from sage.task.task import Prompt, Task
from sage.task.tokens import Encode, Tokenized, TokenizedPair, align

DISCOVER, FIT, TEST = "discover", "fit", "test"
SHARES = {DISCOVER: 0.2, FIT: 0.5, TEST: 0.3}

_PATIENCE = 1000
_MISSES = 100


@dataclass
class Ledger:
    """The prompts of each split in random order, the owner of every text, and what was left out so
    far."""

    task: Task
    encode: Encode
    seed: int
    prompts: dict[str, list[Prompt]] = field(default_factory=dict[str, list[Prompt]])
    owner: dict[str, str] = field(default_factory=dict[str, str])
    drops: Counter[str] = field(default_factory=Counter[str])
    endless: bool = False
    _read: dict[tuple[str, ...], Tokenized] = field(
        default_factory=dict[tuple[str, ...], Tokenized]
    )

    def rng(self, *purpose: str) -> Random:
        """Randomness for one purpose, the same in every process."""
        return Random(" ".join((self.task.name, str(self.seed), *purpose)))

    def draw(self, quotas: Mapping[str, int], *, per_value: int) -> bool:
        """Draw each split's prompts, and for fit at least `per_value` of every value; whether there
        were enough."""
        self.endless = True
        for split, quota in quotas.items():
            rng, mine = self.rng(split), self.prompts.setdefault(split, [])
            misses = 0
            while len(mine) < quota and misses < _MISSES:
                misses = 0 if self._claim(self.task.draw(rng), split) else misses + 1
            if len(mine) < quota:
                return False
        for attribute in self.task.attributes:
            self._fill(attribute, per_value)
        return True

    def divide(self) -> None:
        """Give every prompt to a split, 20/50/30, prompts that are each other's only counterfactual
        to the same one.

        Fit first gets a prompt of every value, or nothing could be said of that value elsewhere.
        """
        groups = self._together(self._whole())
        self.rng("divide").shuffle(groups)
        self.endless, self.owner, self.prompts = False, {}, {split: [] for split in SHARES}
        seen, later = set[tuple[str, object]](), list[list[Prompt]]()
        for group in groups:
            values = {
                (attribute, prompt.labels[attribute])
                for prompt in group
                for attribute in self.task.attributes
            }
            if values <= seen:
                later.append(group)
            else:
                seen |= values
                self._give(group, FIT)
        total = sum(map(len, groups))
        for group in later:
            lacks = {
                split: share * total - len(self.prompts[split]) for split, share in SHARES.items()
            }
            self._give(group, max(lacks, key=lambda split: lacks[split]))
        for split, mine in self.prompts.items():
            self.rng("order", split).shuffle(mine)

    def pairs(self, split: str, contrast: str, quota: int) -> tuple[TokenizedPair, ...]:
        """Up to `quota` pairs of a contrast with both prompts in a split, on the split's prompts in
        their order."""
        rng, found = self.rng(split, contrast), list[TokenizedPair]()
        for prompt in chain(self.prompts[split], self._more(split, contrast)):
            if len(found) == quota:
                break
            pair = self._pair(prompt, split, contrast, rng)
            if pair is not None:
                found.append(pair)
        return tuple(found)

    def read(self, prompt: Prompt) -> Tokenized:
        """The prompt as the model reads it; one object for one prompt. Its length joins the stratum
        where lengths must be equal."""
        key = (prompt.text, *prompt.answers, *prompt.foils)
        if key not in self._read:
            found = self.encode(prompt)
            if self.task.equal_length:
                found = replace(
                    found,
                    prompt=replace(prompt, stratum=f"{prompt.stratum} x {len(found.ids)} tokens"),
                )
            self._read[key] = found
        return self._read[key]

    def _pair(self, prompt: Prompt, split: str, contrast: str, rng: Random) -> TokenizedPair | None:
        clean, other = self.read(prompt), None
        for other in self.task.counterfactuals(prompt, contrast, rng=rng):
            if self.owner.get(other.text, split if self.endless else "") != split:
                continue
            counterfactual = self.read(other)
            if self.task.equal_length and len(clean.ids) != len(counterfactual.ids):
                continue
            self.owner[other.text] = split
            return TokenizedPair(clean, align(clean, counterfactual), contrast)
        if other is not None:
            self.drops[
                f"{split}, {contrast}: no counterfactual of the prompt belongs to the split"
            ] += 1
        return None

    def _more(self, split: str, contrast: str) -> Iterator[Prompt]:
        """New prompts of a split where the task has plenty, for contrasts that not every prompt
        has."""
        rng = self.rng(split, contrast, "more")
        for _ in range(10 * len(self.prompts[split]) if self.endless else 0):
            prompt = self.task.draw(rng)
            if self.owner.setdefault(prompt.text, split) == split:
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

    def _fill(self, attribute: str, least: int) -> None:
        """Add prompts to fit until each value of an attribute stands in `least` of them."""
        rng = self.rng(FIT, attribute)
        counts = Counter(prompt.labels[attribute] for prompt in self.prompts[FIT])
        for value in self.task.values(attribute):
            lacking = least - counts[value]
            for _ in range(_PATIENCE):
                prompt = self.task.draw_with(rng, attribute, value) if lacking > 0 else None
                if prompt is None:
                    break
                lacking -= self._claim(prompt, FIT)

    def _whole(self) -> list[Prompt]:
        """All prompts; where lengths must be equal, those whose counterfactual has another length
        are left out and counted."""
        everything = list(self.task.every())
        if not self.task.equal_length:
            return everything
        kept = [prompt for prompt in everything if self._matched(prompt)]
        self.drops["pairs of unequal token length"] += len(everything) - len(kept)
        return kept

    def _matched(self, prompt: Prompt) -> bool:
        others = [
            other
            for name in self.task.contrast_names
            for other in self.task.counterfactuals(prompt, name, rng=self.rng())
        ]
        return not others or any(
            len(self.read(other).ids) == len(self.read(prompt).ids) for other in others
        )

    def _together(self, prompts: list[Prompt]) -> list[list[Prompt]]:
        """Groups of prompts linked by contrasts under which a prompt has one counterfactual at
        most, and by equal texts."""
        fixed = [
            name
            for name in (*self.task.contrast_names, *self.task.null_names)
            if self.task.is_deterministic(name)
        ]
        parent = {prompt.text: prompt.text for prompt in prompts}

        def root(text: str) -> str:
            while parent[text] != text:
                parent[text] = text = parent[parent[text]]
            return text

        for prompt in prompts:
            for name in fixed:
                other = self.task.counterfactual(prompt, name, rng=self.rng())
                if other is not None and other.text in parent:
                    parent[root(other.text)] = root(prompt.text)
        groups: dict[str, list[Prompt]] = {}
        for prompt in prompts:
            groups.setdefault(root(prompt.text), []).append(prompt)
        return list(groups.values())
