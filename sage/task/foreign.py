"""Task files are code: what they raise is their author's to mend, and that they run is said.

A task's functions are called all over a run; whatever they raise comes out as a BadTask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sage.errors import BadTask, SageError
from sage.files import cache_folder, file_digest, first_line

Given = TypeVar("Given")
Said = TypeVar("Said")

_SEEN = "task-files-seen"


def ask(what: str, function: Callable[[Given], Said], given: Given) -> Said:
    """What a function of a task says of something; BadTask where it raises instead, or would end
    the program."""
    try:
        return function(given)
    except SageError:
        raise
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise BadTask(f"{what} fails on {_shown(given)}: {said}") from error


def say_that_it_runs(path: Path) -> None:
    """Say, the first time this very file is used, that its code runs.

    Which files were used stands in the cache, by their digests.
    """
    digest = file_digest(path)
    with suppress(OSError, SageError):
        seen = cache_folder() / _SEEN
        if seen.is_file() and digest in seen.read_text(encoding="utf-8", errors="replace"):
            return
        seen.parent.mkdir(parents=True, exist_ok=True)
        with seen.open("a", encoding="utf-8") as file:
            file.write(f"{digest}\n")
    logging.getLogger("sage").warning(
        "%s is a program: its code runs with your rights. Read it first if you did not write it.",
        path,
    )


def _shown(given: Any) -> str:
    text = getattr(given, "text", given)
    return repr(text)[:120]
