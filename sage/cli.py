"""The commands of sage: each parses, calls one function and prints what it returned.

Results go to stdout, progress and the place of written files to stderr; `--json` prints for
machines. A SageError exits 1, wrong usage 2, both without a traceback; `--debug` shows it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage import __version__
from sage.errors import SageError
from sage.tables import show

if TYPE_CHECKING:
    from sage.models.base import Model

BACKENDS = ("transformer-lens", "nnsight")
ARCHITECTURES = ("relu", "gated", "jumprelu", "topk", "batchtopk", "matryoshka", "prolu")
ALSO = ("per-node", "sources", "recomputed", "oracle")
METHODS = ("attribution patching", "integrated gradients", "graddrop", "exact")

Command = Callable[..., Any]


class _Commands(click.Group):
    """Commands in the order in which they are written down, which is that of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="sage")
def cli(debug: bool) -> None:
    """Evaluate sparse autoencoders against ground truth."""
    del debug


def main() -> None:
    """The console command."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        raise SystemExit(130) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except SageError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"sage: {error}", err=True)
        raise SystemExit(1) from None


def _on_model(*, required: bool) -> Callable[[Command], Command]:
    """The options that name a model and how to run it."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option(
                "--dtype",
                default="float32",
                show_default=True,
                help="float32, bfloat16 or float16.",
            ),
            click.option(
                "--device",
                default=None,
                help="cpu, cuda, mps, ...  [default: the accelerator, if there is one]",
            ),
            click.option(
                "--backend", type=click.Choice(BACKENDS), default=BACKENDS[0], show_default=True
            ),
            click.option(
                "--model",
                "-m",
                required=required,
                help="A name (see `sage models`), a hub id, or a local folder.",
            ),
        ):
            command = option(command)
        return command

    return decorate


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
_seed = click.option("--seed", default=0, show_default=True)


@cli.command()
@click.argument("task", required=False)
@_on_model(required=False)
@_json
def tasks(task: str | None, model: str | None, as_json: bool, **options: Any) -> None:
    """List the tasks; with a model, what its tokenizer makes of them and whether it does them.

    TASK, a name or a path, shows one task only.
    """
    from sage.task.catalog import describe_task, task_names

    names = [task] if task else task_names()
    if model is None:
        show([describe_task(name) for name in names], title="Tasks", as_json=as_json)
        return
    from sage.inspection import inspect, summarise

    loaded = _load(model, options)
    if task is None:
        show(
            [summarise(loaded, name) for name in names],
            title=f"Tasks on {loaded.name}",
            as_json=as_json,
        )
        return
    found = inspect(loaded, task)
    show([found.summary], title=f"{task} on {loaded.name}", as_json=as_json)
    if not as_json:
        show(found.positions, title="\nNamed positions on an example prompt")
        show(found.dropped, title="\nDropped")
        show(found.contrasts, title="\nContrasts")


@cli.command()
@_json
def models(as_json: bool) -> None:
    """List the models known by name; a hub id or a local folder works as well."""
    from sage.models.load import known_models

    show([found._asdict() for found in known_models()], title="Models", as_json=as_json)


@cli.command()
@click.option("--model", "-m", default=None, help="Only releases for this model.")
@_json
def saes(model: str | None, as_json: bool) -> None:
    """List the SAE releases of residual streams that can be scored by name."""
    from sage.saes.releases import list_releases

    show([found._asdict() for found in list_releases(model)], title="SAE releases", as_json=as_json)


@cli.command("new-task")
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where to write it.  [default: here]",
)
def new_task(name: str, folder: Path) -> None:
    """Write a commented, working task file to start from."""
    from sage.task.new import write_task

    path = write_task(name, folder=folder)
    _wrote(path)
    click.echo(
        f"Try it:\n  sage tasks {path} --model gpt2-small\n  sage discover {path} --model gpt2-small"
    )


@cli.command()
@click.argument("task")
@_on_model(required=True)
@click.option(
    "--attribute",
    "-a",
    "contrasts",
    multiple=True,
    help="Only this contrast; may be given more than once.",
)
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True)
@click.option(
    "--no-qk-fix",
    "qk_fix",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Rank q and k by the plain gradient.",
)
@click.option("--pairs", default=200, show_default=True, help="Prompt pairs per contrast.")
@click.option(
    "--tau",
    default=0.02,
    show_default=True,
    help="Smallest statistic of a section's node, as a share of E|m|.",
)
@_seed
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all that was found as JSON, and a picture beside it.",
)
@_json
def discover(
    task: str,
    model: str,
    contrasts: tuple[str, ...],
    pairs: int,
    out: Path | None,
    as_json: bool,
    **others: Any,
) -> None:
    """Find where in a model each attribute of TASK lives."""
    from sage.discovery import discover as search
    from sage.discovery import draw
    from sage.evaluation import prepare
    from sage.progress import progress_bar
    from sage.result import write_json
    from sage.task.catalog import load_task

    found_task = load_task(task)
    loaded = _load(model, {name: others.pop(name) for name in ("backend", "device", "dtype")})
    prepared = prepare(loaded, found_task, seed=others["seed"], discover=pairs)
    with progress_bar() as progress:
        found = search(
            loaded,
            prepared.task,
            prepared.splits,
            contrasts=contrasts or None,
            progress=progress,
            **others,
        )
    if as_json:
        _json_out(found.to_dict())
    else:
        show(found.summary(), title=f"{found.task} on {found.model}")
        for contrast in found.findings:
            show(found.nodes(contrast), title=f"\n{contrast}")
    if out:
        _wrote(write_json(out, found.to_dict()))
        picture = out.with_suffix(".png")
        draw(found, picture)
        _wrote(picture)


