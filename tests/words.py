"""A word-level tokenizer for tests: what a pattern finds, with its leading space, is one token."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = r" ?\w+| ?[^\w\s]"


def word_tokenizer(
    texts: Iterable[str], *, pattern: str = WORDS, bos: bool = True
) -> PreTrainedTokenizerFast:
    """The tokenizer whose vocabulary is the pieces of these texts.

    Token 0 is BOS, 1 stands for unknown words.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces: dict[str, None] = {}
    for text in texts:
        pieces |= dict.fromkeys(re.findall(pattern, text))
    vocabulary = {piece: number for number, piece in enumerate(["<bos>", "<unk>", *pieces])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", **({"bos_token": "<bos>"} if bos else {})
    )
