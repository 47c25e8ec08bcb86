"""`sage new-task`, `sage train-sae`: a task and an SAE of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sage.cli.options import ModelChoice, folder_path, model_options, seed_option, text_path
from sage.cli.output import print_path, print_rows
from sage.cli.telling import Telling, tell, telling_options
from sage.cli.values import FiniteRange, count
from sage.progress import stage
from sage.saes.architectures import architecture_names
from sage.saes.training_settings import FREEZES


@click.command("new-task")
@click.argument("name")
@click.option(
    "--model",
    "-m",
    default=None,
    help="Write only values that this model's tokenizer can carry.",
)
@click.option(
    "--folder", type=folder_path, default=Path(), help="Where to write it.  [default: here]"
)
def new_task(name: str, model: str | None, folder: Path) -> None:
    """Write a commented, working task file to start from."""
    from sage.models.tokenizers import load_tokenizer
    from sage.task.new import write_task

    told = model or "gpt2-small"
    tokenizer = None if model is None else load_tokenizer(model)
    path = write_task(name, folder=folder, model=told, tokenizer=tokenizer)
    print_path(path)
    click.echo("Try it:")
    click.echo(f"  sage tasks {path} --model {told} --explain")
    click.echo(f"  sage discover {path} --model {told}")


@click.command("train-sae")
@model_options(required=True)
@click.option(
    "--hook",
    required=True,
    help="Where it reads the residual stream: 3.resid_pre, 3.resid_mid, 3.resid_post.",
)
@click.option(
    "--architecture", type=click.Choice(architecture_names()), default="topk", show_default=True
)
@click.option("--width", type=count, help="The number of latents.  [default: 4 x d_model]")
@click.option(
    "--k",
    type=FiniteRange(min=1),
    default=16.0,
    show_default=True,
    help="Latents kept per token, where the architecture keeps a number of them.",
)
@click.option(
    "--penalty",
    type=FiniteRange(min=0),
    default=1.0,
    show_default=True,
    help="Weight of the sparsity loss, where the architecture has one.",
)
@click.option(
    "--freeze",
    type=click.Choice(FREEZES),
    default="none",
    show_default=True,
    help="Train a null of the SAE: its decoder, drawn like the activations, or its encoder does "
    "not learn; or, soft, the decoder's directions stay near their first ones.",
)
@click.option("--steps", type=count, default=1500, show_default=True)
@click.option("--batch", type=count, default=512, show_default=True, help="Tokens per step.")
@click.option(
    "--snapshot",
    "snapshots",
    type=click.IntRange(min=0),
    multiple=True,
    help="Also save the SAE before this step; may be given more than once.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Train on prompts of this task; may be given more than once.",
)
@click.option("--text", type=text_path, help="Train on a text file, one passage per line.")
@click.option(
    "--prompts", type=count, default=4000, show_default=True, help="Prompts of each task."
)
@seed_option
@click.option("--out", type=folder_path, required=True, help="Where it goes, in SAELens format.")
@telling_options
def train_sae(
    model: ModelChoice,
    hook: str,
    out: Path,
    width: int | None,
    telling: Telling,
    **options: Any,
) -> None:
    """Train an SAE on a model's residual activations.

    A run that is interrupted goes on where it was when it is repeated.
    """
    from sage.saes.train_on_model import TrainingText, train_on
    from sage.saes.training_settings import TrainingSettings

    text = TrainingText(*(options.pop(name) for name in ("tasks", "text", "prompts")))
    loaded = model.load()
    settings = TrainingSettings(width=width or 4 * loaded.anatomy.d_model, **options)
    with tell(telling), stage(f"train {hook}"):
        sae = train_on(loaded, settings, text, hook=hook, out=out)
    print_path(out, telling)
    row = {
        "sae": str(out),
        "architecture": sae.encoder.name,
        "width": sae.width,
        "L0": sae.stated.l0,
        "FVU": sae.stated.fvu,
    }
    print_rows([row], title="Trained")
