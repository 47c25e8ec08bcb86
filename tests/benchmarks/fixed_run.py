"""A small fixed run: every number it comes to, for comparing two states of the code.

python -m tests.benchmarks.fixed_run OUT.json      runs it and writes every number, times aside
python -m tests.benchmarks.fixed_run A.json B.json compares two such files and says what differs
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path

import torch

import sage
from sage.zoo.text import default_text

# (task, model, suites): union and groups, every control, every option, coupled and nested
# attributes.
CELLS = (
    ("gendered_pronoun", "tiny-neox", ("tiny-neox/topk4", "tiny-neox/relu")),
    ("ioi", "tiny-gpt2", ("tiny-gpt2/topk8",)),
    ("successor", "tiny-gemma2", ("tiny-gemma2/gated",)),
)


def numbers() -> dict[str, object]:
    """Every row, node and feature of every cell, and a digest of every array."""
    torch.set_num_threads(1)
    everything: dict[str, object] = {}
    for task, name, specs in CELLS:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            model = sage.load_model(name, device="cpu")
            plan = sage.make_plan("full", pairs=40, discover=40, decide=40, fit=300, detect=60)
            declared, suites = sage.load_task(task), sage.load_suites(specs)
            sage.evaluate(
                model, declared, suites, plan=plan, text=default_text(model), folder=Path(folder)
            )
            result = json.loads((Path(folder) / "result.json").read_text())
            arrays = (Path(folder) / "result.safetensors").read_bytes()
        result.pop("run")
        everything[f"{task} on {name}"] = {**result, "arrays": hashlib.sha256(arrays).hexdigest()}
    return everything


def differences(before: object, after: object, where: str = "") -> list[str]:
    """What differs between two files, named by its place."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = dict.fromkeys([*before, *after])
        return [
            line
            for key in keys
            for line in differences(before.get(key), after.get(key), f"{where}/{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for index, (old, new) in enumerate(zip(before, after, strict=True))
            for line in differences(old, new, f"{where}/{index}")
        ]
    return [] if before == after else [f"{where}: {before} > {after}"]


def main() -> None:
    """Run it, or compare two runs."""
    first, *rest = map(Path, sys.argv[1:])
    if not rest:
        first.write_text(json.dumps(numbers(), indent=1) + "\n")
        return
    lines = differences(json.loads(first.read_text()), json.loads(rest[0].read_text()))
    print("\n".join(lines[:50]) or "equal")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
