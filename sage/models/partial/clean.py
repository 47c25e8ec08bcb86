"""Clean runs: what prompts hold where nothing is edited, kept for the next edits of these.

All that edits leave alone is taken from here: the residual stream ahead of every block, keys,
values, and what leaves the last block at END.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from sage.memory import CLEAN_RUN_BYTES_KEPT

PromptIds = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class CleanRun:
    """The clean run of prompts of one length, from layer `first` up; keys are rotated."""

    first: int
    length: int
    streams: Sequence[Float[Tensor, "prompt position d_model"]]
    keys: Sequence[Float[Tensor, "prompt kv_head position d_head"]]
    values: Sequence[Float[Tensor, "prompt kv_head position d_head"]]
    last: Float[Tensor, "prompt d_model"]

    def at(self, layer: int) -> CleanLayer:
        """What a layer is given, and the keys and values it makes of it."""
        place = layer - self.first
        return CleanLayer(self.streams[place], self.keys[place], self.values[place])

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return sum(tensor.nbytes for tensor in (*self.streams, *self.keys, *self.values, self.last))


class CleanLayer(NamedTuple):
    """One layer of a clean run."""

    stream: Float[Tensor, "prompt position d_model"]
    keys: Float[Tensor, "prompt kv_head position d_head"]
    values: Float[Tensor, "prompt kv_head position d_head"]


@dataclass(eq=False)
class CleanRuns:
    """Clean runs by the ids of their prompts, as many as fit into `limit` bytes.

    Those least recently used go first, and never one used since `start_call`: a call whose prompts
    do not all fit keeps those that do.
    """

    limit: int = CLEAN_RUN_BYTES_KEPT
    runs: dict[PromptIds, CleanRun] = field(default_factory=dict[PromptIds, CleanRun])
    in_use: set[PromptIds] = field(default_factory=set[PromptIds])

    def start_call(self) -> None:
        """A new call: what earlier ones used may go."""
        self.in_use.clear()

    def get(self, ids: PromptIds, first: int, run: Callable[[], CleanRun]) -> CleanRun:
        """The clean run of these prompts from layer `first` up, made where none is kept."""
        clean = self.runs.pop(ids, None)
        if clean is None or clean.first > first:
            clean = run()
        self.in_use.add(ids)
        if self._make_room(clean.bytes):
            self.runs[ids] = clean
        return clean

    def _make_room(self, needed: int) -> bool:
        """Whether that many bytes fit, once older runs have gone."""
        held = sum(run.bytes for run in self.runs.values())
        idle = [ids for ids in self.runs if ids not in self.in_use]
        while held + needed > self.limit and idle:
            held -= self.runs.pop(idle.pop(0)).bytes
        return held + needed <= self.limit
