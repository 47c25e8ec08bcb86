"""The commands of sage: each parses, calls one function and prints what it returned.

Results go to stdout, progress and the place of written files to stderr; `--json` prints for
machines. A SageError exits 1, wrong usage 2, both without a traceback; `--debug` shows it.
"""

from __future__ import annotations

import sys

import click

from sage.cli.discovering import check, discover
from sage.cli.examples import show_examples
from sage.cli.fitting import frontier
from sage.cli.keeping import cache
from sage.cli.listing import models, saes, tasks
from sage.cli.making import new_task, train_sae
from sage.cli.measuring import fidelity
from sage.cli.results import export, report
from sage.cli.scoring import demo, score
from sage.cli.toying import toy
from sage.errors import SageError
from sage.version import __version__

__all__ = ["cli", "main"]

_COMMANDS = (
    tasks,
    models,
    saes,
    new_task,
    discover,
    check,
    score,
    fidelity,
    frontier,
    export,
    report,
    train_sae,
    toy,
    demo,
    cache,
)


INTERRUPTED = (
    "Interrupted. What is finished is kept: `sage score`, `sage demo` and `sage train-sae` go on "
    "where they were when the same command is given again."
)


class _InOrder(click.Group):
    """Commands in the order in which they are given, which is that of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)


@click.group(
    cls=_InOrder,
    commands=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="sage")
def cli(debug: bool) -> None:
    """Evaluate sparse autoencoders against ground truth.

    \b
    A first score, without a network, in half a minute:
      sage score gendered_pronoun --model tiny-neox --sae tiny-neox/topk4 \\
          --plan quick --out out
      sage report out --out out/report
    Everything that ships, in a few minutes:
      sage demo

    `sage COMMAND --help` has examples of each command. Tab completion of commands
    and options, for bash (zsh and fish alike):

    \b
      eval "$(_SAGE_COMPLETE=bash_source sage)"
    """
    del debug


show_examples(cli.commands)


def main() -> None:
    """The console command."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo(INTERRUPTED, err=True)
        raise SystemExit(130) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except SageError as error:
        if "--debug" in sys.argv:
            raise
        click.echo(f"sage: {error}", err=True)
        raise SystemExit(1) from None
