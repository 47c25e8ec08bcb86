"""A model's tokenizer, with the model or without it: to ask what it can carry."""

from __future__ import annotations

from pathlib import Path

from sage.errors import BadFile
from sage.models.catalog import find_folder
from sage.models.folder_check import plain_tokenizer
from sage.task.tokens import FastTokenizer


def load_tokenizer(name: str) -> FastTokenizer:
    """The tokenizer of a model by name, hub id or local folder. Raises as `read_tokenizer`."""
    return read_tokenizer(find_folder(name))


def read_tokenizer(folder: Path) -> FastTokenizer:
    """The tokenizer in a model's folder; BadFile where it has none that finds positions by
    characters."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file():
        raise BadFile(
            f"{folder} has no tokenizer.json. sage finds positions by characters, so it needs a "
            "fast tokenizer."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise BadFile(
            f"{folder} has no usable tokenizer ({error}). It needs tokenizer.json."
        ) from error
    return plain_tokenizer(tokenizer)
