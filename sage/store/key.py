"""Keys: what a value is of, and a digest of all that decides it.

Nothing that decides a number may be missing, or a warm run shows the numbers of another. So whole
nouns are digested, field by field, and whatever has no sure digest is like nothing else. Left out
are the number of threads and the machine, which decide the last bits alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import sys
import sysconfig
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sage.files import file_digest
from sage.models.base import Model
from sage.saes.sae import SAE, Stated
from sage.saes.suite import Suite
from sage.store.pack import import_path
from sage.task.splits import Splits
from sage.task.task import Task

LIBRARIES = ("torch", "transformers", "numpy", "scipy", "safetensors", "tokenizers")

_SAGE = Path(__file__).parents[1]
_DRAWING = ("answer", "foil", "functions", "keep", "maps", "otherwise", "strata")


@dataclass(frozen=True)
class Key:
    """What a value is of, for whoever lists the store, and the digest of all that decides it."""

    of: str
    digest: str

    def about(self, *decides: object) -> Key:
        """The key of a value that these decide too."""
        return replace(self, digest=digest(self.digest, *decides))


@runtime_checkable
class Seeded(Protocol):
    """A plan of a run: a dataclass with the run's seed."""

    @property
    def seed(self) -> int:
        """What its random draws come from."""
        ...


class RunKeys(NamedTuple):
    """The keys of what the model alone decides, of what the task on it does, and of the run."""

    model: Key
    task: Key
    run: Key


def run_keys(model: Model, task: Task, splits: Splits, plan: Seeded) -> RunKeys:
    """The keys of a run.

    `model` is for what a model does on given prompts; `task` for what is found out with the
    prompts of the splits and the seed, however much of it is scored; `run` for what the whole plan
    decides.
    """
    name = Path(model.name).name
    model_key = Key(name, digest(code_version(), *_how_run(model)))
    task_key = Key(f"{task.name} on {name}", model_key.digest)
    task_key = task_key.about(_rules(task), prompts_digest(splits), plan.seed)
    return RunKeys(model_key, task_key, task_key.about(plan))


def prompts_digest(splits: Splits) -> str:
    """A sha256 of every prompt of the splits as the model reads it, and of where it stands in them.

    Prompts are plain data, so that what they print is all that is in them.
    """
    return digest(repr(replace(splits, drops={})))


def suite_digest(suite: Suite) -> str:
    """A sha256 of a suite's weights and settings, whatever it is called and wherever it is from."""
    return digest({hook: _nameless(sae) for hook, sae in suite.saes.items()})


@lru_cache(maxsize=1)
def code_version() -> str:
    """A sha256 of sage's own source files and of the versions of the libraries it computes with."""
    root = Path(__file__).parents[1]
    sources = {
        path.relative_to(root).as_posix(): file_digest(path) for path in sorted(root.rglob("*.py"))
    }
    return digest(sources, {library: version(library) for library in LIBRARIES})


def digest(*values: object) -> str:
    """A sha256 of values, by all that is in them; the order of a mapping counts.

    They may hold None, numbers, strings, sequences, sets, mappings, tensors, arrays, dataclasses,
    named tuples and functions; TypeError for anything else. A function is known by the file it is
    defined in; one that its file does not decide (a closure, a builtin) has a digest of its own
    each time.
    """
    return hashlib.sha256(json.dumps(_describe(values)).encode()).hexdigest()


def _describe(value: Any) -> Any:
    """The value as JSON data that no other value has."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        numbers = flat.view(torch.uint8).numpy()
        return {"tensor": [str(value.dtype), list(value.shape), _bytes_digest(numbers)]}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return {"array": [str(value.dtype), list(value.shape), _bytes_digest(value)]}
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {"pairs": [[_describe(key), _describe(item)] for key, item in items]}
    if (fields := _fields(value)) is not None:
        described = {name: _describe(item) for name, item in fields.items()}
        return {"of": import_path(type(value)), "fields": described}
    if isinstance(value, Sequence):
        return [_describe(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, Set):
        items = [_describe(item) for item in cast("Set[Any]", value)]
        return {"set": sorted(items, key=json.dumps)}
    if callable(value):
        return {"function": _source(value)}
    raise TypeError(f"a {import_path(type(value))} has no digest")


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass or named tuple; None for what is neither."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return cast("Any", value)._asdict()
    return None


def _bytes_digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _source(function: Any) -> list[str]:
    """The name of a function and a digest of the file that it is defined in, and of the files that
    this one takes modules, functions and classes from."""
    function = inspect.unwrap(function)
    if isinstance(function, FunctionType) and function.__closure__ is None:
        code = function.__code__
        file = Path(code.co_filename)
        if file.is_file():
            others = _files_used(function.__globals__, {file})
            digests = [file_digest(other) for other in (file, *others)]
            return [function.__qualname__, str(code.co_firstlineno), *digests]
    return [uuid.uuid4().hex]


def _files_used(names: Mapping[str, Any], met: set[Path]) -> list[Path]:
    """The files of a user's own modules that these names of a module come from, and theirs: not
    those of sage, which the version of the code covers, or of installed libraries."""
    files: list[Path] = []
    for _, value in sorted(names.items()):
        home = getattr(value, "__module__", None)
        module = value if isinstance(value, ModuleType) else sys.modules.get(str(home))
        place = getattr(module, "__file__", None)
        if module is None or place is None or (file := Path(place)) in met or _is_installed(file):
            continue
        met.add(file)
        files += [file, *_files_used(vars(module), met)]
    return files


def _is_installed(file: Path) -> bool:
    homes = (sysconfig.get_path("stdlib"), str(_SAGE))
    return "site-packages" in file.parts or any(file.is_relative_to(home) for home in homes)


def _how_run(model: Model) -> tuple[object, ...]:
    """All that activations depend on beside the prompts: the model and how it is run."""
    return (
        model.name,
        model.revision,
        model.backend,
        model.dtype,
        model.device,
        model.bos,
        model.batch_size,
        model.partial is None,
    )


def _rules(task: Task) -> dict[str, object]:
    """All of a task but the functions that draw its prompts, whose work shows in the prompts."""
    names = [field.name for field in dataclasses.fields(task) if field.name not in _DRAWING]
    return {name: getattr(task, name) for name in names}


def _nameless(sae: SAE) -> SAE:
    """The SAE without what only says what it is called, and where it is from."""
    return replace(sae, id="", stated=Stated(), source="")
