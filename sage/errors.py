"""Mistakes a user can put right: each says what was given, what is possible and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_MOST_LISTED = 40


class SageError(Exception):
    """A mistake that a user can put right, printed by the command line without a traceback.

    Everything else that is raised is a defect of sage.
    """


class SageWarning(UserWarning):
    """Something is likely not as the user believes; the numbers are computed all the same."""


class UnknownName(SageError):
    """No task, model, attribute, contrast, circuit or SAE goes by that name."""


class BadTask(SageError):
    """A task contradicts itself, or cannot be run on this tokenizer or model."""


class BadFile(SageError):
    """A file is missing, truncated, damaged, or not what it claims to be."""


class Unsupported(SageError):
    """The request is clear, and this model, format or machine cannot do it."""


def unknown(what: str, given: str, possible: Iterable[str], *, remedy: str = "") -> UnknownName:
    """The error for a name that nothing bears: `No task is named 'ioo'. Did you mean 'ioi'?`

    `what` says of what kind the name is; `remedy` is a last sentence on what else may be given.
    """
    names = sorted(set(possible))
    near = difflib.get_close_matches(given, names, n=3, cutoff=0.5)
    sentences = [f"No {what} is named '{given}'."]
    if near:
        sentences.append(f"Did you mean {_either(near)}?")
    if not names:
        sentences.append("There are none.")
    elif len(names) <= _MOST_LISTED:
        sentences.append(f"There are: {', '.join(names)}.")
    else:
        sentences.append(f"There are {len(names)} of them.")
    if remedy:
        sentences.append(remedy)
    return UnknownName(" ".join(sentences))


def _either(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]
