"""Where contrasts live in the models that ship, as an estimate goes by it before they are found.

    python -m tests.benchmarks.sections     sage/sections.json, in about two minutes

They are looked for by the quick plan with its usual seed. With other seeds a task lives at up to
twice as many nodes, or half.
"""

from __future__ import annotations

import json
import sys

from sage.discovery import DiscoverySettings, discover
from sage.errors import SageError
from sage.models.base import Model
from sage.models.load import load_model
from sage.preparation import prepare
from sage.recollection import SHIPPED, Sections, sections_of
from sage.run import make_plan
from sage.task.catalog import load_task, task_names
from sage.zoo.recipes import RECIPES


def main() -> None:
    found: dict[str, dict[str, Sections]] = {}
    for name in RECIPES:
        model = load_model(name, device="cpu")
        by_task = {task: _sections(model, task) for task in task_names()}
        found[name] = {task: sections for task, sections in by_task.items() if sections}
        for task, sections in found[name].items():
            counts = {contrast: len(nodes) for contrast, nodes in sections.items()}
            sys.stdout.write(f"{task} on {name}: {counts}\n")
    lines = json.dumps(found, indent=1, ensure_ascii=False)
    SHIPPED.write_text(f"{lines}\n", encoding="utf-8")


def _sections(model: Model, name: str) -> Sections | None:
    """Where a task's contrasts live; None where the model's tokenizer cannot carry it."""
    task, plan = load_task(name), make_plan("quick")
    try:
        splits = prepare(model, task, plan).splits
    except SageError as error:
        sys.stdout.write(f"{name} on {model.name}: {error}\n")
        return None
    return sections_of(discover(model, task, splits, settings=DiscoverySettings(seed=plan.seed)))


if __name__ == "__main__":
    main()
