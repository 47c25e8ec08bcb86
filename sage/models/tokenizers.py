"""A model's tokenizer without the model: to ask what it can carry."""

from __future__ import annotations

from sage.errors import BadFile
from sage.models.catalog import find_folder
from sage.task.tokens import FastTokenizer


def load_tokenizer(name: str) -> FastTokenizer:
    """The tokenizer of a model by name, hub id or local folder; BadFile where it has none that
    finds positions by characters."""
    from transformers import AutoTokenizer

    folder = find_folder(name)
    if not (folder / "tokenizer.json").is_file():
        raise BadFile(
            f"{folder} has no tokenizer.json. sage finds positions by characters, so it needs a "
            "fast tokenizer."
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise BadFile(f"{folder} has no usable tokenizer ({error}).") from error
