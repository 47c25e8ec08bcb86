"""The wired circuit as a program on words: which planted features each token of a prompt holds once
all parts have written."""

from __future__ import annotations

from sage.models.wired import language
from sage.task.task import Prompt


def program(prompt: Prompt) -> list[set[str]]:
    """The planted features at every position of a prompt, once all parts have written."""
    words = ["<bos>", *prompt.text.replace(",", " ,").replace(";", " ;").split()]
    held = [
        {f"token position={t}", *(f"token {variable}={value}" for variable, value in about(word))}
        for t, word in enumerate(words)
    ]
    owner, found, wanted = dict[int, str](), dict[int, str](), dict[int, str]()
    for t, word in enumerate(words):
        before = dict(about(words[t - 1])) if t else {}
        held[t] |= {
            f"previous {variable}={value}"
            for variable, value in before.items()
            if variable in ("owner", "kind", "colour", "size")
        }
        owner |= {t: before["owner"]} if "owner" in before else {}
        if t >= 4 and words[t - 4].lower() in language.OWNERS:
            held[t].add(f"clause owner={words[t - 4].lower()}")
        if word in language.ANIMALS:
            held[t].add(f"asked animal={word}")
            found[t] = owner[words.index(word)]
            held[t].add(f"found owner={found[t]}")
        if t - 1 in found:
            wanted[t] = found[t - 1]
            held[t].add(f"wanted owner={wanted[t]}")
    ends = {t: words[t - 4].lower() for t in (5, 10)}
    for t, asked in wanted.items():
        for end in (end for end, whose in ends.items() if whose == asked and end <= t):
            held[t] |= {
                f"{done} {variable}={value}"
                for done in ("looked up", "said")
                for variable, value in about(words[end - 1])
            }
    return held


def about(word: str) -> list[tuple[str, str]]:
    """What a word means: variables and values."""
    if word.lower() in language.OWNERS:
        return [("owner", word.lower())]
    if word in language.ANIMALS:
        return [("animal", word)]
    for kind, values in (("colour", language.COLOURS), ("size", language.SIZES)):
        if word in values:
            return [("kind", kind), (kind, word)]
    return [("bos", word)] if word == language.BOS else [("word", word)]
