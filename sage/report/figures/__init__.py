"""Figures: one file each, found by listing this folder; adding one touches no other file.

A file defines `figure`, a `Figure`. Its name is the file's.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from sage.report.figures.figure import Figure, Page


def figures(page: Page | None = None) -> dict[str, Figure[Any]]:
    """Every figure by its name, or those of one page, in the order of their names."""
    names = sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in ("__init__", "figure")
    )
    listed = {name: import_module(f"{__name__}.{name}").figure for name in names}
    return {name: figure for name, figure in listed.items() if page in (None, figure.page)}
