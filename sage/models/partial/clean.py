"""Clean runs: what a prompt holds where nothing is edited, kept for the next edits of the same
prompts.

All that edits leave alone is taken from here: the residual stream ahead of every block, keys,
values, and what leaves the last block at END.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

Key = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Clean:
    """The clean run of prompts of one length, from layer `first` up; keys are rotated."""

    first: int
    length: int
    streams: Sequence[Float[Tensor, "prompt position d_model"]]
    keys: Sequence[Float[Tensor, "prompt kv_head position d_head"]]
    values: Sequence[Float[Tensor, "prompt kv_head position d_head"]]
    last: Float[Tensor, "prompt d_model"]

    def at(self, layer: int) -> Held:
        """What a layer is given and makes keys and values of."""
        place = layer - self.first
        return Held(self.streams[place], self.keys[place], self.values[place])

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return sum(tensor.nbytes for tensor in (*self.streams, *self.keys, *self.values, self.last))


class Held(NamedTuple):
    """One layer of a clean run."""

    stream: Float[Tensor, "prompt position d_model"]
    keys: Float[Tensor, "prompt kv_head position d_head"]
    values: Float[Tensor, "prompt kv_head position d_head"]


@dataclass(eq=False)
class CleanRuns:
    """Clean runs by the ids of their prompts, as many as fit into `limit` bytes.

    Those least recently used go first, and never one used since `begin`: a call whose prompts do
    not all fit keeps those that do.
    """

    limit: int
    runs: dict[Key, Clean] = field(default_factory=dict[Key, Clean])
    used: set[Key] = field(default_factory=set[Key])

    def begin(self) -> None:
        """A new call: what earlier ones used may go."""
        self.used.clear()

    def get(self, key: Key, first: int, run: Callable[[], Clean]) -> Clean:
        """The clean run of these prompts from layer `first` up, done where it is not known."""
        found = self.runs.pop(key, None)
        if found is None or found.first > first:
            found = run()
        self.used.add(key)
        if self._room(found.bytes):
            self.runs[key] = found
        return found

    def _room(self, needed: int) -> bool:
        """Whether that many bytes fit, once older runs have gone."""
        held = sum(run.bytes for run in self.runs.values())
        idle = [key for key in self.runs if key not in self.used]
        while held + needed > self.limit and idle:
            held -= self.runs.pop(idle.pop(0)).bytes
        return held + needed <= self.limit
