"""Controls: dictionaries whose score is known or bounded, without which no score means anything.

Method, section 6. One file each, found by listing this folder; adding one touches no other file.
What it offers is a `ControlModule`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple, Protocol, cast, runtime_checkable

from sage.dictionaries.controls.setting import EVERY_SCORE, Setting
from sage.dictionaries.dictionary import Dictionary
from sage.errors import unknown

__all__ = [
    "EVERY_SCORE", "Control", "ControlModule", "Setting",
    "control_names", "load_control", "make_controls", "rivals",
]  # fmt: skip

# In the order in which they stand beside a score; a control that is not listed comes after these.
_ORDER = (
    "mean only", "random", "permuted", "untrained", "text lookup", "task lookup", "PCA", "neurons",
    "best-1", "best-4", "best-16", "best-64", "identity",
)  # fmt: skip


@runtime_checkable
class ControlModule(Protocol):
    """What a file of this folder gives: the names of its controls, and the scores in which they may
    be the best control (elsewhere they are lines)."""

    NAMES: tuple[str, ...]
    RIVAL: frozenset[str]

    def make(self, name: str, setting: Setting) -> Dictionary | None:
        """The control of that name; None where it cannot be had."""
        ...

    def depends(self, name: str, setting: Setting) -> tuple[object, ...] | None:
        """What it depends on beside the node set, so that suites share what is measured of it;
        None of one that is its suite's alone."""
        ...


class Control(NamedTuple):
    """One control of one suite at one node set; `content` as `depends` of its file, None where it
    is its suite's alone."""

    name: str
    dictionary: Dictionary
    content: str | None


def _modules() -> dict[str, ControlModule]:
    """Name of a control -> its file, in their order."""
    files = sorted(module.name for module in iter_modules(__path__) if module.name != "setting")
    by_name: dict[str, ControlModule] = {}
    for file in files:
        module = cast("ControlModule", import_module(f"{__name__}.{file}"))
        by_name |= dict.fromkeys(module.NAMES, module)
    return dict(sorted(by_name.items(), key=lambda entry: _rank(entry[0])))


def control_names() -> tuple[str, ...]:
    """Every control there is."""
    return tuple(_modules())


def load_control(name: str) -> ControlModule:
    """The file of a control."""
    modules = _modules()
    if name not in modules:
        raise unknown("control", name, modules)
    return modules[name]


def rivals(score: str, among: Collection[str]) -> tuple[str, ...]:
    """Those of the controls that may be the best control of a score."""
    return tuple(
        name for name in control_names() if name in among and score in load_control(name).RIVAL
    )


def make_controls(setting: Setting, *, among: Sequence[str]) -> list[Control]:
    """The controls asked for, in their order; those that cannot be had here are left out."""
    controls: list[Control] = []
    for name in control_names():
        if name not in among:
            continue
        module = load_control(name)
        dictionary = module.make(name, setting)
        if dictionary is not None:
            facts = module.depends(name, setting)
            controls.append(Control(name, dictionary, None if facts is None else f"{name} {facts}"))
    return controls


def _rank(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)
