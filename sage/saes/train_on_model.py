"""Train an SAE on a model: read its residual activations on task prompts or a text, and hand them
to the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage.errors import SageError, Unsupported
from sage.models.base import Model
from sage.nodes import RESIDUAL_KINDS, parse_node
from sage.progress import Progress, silent
from sage.saes.residual_tokens import residual_tokens, task_prompts, text_prompts
from sage.saes.sae import SAE, canonical
from sage.saes.train import Training, shuffled, train
from sage.task.catalog import load_task


def train_on(
    model: Model,
    *,
    hook: str,
    architecture: str,
    steps: int,
    batch: int,
    out: Path,
    width: int | None = None,
    k: float = 16.0,
    penalty: float = 1.0,
    snapshots: Sequence[int] = (),
    tasks: Sequence[str] = (),
    text: Path | None = None,
    prompts: int = 4000,
    seed: int = 0,
    progress: Progress = silent,
) -> SAE:
    """Train an SAE of the residual stream at a hook, on all tokens but BOS, and save it in SAELens
    format in `out`.

    `width` is 4 x d_model by default; a matryoshka's inner dictionaries have a quarter and a half
    of it. Raises SageError without tasks or a text to train on.
    """
    node = parse_node(hook)
    if node.kind not in RESIDUAL_KINDS:
        raise Unsupported(
            f"SAEs are trained on the residual stream ({', '.join(RESIDUAL_KINDS)}), not on {node}."
        )
    if not tasks and text is None:
        raise SageError(
            "There is nothing to train on. Give --task NAME, more than once if you like, or --text FILE."
        )
    read = (
        task_prompts(model, [load_task(name) for name in tasks], count=prompts, seed=seed)
        if tasks
        else []
    )
    read += text_prompts(model, text) if text else []
    total = width or 4 * model.anatomy.d_model
    training = Training(
        architecture=architecture,
        model=model.name,
        hook=node,
        d_model=model.anatomy.d_model,
        width=total,
        steps=steps,
        batch=batch,
        k=k,
        penalty=penalty,
        nested=(total // 4, total // 2) if architecture == "matryoshka" else (),
        reads_bos=False,
        snapshots=tuple(snapshots),
        seed=seed,
        device=model.device,
    )
    tokens = residual_tokens(model, canonical(node), read).to(model.device)
    return train(
        training,
        shuffled(tokens, batch=batch, seed=seed),
        out=out,
        report=lambda at: progress(f"train {hook}", at.step, at.steps),
    )
