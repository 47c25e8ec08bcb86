"""Batching: prompts of one length run together, as many at once as memory allows.

So nothing is ever padded inside a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from sage.files import is_out_of_memory
from sage.task.tokens import Tokenized


@runtime_checkable
class Sliceable(Protocol):
    """What can be cut into batches."""

    def __len__(self) -> int: ...
    def __getitem__(self: S, some: slice, /) -> S: ...


S = TypeVar("S", bound=Sliceable)


def rows_by_length(prompts: Sequence[Tokenized]) -> Iterator[list[int]]:
    """Rows of prompts of one length, the shortest prompts first, in their order."""
    rows_of: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(len(prompt.ids), []).append(row)
    return (rows_of[length] for length in sorted(rows_of))


def in_batches(items: S, size: int, run: Callable[[S], None]) -> None:
    """Run items, `size` at a time: halved, and tried again, where memory does not allow it."""
    start = 0
    while start < len(items):
        try:
            run(items[start : start + size])
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            size = max(1, min(size, len(items) - start) // 2)
        else:
            start += size
