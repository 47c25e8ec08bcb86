"""The language of the wired model: every token with what it means, and the layout of a prompt.

    <bos> My dog is red , your cat is big ; so dog is
    0     1  2   3  4   5 6    7   8  9  10 11 12  13

Tokens carry their leading space, as GPT-2's do. Positions mean something by themselves only where
heads find their way by them.
"""

from __future__ import annotations

ANIMALS = ("dog", "cat", "fish", "bird", "horse", "sheep", "mouse", "wolf", "goat", "bear")
COLOURS = ("red", "blue", "green", "white", "black", "brown")
SIZES = ("big", "small", "tall", "short", "long", "wide")
OWNERS = ("my", "your")
KINDS = ("colour", "size")
WORDS = (" is", ",", ";", " so", " then", " thus", " hence", " now")
BOS = "<bos>"
UNKNOWN = "<unk>"

LENGTH = 14
QUESTION = 12
CLAUSE = 4  # tokens from a clause's owner to the comma or semicolon that ends it

Meaning = tuple[tuple[str, str], ...]


def vocabulary() -> dict[str, Meaning]:
    """Every token in the order of its id, with the values of the variables it stands for."""
    tokens: dict[str, Meaning] = {BOS: (("bos", BOS),), UNKNOWN: ()}
    tokens |= {word: (("word", word.strip()),) for word in WORDS}
    tokens |= {
        form: (("owner", owner),) for owner in OWNERS for form in (owner.capitalize(), f" {owner}")
    }
    tokens |= {f" {animal}": (("animal", animal),) for animal in ANIMALS}
    tokens |= {f" {colour}": (("kind", "colour"), ("colour", colour)) for colour in COLOURS}
    tokens |= {f" {size}": (("kind", "size"), ("size", size)) for size in SIZES}
    return tokens
