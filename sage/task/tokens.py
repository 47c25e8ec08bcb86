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
    """A prompt with its token ids for one tokenizer.

    `index` maps every named position to its place in `ids`. In a pair the counterfactual is
    *aligned*: where its tokens up to the clean prompt's index of a name equal the clean prompt's,
    that index is used (method, section 1), so reading a name in both reads what a patch exchanges.
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
    """A prompt's ids, its named positions, and its answers and foils as token ids.

    The ids begin with the BOS token where `bos`. Raises BadTask where a word is unknown, a token
    reaches beyond the end of a slot, or an answer does not continue the text as one token.
    """
    tokens = encode(prompt.text, tokenizer)
    if tokens.unknown:
        word = prompt.text[slice(*tokens.spans[tokens.unknown[0]])]
        raise BadTask(
            f"'{word}', in '{prompt.text}', is not in the model's vocabulary. "
            "Audit the task for this tokenizer, or use other words."
        )
    beginning = _bos_ids(tokenizer) if bos else ()
    return Tokenized(
        prompt,
        (*beginning, *tokens.ids),
        {name: at + len(beginning) for name, at in _position_index(prompt, tokens).items()},
        tuple(_answer_token(prompt.text, answer, tokenizer) for answer in prompt.answers),
        tuple(_answer_token(prompt.text, foil, tokenizer) for foil in prompt.foils),
    )


def tokenize_pair(pair: Pair, tokenizer: FastTokenizer, *, bos: bool) -> TokenizedPair:
    """A pair as one model reads it, the counterfactual aligned with the clean prompt."""
    clean = tokenize(pair.clean, tokenizer, bos=bos)
    counterfactual = tokenize(pair.counterfactual, tokenizer, bos=bos)
    return TokenizedPair(clean, align(clean, counterfactual), pair.contrast)


def align(clean: Tokenized, counterfactual: Tokenized) -> Tokenized:
    """The counterfactual, its positions named so that a name reads what a patch exchanges.

    A name's index in the clean prompt is used where both prompts have the same tokens up to and
    including it: what a contrast renames there (IOI's `repeated` swaps IO and S1) is no difference
    between the prompts.
    """
    start = first_difference(clean, counterfactual)
    shared = {name: at for name, at in clean.index.items() if at < start}
    return replace(counterfactual, index={**counterfactual.index, **shared})


def first_difference(clean: Tokenized, counterfactual: Tokenized) -> int:
    """The index of the first token in which two prompts differ; else the shorter length."""
    both = zip(clean.ids, counterfactual.ids, strict=False)
    for at, (clean_id, counterfactual_id) in enumerate(both):
        if clean_id != counterfactual_id:
            return at
    return min(len(clean.ids), len(counterfactual.ids))


@dataclass(frozen=True)
class TextTokens:
    """The tokens of a text.

    `spans` are the characters each stands for, a leading space included or not; `unknown` are the
    indices of unknown words.
    """

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
                f"The tokenizer drops the characters {span[0]} to {span[1]} of a text "
                "that must be read whole."
            )
        return inside[0], inside[-1]


def encode(text: str, tokenizer: FastTokenizer) -> TextTokens:
    """The tokens of a text, none added."""
    encoding = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    unknown_id = _unknown_id(tokenizer)
    return TextTokens(
        tuple(encoding.ids),
        tuple(encoding.offsets),
        tuple(at for at, token_id in enumerate(encoding.ids) if token_id == unknown_id),
    )


def continuation(text: str, answer: str, tokenizer: FastTokenizer) -> int | None:
    """The one token with which `answer` continues `text`.

    None where there is none that leaves the tokens before it as they are.
    """
    return _continuation_of_tail(_last_words(text), answer, tokenizer)


def _position_index(prompt: Prompt, tokens: TextTokens) -> dict[str, int]:
    """The token of every named position, without BOS."""
    index: dict[str, int] = {}
    for name, span in prompt.spans.items():
        first, last = tokens.covering(span)
        if tokens.spans[last][1] > span[1]:
            token, word = prompt.text[slice(*tokens.spans[last])], prompt.text[slice(*span)]
            raise BadTask(
                f"In '{prompt.text}' the token '{token}' reaches beyond {name}, '{word}': "
                "it has no position of its own."
            )
        index |= {name: last, f"{name}:first": first}
        if last + 1 < len(tokens.ids):
            index[f"{name}+1"] = last + 1
    index[END] = len(tokens.ids) - 1
    return index


def _answer_token(text: str, answer: str, tokenizer: FastTokenizer) -> int:
    token_id = continuation(text, answer, tokenizer)
    if token_id is None:
        added = len(encode(text + answer, tokenizer).ids) - len(encode(text, tokenizer).ids)
        raise BadTask(
            f"'{answer}' does not continue '{text}' as one token (it adds {added}). "
            "Audit the task, or give other answers."
        )
    return token_id


def _last_words(text: str) -> str:
    """The last two words: tokens depend on no more than their own word and the space before it."""
    return " ".join(text.rsplit(" ", 2)[-2:])


@lru_cache(maxsize=100_000)
def _continuation_of_tail(tail: str, answer: str, tokenizer: FastTokenizer) -> int | None:
    before, after = encode(tail, tokenizer), encode(tail + answer, tokenizer)
    if after.ids[:-1] != before.ids or len(after.unknown) != len(before.unknown):
        return None
    return after.ids[-1]


@lru_cache(maxsize=16)
def _unknown_id(tokenizer: FastTokenizer) -> int | None:
    token_id = tokenizer.unk_token_id
    return token_id if isinstance(token_id, int) else None


def _bos_ids(tokenizer: FastTokenizer) -> tuple[int, ...]:
    token_id = tokenizer.bos_token_id
    if not isinstance(token_id, int):
        raise Unsupported(
            "This tokenizer has no BOS token. Load the model without one (bos=False)."
        )
    return (token_id,)
