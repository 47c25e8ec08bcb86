"""Any JSONL of prompt pairs as a task: what is clean, what it is patched with, and a label.

The columns are clean_prefix, patch_prefix, clean_answer, patch_answer and a label, the format of
the agreement files published with Sparse Feature Circuits (Marks et al. 2024,
https://arxiv.org/abs/2403.19647). The one contrast leads from clean to patch; positions are DIFF,
the first word that differs, and END; answer and foil are the row's (method, section 1). The null
puts in a *donor*: another prompt of the same label and the same length (section 2.3).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import NamedTuple

from sage.errors import BadFile
from sage.files import parse_object, read_lines
from sage.task.prompt import Contrast, Label, Prompt
from sage.task.task import END, Task
from sage.task.templates import Texts

DIFF = "DIFF"
DONOR = "donor"
COLUMNS = ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer")

_WORD = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")


class ListedPair(NamedTuple):
    """One line of the file: a prompt and what it is patched with."""

    clean: Prompt
    patch: Prompt


@dataclass(frozen=True, eq=False, kw_only=True)
class PairTask(Task):
    """A task whose prompts are listed instead of made.

    Clean prompts come one per line of the file, so a text may come with several answers; `every`
    adds the patched prompts whose text is no line's clean one. Pairs of unequal token length are
    dropped, and the length of a prompt joins its stratum.
    """

    pairs: tuple[ListedPair, ...] = field(repr=False)
    equal_length: bool = True

    def __post_init__(self) -> None:
        """Nothing to check: the pairs were, when they were read."""

    @cached_property
    def texts(self) -> Texts:
        return {}

    @property
    def lot(self) -> str:
        """The same for every file: its name decides nothing."""
        return "pairs"

    @cached_property
    def position_names(self) -> tuple[str, ...]:
        return (*self.pairs[0].clean.spans, END)

    @cached_property
    def size(self) -> int:
        return len(list(self.every()))

    @property
    def null_contrasts(self) -> tuple[str, ...]:
        return (DONOR,)

    def contrast(self, name: str) -> Contrast:
        return Contrast(DONOR) if name == DONOR else super().contrast(name)

    def draw(self, rng: Random) -> Prompt:
        return rng.choice(self._clean)

    def sample(self, n: int, *, seed: int) -> list[Prompt]:
        """The clean prompts of `n` pairs at random, all where there are fewer."""
        return Random(f"{self.lot} sample {seed}").sample(self._clean, min(n, len(self._clean)))

    def every(self) -> Iterator[Prompt]:
        yield from self._clean
        clean_texts = {pair.clean.text for pair in self.pairs}
        patches = dict[str, Prompt]()
        for pair in self.pairs:
            if pair.patch.text not in clean_texts and self._kept(pair.patch):
                patches[pair.patch.text] = pair.patch
        yield from patches.values()

    def counterfactuals(self, prompt: Prompt, contrast: str, *, rng: Random) -> Iterator[Prompt]:
        """What the prompt is patched with in the file.

        For `donor` the other texts of the same label, in random order.
        """
        if self.contrast(contrast).name == DONOR:
            same_label = self._by_label[_label(prompt)]
            donors = [other for other in same_label if other.text != prompt.text]
            yield from rng.sample(donors, len(donors))
        else:
            yield from filter(self._kept, self._patches.get(_key(prompt), ()))

    @cached_property
    def _clean(self) -> list[Prompt]:
        return [pair.clean for pair in self.pairs if self._kept(pair.clean)]

    @cached_property
    def _patches(self) -> dict[tuple[object, ...], list[Prompt]]:
        by_key: dict[tuple[object, ...], dict[str, Prompt]] = defaultdict(dict)
        for pair in self.pairs:
            by_key[_key(pair.clean)][pair.patch.text] = pair.patch
        return {key: list(patches.values()) for key, patches in by_key.items()}

    @cached_property
    def _by_label(self) -> dict[Label, list[Prompt]]:
        by_label: dict[Label, dict[str, Prompt]] = defaultdict(dict)
        for prompt in self.every():
            by_label[_label(prompt)].setdefault(prompt.text, prompt)
        return {label: list(prompts.values()) for label, prompts in by_label.items()}

    @cached_property
    def _values(self) -> dict[str, tuple[Label, ...]]:
        (attribute,) = self.attributes
        return {attribute: tuple(dict.fromkeys(map(_label, self.every())))}

    def _kept(self, prompt: Prompt) -> bool:
        return self.keep is None or self.keep(prompt)


def load_pairs(path: str | Path, *, label: str = "case") -> PairTask:
    """The task in a JSONL file; its name is the file's, as a plain word.

    BadFile names the line that is not a pair.

    A patched prompt's label is that of the lines where it is the clean one; where there are none,
    the one to which its line's label leads in all other lines; else the line's label with "patched"
    added.
    """
    path = Path(path)
    lines = _read(path, label)
    differ_at_end = sum(line.differs_at_end for line in lines)
    if 0 < differ_at_end < len(lines):
        raise BadFile(
            f"{path}: in {differ_at_end} of {len(lines)} pairs the first word that differs is the "
            f"last one, so that {DIFF} is {END}; in the others it is not. "
            "Put them into two files: a position has one name."
        )
    pairs = [
        _listed_pair(line, path.stem, label=label, patched=patched)
        for line, patched in zip(lines, _patched_labels(lines), strict=True)
    ]
    return PairTask(
        name=_plain_name(path.stem),
        source=f"{path.name}, {len(lines)} pairs",
        templates={},
        slots={},
        answer="",
        foil="",
        attributes=(label,),
        irrelevant=(),
        contrasts=(label,),
        pairs=tuple(pairs),
    )


def _plain_name(stem: str) -> str:
    """A file's name as the name of a task: what is in no plain word becomes a dash."""
    return re.sub(r"[^\w.-]", "-", stem).lstrip("-_.")[:80] or "pairs"


