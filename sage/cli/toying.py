"""`sage toy`: worlds whose true features are known, and what SAEs make of them."""

from __future__ import annotations

from pathlib import Path

import click

from sage.cli.options import folder_path, json_option, seed_option
from sage.cli.output import print_json, print_path, print_rows
from sage.cli.telling import Telling, tell, telling_options
from sage.saes.architectures import architecture_names

# Those of sage.toy.composite, which is imported when it is run.
WORLD_NAMES = ("small", "larger")
DEFAULT = ("topk", "relu", "gated")


@click.group()
def toy() -> None:
    """Train SAEs where the true features are known."""


@toy.command()
@click.option(
    "--world",
    type=click.Choice(WORLD_NAMES),
    default=WORLD_NAMES[0],
    show_default=True,
    help="Two attributes, or eight that agree in pairs on 80 % of the activations.",
)
@click.option(
    "--architecture",
    "architectures",
    type=click.Choice(architecture_names()),
    multiple=True,
    help=f"May be given more than once.  [default: {', '.join(DEFAULT)}]",
)
@click.option("--steps", default=1500, show_default=True, help="Of each training.")
@seed_option
@click.option("--out", type=folder_path, help="Where the page, its heat maps and their CSV go.")
@json_option
@telling_options
def composite(
    world: str,
    architectures: tuple[str, ...],
    steps: int,
    seed: int,
    out: Path | None,
    as_json: bool,
    telling: Telling,
) -> None:
    """Train SAEs on atomic features that occur in composites.

    Of each architecture one SAE has room for the atoms alone, and one for the composites. Says what
    their latents point at, and what each score makes of it: half a minute for the small world.
    """
    from sage.report.composite import write_composite
    from sage.toy.composite import toy_composite

    with tell(telling):
        result = toy_composite(
            world, architectures=architectures or DEFAULT, seed=seed, steps=steps
        )
    if as_json:
        print_json(result.table())
    else:
        click.echo(result.claim)
        print_rows(result.table(), title=f"SAEs of the {result.world.name}")
        for sentence in result.sentences():
            click.echo(sentence)
    if out is not None:
        print_path(write_composite(result, out)[0], telling)
