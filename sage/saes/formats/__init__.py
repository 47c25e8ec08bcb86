"""SAE files: four formats, told apart by the files that are there.

One file each: `recognises`, `describe`, `load`, `save`. Adding a format is adding a file and naming
it in FORMATS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from sage.errors import BadFile
from sage.saes.formats import dictionary_learning, gemma_scope, saelens, sparsify
from sage.saes.formats.reading import Described
from sage.saes.sae import SAE


@runtime_checkable
class Format(Protocol):
    """What a format's file offers. Every function takes the SAE's folder, or one of the files in
    it."""

    def recognises(self, path: Path) -> bool:
        """Whether an SAE of this format is there, by the names of the files alone."""
        ...

    def describe(self, path: Path) -> Described:
        """Hook, width and stated sparsity, without the weights."""
        ...

    def load(self, path: Path) -> SAE:
        """The SAE; BadFile where the files are damaged or contradict each other."""
        ...

    def save(self, sae: SAE, path: Path) -> None:
        """Write the SAE; Unsupported where the format has no words for it."""
        ...


FORMATS: tuple[Format, ...] = (saelens, gemma_scope, dictionary_learning, sparsify)


def recognised(path: Path) -> bool:
    """Whether a file or folder holds one SAE in some format."""
    return any(form.recognises(path) for form in FORMATS)


def load_file(path: Path | str) -> SAE:
    """The SAE in a local file or folder of any format; BadFile where there is none, or a damaged
    one."""
    path = Path(path).expanduser()
    return _format_of(path).load(path)


def describe_file(path: Path | str) -> Described:
    """Hook, width and stated sparsity of the SAE in a local file or folder, without reading its
    weights."""
    path = Path(path).expanduser()
    return _format_of(path).describe(path)


def _format_of(path: Path) -> Format:
    for form in FORMATS:
        if form.recognises(path):
            return form
    raise BadFile(
        f"{path}: not an SAE in a known format ({_found(path)}). Known: a folder with cfg.json and sae_weights.safetensors (SAELens), "
        "params.npz (Gemma Scope), ae.pt and config.json (dictionary_learning), or cfg.json and sae.safetensors (sparsify)."
    )


def _found(path: Path) -> str:
    if not path.exists():
        return "nothing is there"
    if path.is_file():
        return "a file of another name"
    names = sorted(entry.name for entry in path.iterdir())
    return f"it holds {', '.join(names[:8]) or 'nothing'}{', ...' if len(names) > 8 else ''}"
