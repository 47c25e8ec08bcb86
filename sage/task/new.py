"""Write a new task file that works as it stands, with a comment on all that may be changed."""

from __future__ import annotations

from pathlib import Path

from sage.errors import SageError
from sage.files import write_atomically

_EXAMPLE = '''"""@NAME@: which pronoun takes up a name. Replace it, piece by piece, by your task.

What a model's tokenizer makes of the prompts, and whether the model does the task:
    sage tasks @PATH@ --model gpt2-small

Where in the model the attributes live:
    sage discover @PATH@ --model gpt2-small
"""

from sage import Task

WOMEN = ("Mary", "Anna", "Sarah", "Jane", "Kate", "Rose", "Maria", "Elizabeth")
MEN = ("John", "Paul", "James", "David", "Peter", "Mark", "Thomas", "Henry")

task = Task(
    name="@NAME@",
    source="where the task comes from: a paper, or your own",
    # Families of texts with {slots}. The texts of one family differ only in the variant; every text
    # uses the same slots.
    templates={
        "plain": {
            "late": "{name} was {mood} at the {place} because",
            "early": "At the {place} {name} was {mood} because",
        },
        "reported": {
            "late": "I heard that {name} felt {mood} in the {place} because",
            "early": "In the {place}, I heard, {name} felt {mood} because",
        },
    },
    slots={
        "name": WOMEN + MEN,
        "mood": ("happy", "tired", "late", "quiet", "proud", "calm", "busy", "afraid"),
        "place": "park school station market office library museum beach garden airport".split(),
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


def write_task(name: str, *, folder: Path) -> Path:
    """Write `folder`/NAME.py; an existing file is never overwritten."""
    if not name.isidentifier():
        raise SageError(
            f"'{name}' cannot name a task: use letters, digits and underscores, as in my_task."
        )
    path = folder / f"{name}.py"
    if path.exists():
        raise SageError(f"{path} exists already. Give another name, or remove it first.")
    text = _EXAMPLE.replace("@NAME@", name).replace("@PATH@", str(path))
    return write_atomically(path, text.encode())
