"""The wired model on disk: a Hugging Face GPT-2 folder, written once for each seed.

Without a folder it goes to the user's cache, under a name made from the seed and from the code that
writes it, so that a changed constructor never meets an old folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sage.errors import BadFile
from sage.files import cache_folder, one_process_at_once
from sage.models.wired import language
from sage.models.wired.circuit import N_HEADS, N_LAYERS
from sage.models.wired.layout import D_MODEL
from sage.models.wired.weights import D_MLP, EPSILON, N_POSITIONS, draw, tensors

_PIECES = r" ?[A-Za-z]+|[,;]"


def wired_folder(seed: int = 0, folder: Path | None = None) -> Path:
    """Write the wired model of a seed (config.json, model.safetensors, tokenizer.json) and return
    its folder.

    Without `folder` it is one in the cache, written only where it is not there. A reader never sees
    half a file. BadFile where nothing can be written.
    """
    target = folder or cache_folder() / f"wired-{seed}-{_fingerprint()}"
    try:
        if folder is not None:
            _write_anew(seed, target)
        elif not target.is_dir():
            with one_process_at_once(target):
                _clean_beside(target)
                _write_anew(seed, target)
    except OSError as error:
        raise BadFile(
            f"The wired model cannot be written to {target}: {error}. "
            "Set SAGE_CACHE to a folder that can be written."
        ) from error
    return target


def _clean_beside(target: Path) -> None:
    """Remove what a process left that was killed while it wrote."""
    for left in target.parent.glob(f"{_unfinished(target)}*"):
        shutil.rmtree(left, ignore_errors=True)


def _write_anew(seed: int, target: Path) -> None:
    """Write the model beside its place and move it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=_unfinished(target)) as scratch:
        _install(_write(seed, Path(scratch) / "model"), target)


def _unfinished(target: Path) -> str:
    return f".{target.name}-"


def _install(written: Path, target: Path) -> None:
    """Rename a finished folder to its place; where there is one already (another process was
    faster), replace its files."""
    try:
        written.rename(target)
    except OSError:
        for path in sorted(written.iterdir()):
            path.replace(target / path.name)


def _write(seed: int, folder: Path) -> Path:
    from safetensors.numpy import save

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_config(), indent=2))
    (folder / "tokenizer.json").write_text(_tokenizer())
    (folder / "tokenizer_config.json").write_text(json.dumps(_tokenizer_config(), indent=2))
    (folder / "model.safetensors").write_bytes(save(tensors(draw(seed)), metadata={"format": "pt"}))
    return folder


def _fingerprint() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]


def _config() -> dict[str, Any]:
    bos = list(language.vocabulary()).index(language.BOS)
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": len(language.vocabulary()),
        "n_positions": N_POSITIONS,
        "n_embd": D_MODEL,
        "n_layer": N_LAYERS,
        "n_head": N_HEADS,
        "n_inner": D_MLP,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": EPSILON,
        "tie_word_embeddings": False,
        "bos_token_id": bos,
        "eos_token_id": bos,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "dtype": "float32",
    }


def _tokenizer() -> str:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    tokens = {token: index for index, token in enumerate(language.vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token=language.UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([language.BOS, language.UNKNOWN])
    return tokenizer.to_str()


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": language.BOS,
        "eos_token": language.BOS,
        "unk_token": language.UNKNOWN,
        "model_max_length": N_POSITIONS,
        "clean_up_tokenization_spaces": False,
    }