@cli.command()
@click.argument("circuit")
@_on_model(required=False)
@_seed
@click.option(
    "--draw",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the published circuit (.png, .svg, .pdf).",
)
@click.option(
    "--graphml",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the published circuit as GraphML.",
)
@_json
def check(
    circuit: str,
    model: str | None,
    seed: int,
    draw: Path | None,
    graphml: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare a discovery with a published circuit: precision, recall, AUROC, misses and extras.

    Without --model it is checked on the model that the circuit was published for.
    """
    from sage.circuits import circuit as circuits
    from sage.circuits.catalog import load_circuit
    from sage.discovery import check as compare
    from sage.discovery import discover as search
    from sage.evaluation import prepare
    from sage.progress import progress_bar
    from sage.task.catalog import load_task

    published = load_circuit(circuit)
    if draw:
        circuits.draw(published, draw)
        _wrote(draw)
    if graphml:
        circuits.write_graphml(published, graphml)
        _wrote(graphml)
    loaded = _load(model or published.model, options)
    prepared = prepare(loaded, load_task(published.task), seed=seed)
    with progress_bar() as progress:
        found = search(loaded, prepared.task, prepared.splits, seed=seed, progress=progress)
    comparison = compare(published, found, loaded)
    if as_json:
        _json_out(comparison.to_dict())
        return
    show(comparison.agreements(), title=f"{circuit} on {loaded.name}: {published.source}")
    show(comparison.rows(), title="\nBy head")


@cli.command()
@click.argument("tasks", nargs=-1, required=True)
@_on_model(required=True)
@click.option(
    "--sae",
    "specs",
    multiple=True,
    required=True,
    help="A release, release/sae_id, a local file or folder; A+B is one suite.",
)
@click.option("--each", is_flag=True, help="Score every SAE of a suite by itself as well.")
@click.option(
    "--also", multiple=True, type=click.Choice(ALSO), help="Score this option beside the headline."
)
@click.option("--prompts", default=500, show_default=True, help="Test pairs per contrast.")
@click.option(
    "--across-models",
    is_flag=True,
    help="Fix the largest budget at k = 4, to compare models of different width.",
)
@click.option(
    "--unions-only",
    "groups",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Leave out the groups of each section.",
)
@_seed
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="One folder per task and model goes here.",
)
@_json
def score(
    tasks: tuple[str, ...],
    model: str,
    specs: tuple[str, ...],
    each: bool,
    out: Path,
    as_json: bool,
    **others: Any,
) -> None:
    """Score SAEs on TASKs: how well their latents match what the model must track.

    A run that is interrupted goes on where it was when it is repeated.
    """
    from sage.dictionaries.projected import options_named
    from sage.evaluation import Plan, evaluate
    from sage.progress import progress_bar
    from sage.saes.releases import load_suites
    from sage.store.cache import user_cache
    from sage.task.catalog import load_task

    chosen = [load_task(name) for name in tasks]
    loaded = _load(model, {name: others.pop(name) for name in ("backend", "device", "dtype")})
    plan = Plan(also=options_named(others.pop("also")), **others)
    suites = load_suites(
        specs, each=each, d_model=loaded.anatomy.d_model, hooks=loaded.anatomy.hooks
    )
    rows: list[dict[str, object]] = []
    with progress_bar() as progress:
        for task in chosen:
            folder = out / f"{task.name}--{loaded.name.rstrip('/').replace('/', '--')}"
            found = evaluate(
                loaded,
                task,
                suites,
                plan=plan,
                folder=folder,
                cache=user_cache(),
                progress=progress,
            ).result
            rows += found.overview()
            _wrote(folder / "result.json")
    show(rows, title=f"Scores on {loaded.name}", as_json=as_json)


@cli.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A .csv of all rows, or a .json shaped as SAEBench's.",
)
def export(results: tuple[Path, ...], out: Path) -> None:
    """Export result files: every row as CSV, or suite by suite in the shape of SAEBench's results."""
    from sage.export import export as write

    _wrote(write(results, out))


@cli.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="DIR...",
    type=click.Path(path_type=Path, exists=True),
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the pages go; open its index.html.",
)
@click.option("--workers", type=int, help="Processes that make pages.  [default: one per core]")
def report(folders: tuple[Path, ...], out: Path, workers: int | None) -> None:
    """Write results as pages to read: HTML that needs no network, figures as SVG with their data as
    CSV, and the tables as Markdown.

    Each DIR is the folder of one result, or is searched for results.
    """
    import os

    from sage.progress import progress_bar
    from sage.report import write_report

    with progress_bar() as progress:
        found = write_report(
            folders, out, workers=workers or os.cpu_count() or 1, progress=progress
        )
    click.echo(found.claim)
    _wrote(found.page)


