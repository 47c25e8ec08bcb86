"""Train an SAE on a model: on its residual activations on task prompts, on a text, or on both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sage.errors import SageError, Unsupported
from sage.models.base import Model
from sage.nodes import RESIDUAL_KINDS, parse_node
from sage.progress import advance, expect, stage
from sage.saes.residual_tokens import residual_tokens, task_prompts, text_prompts
from sage.saes.sae import SAE, canonical, hook_label
from sage.saes.suite import why_unread
from sage.saes.train import shuffled, train
from sage.saes.training import Training
from sage.saes.training_settings import TrainingSettings
from sage.task.catalog import load_task
from sage.task.tokens import Tokenized


@dataclass(frozen=True)
class TrainingText:
    """What the model reads while an SAE is trained on it.

    `tasks`: names or paths, of each up to `prompts` prompts. `file`: a text, one passage per line.
    """

    tasks: Sequence[str] = ()
    file: Path | None = None
    prompts: int = 4000

    def __post_init__(self) -> None:
        if not self.tasks and self.file is None:
            raise SageError(
                "There is nothing to train on. Give --task NAME (`sage tasks` lists names; more "
                "than once if you like), or --text FILE, one passage per line."
            )

    def tokenized(self, model: Model, *, seed: int) -> list[Tokenized]:
        """All of it as the model reads it, prompts first."""
        tasks = [load_task(name) for name in self.tasks]
        prompts = task_prompts(model, tasks, count=self.prompts, seed=seed) if tasks else []
        return prompts + (text_prompts(model, self.file) if self.file else [])


def train_on(
    model: Model,
    settings: TrainingSettings,
    text: TrainingText,
    *,
    hook: str,
    out: Path,
) -> SAE:
    """Train an SAE of the residual stream at a hook, on all tokens but BOS.

    It is saved in SAELens format in `out`. Unsupported where the hook is none of the residual
    stream.
    """
    node = parse_node(hook)
    if node.kind not in RESIDUAL_KINDS:
        raise Unsupported(
            f"SAEs are trained on the residual stream ({', '.join(RESIDUAL_KINDS)}), not on {node}."
        )
    if (why := why_unread(node, model.anatomy)) is not None:
        possible = ", ".join(map(hook_label, model.anatomy.hooks))
        raise SageError(
            f"Nothing in {model.name} reads {hook_label(node)}: {why}. An SAE there could not be "
            f"judged. Hooks that are read: {possible}."
        )
    training = Training(
        settings,
        model=model.name,
        hook=node,
        d_model=model.anatomy.d_model,
        reads_bos=False,
        device=model.device,
    )
    with stage("reading"):
        prompts = text.tokenized(model, seed=settings.seed)
        tokens = residual_tokens(model, canonical(node), prompts).to(model.device)
    with stage("training") as under_way:
        expect(settings.steps)
        return train(
            training,
            shuffled(tokens, batch=settings.batch, seed=settings.seed),
            out=out,
            report=lambda status: advance(status.step - under_way.done),
        )
