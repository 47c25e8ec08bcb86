"""Models by name, or as they stand in memory: a transformers model with its tokenizer.

What is in memory goes through the same door as a folder: it is written to one that lasts as long
as loading does, so that the same checks are made and its revision is that of the saved files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, Unpack

from sage.errors import SageError
from sage.models import load
from sage.models.base import Model


class Options(TypedDict, total=False):
    """How to run a model; the defaults are those of `sage.models.load.load_model`."""

    backend: str
    device: str | None
    dtype: str
    remote: bool
    batch_size: int | None
    partial: bool
    bos: bool | None


def load_model(
    model: Any, tokenizer: Any = None, *, name: str | None = None, **options: Unpack[Options]
) -> Model:
    """The model of that name, hub id or local folder in Hugging Face format; or a loaded
    transformers model with its tokenizer, as it is at this moment.

    `name` is what results call a loaded model (its configuration's name, or `in memory`).
    `backend` is "transformer-lens" or "nnsight"; `device` the accelerator by default, where there
    is one; `dtype` "float32", "bfloat16" or "float16"; `bos` whether prompts begin with the BOS
    token. Raises UnknownName, BadFile for missing or damaged files, Unsupported for an architecture
    or option sage does not have, SageError for a model without its tokenizer.

        model = sage.load_model("tiny-gpt2")
        model = sage.load_model(AutoModelForCausalLM.from_pretrained(...), tokenizer)
    """
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise SageError(
                f"'{model}' names a model that has its own tokenizer. Give its name alone."
            )
        loaded = load.load_model(str(model), **options)
        return loaded if name is None else replace(loaded, name=name)
    if not hasattr(model, "save_pretrained"):
        raise SageError(
            f"A {type(model).__name__} is no model of transformers. Give one, or a name, a hub id "
            "or a folder."
        )
    if tokenizer is None:
        raise SageError(
            "A loaded model needs its tokenizer: sage.load_model(model, tokenizer). Prompts are "
            "written by rule and must be read as the model reads them."
        )
    with TemporaryDirectory(prefix="sage-") as folder:
        _save(model, tokenizer, folder)
        loaded = load.load_model(folder, **options)
    return replace(loaded, name=name or _name(model))


def _save(model: Any, tokenizer: Any, folder: str) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    finally:
        logging.enable_progress_bar()


def _name(model: Any) -> str:
    """What a model's configuration calls it, without a path."""
    return Path(str(getattr(model.config, "_name_or_path", ""))).name or "in memory"
