"""`sage fidelity`: what a model loses where an SAE stands in place of its activation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.options import ModelChoice, existing_path, folder_path, json_option, model_options
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Telling, tell, telling_options
from sage.cli.values import count

if TYPE_CHECKING:
    from sage.fidelity.result import FidelityResult, FidelityRow
    from sage.fidelity.sequences import Sequences
    from sage.models.base import Model

# The two tables: what the model loses, and what the SAE leaves of its activations.
LOSSES = (
    "loss_recovered_mean",
    "loss_recovered_zero",
    "nats_lost",
    "kl",
    "cross_entropy",
    "cross_entropy_sae",
    "cross_entropy_mean",
    "cross_entropy_zero",
)
RECONSTRUCTIONS = ("l0", "fvu", "cosine", "bias", "dead", "dense")


@click.command()
@model_options(required=True)
@click.option(
    "--sae",
    "specs",
    multiple=True,
    required=True,
    help="A release, release/sae_id, a local file or folder; A+B is one suite.",
)
@click.option(
    "--text",
    type=existing_path,
    help="A text file, one passage per line, or a dataset in a folder.  [default: the text that an "
    "embedded model learned]",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Measure on prompts of this task, at the answer; may be given more than once.",
)
@click.option(
    "--length",
    type=count,
    help="Tokens of a sequence, with BOS.  [default: 128, or as many as the model can hold]",
)
@click.option(
    "--sequences", type=count, default=512, show_default=True, help="Sequences, from the beginning."
)
@click.option("--prompts", type=count, default=200, show_default=True, help="Prompts of each task.")
@click.option("--each", is_flag=True, help="Print every SAE, not only the means over hooks.")
@click.option("--out", type=folder_path, help="A folder for fidelity.json, for `sage frontier`.")
@json_option
@telling_options
def fidelity(
    model: ModelChoice,
    specs: tuple[str, ...],
    out: Path | None,
    each: bool,
    as_json: bool,
    telling: Telling,
    **where: Any,
) -> None:
    """Measure what SAEs keep of a model's performance.

    And how well they reconstruct. Each SAE's reconstruction takes the place of the residual stream
    at its hook. Loss recovered is the share of what ablating the hook loses (to zero, or to its
    mean) that the SAE keeps.
    """
    from dataclasses import asdict

    from sage.fidelity.measure import measure_fidelity
    from sage.fidelity.result_file import save_fidelity
    from sage.nodes import Node
    from sage.saes.releases import load_suites

    if where["text"] and where["tasks"]:
        raise click.UsageError("Give --text or --task, not both.")
    loaded = model.load()
    anatomy = loaded.anatomy
    hooks = (*anatomy.hooks, Node("resid_pre", anatomy.layers))
    suites = load_suites(specs, d_model=anatomy.d_model, hooks=hooks)
    sequences = _sequences(loaded, **where)
    with tell(telling):
        result = measure_fidelity(loaded, suites, sequences)
    if out is not None:
        print_path(save_fidelity(result, out), telling)
    if as_json:
        print_json([asdict(row) for row in result.rows()])
    else:
        _print_tables(result, each=each)


def _sequences(
    model: Model,
    *,
    text: Path | None,
    tasks: tuple[str, ...],
    length: int | None,
    sequences: int,
    prompts: int,
) -> Sequences:
    """What to measure on."""
    from sage.fidelity.sequences import sequences_of, sequences_of_tasks, sequences_of_text
    from sage.task.catalog import load_task
    from sage.zoo.text import corpus_prompts

    if tasks:
        return sequences_of_tasks(model, [load_task(name) for name in tasks], count=prompts)
    if text is not None:
        return sequences_of_text(model, text, length=length, most=sequences)
    corpus = corpus_prompts(model)
    if not corpus:
        raise click.UsageError(f"No text is known for {model.name}: give --text or --task.")
    return sequences_of(model, corpus[:sequences], source="the corpus of the embedded models")


def _print_tables(result: FidelityResult, *, each: bool) -> None:
    from sage.fidelity.measures import MEASURES
    from sage.fidelity.result import LATENT_MEASURES

    text = result.text
    asked = "every next token" if text.asked == "next tokens" else "the answer at END"
    said = f"{result.model.name} on {text.source}: {text.sequences} sequences, {asked}"
    titles = {name: measure.title for name, measure in MEASURES.items()} | LATENT_MEASURES
    for title, measures in (("Performance", LOSSES), ("Reconstruction", RECONSTRUCTIONS)):
        rows = _table(result, {name: titles[name] for name in measures}, each=each)
        print_rows(rows, title=f"{title}, {said}")
    click.echo("Numbers are means with their standard errors over sequences.")
    for suite in result.suites:
        for ablation in ("mean", "zero"):
            if hooks := suite.undefined[f"loss_recovered_{ablation}"]:
                click.echo(
                    f"{suite.id}: ablating {', '.join(hooks)} to its {ablation} is not seen to "
                    "lose anything here; loss recovered is undefined there and in no mean."
                )


def _table(
    result: FidelityResult, titles: dict[str, str], *, each: bool
) -> list[dict[str, object]]:
    """A row for each suite, which is a mean over its hooks, or for each SAE too."""
    from sage.fidelity.result import MEAN_OVER_HOOKS

    alone = {suite.id for suite in result.suites if len(suite.hooks) == 1}
    table: dict[tuple[str, str], dict[str, object]] = {}
    for row in result.rows():
        is_mean = row.sae == MEAN_OVER_HOOKS
        if row.measure not in titles or not (each or is_mean or row.suite in alone):
            continue
        hook = f"mean over {len(row.hook.split())} hooks" if is_mean else row.hook
        start: dict[str, object] = {
            "suite": row.suite,
            "hook": hook,
            **dict.fromkeys(titles.values()),
        }
        cells = table.setdefault((row.suite, hook), start)
        cells[titles[row.measure]] = _cell(row)
    return list(table.values())


def _cell(row: FidelityRow) -> str | None:
    if row.value is None:
        return None
    digits = 1 if row.measure == "l0" else 3
    error = "" if row.stderr is None else f" ± {row.stderr:.{digits}f}"
    return f"{row.value:.{digits}f}{error}"
