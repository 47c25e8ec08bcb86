"""`sage discover`, `sage check`: where a task lives in a model, and what is published of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.options import (
    ModelChoice,
    file_path,
    json_option,
    model_options,
    old_words,
    seed_option,
)
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.planning import announce_discovery
from sage.cli.telling import Telling, tell, telling_options
from sage.cli.values import FiniteRange, count
from sage.errors import unknown
from sage.progress import stage

if TYPE_CHECKING:
    from sage.circuits.circuit import Circuit
    from sage.discovery import Discovery
    from sage.task.task import Task

METHODS = ("attribution patching", "integrated gradients", "graddrop", "exact")

contrasts_option = click.option(
    "--contrast",
    "-c",
    "contrasts",
    multiple=True,
    help="Only this contrast; may be given more than once.",
)
pairs_option = click.option(
    "--pairs", type=count, default=200, show_default=True, help="Prompt pairs per contrast."
)


@click.command(context_settings=old_words(attribute="contrast", a="c"))
@click.argument("task")
@model_options(required=True)
@contrasts_option
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True)
@click.option(
    "--no-qk-fix",
    "qk_fix",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Rank q and k by the plain gradient.",
)
@pairs_option
@click.option(
    "--tau",
    type=FiniteRange(min=0),
    default=0.02,
    show_default=True,
    help="Smallest statistic of a section's node, as a share of E|m|.",
)
@seed_option
@click.option(
    "--out", type=file_path, help="Write all that was found as JSON, and a picture beside it."
)
@json_option
@telling_options
def discover(
    task: str,
    model: ModelChoice,
    contrasts: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    telling: Telling,
    **how: Any,
) -> None:
    """Find where in a model each attribute of TASK lives."""
    from sage.discovery import DiscoverySettings, draw
    from sage.discovery import discover as discover_sections
    from sage.files import write_json
    from sage.preparation import prepare
    from sage.run import make_plan
    from sage.task.catalog import load_task

    declared = load_task(task)
    _check_contrasts(declared, contrasts)
    loaded = model.load()
    plan = make_plan(seed=how["seed"], discover=how.pop("pairs"))
    prepared = prepare(loaded, declared, plan)
    with tell(telling) as teller:
        announce_discovery(teller, loaded, prepared, plan, among=contrasts)
        with stage(prepared.task.name), stage("discovery"):
            discovery = discover_sections(
                loaded,
                prepared.task,
                prepared.splits,
                contrasts=contrasts or None,
                settings=DiscoverySettings(**how),
            )
    _print_discovery(discovery, as_json=as_json)
    if out:
        print_path(write_json(out, discovery.to_dict()), telling)
        picture = out.with_suffix(".png")
        draw(discovery, picture)
        print_path(picture, telling)


def _check_contrasts(task: Task, contrasts: Sequence[str]) -> None:
    for name in contrasts:
        if name not in task.contrast_names:
            raise unknown(f"contrast of task {task.name}", name, task.contrast_names)


def _print_discovery(discovery: Discovery, *, as_json: bool) -> None:
    if as_json:
        print_json(discovery.to_dict())
        return
    print_rows(discovery.summary(), title=f"{discovery.task} on {discovery.model}")
    for contrast, finding in discovery.findings.items():
        print_rows(discovery.nodes(contrast), title=f"\n{contrast}")
        for note in (*finding.notes, *finding.validation.notes):
            click.echo(note)


@click.command()
@click.argument("circuit")
@model_options(required=False)
@contrasts_option
@pairs_option
@seed_option
@click.option("--draw", type=file_path, help="Draw the published circuit (.png, .svg, .pdf).")
@click.option("--graphml", type=file_path, help="Write the published circuit as GraphML.")
@json_option
@telling_options
def check(
    circuit: str,
    model: ModelChoice,
    contrasts: tuple[str, ...],
    pairs: int,
    seed: int,
    draw: Path | None,
    graphml: Path | None,
    as_json: bool,
    telling: Telling,
) -> None:
    """Compare a discovery with a published circuit.

    Precision, recall, AUROC, misses and extras, by kind of node and head by head. Without --model
    it is checked on the model that the circuit was published for. With --contrast, members that
    only other contrasts find are misses.
    """
    from sage.circuits.catalog import load_circuit
    from sage.discovery import DiscoverySettings
    from sage.discovery import check as compare
    from sage.discovery import discover as discover_sections
    from sage.preparation import prepare
    from sage.run import make_plan
    from sage.task.catalog import load_task

    published = load_circuit(circuit)
    _write_published(published, draw, graphml)
    task = load_task(published.task)
    _check_contrasts(task, contrasts)
    loaded = model.load(default=published.model)
    plan = make_plan(seed=seed, discover=pairs)
    prepared = prepare(loaded, task, plan)
    with tell(telling) as teller:
        announce_discovery(teller, loaded, prepared, plan, among=contrasts)
        with stage(prepared.task.name), stage("discovery"):
            discovery = discover_sections(
                loaded,
                *prepared,
                contrasts=contrasts or None,
                settings=DiscoverySettings(seed=seed),
            )
    comparison = compare(published, discovery, loaded)
    if as_json:
        print_json(comparison.to_dict())
        return
    title = f"{circuit} on {loaded.name}: {published.source}"
    print_rows(comparison.agreements(), title=title)
    print_rows(comparison.rows(), title="\nBy head")


def _write_published(published: Circuit, draw: Path | None, graphml: Path | None) -> None:
    """The circuit as a picture and as a graph, where these are asked for."""
    from sage.circuits.drawing import draw_circuit
    from sage.circuits.graph import write_graphml

    if draw:
        draw_circuit(published, draw)
        print_path(draw)
    if graphml:
        write_graphml(published, graphml)
        print_path(graphml)
