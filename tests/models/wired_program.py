"""The wired circuit as a program on words: the planted features that every token holds at last."""

from __future__ import annotations

from collections.abc import Iterable

from sage.models.wired import language
from sage.task.task import Prompt

# What `previous` moves to the next token, and where the clauses of a prompt end.
MOVED = ("owner", "kind", "colour", "size")
ENDS = (5, 10)


def program(prompt: Prompt) -> list[set[str]]:
    """The planted features at every position of a prompt, once all parts have written."""
    words = ["<bos>", *prompt.text.replace(",", " ,").replace(";", " ;").split()]
    features = [{f"token position={t}"} | _named("token", about(w)) for t, w in enumerate(words)]
    owner, found, wanted = dict[int, str](), dict[int, str](), dict[int, str]()
    for t, word in enumerate(words):
        before = dict(about(words[t - 1])) if t else {}
        moved = [(variable, value) for variable, value in before.items() if variable in MOVED]
        features[t] |= _named("previous", moved)
        if "owner" in before:
            owner[t] = before["owner"]
        if t >= 4 and words[t - 4].lower() in language.OWNERS:
            features[t].add(f"clause owner={words[t - 4].lower()}")
        if word in language.ANIMALS:
            features[t].add(f"asked animal={word}")
            found[t] = owner[words.index(word)]
            features[t].add(f"found owner={found[t]}")
        if t - 1 in found:
            wanted[t] = found[t - 1]
            features[t].add(f"wanted owner={wanted[t]}")
    for t, asked in wanted.items():
        for end in ENDS:
            if words[end - 4].lower() == asked and end <= t:
                quality = about(words[end - 1])
                features[t] |= _named("looked up", quality) | _named("said", quality)
    return features


def _named(stage: str, pairs: Iterable[tuple[str, str]]) -> set[str]:
    return {f"{stage} {variable}={value}" for variable, value in pairs}


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
