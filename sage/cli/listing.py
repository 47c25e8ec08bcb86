"""`sage tasks`, `sage models`, `sage saes`: what there is to work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sage.cli.options import ModelChoice, json_option, model_options, wide_option
from sage.cli.output import print_json, print_rows, print_sentences
from sage.cli.telling import Telling, tell, telling_options
from sage.progress import expect, stage

if TYPE_CHECKING:
    from sage.models.base import Model

# Columns that a terminal shows only when it is to be wide.
_TASK_DETAILS = ("irrelevant", "source")
_AUDIT_DETAILS = ("mean metric", "n", "usable values", "example")


@click.command()
@click.argument("task", required=False)
@model_options(required=False)
@click.option(
    "--explain",
    is_flag=True,
    help="Say of TASK on the model what is dropped, why, and how to mend it.",
)
@wide_option
@json_option
@telling_options
def tasks(
    task: str | None,
    model: ModelChoice,
    explain: bool,
    wide: bool,
    as_json: bool,
    telling: Telling,
) -> None:
    """List the tasks, or what a model makes of them.

    TASK, a name or a path, shows one task only; a file at a path is a program, and
    runs. With a model: what its tokenizer leaves of the task's values, and whether the model does
    the task.
    """
    from sage.task.catalog import describe_task, task_names

    if explain and not (task and model.name):
        raise click.UsageError("--explain needs a TASK and a --model.")
    names = [task] if task else task_names()
    if model.name is None:
        rows = [describe_task(name) for name in names]
        print_rows(rows, title="Tasks", as_json=as_json, details=_TASK_DETAILS, wide=wide)
        return
    loaded = model.load()
    if task is None:
        with tell(telling), stage("tasks"):
            expect(len(names))
            rows = [_summary(loaded, name) for name in names]
        title = f"Tasks on {loaded.name}"
        print_rows(rows, title=title, as_json=as_json, details=_AUDIT_DETAILS, wide=wide)
    elif explain:
        _print_explanation(loaded, task, as_json=as_json)
    else:
        _print_inspection(loaded, task, wide=wide, as_json=as_json)


def _summary(model: Model, name: str) -> dict[str, object]:
    """The row of a task, as a stage of the work."""
    from sage.inspection import summarise

    with stage(name):
        return summarise(model, name)


def _print_inspection(model: Model, task: str, *, wide: bool, as_json: bool) -> None:
    from sage.inspection import inspect

    inspection = inspect(model, task)
    title = f"{task} on {model.name}"
    details = ("mean metric", "n")
    print_rows([inspection.summary], title=title, as_json=as_json, details=details, wide=wide)
    if not as_json:
        print_rows(inspection.positions, title="\nNamed positions on an example prompt")
        print_rows(inspection.dropped, title="\nDropped")
        print_rows(inspection.contrasts, title="\nContrasts")


def _print_explanation(model: Model, task: str, *, as_json: bool) -> None:
    from sage.inspection import explain

    explanation = explain(model, task)
    if as_json:
        print_json(explanation._asdict())
        return
    print_rows(explanation.slots, title=f"Values of {task} that {model.name} can carry")
    print_rows(explanation.dropped, title="\nDropped")
    click.echo()
    for remedy in explanation.remedies:
        print_sentences(remedy)


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models known by name.

    A hub id or a local folder in Hugging Face format works as well, where the model is of one of
    these families.
    """
    from sage.models.catalog import known_models

    print_rows([model._asdict() for model in known_models()], title="Models", as_json=as_json)


@click.command()
@click.argument("release", required=False)
@click.option("--model", "-m", default=None, help="Only releases for this model.")
@click.option("--scorable", is_flag=True, help="Only releases that can be scored here.")
@wide_option
@json_option
def saes(release: str | None, model: str | None, scorable: bool, wide: bool, as_json: bool) -> None:
    """List SAE releases, and whether they can be scored.

    RELEASE shows every SAE in it. A release cannot be scored where its files are of a format that
    sage does not read, where none of its SAEs reads the residual stream, or where its model is of a
    family that sage does not run.
    """
    from sage.saes.listing import list_all_releases

    if release is not None:
        from sage.saes.releases import list_saes

        rows = [row._asdict() for row in list_saes(release)]
        print_rows(rows, title=f"SAEs of {release}", as_json=as_json)
        return
    listed = [entry for entry in list_all_releases(model) if entry.scorable or not scorable]
    if as_json:
        print_json([{**entry._asdict(), "scorable": entry.scorable} for entry in listed])
        return
    rows = [
        {
            "release": entry.release,
            "scorable": "yes" if entry.scorable else f"no: {entry.why_not}",
            "model": entry.model.rsplit("/", 1)[-1],
            "SAEs": entry.saes,
            "latents": entry.width or None,
            "L0": entry.l0 or None,
            "reads": entry.hooks or None,
        }
        for entry in listed
    ]
    title = "SAE releases (`sage saes RELEASE` lists the SAEs of one)"
    print_rows(rows, title=title, details=("reads",), wide=wide)
