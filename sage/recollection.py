"""Where contrasts lived when they were last looked for, with whatever plan and seed.

An estimate goes by it until they are found anew. Of the models that ship it is known from the
start: `python -m tests.benchmarks.sections` looks for them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from sage.discovery import Discovery
from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.run import Run
from sage.store.key import Key
from sage.task.task import Task

KIND = "sections"
SHIPPED = Path(__file__).with_name("sections.json")

Sections = dict[str, list[str]]
"""The nodes of every contrast."""


def remember(run: Run, task: Task, discovery: Discovery) -> None:
    """Keep where contrasts live, for other plans and seeds."""
    run.store.keep(KIND, _key(run, task), sections_of(discovery))


def recall(run: Run, model: Model, task: Task) -> Mapping[str, tuple[Node, ...]] | None:
    """Where each contrast lived when it was last looked for; None where that was never."""
    kept: Sections | None = run.store.find(KIND, _key(run, task))
    found = kept or shipped().get(model.name, {}).get(task.name)
    if found is None:
        return None
    return {name: tuple(map(parse_node, nodes)) for name, nodes in found.items()}


def sections_of(discovery: Discovery) -> Sections:
    """The nodes of every contrast, as they are kept."""
    return {name: [str(node) for node in of.nodes] for name, of in discovery.sections.items()}


@lru_cache(maxsize=1)
def shipped() -> dict[str, dict[str, Sections]]:
    """What is known of the models that ship, task by task."""
    return json.loads(SHIPPED.read_text(encoding="utf-8"))


def _key(run: Run, task: Task) -> Key:
    return run.keys.model.about(KIND, task.name)
