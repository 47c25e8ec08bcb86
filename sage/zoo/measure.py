"""Measure the embedded models and SAEs, as Markdown: `python -m sage.zoo.measure [NAME ...]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from sage.models.base import Model
from sage.models.load import load_model
from sage.result import Gate
from sage.zoo.gates import held_out_gates
from sage.zoo.recipes import RECIPES, ZOO, make_model
from sage.zoo.train_saes import shipped_fidelity

_GATES = (
    "| task | held-out combinations: accuracy | mean metric | n"
    " | held-out templates: accuracy | mean metric | n |"
)
_SAES = "| suite | hook | L0 | unexplained variance | dead latents | tokens |"


def main(names: Sequence[str]) -> None:
    """Measure the models of these names, or all, and print the tables."""
    for name in names or RECIPES:
        for line in _lines(load_model(name)):
            sys.stdout.write(f"{line}\n")


def _lines(model: Model) -> Iterator[str]:
    yield f"## {model.name}\n"
    yield f"{_size(model)}\n"
    yield _GATES
    yield "|---|---|---|---|---|---|---|"
    combinations = held_out_gates(model, "combinations")
    templates = held_out_gates(model, "templates")
    for task, gate in combinations.items():
        yield f"| {task} | {_cells(gate)} | {_cells(templates.get(task))} |"
    yield f"\n{_SAES}"
    yield "|---|---|---|---|---|---|"
    for (suite, hook), measured in shipped_fidelity(model).items():
        numbers = f"{measured.l0:.1f} | {measured.fvu:.4f} | {measured.dead:.2f} | {measured.n}"
        yield f"| {suite} | {hook} | {numbers} |"
    yield ""


def _size(model: Model) -> str:
    recipe = RECIPES[model.name]
    files = [path for path in (ZOO / model.name).rglob("*") if path.is_file()]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    untrained = make_model(recipe, model.tokenizer)
    parameters = sum(parameter.numel() for parameter in untrained.parameters())
    steps = f"{recipe.steps:,} steps of {recipe.batch} texts"
    return f"{parameters:,} parameters, {steps}, {megabytes:.1f} MB with its SAEs."


def _cells(gate: Gate | None) -> str:
    if gate is None:
        return "- | - | -"
    return f"{gate.accuracy:.3f} | {gate.mean_logit_difference:.2f} | {gate.n}"


if __name__ == "__main__":
    main(sys.argv[1:])
