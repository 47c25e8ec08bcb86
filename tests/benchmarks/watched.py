"""A model that notes what every call costs, and what whole forward passes would."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sage.models.base import Model, Outcome
from sage.models.counter import Counter
from sage.models.partial.clean import CleanRuns
from sage.nodes import Node
from sage.task.metric import Metric
from sage.task.tokens import Tokenized


class Cost(NamedTuple):
    """Seconds on the clock and of the processor; layers computed, counted once for each token."""

    seconds: float = 0.0
    processor: float = 0.0
    token_layers: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(*(mine + its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True, eq=False)
class Watched(Model):
    """Notes for every run of edits its own cost and the token-layers that whole forward passes
    would take."""

    written: list[Cost] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    read_cost: list[Cost] = field(default_factory=list)

    def read(self, nodes: Sequence[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        with timed(self) as cost:
            values = super().read(nodes, prompts)
        self.read_cost.append(cost())
        return values

    def write_many(
        self,
        edits: Sequence[Mapping[Node, Tensor]],
        prompts: Sequence[Tokenized],
        metric: Metric,
        *,
        among: Sequence[int] = (),
        logits: bool = False,
    ) -> list[Outcome]:
        with self._noted(edits, prompts):
            return super().write_many(edits, prompts, metric, among=among, logits=logits)

    def measure(
        self, edits: Sequence[Mapping[Node, Tensor]], prompts: Sequence[Tokenized], metric: Metric
    ) -> Tensor:
        with self._noted(edits, prompts):
            return super().measure(edits, prompts, metric)

    @contextmanager
    def _noted(
        self, edits: Sequence[Mapping[Node, Tensor]], prompts: Sequence[Tokenized]
    ) -> Iterator[None]:
        with timed(self) as cost:
            yield
        self.written.append(cost())
        self.whole.append(
            len(edits) * sum(len(prompt.ids) for prompt in prompts) * self.anatomy.layers
        )


def watch(model: Model) -> Watched:
    """The same model, counting from zero and knowing no clean run."""
    same = {entry.name: getattr(model, entry.name) for entry in fields(model)}
    return Watched(**{**same, "counter": Counter(), "clean_runs": CleanRuns()})


def fully(model: Model) -> Model:
    """The same model, which runs every edit as a whole forward pass of the backend."""
    return replace(model, counter=Counter(), partial=None)


@contextmanager
def timed(model: Model) -> Iterator[Callable[[], Cost]]:
    """What is done inside costs, asked for after it."""
    before = (time.perf_counter(), time.process_time(), model.counter.token_layers)

    def cost() -> Cost:
        return Cost(
            time.perf_counter() - before[0],
            time.process_time() - before[1],
            model.counter.token_layers - before[2],
        )

    yield cost
    if model.device == "cuda":
        torch.cuda.synchronize()


def total(costs: Sequence[Cost]) -> Cost:
    whole = Cost()
    for cost in costs:
        whole = whole.plus(cost)
    return whole


def peak_gigabytes(device: str) -> float:
    """The most memory this process has held so far: on the accelerator where there is one."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
