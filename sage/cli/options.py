"""Options that several commands share, and old words for them that still work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sage.cli.values import WritablePath, seed
from sage.errors import SageError

if TYPE_CHECKING:
    from sage.models.base import Model

BACKENDS = ("transformer-lens", "nnsight")

Command = Callable[..., Any]

file_path = WritablePath(path_type=Path, dir_okay=False)
folder_path = WritablePath(path_type=Path, file_okay=False)
text_path = click.Path(path_type=Path, dir_okay=False)
existing_path = click.Path(path_type=Path, exists=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
wide_option = click.option("--wide", is_flag=True, help="Show every column on a terminal too.")
seed_option = click.option("--seed", type=seed, default=0, show_default=True)


@dataclass(frozen=True)
class ModelChoice:
    """Which model a command line names, and how to run it; `name` is None where it names none."""

    name: str | None
    backend: str
    device: str | None
    dtype: str
    bos: bool | None = None

    def load(self, *, default: str | None = None) -> Model:
        """The model, or the default where none is named."""
        from sage.models.load import load_model

        name = self.name or default
        if name is None:
            raise SageError("No model is named. Give --model; `sage models` lists names.")
        return load_model(
            name, backend=self.backend, device=self.device, dtype=self.dtype, bos=self.bos
        )


def model_options(*, required: bool) -> Callable[[Command], Command]:
    """The options that name a model and how to run it; the command gets them as `model`."""
    options = (
        click.option(
            "--model",
            "-m",
            required=required,
            help="A name (see `sage models`), a hub id, or a local folder.",
        ),
        click.option(
            "--backend", type=click.Choice(BACKENDS), default=BACKENDS[0], show_default=True
        ),
        click.option(
            "--device",
            default=None,
            help="cpu, cuda, mps, ...  [default: the accelerator, if there is one]",
        ),
        click.option(
            "--dtype", default="float32", show_default=True, help="float32, bfloat16 or float16."
        ),
        click.option(
            "--bos/--no-bos",
            default=None,
            help="Whether prompts begin with the BOS token.  [default: as the model's own do]",
        ),
    )

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_model(*, model: str | None, **others: Any) -> Any:
            how = {name: others.pop(name) for name in ("backend", "device", "dtype", "bos")}
            return command(model=ModelChoice(model, **how), **others)

        decorated = with_model
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def old_words(**words: str) -> dict[str, Any]:
    """Context settings of a command whose options had other names: these still work, unsaid.

    `words` maps old names to new ones, without dashes.
    """
    return {"token_normalize_func": lambda word: words.get(word, word)}
