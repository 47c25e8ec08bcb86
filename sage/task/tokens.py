"""Prompts as a model reads them: token ids, and the token index of every named position.

A slot's position is its last token; `X:first` is its first, `X+1` the token after its last, END the
last of the prompt (method, section 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sage.errors import BadTask, Unsupported
from sage.task.task import END, Pair, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as FastTokenizer
else:
    FastTokenizer = Any

Encode = Callable[[Prompt], "Tokenized"]


@dataclass(frozen=True)
class Tokenized:
    """A prompt with its token ids for one tokenizer; `index` maps every named position to its place
    in `ids`.

    In a pair the counterfactual is *aligned*: where its tokens up to the clean prompt's index of a
    name equal the clean prompt's, that index is used (method, section 1), so reading a name in both
    reads what a patch exchanges.
    """

    prompt: Prompt
    ids: tuple[int, ...]
    index: Mapping[str, int]
    answers: tuple[int, ...]
    foils: tuple[int, ...]


@dataclass(frozen=True)
class TokenizedPair:
    """A prompt and its aligned counterfactual under one contrast, as one model reads them."""

    clean: Tokenized
    counterfactual: Tokenized
    contrast: str


def tokenize(prompt: Prompt, tokenizer: FastTokenizer, *, bos: bool) -> Tokenized:
    """A prompt's ids, beginning with the BOS token where `bos`, its named positions and its answers
    and foils as token ids.

    Raises BadTask where a token reaches beyond the end of a slot, or an answer does not continue
    the text as one token.
    """
    pieces = encode(prompt.text, tokenizer)
    if pieces.unknown:
        word = prompt.text[slice(*pieces.spans[pieces.unknown[0]])]
        raise BadTask(
            f"'{word}', in '{prompt.text}', is not in the model's vocabulary. Audit the task for this tokenizer, or use other words."
        )
    offset = 1 if bos else 0
    index: dict[str, int] = {}
    for name, span in prompt.spans.items():
        first, last = pieces.covering(span)
        if pieces.spans[last][1] > span[1]:
            token, word = prompt.text[slice(*pieces.spans[last])], prompt.text[slice(*span)]
            raise BadTask(
                f"In '{prompt.text}' the token '{token}' reaches beyond {name}, '{word}': it has no position of its own."
            )
        index |= {name: last + offset, f"{name}:first": first + offset}
        if last + 1 < len(pieces.ids):
            index[f"{name}+1"] = last + 1 + offset
    index[END] = len(pieces.ids) - 1 + offset
    return Tokenized(
        prompt,
        (*_beginning(tokenizer, bos), *pieces.ids),
        index,
        tuple(_continuation(prompt.text, answer, tokenizer) for answer in prompt.answers),
        tuple(_continuation(prompt.text, foil, tokenizer) for foil in prompt.foils),
    )


def tokenize_pair(pair: Pair, tokenizer: FastTokenizer, *, bos: bool) -> TokenizedPair:
    """A pair as one model reads it, the counterfactual aligned with the clean prompt."""
    clean = tokenize(pair.clean, tokenizer, bos=bos)
    return TokenizedPair(
        clean, align(clean, tokenize(pair.counterfactual, tokenizer, bos=bos)), pair.contrast
    )


def align(clean: Tokenized, counterfactual: Tokenized) -> Tokenized:
    """The counterfactual with its positions named so that reading a name in both prompts reads what
    a patch exchanges.

    A name's index in the clean prompt is used where both prompts have the same tokens up to and
    including it: what a contrast renames there (IOI's `repeated` swaps IO and S1) is no difference
    between the prompts.
    """
    same = first_difference(clean, counterfactual)
    return replace(
        counterfactual,
        index={
            **counterfactual.index,
            **{name: at for name, at in clean.index.items() if at < same},
        },
    )


def first_difference(clean: Tokenized, counterfactual: Tokenized) -> int:
    """The index of the first token in which two prompts differ; the shorter length where none does."""
    both = zip(clean.ids, counterfactual.ids, strict=False)
    return next(
        (at for at, (one, other) in enumerate(both) if one != other),
        min(len(clean.ids), len(counterfactual.ids)),
    )


@dataclass(frozen=True)
class Pieces:
    """The tokens of a text: ids, the characters each stands for (a leading space included or not),
    and which are unknown words."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    unknown: tuple[int, ...]

    def covering(self, span: tuple[int, int]) -> tuple[int, int]:
        """The first and the last token that share characters with the span."""
        inside = [
            at for at, (start, end) in enumerate(self.spans) if start < span[1] and end > span[0]
        ]
        if not inside:
            raise BadTask(
                f"The tokenizer drops the characters {span[0]} to {span[1]} of a text that must be read whole."
            )
        return inside[0], inside[-1]


def encode(text: str, tokenizer: FastTokenizer) -> Pieces:
    """The tokens of a text, none added."""
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    unknown = _unknown(tokenizer)
    return Pieces(
        tuple(encoding.ids),
        tuple(encoding.offsets),
        tuple(at for at, token in enumerate(encoding.ids) if token == unknown),
    )


def continuation(text: str, answer: str, tokenizer: FastTokenizer) -> int | None:
    """The one token with which `answer` continues `text` and leaves the tokens before it as they
    are; None where there is none."""
    return _continue(_tail(text), answer, tokenizer)


def _continuation(text: str, answer: str, tokenizer: FastTokenizer) -> int:
    token = continuation(text, answer, tokenizer)
    if token is None:
        tokens = len(encode(text + answer, tokenizer).ids) - len(encode(text, tokenizer).ids)
        raise BadTask(
            f"'{answer}' does not continue '{text}' as one token (it adds {tokens}). Audit the task, or give other answers."
        )
    return token


def _tail(text: str) -> str:
    """The last two words of a text: tokens never depend on more than their own word and the space
    before it."""
    return " ".join(text.rsplit(" ", 2)[-2:])


@lru_cache(maxsize=100_000)
def _continue(tail: str, answer: str, tokenizer: FastTokenizer) -> int | None:
    before, after = encode(tail, tokenizer), encode(tail + answer, tokenizer)
    known = len(after.unknown) == len(before.unknown)
    return after.ids[-1] if known and after.ids[:-1] == before.ids else None


@lru_cache(maxsize=16)
def _unknown(tokenizer: FastTokenizer) -> int | None:
    found = tokenizer.unk_token_id
    return found if isinstance(found, int) else None


def _beginning(tokenizer: FastTokenizer, bos: bool) -> tuple[int, ...]:
    if not bos:
        return ()
    found = tokenizer.bos_token_id
    if not isinstance(found, int):
        raise Unsupported(
            "This tokenizer has no BOS token. Load the model without one (bos=False)."
        )
    return (found,)
