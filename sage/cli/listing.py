"""`sage tasks`, `sage models`, `sage saes`: what there is to work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sage.cli.options import ModelChoice, json_option, model_options
from sage.cli.output import print_rows
from sage.cli.telling import Telling, tell, telling_options
from sage.progress import expect, stage

if TYPE_CHECKING:
    from sage.models.base import Model


@click.command()
@click.argument("task", required=False)
@model_options(required=False)
@json_option
@telling_options
def tasks(task: str | None, model: ModelChoice, as_json: bool, telling: Telling) -> None:
    """List the tasks; with a model, what its tokenizer makes of them and whether it does them.

    TASK, a name or a path, shows one task only.
    """
    from sage.task.catalog import describe_task, task_names

    names = [task] if task else task_names()
    if model.name is None:
        print_rows([describe_task(name) for name in names], title="Tasks", as_json=as_json)
        return
    from sage.inspection import inspect

    loaded = model.load()
    if task is None:
        with tell(telling), stage("tasks"):
            expect(len(names))
            rows = [_summary(loaded, name) for name in names]
        print_rows(rows, title=f"Tasks on {loaded.name}", as_json=as_json)
        return
    inspection = inspect(loaded, task)
    print_rows([inspection.summary], title=f"{task} on {loaded.name}", as_json=as_json)
    if not as_json:
        print_rows(inspection.positions, title="\nNamed positions on an example prompt")
        print_rows(inspection.dropped, title="\nDropped")
        print_rows(inspection.contrasts, title="\nContrasts")


def _summary(model: Model, name: str) -> dict[str, object]:
    """The row of a task, as a stage of the work."""
    from sage.inspection import summarise

    with stage(name):
        return summarise(model, name)


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models known by name; a hub id or a local folder works as well."""
    from sage.models.catalog import known_models

    print_rows([model._asdict() for model in known_models()], title="Models", as_json=as_json)


@click.command()
@click.option("--model", "-m", default=None, help="Only releases for this model.")
@json_option
def saes(model: str | None, as_json: bool) -> None:
    """List the SAE releases of residual streams that can be scored by name."""
    from sage.saes.releases import list_releases

    rows = [release._asdict() for release in list_releases(model)]
    print_rows(rows, title="SAE releases", as_json=as_json)
