"""The tokenizer of the embedded models: word-level, tokens with their leading space.

Years are two two-digit tokens.
"""

from __future__ import annotations

from typing import Any

from sage.zoo.corpus import TOKEN, vocabulary

BOS, UNKNOWN = "<bos>", "<unk>"


def make_tokenizer() -> Any:
    """The tokenizer whose vocabulary is every token of the corpus, the same for all models."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {token: number for number, token in enumerate([BOS, UNKNOWN, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, unk_token=UNKNOWN
    )
