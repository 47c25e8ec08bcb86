"""The figures of the embedded models and SAEs, as Markdown: `python -m sage.zoo.figures [NAME
...]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from sage.models.base import Model
from sage.models.load import load_model
from sage.result import Gate
from sage.zoo.gates import KINDS, gates
from sage.zoo.train_models import RECIPES, ZOO, make_model
from sage.zoo.train_saes import fidelity


def main(names: Sequence[str]) -> None:
    """Measure the models of these names, or all, and print the tables."""
    for name in names or RECIPES:
        for line in _model(load_model(name)):
            sys.stdout.write(f"{line}\n")


def _model(model: Model) -> Iterator[str]:
    recipe = RECIPES[model.name]
    size = sum(path.stat().st_size for path in (ZOO / model.name).rglob("*") if path.is_file())
    parameters = sum(
        parameter.numel() for parameter in make_model(recipe, model.tokenizer).parameters()
    )
    yield f"## {model.name}\n"
    yield f"{parameters:,} parameters, {recipe.steps:,} steps of {recipe.batch} texts, {size / 1e6:.1f} MB with its SAEs.\n"
    yield "| task | held-out combinations: accuracy | mean metric | n | held-out templates: accuracy | mean metric | n |"
    yield "|---|---|---|---|---|---|---|"
    found = [gates(model, kind) for kind in KINDS]
    for task in found[0]:
        yield f"| {task} | {' | '.join(_cells(of_kind.get(task)) for of_kind in found)} |"
    yield "\n| suite | hook | L0 | unexplained variance | dead latents | tokens |"
    yield "|---|---|---|---|---|---|"
    for (suite, hook), measured in fidelity(model).items():
        yield f"| {suite} | {hook} | {measured.l0:.1f} | {measured.fvu:.4f} | {measured.dead:.2f} | {measured.n} |"
    yield ""


def _cells(gate: Gate | None) -> str:
    return (
        "- | - | -"
        if gate is None
        else f"{gate.accuracy:.3f} | {gate.mean_logit_difference:.2f} | {gate.n}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
