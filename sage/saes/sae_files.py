"""Files of SAEs, from strangers: what every format does before it believes one.

A released SAE is a few numbers in a configuration and four or five arrays. Each is checked for
presence, type, shape and finiteness, and each complaint names the file, the field, what was found
and what was expected.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from sage.errors import BadFile
from sage.files import write_atomically

_LONGEST_SHOWN = 200
# The square of a larger weight, summed over latents, is near the end of float32.
_LARGEST_WEIGHT = 1e15
_LARGEST_CONFIG_BYTES = 10**7
# Weights hardly shrink when they are packed; a member of a few megabytes is unpacked all the same.
_LARGEST_GROWTH, _SMALL_MEMBER_BYTES = 20, 10**7
# Sizes stand below it, so that no product of two of them leaves the numbers that torch has.
_LEAST_REFUSED = 2**31


def unexpected(file: Path, what: str, found: object, expected: object) -> BadFile:
    """The error for a part of a file, such as a field, that is not what it must be."""
    shown = found if isinstance(found, str) else repr(found)
    if len(shown) >= _LONGEST_SHOWN:
        shown = shown[:_LONGEST_SHOWN] + "..."
    return BadFile(f"{file}: {what} is {shown}; expected {expected}.")


@dataclass(frozen=True)
class Fields:
    """The fields of a configuration file; a getter raises BadFile where a value's type is wrong.

    A field that is missing or null takes the default; without a default it is required. `prefix`
    says where in the file the fields stand ("metadata.").
    """

    file: Path
    values: Mapping[str, object]
    prefix: str = ""

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        """An integer of at least `least`, written as one or as a float such as 4.0."""
        value = self._value(name, default, "a whole number")
        whole = _whole(value)
        if whole is None or not least <= whole < _LEAST_REFUSED:
            raise self._unexpected(name, value, f"a whole number from {least}")
        return whole

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._value(name, default, "a number")
        number = _number(value)
        if number is None or not math.isfinite(number):
            raise self._unexpected(name, value, "a finite number")
        return number

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value(name, default, "true or false")
        if not isinstance(value, bool):
            raise self._unexpected(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._value(name, default, "a text")
        if not isinstance(value, str):
            raise self._unexpected(name, value, "a text")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 1."""
        value = self._value(name, None, "a list of whole numbers")
        items = cast("list[object]", value) if isinstance(value, list) else [None]
        numbers = [_whole(item) for item in items]
        if any(number is None or not 1 <= number < _LEAST_REFUSED for number in numbers):
            raise self._unexpected(name, value, "a list of whole numbers")
        return tuple(cast("list[int]", numbers))

    def optional_number(self, name: str) -> float | None:
        """A finite number, or None where the field is missing."""
        return self.number(name) if self.states(name) else None

    def stated(self, name: str) -> float | None:
        """What the file says of the SAE's quality: a finite number, or None.

        Loggers write NaN and infinity where nothing was measured: that is no statement.
        """
        value = _number(self.values.get(name))
        if value is not None and not math.isfinite(value):
            return None
        return self.optional_number(name)

    def times(self, size: str, factor: str) -> int:
        """A size times a factor, which need not be whole; BadFile where the product is not."""
        times = self.number(factor)
        product = _whole(self.integer(size) * times)
        if product is None or not 1 <= product < _LEAST_REFUSED:
            raise self._unexpected(factor, times, f"a factor that makes {size} a whole number")
        return product

    def states(self, name: str) -> bool:
        """Whether the field is there and is not null."""
        return self.values.get(name) is not None

    def child(self, name: str) -> Fields:
        """The fields of an object inside this one; none where it is missing."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, dict):
            raise self._unexpected(name, value, "an object of fields")
        return Fields(self.file, cast("dict[str, object]", value or {}), f"{self.prefix}{name}.")

    def _value(self, name: str, default: object, expected: str) -> object:
        value = self.values.get(name)
        if value is None and default is None:
            raise self._unexpected(name, "missing", expected)
        return default if value is None else value

    def _unexpected(self, name: str, value: object, expected: str) -> BadFile:
        return unexpected(self.file, self.prefix + name, value, expected)


@dataclass(frozen=True)
class Arrays:
    """The arrays of a weight file, of any floating type, which `take` hands out once each."""

    file: Path
    values: dict[str, Tensor]

    def take(self, name: str, shape: Sequence[int]) -> Tensor:
        """The array of that name, float32 and contiguous.

        BadFile where it is missing, shaped otherwise, or not finite.
        """
        if name not in self.values:
            names = ", ".join(sorted(self.values)) or "none"
            raise unexpected(
                self.file, name, f"missing; there are {names}", f"an array of shape {list(shape)}"
            )
        array = self.values.pop(name)
        if not array.dtype.is_floating_point:
            raise unexpected(self.file, name, f"of type {array.dtype}", "a floating type")
        if tuple(array.shape) != tuple(shape):
            raise unexpected(
                self.file,
                name,
                f"of shape {list(array.shape)}",
                f"{list(shape)}, as the configuration and the other arrays say",
            )
        taken = finite(array.detach().to(torch.float32, copy=True).contiguous(), self.file, name)
        if "threshold" not in name and taken.numel() and float(taken.abs().max()) > _LARGEST_WEIGHT:
            size = f"as large as {float(taken.abs().max()):.2g}"
            raise unexpected(self.file, name, size, f"numbers up to {_LARGEST_WEIGHT:.0e}")
        return taken

    def close(self) -> None:
        """BadFile where an array is left over.

        The file is then of another architecture than its configuration says.
        """
        if self.values:
            names = ", ".join(sorted(self.values))
            raise unexpected(
                self.file,
                "the set of arrays",
                f"larger than the architecture's by {names}",
                "no others",
            )


def finite(array: Tensor, file: Path, name: str) -> Tensor:
    """The array itself; BadFile where it holds a value that is not finite."""
    if not torch.isfinite(array).all():
        count = int((~torch.isfinite(array)).sum())
        raise unexpected(
            file, name, f"not finite in {count} of {array.numel()} values", "finite values"
        )
    return array


def read_json(file: Path) -> Fields:
    """The configuration in a JSON file whose top is an object."""
    check_size(file, _LARGEST_CONFIG_BYTES)
    try:
        value: object = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(
            f"{file}: not readable as JSON ({_first_line(error)}); "
            "expected the SAE's configuration."
        ) from error
    if not isinstance(value, dict):
        raise unexpected(file, "the top level", type(value).__name__, "an object of fields")
    return Fields(file, cast("dict[str, object]", value))


def check_size(file: Path, most: int) -> None:
    """BadFile for a file of more bytes, before any is read."""
    with suppress(OSError):
        if (size := file.stat().st_size) > most:
            raise unexpected(file, "the file", f"{size} bytes", f"at most {most}")


def check_unpacked(archive: zipfile.ZipFile, file: Path) -> None:
    """BadFile for an archive that unpacks to far more than it has, as no weights do: nothing of it
    was unpacked yet."""
    for member in archive.infolist():
        if member.file_size > _LARGEST_GROWTH * member.compress_size + _SMALL_MEMBER_BYTES:
            raise unexpected(
                file,
                member.filename,
                f"{member.compress_size} bytes that unpack to {member.file_size}",
                f"at most {_LARGEST_GROWTH} times as many",
            )


def read_safetensors(file: Path) -> Arrays:
    """All arrays of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            return Arrays(file, {name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (
        SafetensorError,
        OSError,
        ValueError,
        RuntimeError,
        MemoryError,
        AttributeError,
        KeyError,
    ) as error:
        raise BadFile(
            f"{file}: not a whole safetensors file ({_first_line(error)}); "
            "expected the SAE's weights."
        ) from error


def _number(value: object) -> float | None:
    """A number as a float, infinite where it is larger than any; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _whole(value: object) -> int | None:
    """A whole number, however it is written; None for anything else."""
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def folder_of(path: Path, names: Sequence[str]) -> Path:
    """The folder of an SAE, which may be given as itself or as one of the files in it."""
    return path.parent if path.name in names else path


def unreadable(file: Path, error: BaseException, expected: str) -> BadFile:
    """The error for a file that its own library could not read."""
    reason = f"{type(error).__name__}: {_first_line(error)}"
    return BadFile(f"{file}: not readable ({reason}); expected {expected}.")


def write_safetensors(file: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write a safetensors file whole or not at all."""
    from safetensors.torch import save

    on_cpu = {name: array.detach().cpu().contiguous() for name, array in arrays.items()}
    write_atomically(file, save(on_cpu))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
