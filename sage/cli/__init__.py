"""The commands of sage: each parses, calls one function and prints what it returned.

Results go to stdout, progress and the place of written files to stderr; `--json` prints for
machines. A SageError exits 1, wrong usage 2, both without a traceback; `--debug` shows it.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

import click

from sage.cli.audit_probing import probe
from sage.cli.auditing import audit
from sage.cli.comparing import compare
from sage.cli.discovering import check, discover
from sage.cli.examples import show_examples
from sage.cli.failures import told_failure
from sage.cli.fitting import frontier
from sage.cli.keeping import cache
from sage.cli.listing import models, saes, tasks
from sage.cli.making import new_task, train_sae
from sage.cli.measuring import fidelity
from sage.cli.real import real
from sage.cli.results import export, report
from sage.cli.scoring import demo, score
from sage.cli.sweeping import sweep
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
    sweep,
    fidelity,
    frontier,
    compare,
    audit,
    probe,
    export,
    report,
    train_sae,
    toy,
    demo,
    real,
    cache,
)


INTERRUPTED = (
    "Interrupted. What is finished is kept: `sage score`, `sage sweep`, `sage demo` and `sage "
    "train-sae` go on where they were when the same command is given again."
)


EXAMPLES = (
    "\b\nA first score, without a network, in half a minute:\n"
    "  sage score gendered_pronoun --model tiny-neox --sae tiny-neox/topk4 \\\n"
    "      --plan quick --out out\n"
    "  sage report out --out out/report\n"
    "Everything that ships, in a few minutes:\n"
    "  sage demo\n"
    "\n"
    "Examples of each command: `sage COMMAND --help`. Completion of commands and options, for bash "
    "(zsh and fish alike):\n"
    "\n"
    '\b\n  eval "$(_SAGE_COMPLETE=bash_source sage)"'
)


_LONGEST_SENTENCE = 300


class _InOrder(click.Group):
    """Commands in the order in which they are given, which is that of the work."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every command with the whole first sentence of its help."""
        del ctx
        rows = [
            (name, command.get_short_help_str(limit=_LONGEST_SENTENCE))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=_InOrder,
    commands=_COMMANDS,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__, prog_name="sage")
def cli(debug: bool) -> None:
    """Evaluate sparse autoencoders against ground truth."""
    del debug


show_examples(cli.commands)


def main() -> None:
    """The console command."""
    # What is left when it ends goes with the process: to look for cycles in it takes a second.
    atexit.register(gc.freeze)
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
    except BrokenPipeError:
        # Whoever read the output has read enough; nothing more can be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (OSError, MemoryError, RuntimeError) as error:
        told = told_failure(error)
        if told is None or "--debug" in sys.argv:
            raise
        click.echo(f"sage: {told}", err=True)
        raise SystemExit(1) from None