class _Line(NamedTuple):
    """A line of the file; `clean_span` and `patch_span` are the first word that differs."""

    clean_prefix: str
    patch_prefix: str
    clean_answer: str
    patch_answer: str
    label: Label
    clean_span: tuple[int, int]
    patch_span: tuple[int, int]

    @property
    def differs_at_end(self) -> bool:
        """Whether the word that differs closes one of the texts, so that its position is END."""
        ends = (self.clean_span[1], self.patch_span[1])
        return ends[0] == len(self.clean_prefix) or ends[1] == len(self.patch_prefix)


def _listed_pair(line: _Line, family: str, *, label: str, patched: Label) -> ListedPair:
    """Both prompts of a line; the difference is a position of its own where it is not END."""
    named = not line.differs_at_end
    clean = Prompt(
        text=line.clean_prefix,
        family=family,
        variant="clean",
        slots={},
        labels={label: line.label},
        spans={DIFF: line.clean_span} if named else {},
        answers=(line.clean_answer,),
        foils=(line.patch_answer,),
        stratum=str(line.label),
    )
    patch = Prompt(
        text=line.patch_prefix,
        family=family,
        variant="patch",
        slots={},
        labels={label: patched},
        spans={DIFF: line.patch_span} if named else {},
        answers=(line.patch_answer,),
        foils=(line.clean_answer,),
        stratum=str(patched),
    )
    return ListedPair(clean, patch)


def _patched_labels(lines: Sequence[_Line]) -> list[Label]:
    """The label of each line's patched prompt (see load_pairs)."""
    clean_labels = {line.clean_prefix: line.label for line in lines}
    leads_to: dict[Label, set[Label]] = defaultdict(set)
    for line in lines:
        if line.patch_prefix in clean_labels:
            leads_to[line.label].add(clean_labels[line.patch_prefix])
    patched = list[Label]()
    for line in lines:
        targets = leads_to[line.label]
        usual = next(iter(targets)) if len(targets) == 1 else f"{line.label} patched"
        patched.append(clean_labels.get(line.patch_prefix, usual))
    return patched


def _read(path: Path, label: str) -> list[_Line]:
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(
            f"{path} cannot be read: {error}. Give a UTF-8 file of JSON lines."
        ) from error
    pairs = [
        _parse(line, f"{path}, line {number}", label)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not pairs:
        columns = ", ".join((*COLUMNS, label))
        raise BadFile(f"{path} has no pairs. Write one JSON object per line with {columns}.")
    return pairs


def _parse(line: str, where: str, label: str) -> _Line:
    """A line of JSON as a pair; BadFile says what it lacks."""
    given = _json_object(line, where, (*COLUMNS, label))
    texts = [given[name] for name in COLUMNS]
    clean, patch, right, wrong = (
        text if isinstance(text, str) and text.strip() else "" for text in texts
    )
    if not (clean and patch and right and wrong):
        columns, values = ", ".join(COLUMNS), ", ".join(map(repr, texts))
        raise BadFile(f"{where}: {columns} must be texts; they are {values}.")
    value = given[label]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadFile(f"{where}: {label} is {value!r}; a label is a text or a whole number.")
    if right == wrong:
        raise BadFile(
            f"{where}: clean_answer and patch_answer are both {right!r}; "
            "one must be right and the other wrong."
        )
    spans = _first_difference(clean, patch)
    if spans is None:
        raise BadFile(
            f"{where}: no word of {clean!r} differs from the word at its place in {patch!r}."
        )
    return _Line(clean, patch, right, wrong, value, *spans)


def _json_object(line: str, where: str, columns: Sequence[str]) -> dict[str, object]:
    needed = ", ".join(columns)
    given: dict[str, object] = parse_object(line, where, f"a pair is one with {needed}")
    if missing := [name for name in columns if name not in given]:
        names = ", ".join(given) or "nothing"
        raise BadFile(f"{where} has no '{missing[0]}' but {names}; a pair needs {needed}.")
    return given


def _first_difference(clean: str, patch: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The characters of the first word that differs, in both texts."""
    for clean_word, patch_word in zip(_WORD.finditer(clean), _WORD.finditer(patch), strict=False):
        if clean_word[0] != patch_word[0]:
            return clean_word.span(), patch_word.span()
    return None


def _key(prompt: Prompt) -> tuple[object, ...]:
    """What tells lines apart: several may share a text."""
    return (prompt.text, prompt.answers, prompt.foils, *prompt.spans.values())


def _label(prompt: Prompt) -> Label:
    (label,) = prompt.labels.values()
    return label
