"""SAE files: formats, told apart by the files that are there.

One file each, found by listing this folder; adding one touches no other file. What it offers is a
`Format`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import cast

from sage.errors import BadFile
from sage.files import given_path
from sage.saes.formats.format import Description, Format
from sage.saes.sae import SAE

_MOST_LISTED = 8


def formats() -> tuple[Format, ...]:
    """Every format, first the one that sage itself writes."""
    names = sorted(module.name for module in iter_modules(__path__) if module.name != "format")
    names.sort(key=lambda name: name != "saelens")
    return tuple(cast("Format", import_module(f"{__name__}.{name}")) for name in names)


def recognised(path: Path) -> bool:
    """Whether a file or folder holds one SAE in some format; one that may not be looked into does
    not."""
    try:
        return any(form.recognises(path) for form in formats())
    except OSError:
        return False


def load_file(path: Path | str) -> SAE:
    """The SAE in a local file or folder of any format; BadFile where it is missing or damaged."""
    path = given_path(str(path))
    return _format_of(path).load(path)


def describe_file(path: Path | str) -> Description:
    """What a local file or folder says of its SAE, without reading the weights."""
    path = given_path(str(path))
    return _format_of(path).describe(path)


def _format_of(path: Path) -> Format:
    for form in formats():
        if form.recognises(path):
            return form
    known = [f"{' and '.join(form.FILES)} ({form.TITLE})" for form in formats()]
    raise BadFile(
        f"{path}: not an SAE in a known format ({_what_is_there(path)}). "
        f"Known: a folder with {', '.join(known[:-1])}, or {known[-1]}."
    )


def _what_is_there(path: Path) -> str:
    if not path.exists():
        return "nothing is there"
    if path.is_file():
        return "a file of another name"
    names = sorted(entry.name for entry in path.iterdir())
    listed = ", ".join(names[:_MOST_LISTED]) or "nothing"
    return f"it holds {listed}{', ...' if len(names) > _MOST_LISTED else ''}"
