"""Write a new task file that works as it stands, with a comment on all that may be changed.

Its values are those that a model's tokenizer can carry, where one is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from sage.errors import SageError
from sage.files import write_atomically
from sage.task.token_audit import audit
from sage.task.tokens import FastTokenizer


class Pool(NamedTuple):
    """Words for one list of the file, and how many of them stand in it."""

    words: str
    wanted: int

    def chosen(self, usable: Sequence[str] | None) -> str:
        """The first words that can be used, all where it is not known."""
        words = [word for word in self.words.split() if usable is None or word in usable]
        return " ".join(words[: self.wanted])


# More words than are wanted, the most common first; slot -> the lists that it is made of.
POOLS: Mapping[str, Mapping[str, Pool]] = {
    "name": {
        "@WOMEN@": Pool("Mary Anna Sarah Jane Kate Emma Laura Maria Rose Alice Susan Lisa Amy", 8),
        "@MEN@": Pool("John Paul James David Tom Mark Thomas Peter Henry Kevin Jack George", 8),
    },
    "mood": {"@MOODS@": Pool("happy tired quiet calm proud busy clever kind brave late", 6)},
    "place": {
        "@PLACES@": Pool("park school station market office library museum beach garden bank", 8)
    },
}

_EXAMPLE = '''"""@NAME@: which pronoun takes up a name. Replace it, piece by piece, by your task.

What a model's tokenizer makes of the prompts, and whether the model does the task:
    sage tasks @PATH@ --model @MODEL@ --explain

Where in the model the attributes live:
    sage discover @PATH@ --model @MODEL@
"""

from sage import Task

WOMEN = "@WOMEN@".split()
MEN = "@MEN@".split()

task = Task(
    name="@NAME@",
    source="where the task comes from: a paper, or your own",
    # Families of texts with {slots}. The texts of one family differ only in the variant; every text
    # uses the same slots.
    templates={
        "because": {
            "late": "So everyone knew {name} was {mood} at the {place}, because",
            "early": "At the {place} everyone knew {name} was {mood}, because",
        },
        "when": {
            "late": "We all thought {name} looked {mood} at the {place} when",
            "early": "At the {place} we all thought {name} looked {mood} when",
        },
    },
    slots={
        "name": WOMEN + MEN,
        "mood": "@MOODS@".split(),
        "place": "@PLACES@".split(),
    },
    # A function of the prompt can be an attribute, an answer and a foil. One token follows the
    # text; a tuple gives several.
    functions={"gender": lambda prompt: "woman" if prompt.slots["name"] in WOMEN else "man"},
    answer=lambda prompt: "she" if prompt.slots["name"] in WOMEN else "he",
    foil=lambda prompt: "he" if prompt.slots["name"] in WOMEN else "she",
    # What the model must track: slots, the variant or functions. `within` says that a name has a
    # gender.
    attributes=("gender", "name", "order"),
    within={"name": "gender"},
    variant="order",
    # What should not matter: the null of every discovery. `template` is the family.
    irrelevant=("place", "mood", "template"),
    # Each contrast changes one attribute; at least one of them changes the right answer.
    contrasts=("gender", "name", "order"),
)
'''


def write_task(
    name: str, *, folder: Path, model: str = "gpt2-small", tokenizer: FastTokenizer | None = None
) -> Path:
    """Write `folder`/NAME.py; an existing file is never overwritten.

    With a tokenizer, which is that of `model`, only words that it can carry stand in the file.
    BadTask where it carries too few.
    """
    if not name.isidentifier():
        raise SageError(
            f"'{name}' cannot name a task: use letters, digits and underscores, as in my_task."
        )
    path = folder / f"{name}.py"
    if path.exists():
        raise SageError(f"{path} exists already. Give another name, or remove it first.")
    usable = None if tokenizer is None else _usable(tokenizer)
    text = _filled(usable, everything=False)
    for mark, word in (("@NAME@", name), ("@PATH@", str(path)), ("@MODEL@", model)):
        text = text.replace(mark, word)
    return write_atomically(path, text.encode())


def _usable(tokenizer: FastTokenizer) -> Mapping[str, Sequence[str]]:
    """The words of every slot that the tokenizer can carry."""
    with TemporaryDirectory(prefix="sage-") as folder:
        path = Path(folder) / "example.py"
        path.write_text(_filled(None, everything=True).replace("@NAME@", "example"))
        return audit(run_path(str(path))["task"], tokenizer, bos=False).kept


def _filled(usable: Mapping[str, Sequence[str]] | None, *, everything: bool) -> str:
    """The file with its lists of words: those that are wanted, or all there are."""
    text = _EXAMPLE
    for slot, pools in POOLS.items():
        for mark, pool in pools.items():
            words = pool.chosen(None if usable is None else usable[slot])
            text = text.replace(mark, pool.words if everything else words)
    return text
