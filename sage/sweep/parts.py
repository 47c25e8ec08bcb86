"""Parts of divided cells, each scored into a folder of its own: no two workers write to one.

Whoever runs the sweep joins them when all are there.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sage.cells import joined
from sage.errors import SageError
from sage.evaluation import Evaluation
from sage.files import is_in_use, one_process_at_once, remove_shared
from sage.merging import merge
from sage.result_file import RESULT, load_arrays, load_result, save_result

# Where parts lie until they are joined, in the result folder.
PARTS = ".parts"


def part_folder(cell: Path, suites: Sequence[str]) -> Path:
    """The folder of some suites of the cell in this folder; it has the cell's name."""
    digest = hashlib.sha256("\n".join(suites).encode()).hexdigest()[:12]
    return cell.parent / PARTS / digest / cell.name


def join_parts(cell: Path, parts: Sequence[Path], *, again: bool = False) -> None:
    """Bring parts into the folder of their cell, in their order; BadFile where one is of another
    state than what stands there.

    A process that scores into that folder is waited for; of the same sweep given twice at once,
    whoever is first joins the parts.
    """
    with one_process_at_once(cell):
        for part in parts:
            if not (part / RESULT).is_file():
                continue
            before = load_result(cell) if (cell / RESULT).is_file() else None
            scored = Evaluation(load_result(part), load_arrays(part))
            whole = joined(before, scored, cell, again=again)
            save_result(whole.result, cell, arrays=whole.arrays)
        for part in parts:
            _remove(part)


def join_others(cell: Path, *, again: bool = False) -> None:
    """Suites that a cell which is whole lacks, from parts that a sweep left which divided it
    otherwise: of another file, or with another `together`.

    What cannot join, is unfinished or is to be scored `again` is removed; a part that another
    process is at is left to it.
    """
    for part in sorted((cell.parent / PARTS).glob(f"*/{glob.escape(cell.name)}")):
        if is_in_use(part):
            continue
        if (part / RESULT).is_file() and not again:
            with suppress(SageError), one_process_at_once(cell):
                whole = merge([load_result(cell), load_result(part)])
                save_result(whole, cell, arrays={**load_arrays(part), **load_arrays(cell)})
        _remove(part)


def _remove(part: Path) -> None:
    """Delete a part, and the folders around it that it leaves empty."""
    if part.is_dir():
        remove_shared(part)
    for empty in (part.parent, part.parent.parent):
        with suppress(OSError):
            empty.rmdir()
