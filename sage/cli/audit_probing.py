"""`sage probe`: the metrics of other benchmarks for SAEs of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.options import ModelChoice, file_path, json_option, model_options, wide_option
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Telling, tell, telling_options
from sage.cli.values import count

if TYPE_CHECKING:
    from sage.audit.probed import Labelled, ProbeRow, ProbeSettings
    from sage.models.base import Model

METRICS = {"probing": "k-sparse probing", "tpp": "TPP", "scr": "SCR"}


@click.command()
@click.argument("data", nargs=-1, required=True)
@model_options(required=True)
@click.option(
    "--sae",
    "specs",
    multiple=True,
    required=True,
    help="A release, release/sae_id, a local file or folder; every SAE of it is probed.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(tuple(METRICS)),
    help="This one alone; may be given more than once.  [default: all that the data have]",
)
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    help="This attribute of a task; may be given more than once.  [default: all but those that its "
    "answers do not depend on]",
)
@click.option(
    "--position", default="END", show_default=True, help="Which token of a task's prompts is read."
)
@click.option("--text", "text_column", help="The column of texts.  [default: prompt, or text]")
@click.option("--label", "label_column", help="The column of labels.  [default: target, or label]")
@click.option("--train", type=count, default=1000, show_default=True, help="At most, to train on.")
@click.option("--test", type=count, default=500, show_default=True, help="At most, to test on.")
@click.option(
    "-k", "ks", type=count, multiple=True, help="So many latents.  [default: 1, 2, 5, 10 and 16]"
)
@click.option(
    "--draws",
    type=count,
    default=3,
    show_default=True,
    help="Draws of which train and which test; standard errors are over these.",
)
@click.option("--out", type=file_path, help="A CSV file for every row.")
@wide_option
@json_option
@telling_options
def probe(
    data: tuple[str, ...],
    model: ModelChoice,
    specs: tuple[str, ...],
    out: Path | None,
    wide: bool,
    as_json: bool,
    telling: Telling,
    **how: Any,
) -> None:
    """Probe SAEs by k-sparse probing, TPP and SCR, beside an untrained SAE and the activation.

    DATA are tasks, whose attributes are probed, or local files of labelled texts (CSV, TSV
    or JSON lines, also compressed), read at their last token, as the data sets of sae-probes are.
    What the audit concluded of each metric is printed below the table.
    """
    from dataclasses import asdict

    rows, notes = _measured(data, model, specs, how, telling)
    if out is not None:
        _write(rows, out)
        print_path(out, telling)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    shown = [_shown(row) for row in rows if wide or _in_short(row)]
    print_rows(shown, title=f"Probes of {', '.join(data)} on {model.name}", wide=wide)
    for line in (*notes, *_verdicts(rows)):
        click.echo(line)


def _measured(
    data: tuple[str, ...],
    choice: ModelChoice,
    specs: tuple[str, ...],
    how: dict[str, Any],
    telling: Telling,
) -> tuple[list[ProbeRow], list[str]]:
    """Every row of every task and file, and what is to be said of them."""
    from sage.audit.peers.probing import KS
    from sage.audit.probed import ProbeSettings, probe
    from sage.progress import stage
    from sage.saes.releases import load_suites

    model = choice.load()
    anatomy = model.anatomy
    suites = load_suites(list(specs), d_model=anatomy.d_model, hooks=anatomy.hooks)
    saes = {
        suite.id if len(suite.saes) == 1 else f"{suite.id}, {sae.id}": sae
        for suite in suites
        for sae in suite.saes.values()
    }
    metrics = tuple(METRICS[name] for name in how["metrics"] or METRICS)
    ks = tuple(sorted({*how["ks"]})) or KS
    settings = ProbeSettings(how["train"], how["test"], ks, how["draws"], metrics)
    rows: list[ProbeRow] = []
    notes: list[str] = []
    with tell(telling):
        for name in data:
            with stage(name):
                labelled = _labelled(name, model, settings, how)
                rows += probe(model, labelled, saes, settings)
                notes += [f"{labelled.name}: {note}" for note in labelled.notes]
    return rows, notes


def _labelled(name: str, model: Model, settings: ProbeSettings, how: dict[str, Any]) -> Labelled:
    """A file of labelled texts, or a task."""
    from sage.audit.labelled_texts import is_text_file, read_labelled_texts
    from sage.audit.probed import of_task, of_texts
    from sage.task.catalog import load_task

    path = Path(name)
    if is_text_file(path):
        texts = read_labelled_texts(path, text=how["text_column"], label=how["label_column"])
        return of_texts(model, texts)
    return of_task(
        model, load_task(name), settings, position=how["position"], attributes=how["attributes"]
    )


def _in_short(row: ProbeRow) -> bool:
    """Whether a row is printed where not all are: of TPP and SCR those at the canonical N."""
    from sage.audit.peers import probing, tpp

    return row.metric == probing.NAME or row.size == tpp.CANONICAL


def _shown(row: ProbeRow) -> dict[str, Any]:
    return {
        "data": row.data,
        "attribute": row.attribute,
        "hook": row.hook,
        "dictionary": row.dictionary,
        "metric": row.metric,
        "k or N": row.size,
        "value": row.value,
        "stderr": row.stderr,
        "n": row.n,
        "classes": row.classes,
    }


def _verdicts(rows: list[ProbeRow]) -> list[str]:
    """What the audit that ships concluded of each metric that was measured."""
    from sage.audit.audit_result import verdict_on
    from sage.audit.metrics import versions

    names = dict.fromkeys(row.metric for row in rows)
    said = {name: verdict_on(name, versions()[name]) for name in names}
    return [f"{name}, by the audit: {verdict}." for name, verdict in said.items() if verdict]


def _write(rows: list[ProbeRow], out: Path) -> None:
    import csv
    import io
    from dataclasses import asdict

    from sage.files import write_atomically

    text = io.StringIO()
    table = csv.DictWriter(text, list(asdict(rows[0])), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_atomically(out, text.getvalue().encode())
