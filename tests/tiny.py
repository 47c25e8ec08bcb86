"""Small models with random weights in the real Hugging Face format, one for each family sage knows.

Every norm weight is away from 1 and every bias away from 0, so that a forgotten one shows. The
tokenizer is word-level with leading-space tokens. Sizes are in `tests.families`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized
from tests.families import EVERY, FAMILIES

__all__ = ["FAMILIES", "edit_config", "random_prompts", "save_random_model", "save_tokenizer"]

PIECE = r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+"
WORDS = """
    When Then After While and or went to the a an store park school office gave give book ball
    drink ring had said was were is are has have do does many near behind Mary John Alice Bob
    Carol David Emma Frank Grace Henry boy boys girl girls author authors car cars teacher
    teachers red green blue fish cat dog tree house he she they it one two three . , ? !
""".split()


def save_random_model(
    folder: Path, family: str, seed: int = 0, *, texts: Iterable[str] = (), **config: Any
) -> Path:
    """A random model of the family (see `tests.families`) with its tokenizer, saved in `folder`;
    returns the folder.

    The vocabulary holds WORDS and every piece of `texts`, each with and without a leading space.
    `config` overrides fields of the family's Hugging Face configuration; a field the configuration
    does not know (`sage_bos`) is written to config.json.
    """
    import transformers

    vocabulary = save_tokenizer(folder, texts)
    shared = {
        "vocab_size": len(vocabulary),
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    entry = EVERY[family]
    fields = {**entry.sizes, **shared, **config}
    make_config, make_model = (getattr(transformers, name) for name in (entry.config, entry.model))
    model = make_model(make_config(**fields))
    _randomise(model, seed, centred=entry.centred)
    model.save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path, texts: Iterable[str] = ()) -> dict[str, int]:
    """Write tokenizer.json and its companions for WORDS and the pieces of `texts`; returns the
    vocabulary."""
    import re

    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = [*WORDS, *(piece.strip() for text in texts for piece in re.findall(PIECE, text))]
    vocabulary = {"<bos>": 0, "<unk>": 1}
    for word in dict.fromkeys(pieces):
        for form in (word, " " + word):
            vocabulary.setdefault(form, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<bos>", unk_token="<unk>"
    )
    folder.mkdir(parents=True, exist_ok=True)
    fast.save_pretrained(folder)
    return vocabulary


def random_prompts(
    count: int, seed: int = 0, *, lengths: Sequence[int] = (5, 8, 6), vocabulary: int = 100
) -> list[Tokenized]:
    """Prompts of random ids with the positions A (index 1), B (index 3) and END, one answer and one
    foil each, no two alike.

    `lengths` are taken in turn. The text is a label, not a decoding of the ids.
    """
    generator = torch.Generator().manual_seed(seed)
    made: list[Tokenized] = []
    for number in range(count):
        length = lengths[number % len(lengths)]
        ids = torch.randint(2, vocabulary, (length,), generator=generator).tolist()
        answer, foil = torch.randperm(vocabulary - 2, generator=generator)[:2].add(2).tolist()
        prompt = Prompt(
            f"random {seed}.{number}", "random", "random", {}, {}, {}, (str(answer),), (str(foil),)
        )
        made.append(
            Tokenized(prompt, tuple(ids), {"A": 1, "B": 3, "END": length - 1}, (answer,), (foil,))
        )
    return made


def edit_config(folder: Path, **fields: Any) -> Path:
    """Set fields of a saved model's config.json as they are; returns the folder."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


def _randomise(model: torch.nn.Module, seed: int, *, centred: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                away = noise.sign() * (0.2 + 0.2 * noise.abs())
                unit = name.endswith("weight") and not centred
                parameter.copy_(away + unit)
            else:
                inputs = parameter.shape[0] if "c_" in name else parameter.shape[1]
                parameter.copy_(0.5 * noise if _embeds(name) else 1.3 * noise / inputs**0.5)


def _embeds(name: str) -> bool:
    return any(part in name for part in ("wte", "wpe", "embed_in", "embed_tokens"))
