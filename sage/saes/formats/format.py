"""What a format's file offers: to recognise an SAE, to describe it, and to load it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from sage.nodes import Node
from sage.saes.sae import SAE, Stated


class Description(NamedTuple):
    """What a file says of its SAE before any weight is read."""

    hook: Node
    width: int
    stated: Stated


@runtime_checkable
class Format(Protocol):
    """A module of this folder. Every function takes the SAE's folder, or one of the files in it.

    `TITLE`: what people call the format. `FILES`: the files of an SAE, the last one its weights.
    `LOADER`: what the registry of sae-lens calls it. A format that can be written has `save` too.
    """

    TITLE: str
    FILES: tuple[str, ...]
    LOADER: str

    def recognises(self, path: Path) -> bool:
        """Whether an SAE of this format is there, by the names of the files alone."""
        ...

    def describe(self, path: Path) -> Description:
        """Hook, width and stated sparsity, without the weights."""
        ...

    def load(self, path: Path) -> SAE:
        """The SAE; BadFile where the files are damaged or contradict each other."""
        ...
