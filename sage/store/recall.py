"""Recall: the cache as one run sees it, values of sage's own data types under all that the run
depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sage.store.cache import Cache
from sage.store.pack import pack, unpack

Value = TypeVar("Value")


@dataclass(frozen=True)
class Recall:
    """What earlier runs kept; without a cache nothing is found and nothing kept.

    `of` tells a reader of the cache what the values are of, `depends` is what all of them depend
    on, `device` where tensors that were on an accelerator go.
    """

    cache: Cache | None = None
    of: str = ""
    depends: tuple[object, ...] = ()
    device: str = "cpu"

    def about(self, *depends: object) -> Recall:
        """The same for values that depend on more."""
        return replace(self, depends=(*self.depends, *depends))

    def find(self, kind: str, *depends: object) -> Any:
        """The value of a kind that depends on this too; None where it is not kept."""
        part = (
            self.cache.find(kind, self.of, depends=(*self.depends, *depends))
            if self.cache
            else None
        )
        return part and unpack(part)

    def keep(self, kind: str, *depends: object, value: object) -> None:
        """Keep a value for other runs; one kept under the same name is replaced."""
        if self.cache:
            self.cache.keep(kind, self.of, pack(value), depends=(*self.depends, *depends))

    def once(self, kind: str, *depends: object, make: Callable[[], Value]) -> Value:
        """The value kept, or made now and kept."""
        if self.cache is None:
            return make()
        part = self.cache.part(
            kind, self.of, lambda: pack(make()), depends=(*self.depends, *depends)
        )
        return unpack(part)


NOTHING = Recall()
