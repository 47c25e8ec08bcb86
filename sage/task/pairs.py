"""Any JSONL of prompt pairs as a task: clean_prefix, patch_prefix, clean_answer, patch_answer and a
label column.

The format of the agreement files published with Sparse Feature Circuits (Marks et al. 2024,
https://arxiv.org/abs/2403.19647). The one contrast leads from clean to patch; positions are DIFF,
the first word that differs, and END; answer and foil are the row's (method, section 1). The null
puts in a *donor*: another prompt of the same label and the same length (section 2.3).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import NamedTuple, cast

from sage.errors import BadFile
from sage.task.prompt import Contrast, Label, Prompt
from sage.task.task import END, Task
from sage.task.templates import Texts

DIFF = "DIFF"
DONOR = "donor"
COLUMNS = ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer")

_WORD = re.compile(r"\w+(?:['-]\w+)*|[^\w\s]")


class Row(NamedTuple):
    """One line of the file: a prompt and what it is patched with."""

    clean: Prompt
    patch: Prompt


@dataclass(frozen=True, eq=False, kw_only=True)
class PairTask(Task):
    """A task whose prompts are listed instead of made.

    Clean prompts come one per row, so a text may come with several answers; `every` adds the
    patched prompts whose text is no row's clean one. Pairs of unequal token length are dropped, and
    the length of a prompt joins its stratum.
    """

    rows: tuple[Row, ...] = field(repr=False)
    equal_length: bool = True

    def __post_init__(self) -> None:
        """Nothing to check: the rows were, when they were read."""

    @cached_property
    def texts(self) -> Texts:
        return {}

    @cached_property
    def position_names(self) -> tuple[str, ...]:
        return (*self.rows[0].clean.spans, END)

    @cached_property
    def size(self) -> int:
        return len(list(self.every()))

    @property
    def null_names(self) -> tuple[str, ...]:
        return (DONOR,)

    def contrast(self, name: str) -> Contrast:
        return Contrast(DONOR) if name == DONOR else super().contrast(name)

    def draw(self, rng: Random) -> Prompt:
        return rng.choice(self._clean)

    def sample(self, n: int, *, seed: int) -> list[Prompt]:
        """The clean prompts of `n` rows at random, all where there are fewer."""
        return Random(f"{self.name} sample {seed}").sample(self._clean, min(n, len(self._clean)))

    def every(self) -> Iterator[Prompt]:
        yield from self._clean
        texts = {row.clean.text for row in self.rows}
        yield from {
            row.patch.text: row.patch
            for row in self.rows
            if row.patch.text not in texts and self._kept(row.patch)
        }.values()

    def counterfactuals(self, prompt: Prompt, contrast: str, *, rng: Random) -> Iterator[Prompt]:
        """What the prompt's row is patched with; for `donor`, the other texts of the same label, in
        random order."""
        if self.contrast(contrast).name != DONOR:
            yield from (other for other in self._patches.get(_key(prompt), ()) if self._kept(other))
            return
        same = [other for other in self._by_label[_label(prompt)] if other.text != prompt.text]
        yield from rng.sample(same, len(same))

    @cached_property
    def _clean(self) -> list[Prompt]:
        return [row.clean for row in self.rows if self._kept(row.clean)]

    @cached_property
    def _patches(self) -> dict[tuple[object, ...], list[Prompt]]:
        found: dict[tuple[object, ...], dict[str, Prompt]] = defaultdict(dict)
        for row in self.rows:
            found[_key(row.clean)][row.patch.text] = row.patch
        return {key: list(patches.values()) for key, patches in found.items()}

    @cached_property
    def _by_label(self) -> dict[Label, list[Prompt]]:
        found: dict[Label, dict[str, Prompt]] = defaultdict(dict)
        for prompt in self.every():
            found[_label(prompt)].setdefault(prompt.text, prompt)
        return {label: list(prompts.values()) for label, prompts in found.items()}

    def _kept(self, prompt: Prompt) -> bool:
        return self.keep is None or self.keep(prompt)

    def _find_values(self, attribute: str) -> tuple[Label, ...]:
        return tuple(dict.fromkeys(prompt.labels[attribute] for prompt in self.every()))


def load_pairs(path: str | Path, *, label: str = "case") -> PairTask:
    """The task in a JSONL file; its name is the file's. BadFile names the line that is not a pair.

    A patched prompt's label is that of the rows where it is the clean one; where there are none,
    the one to which its row's label leads in all other rows; else the row's label with "patched"
    added.
    """
    path = Path(path)
    raw = _read(path, label)
    closing = sum(
        row.spans[0][1] == len(row.clean_prefix) or row.spans[1][1] == len(row.patch_prefix)
        for row in raw
    )
    if 0 < closing < len(raw):
        where = f"in {closing} of {len(raw)} pairs the first word that differs is the last one"
        raise BadFile(
            f"{path}: {where}, so that {DIFF} is {END}; in the others it is not. Put them into two files: a position has one name."
        )
    patched = _patched_labels(raw)
    return PairTask(
        name=path.stem,
        source=f"{path.name}, {len(raw)} pairs",
        templates={},
        slots={},
        answer="",
        foil="",
        attributes=(label,),
        irrelevant=(),
        contrasts=(label,),
        rows=tuple(
            _row(row, path.stem, label, to, named=not closing)
            for row, to in zip(raw, patched, strict=True)
        ),
    )


class _Raw(NamedTuple):
    clean_prefix: str
    patch_prefix: str
    clean_answer: str
    patch_answer: str
    label: Label
    spans: tuple[tuple[int, int], tuple[int, int]]


def _row(raw: _Raw, family: str, label: str, patched: Label, *, named: bool) -> Row:
    """Both prompts of a row; the difference is a position of its own where it is not END."""
    clean, patch = ({DIFF: span} if named else {} for span in raw.spans)
    right, wrong = (raw.clean_answer,), (raw.patch_answer,)
    return Row(
        Prompt(
            raw.clean_prefix,
            family,
            "clean",
            {},
            {label: raw.label},
            clean,
            right,
            wrong,
            stratum=str(raw.label),
        ),
        Prompt(
            raw.patch_prefix,
            family,
            "patch",
            {},
            {label: patched},
            patch,
            wrong,
            right,
            stratum=str(patched),
        ),
    )


def _patched_labels(rows: Sequence[_Raw]) -> list[Label]:
    known = {row.clean_prefix: row.label for row in rows}
    leads: dict[Label, set[Label]] = defaultdict(set)
    for row in rows:
        if row.patch_prefix in known:
            leads[row.label].add(known[row.patch_prefix])
    usual = {label: next(iter(to)) for label, to in leads.items() if len(to) == 1}
    return [
        known.get(row.patch_prefix, usual.get(row.label, f"{row.label} patched")) for row in rows
    ]


def _read(path: Path, label: str) -> list[_Raw]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(
            f"{path} cannot be read: {error}. Give a UTF-8 file of JSON lines."
        ) from error
    rows = [
        _parse(line, f"{path}, line {number}", label)
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not rows:
        raise BadFile(
            f"{path} has no pairs. Write one JSON object per line with {', '.join((*COLUMNS, label))}."
        )
    return rows


def _parse(line: str, where: str, label: str) -> _Raw:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadFile(f"{where} is not JSON: {error}.") from error
    needed = ", ".join((*COLUMNS, label))
    if not isinstance(row, dict):
        raise BadFile(f"{where} is no object; a pair is one with {needed}.")
    given = cast("dict[str, object]", row)
    if missing := [name for name in (*COLUMNS, label) if name not in given]:
        raise BadFile(
            f"{where} has no '{missing[0]}' but {', '.join(given) or 'nothing'}; a pair needs {needed}."
        )
    texts = [given[name] for name in COLUMNS]
    clean, patch, right, wrong = (
        text if isinstance(text, str) and text.strip() else "" for text in texts
    )
    if not (clean and patch and right and wrong):
        raise BadFile(
            f"{where}: {', '.join(COLUMNS)} must be texts; they are {', '.join(map(repr, texts))}."
        )
    kind = given[label]
    if isinstance(kind, bool) or not isinstance(kind, str | int):
        raise BadFile(f"{where}: {label} is {kind!r}; a label is a text or a whole number.")
    if right == wrong:
        raise BadFile(
            f"{where}: clean_answer and patch_answer are both {right!r}; one must be right and the other wrong."
        )
    spans = _difference(clean, patch)
    if spans is None:
        raise BadFile(
            f"{where}: no word of {clean!r} differs from the word at its place in {patch!r}."
        )
    return _Raw(clean, patch, right, wrong, kind, spans)


def _difference(clean: str, patch: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The characters of the first word that differs, in both texts."""
    words = zip(_WORD.finditer(clean), _WORD.finditer(patch), strict=False)
    return next(((one.span(), other.span()) for one, other in words if one[0] != other[0]), None)


def _key(prompt: Prompt) -> tuple[object, ...]:
    """What tells rows apart: several may share a text."""
    return (prompt.text, prompt.answers, prompt.foils, *prompt.spans.values())


def _label(prompt: Prompt) -> Label:
    return next(iter(prompt.labels.values()))
