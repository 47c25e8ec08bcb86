"""What an architecture's file defines: its encoder, what trains it, its names elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic

from sage.errors import SageError, unknown
from sage.saes.architectures import architecture_names
from sage.saes.sae import SAE
from sage.saes.stored import DictionaryClass, E, SAELensForm
from sage.saes.training_settings import TrainingSettings


def _nothing() -> None:
    """Most architectures are known to sae-lens."""


def _as_it_is(sae: SAE) -> SAE:
    """Most SAEs can be stored as they are."""
    return sae


@dataclass(frozen=True)
class Trainer:
    """How sae-lens trains an architecture.

    `name`: that of its training class there. `configure`: what the class's configuration takes
    beside the sizes; raises SageError for settings that the architecture cannot be trained with.
    `options`: those of the settings' options that it reads. `register` makes sae-lens know the
    class, where it does not by itself.
    """

    name: str
    configure: Callable[[TrainingSettings], dict[str, Any]]
    options: tuple[str, ...] = ()
    register: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Architecture(Generic[E]):
    """One architecture.

    `dictionary_learning`: the classes there that hold it. `storable` gives the SAE that computes
    the same and that other libraries have words for.
    """

    trainer: Trainer
    saelens: SAELensForm[E]
    dictionary_learning: tuple[DictionaryClass[E], ...] = ()
    storable: Callable[[SAE], SAE] = _as_it_is


def architectures() -> dict[str, Architecture[Any]]:
    """Every architecture, by name."""
    return {name: find_architecture(name) for name in architecture_names()}


def find_architecture(name: str) -> Architecture[Any]:
    """The architecture of that name."""
    if name not in architecture_names():
        raise unknown("SAE architecture", name, architecture_names())
    return import_module(f"{__package__}.{name}").architecture


def trainer_settings(settings: TrainingSettings) -> dict[str, Any]:
    """What sae-lens is told of a training beside the sizes; SageError where it cannot be."""
    trainer = find_architecture(settings.architecture).trainer
    if strange := sorted(set(settings.options) - set(trainer.options)):
        raise SageError(
            f"The training of {settings.architecture} has no option '{strange[0]}'. "
            f"There are: {', '.join(trainer.options) or 'none'}."
        )
    return trainer.configure(settings)


def l1_penalty(settings: TrainingSettings) -> dict[str, Any]:
    """The penalty on the L1 norm of codes, as sae-lens is told of it."""
    return {"l1_coefficient": settings.penalty, "l1_warm_up_steps": settings.warm_up}