@cli.command("train-sae")
@_on_model(required=True)
@click.option(
    "--hook",
    required=True,
    help="Where it reads the residual stream: 3.resid_pre, 3.resid_mid, 3.resid_post.",
)
@click.option("--architecture", type=click.Choice(ARCHITECTURES), default="topk", show_default=True)
@click.option("--width", type=int, help="The number of latents.  [default: 4 x d_model]")
@click.option(
    "--k",
    default=16.0,
    show_default=True,
    help="Latents kept per token: topk, batchtopk, matryoshka.",
)
@click.option(
    "--penalty",
    default=1.0,
    show_default=True,
    help="Weight of the sparsity loss: relu, gated, jumprelu, prolu.",
)
@click.option("--steps", default=1500, show_default=True)
@click.option("--batch", default=512, show_default=True, help="Tokens per step.")
@click.option(
    "--snapshot",
    "snapshots",
    type=int,
    multiple=True,
    help="Also save the SAE before this step; may be given more than once.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Train on prompts of this task; may be given more than once.",
)
@click.option(
    "--text",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Train on a text file, one passage per line.",
)
@click.option("--prompts", default=4000, show_default=True, help="Prompts of each task.")
@_seed
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where to write it, in SAELens format.",
)
def train_sae(model: str, out: Path, **others: Any) -> None:
    """Train an SAE on a model's residual activations; a run that is interrupted goes on where it
    was."""
    from sage.progress import progress_bar
    from sage.saes.train_on_model import train_on

    loaded = _load(model, {name: others.pop(name) for name in ("backend", "device", "dtype")})
    with progress_bar() as progress:
        sae = train_on(loaded, out=out, progress=progress, **others)
    _wrote(out)
    show(
        [
            {
                "sae": str(out),
                "architecture": sae.architecture.name,
                "width": sae.width,
                "L0": sae.stated.l0,
                "FVU": sae.stated.fvu,
            }
        ],
        title="Trained",
    )


@cli.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/demo"),
    show_default=True,
)
@click.option(
    "--all",
    "thorough",
    is_flag=True,
    help="Every embedded suite, control and budget, on more prompts: an hour or more.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many cells to run side by side.  [default: one for each core, at most 8]",
)
@_json
def demo(out: Path, thorough: bool, workers: int | None, as_json: bool) -> None:
    """Run everything on the models and SAEs that ship with sage: seven tasks, three models, and the
    report on them."""
    from sage import demo as demonstration
    from sage.progress import progress_bar

    with progress_bar() as progress:
        found = demonstration.demo(out, thorough=thorough, workers=workers, progress=progress)
    tables = {
        "gates": demonstration.gates(found),
        "suites": demonstration.suites(found),
        "stages": demonstration.spent(found),
    }
    if as_json:
        _json_out({**tables, "claim": found.report.claim, "report": str(found.report.page)})
    else:
        show(tables["gates"], title="Accuracy of every model on every task")
        show(tables["suites"], title="\nEvery suite, mean over the tasks")
        show(tables["stages"], title="\nWhere the time went, summed over the cells")
        click.echo(f"\n{found.report.claim}")
    _wrote(found.report.page)


@cli.command()
@click.option("--clear", is_flag=True, help="Delete what is kept.")
@click.option(
    "--kind",
    default=None,
    help="Only what is of this kind: gate, discovery, activations, features, scores.",
)
@_json
def cache(clear: bool, kind: str | None, as_json: bool) -> None:
    """Show, or clear, what is kept between runs because it depends on no SAE."""
    from datetime import datetime

    from sage.store.cache import cache_entries, cache_folder, cache_limit, clear_cache

    if clear:
        click.echo(f"Freed {clear_cache(kind=kind) / 1e6:.1f} MB in {cache_folder()}")
        return
    entries = cache_entries(kind=kind)
    rows = [
        {
            "kind": one.kind,
            "of": one.of,
            "MB": one.bytes / 1e6,
            "last used": f"{datetime.fromtimestamp(one.used):%Y-%m-%d %H:%M}",
        }
        for one in entries
    ]
    held = sum(one.bytes for one in entries)
    show(
        rows,
        title=f"Kept in {cache_folder()}: {held / 1e9:.2f} GB of at most {cache_limit() / 1e9:g}",
        as_json=as_json,
    )


def _json_out(data: object) -> None:
    import json

    click.echo(json.dumps(data, indent=1, ensure_ascii=False))


def _load(model: str, options: Mapping[str, Any]) -> Model:
    from sage.models.load import load_model

    return load_model(model, **options)


def _wrote(path: Path) -> None:
    click.echo(f"Wrote {path}", err=True)
