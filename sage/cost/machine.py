"""A machine: what it takes for each unit of work, in seconds of its processor.

Measured in a few seconds, on the model itself and on products of its own shapes, and kept in the
store for as long as processor, threads and torch are the same.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from sage.models.base import Model
from sage.nodes import EVERYWHERE, Node
from sage.store.key import Key, digest
from sage.store.store import Store
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized

KIND = "calibration"

# Seconds that one measurement lasts at least, and how many are made: the fastest one counts, since
# whatever else runs can only slow one down.
LEAST_SECONDS = 0.015
REPEATS = 4
LENGTH, PROMPTS = 16, 64
LATENTS = 4096
NUMBERS = 2**20
STEPS = 1000


class Prices(NamedTuple):
    """Seconds of the processor for one unit of each kind of work, and for one second of the clock
    (`cores`: how many cores work at once)."""

    token_layer: float
    layer_call: float
    step: float
    number: float
    flop: float
    cores: float = 1.0


def prices_of(model: Model, store: Store | None = None) -> Prices:
    """The prices of this machine for a model: measured before, or now."""
    keeper = store or Store(None)
    return keeper.once(KIND, _key(model), lambda: calibrate(model))


def calibrate(model: Model) -> Prices:
    """Measure them, in a second or two."""
    anatomy = model.anatomy
    last = Node("resid_post", anatomy.layers - 1, None, EVERYWHERE)
    one, many = (_prompts(model, count) for count in (1, PROMPTS))
    call = _seconds(lambda: model.read([last], one)) / anatomy.layers
    batch = _seconds(lambda: model.read([last], many)) / anatomy.layers
    token_layer = max(batch - call, 0.1 * batch) / (PROMPTS * LENGTH)
    started = time.perf_counter(), time.process_time()
    flop = _flop(anatomy.d_model, model.device)
    wall, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    threads = torch.get_num_threads()
    cores = min(float(threads), max(1.0, processor / wall))
    return Prices(token_layer, call, _step(), _number(model.device), flop, cores)


def wall_seconds(seconds: float, cores: float, *, processes: int = 1) -> float:
    """What so many seconds of the processor take by the clock, shared out over processes that keep
    `cores` busy each, as busy as the machine is now."""
    count = os.cpu_count() or 1
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    at_once = cores * processes
    return seconds / at_once * max(1.0, (busy + at_once) / count)


def _key(model: Model) -> Key:
    anatomy = model.anatomy
    shapes = (anatomy.family, anatomy.layers, anatomy.d_model, anatomy.heads, anatomy.d_mlp)
    how = (model.device, model.dtype, model.backend)
    machine = (processor_name(), torch.get_num_threads(), torch.__version__)
    return Key(f"{anatomy.family} {anatomy.layers}x{anatomy.d_model}", digest(machine, shapes, how))


def processor_name() -> str:
    """The processor, as the system calls it."""
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _prompts(model: Model, count: int) -> list[Tokenized]:
    """Prompts of ids that mean nothing, none like another."""
    generator = torch.Generator().manual_seed(0)
    size = (count, LENGTH)
    rows = torch.randint(model.anatomy.d_vocab, size, generator=generator).tolist()
    return [
        Tokenized(
            Prompt(f"calibration {row}", "", "", {}, {}, {}, (), ()),
            tuple(ids), {"END": LENGTH - 1}, (), (),
        )
        for row, ids in enumerate(rows)
    ]  # fmt: skip


def _flop(d_model: int, device: str) -> float:
    x = torch.ones(512, d_model, device=device)
    weights = torch.ones(d_model, LATENTS, device=device)
    return _seconds(lambda: x @ weights) / (512 * d_model * LATENTS)


def _number(device: str) -> float:
    x, y = torch.ones(64, NUMBERS // 64, device=device), torch.ones(1, device=device)
    return _seconds(lambda: (x * y + x).max(1)) / NUMBERS


def _step() -> float:
    """Always on the processor: it is Python's own time and torch's that counts."""
    x = torch.ones(4, 8)

    def run() -> None:
        y = x
        for _ in range(STEPS // 4):
            y = (y * x)[:, :8] + x

    return _seconds(run) / (STEPS / 1000)


def _seconds(run: Callable[[], object]) -> float:
    """The least processor seconds of one call, over some measurements of many calls."""
    run()
    times = 1
    while (taken := _timed(run, times)) < LEAST_SECONDS:
        times *= 2
    return min([taken, *(_timed(run, times) for _ in range(REPEATS - 1))]) / times


def _timed(run: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in range(times):
        run()
    return time.process_time() - started
