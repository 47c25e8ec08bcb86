"""Ordinary text of the embedded models: what their own corpus says, for the text lookup."""

from __future__ import annotations

from functools import cache

from sage.models.base import Model
from sage.scores.text import Text, no_text, text_of
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized

TEXTS = 4000
# A stream of its own: no model or SAE was trained on these draws.
_SEED = 12345


def default_text(model: Model) -> Text:
    """The corpus for an embedded model; no text for any other.

    text = sage.default_text(sage.load_model("tiny-gpt2"))
    """
    prompts = corpus_prompts(model)
    return text_of(prompts) if prompts else no_text


def corpus_prompts(model: Model) -> list[Tokenized]:
    """The corpus as an embedded model reads it, nothing for any other."""
    from sage.models.catalog import is_embedded

    if not is_embedded(model.name):
        return []
    return [_tokenized(model, text) for text in _texts()]


@cache
def _texts() -> list[str]:
    """The same for every model, and a few seconds to make."""
    from sage.zoo.corpus import corpus_texts

    return [text.text for text in corpus_texts(TEXTS, seed=_SEED)]


def _tokenized(model: Model, text: str) -> Tokenized:
    ids = model.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    bos = model.tokenizer.bos_token_id
    start = (bos,) if model.bos and isinstance(bos, int) else ()
    return Tokenized(Prompt(text, "", "", {}, {}, {}, (), ()), (*start, *ids), {}, (), ())
