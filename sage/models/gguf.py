"""GGUF files as model folders: the weights dequantised, once, into the cache.

transformers reads GGUF through the package `gguf`; the model it makes of one takes itself for
quantised and cannot be saved, so a plain model is given the weights.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sage.errors import BadFile, Unsupported
from sage.files import cache_folder, file_digest, first_line

SUFFIX = ".gguf"
_BOS_FIELD = "tokenizer.ggml.add_bos_token"


def gguf_folder(file: Path) -> Path:
    """The model folder of a GGUF file, made in the cache when it is first asked for.

    Unsupported without the package `gguf`, BadFile for a file that transformers cannot read.
    """
    folder = cache_folder() / "models" / f"{file.stem}-{file_digest(file)[:12]}"
    return folder if (folder / "config.json").is_file() else convert(file, folder)


def convert(file: Path, folder: Path, *, bos: bool | None = None) -> Path:
    """Write a GGUF file as a folder in Hugging Face format, half precision; whole or not at all.

    `bos` is whether the model's prompts begin with BOS; by default what the file says.
    """
    if find_spec("gguf") is None:
        raise Unsupported(f"{file} is GGUF; to read it, `pip install gguf`.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        begins = _says_bos(file) if bos is None else bos
        try:
            _write(file, made)
        except (ValueError, OSError, KeyError, NotImplementedError) as error:
            raise BadFile(f"{file} is no GGUF model to read: {first_line(error)}") from error
        config = json.loads((made / "config.json").read_text())
        if begins is not None:
            config["sage_bos"] = begins
        (made / "config.json").write_text(json.dumps(config, indent=2))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(made, folder)
    return folder


def _write(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **where)
    config: Any = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    weights = read.state_dict()
    tied = "lm_head.weight" not in weights or weights["lm_head.weight"].equal(
        read.get_input_embeddings().weight
    )
    config.tie_word_embeddings = tied
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(weights)
    plain.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _says_bos(file: Path) -> bool | None:
    """Whether the file says that its tokenizer adds BOS; None where it says nothing."""
    from gguf import GGUFReader  # type: ignore[import-not-found]

    fields: Any = GGUFReader(file).fields  # type: ignore[no-untyped-call]
    return bool(fields[_BOS_FIELD].contents()) if _BOS_FIELD in fields else None


if __name__ == "__main__":
    said = {"bos": True, "no-bos": False}.get(sys.argv[3] if len(sys.argv) > 3 else "")
    convert(Path(sys.argv[1]), Path(sys.argv[2]), bos=said)
