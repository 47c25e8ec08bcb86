"""A sweep as small as it can be: the wired model on one contrast, with features of its own."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from sage.nodes import Node
from sage.result import Result
from sage.result_file import load_arrays, load_result
from sage.saes.planted import save_planted
from sage.sweep.file import SweepFile, read_sweep_file
from sage.task.catalog import task_path

FILE = """
tasks = ["{task}"]
seeds = 2
out = "{out}"
device = "cpu"
backend = "nnsight"

[[models]]
model = "wired"
saes = ["{sae}"]

[plan]
name = "least"
pairs = 30
discover = 12
decide = 12
fit = 60
detect = 0
controls = ["random"]
thorough = false
copying = []
unbounded = false
apart = false
"""


def write_sweep(folder: Path) -> SweepFile:
    """A sweep of one SAE on two seeds, its files and its results in a folder."""
    task = folder / "kind.py"
    text = task_path("wired").read_text(encoding="utf-8")
    alone = re.sub(r"\n    contrasts=\(.*\),", '\n    contrasts=("kind",),', text)
    task.write_text(alone.replace('name="wired"', 'name="kind"'), encoding="utf-8")
    (sae,) = save_planted((Node("resid_pre", 1),), folder)
    file = folder / "sweep.toml"
    file.write_text(FILE.format(task=task, out=folder / "out", sae=sae))
    return read_sweep_file(file)


def into(sweep: SweepFile, out: Path) -> SweepFile:
    """The same into another folder."""
    return replace(sweep, runs=tuple(replace(run, out=str(out)) for run in sweep.runs))


def found_in(out: Path) -> dict[str, tuple[str, dict[str, bytes]]]:
    """Every cell of a result folder to the last bit, but for the time that it took."""
    cells: dict[str, tuple[str, dict[str, bytes]]] = {}
    for file in sorted(out.glob("*/result.json")):
        arrays = {name: _bytes(array) for name, array in load_arrays(file.parent).items()}
        cells[file.parent.name] = (_timeless(load_result(file)), arrays)
    return cells


def _timeless(result: Result) -> str:
    run = replace(result.run, started="", seconds=0.0, forwards=0.0, stages=[])
    return json.dumps(asdict(replace(result, run=run)))


def _bytes(array: np.ndarray) -> bytes:
    return f"{array.dtype} {array.shape} ".encode() + array.tobytes()
