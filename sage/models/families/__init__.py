"""Model families: one file each, found by listing this folder; adding one touches no other file.

A file defines `family`, a `Family`. Its name is the file's.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sage.models.families.family import Family


def families() -> dict[str, Family]:
    """Every family, by the model_type of its Hugging Face configuration."""
    names = sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in ("__init__", "family")
    )
    modules = [import_module(f"{__name__}.{name}") for name in names]
    return {module.family.model_type: module.family for module in modules}
