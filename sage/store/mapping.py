"""A mapping whose values are kept in the store, for code that need not know of one."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping
from typing import TypeVar

from sage.store.key import Key
from sage.store.store import Store

Name = TypeVar("Name", bound=Hashable)
Kept = TypeVar("Kept")


class StoredMapping(MutableMapping[Name, Kept]):
    """Values of one kind by names that are a part of their keys.

    A value set is kept for later runs, and one that an earlier run kept is found. Iteration and
    length are over the names that were set or found here, since a store cannot tell names.
    """

    def __init__(self, store: Store, kind: str, key: Key) -> None:
        self.store, self.kind, self.key = store, kind, key
        self._met: dict[Name, Kept] = {}

    def __getitem__(self, name: Name) -> Kept:
        if name not in self._met:
            value = self.store.find(self.kind, self.key.about(name))
            if value is None:
                raise KeyError(name)
            self._met[name] = value
        return self._met[name]

    def __setitem__(self, name: Name, value: Kept) -> None:
        self._met[name] = self.store.keep(self.kind, self.key.about(name), value)

    def __delitem__(self, name: Name) -> None:
        raise TypeError(f"{name!r} is kept in the store, which forgets by itself")

    def __iter__(self) -> Iterator[Name]:
        return iter(self._met)

    def __len__(self) -> int:
        return len(self._met)

    def __bool__(self) -> bool:
        """True: there may be values that nobody has asked for yet."""
        return True
