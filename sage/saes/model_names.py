"""Names of the models that releases are for, which have several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from sage.errors import unknown


@runtime_checkable
class OfModel(Protocol):
    """What is for a model."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...


Entry = TypeVar("Entry", bound=OfModel)


def of_model(listed: Sequence[Entry], model: str | None, what: str) -> list[Entry]:
    """Those for a model, by any of its names, or all; UnknownName, which says what was looked for,
    where there are none."""
    if model is None:
        return list(listed)
    chosen = [entry for entry in listed if plain_name(entry.model) == plain_name(model)]
    if not chosen:
        raise unknown(what, model, {entry.model for entry in listed})
    return chosen


def plain_name(model: str) -> str:
    """A model's name without owner and capitals."""
    name = model.rsplit("/", 1)[-1].lower()
    return "gpt2-small" if name == "gpt2" else name
