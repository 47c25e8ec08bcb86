"""Model folders, from strangers: what is checked before and around the libraries that read them.

Their configurations are read field by field by code that trusts them; whatever that code raises
comes out as one sentence that names the folder.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from sage.errors import BadFile, SageError, Unsupported
from sage.files import first_line, is_out_of_memory

Given = ParamSpec("Given")
Loaded = TypeVar("Loaded")

# Names of sizes in the configurations of all families.
_SIZES = (
    "vocab_size", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads",
    "n_head", "num_key_value_heads", "head_dim", "intermediate_size", "n_positions",
    "max_position_embeddings",
)  # fmt: skip
_LARGEST_SIZE = 2**31 - 1
_LARGEST_CONFIG_BYTES = 10**7


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder; BadFile where it is none."""
    if path.stat().st_size > _LARGEST_CONFIG_BYTES:
        raise BadFile(f"{path} has {path.stat().st_size} bytes: too many for a configuration.")
    try:
        content: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"{path} is not JSON ({first_line(error)}).") from error
    if not isinstance(content, dict):
        raise BadFile(f"{path} is not a JSON object. Fetch the model again.")
    return cast("dict[str, Any]", content)


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """BadFile for sizes that are none and names of architectures that are no texts, Unsupported
    for weights that are quantised."""
    for name in _SIZES:
        size = config.get(name)
        whole = isinstance(size, int) and not isinstance(size, bool)
        if size is not None and not (whole and 1 <= cast("int", size) <= _LARGEST_SIZE):
            raise BadFile(f"{path} has {name} = {_shown(size)}; expected a whole number from 1.")
    names = config.get("architectures")
    listed = cast("list[object]", names) if isinstance(names, list) else None
    if names is not None and (listed is None or not all(isinstance(n, str) for n in listed)):
        raise BadFile(f"{path} has architectures = {_shown(names)}; expected a list of names.")
    if config.get("quantization_config") is not None:
        raise Unsupported(
            f"{path} has a quantization_config. sage reads weights in float32, bfloat16 or float16 "
            "alone: use the model that was quantised."
        )


def plain_tokenizer(tokenizer: Any) -> Any:
    """The tokenizer without the padding and the truncation that its file was saved with.

    transformers sets both anew each time a tokenizer is called, so what stands in the file never
    counts there.
    """
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def refusing(load: Callable[Given, Loaded]) -> Callable[Given, Loaded]:
    """A loader of models whose first argument is a name, and that raises BadFile for whatever the
    libraries below it raise: they trust a folder's files, and each fails in its own way."""

    @wraps(load)
    def refuse(*given: Given.args, **named: Given.kwargs) -> Loaded:
        inspect.signature(load).bind(*given, **named)
        try:
            return load(*given, **named)
        except (SageError, Warning):
            raise
        except BaseException as error:
            # The tokenizers library raises its panics as something that is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            name = given[0] if given else named.get("name")
            if is_out_of_memory(error):
                raise SageError(
                    f"There is not enough memory to load '{name}' ({first_line(error)}). "
                    "Free some, or give a smaller model or --dtype bfloat16."
                ) from error
            what = f"{type(error).__name__}: {first_line(error)}"
            remedy = "Look at the files in its folder, or fetch the model again."
            # Of os, whose answer to a name that no file can have is no.
            if not os.path.exists(os.path.expanduser(str(name))):
                remedy = (
                    "See whether the Hugging Face hub can be reached (HF_ENDPOINT says where it "
                    "is), or give a folder that has the model."
                )
            raise BadFile(f"'{name}' could not be loaded ({what}). {remedy}") from error

    return refuse


def _shown(value: object) -> str:
    return repr(value)[:80]
