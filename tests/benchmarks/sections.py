"""Where contrasts live in the models that ship, as an estimate goes by it before they are found.

    python -m tests.benchmarks.sections     sage/zoo/sections.json, in about eight processor minutes

They are looked for by the quick plan with three seeds, the usual one not among them, so that it is
estimated as any other is; kept are those of the seed that finds the middle number of nodes.
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

SEEDS = (1, 2, 3)


def main() -> None:
    found: dict[str, dict[str, Sections]] = {}
    for name in RECIPES:
        model = load_model(name, device="cpu")
        found[name] = {}
        for task in task_names():
            by_seed = [sections for seed in SEEDS if (sections := _sections(model, task, seed))]
            if by_seed:
                found[name][task] = sorted(by_seed, key=_nodes)[len(by_seed) // 2]
                sys.stdout.write(f"{task} on {name}: {list(map(_nodes, by_seed))} nodes\n")
    lines = json.dumps(found, indent=1, ensure_ascii=False)
    SHIPPED.write_text(f"{lines}\n", encoding="utf-8")


def _nodes(sections: Sections) -> int:
    return sum(map(len, sections.values()))


def _sections(model: Model, name: str, seed: int) -> Sections | None:
    """Where a task's contrasts live; None where the model's tokenizer cannot carry it."""
    task = load_task(name)
    try:
        prepared = prepare(model, task, make_plan("quick", seed=seed))
    except SageError as error:
        sys.stdout.write(f"{name} on {model.name}: {error}\n")
        return None
    return sections_of(
        discover(model, task, prepared.splits, settings=DiscoverySettings(seed=seed))
    )


if __name__ == "__main__":
    main()
