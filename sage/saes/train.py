"""Training SAEs on residual activations, which come from the caller.

The trainers are those of sae-lens (https://github.com/decoderesearch/SAELens), without its stores.
A training is resumed where it was interrupted and ends with the same weights, because batches are
asked for by step and everything else that a step depends on is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.files import write_json
from sage.saes import sae_lens_trainer
from sage.saes.formats import saelens
from sage.saes.sae import SAE, Stated, measure
from sage.saes.sae_files import read_json
from sage.saes.training import Training

Batches = Callable[[int], Iterator[Float[Tensor, "token d_model"]]]

_BATCHES_TO_START = 32
_BATCHES_FOR_FIDELITY = 8


class TrainingStatus(NamedTuple):
    """Where a training stands, on the batch of its last step.

    `fvu` is the fraction of variance unexplained, `dead` the share of latents long silent.
    """

    step: int
    steps: int
    loss: float
    l0: float
    fvu: float
    dead: float


def train(
    training: Training,
    batches: Batches,
    *,
    out: Path,
    report: Callable[[TrainingStatus], None] | None = None,
    report_every: int = 100,
    save_every: int = 500,
) -> SAE:
    """Train an SAE and save it into `out` in SAELens format, snapshots in out/snapshots/step_N.

    `batches(n)` yields the batches of steps n, n + 1, ..., each [batch, d_model], the same ones
    whenever it is called. If `out` holds the same training unfinished, it goes on from its last
    saved state; finished, its SAE is returned; another training is an error.
    """
    _claim(out, training)
    if (out / saelens.CONFIG).is_file():
        return saelens.load(out)
    trainer, states = sae_lens_trainer.make_trainer(training), out / ".resume"
    start = sae_lens_trainer.restore(trainer, states)
    if start == 0:
        first = _first_batches(training, batches)
        trainer.activation_scaler.scaling_factor = _scaling_factor(first)
        if training.settings.freeze == "decoder":
            seed = training.settings.seed
            sae_lens_trainer.draw_decoder(trainer, torch.cat(first), seed=seed)
    stream = batches(start)
    for step in range(start, training.settings.steps):
        if step in training.settings.snapshots:
            snapshot = out / "snapshots" / f"step_{step:06d}"
            saelens.save(sae_lens_trainer.current_sae(trainer, training), snapshot)
        output = sae_lens_trainer.make_step(trainer, _next_batch(stream, training, step))
        if report is not None and (step + 1) % report_every == 0:
            report(_status(trainer, output, training.settings.steps))
        if (step + 1) % save_every == 0:
            sae_lens_trainer.save_state(trainer, states)
    sae = sae_lens_trainer.current_sae(trainer, training)
    saelens.save(_with_fidelity(sae, training, batches), out)
    sae_lens_trainer.forget_states(states)
    return saelens.load(out)


def shuffled(x: Float[Tensor, "token d_model"], *, batch: int, seed: int = 0) -> Batches:
    """Endless batches of held activations.

    Every epoch has an order of its own; what does not fill a batch at its end is left out.
    """
    if len(x) < batch:
        raise SageError(
            f"There are {len(x)} activations, fewer than one batch of {batch}. "
            "Give more text or a smaller batch."
        )
    in_epoch = len(x) // batch

    def batches(start: int) -> Iterator[Tensor]:
        step = start
        while True:
            draw = torch.Generator().manual_seed(seed * 1_000_003 + step // in_epoch)
            order = torch.randperm(len(x), generator=draw)
            for place in range(step % in_epoch, in_epoch):
                yield x[order[place * batch : (place + 1) * batch].to(x.device)]
                step += 1

    return batches


def _claim(out: Path, training: Training) -> None:
    """`out` belongs to one training: written there at its start, compared ever after."""
    file, here = out / "training.json", training.fields()
    if not file.is_file():
        if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise SageError(
                f"{out} is not empty and holds no training. Give an empty or new folder."
            )
        write_json(file, here)
    written = read_json(file).values
    differences = [
        f"{name} {written.get(name)!r} there, {value!r} here"
        for name, value in here.items()
        if written.get(name) != value
    ]
    if differences:
        raise SageError(
            f"{out} holds another training: {'; '.join(differences)}. "
            "Give another folder, or the same settings to go on with it."
        )


def _next_batch(
    stream: Iterator[Tensor], training: Training, step: int
) -> Float[Tensor, "token d_model"]:
    settings = training.settings
    batch = next(stream, None)
    if batch is None:
        raise SageError(
            f"The activations ran out before step {step} of {settings.steps}. "
            "Give more text, or train for fewer steps."
        )
    expected = [settings.batch, training.d_model]
    if list(batch.shape) != expected:
        raise SageError(f"The batch of step {step} is {list(batch.shape)}; expected {expected}.")
    return batch.to(training.device, torch.float32)


def _first_batches(training: Training, batches: Batches) -> list[Float[Tensor, "token d_model"]]:
    """What is fitted before the first step is fitted to these."""
    stream = batches(0)
    steps = range(min(_BATCHES_TO_START, training.settings.steps))
    return [_next_batch(stream, training, step) for step in steps]


def _scaling_factor(batches: Sequence[Float[Tensor, "token d_model"]]) -> float:
    """What makes the norm of an activation sqrt(d_model) on average."""
    norms = torch.stack([batch.double().norm(dim=-1).mean() for batch in batches])
    return batches[0].shape[1] ** 0.5 / norms.mean().item()


def _status(trainer: Any, output: Any, steps: int) -> TrainingStatus:
    x, x_hat = output.sae_in.double(), output.sae_out.detach().double()
    unexplained = (x - x_hat).square().sum().item()
    variance = (x - x.mean(0)).square().sum().item()
    return TrainingStatus(
        step=trainer.n_training_steps,
        steps=steps,
        loss=output.loss.item(),
        l0=output.feature_acts.ne(0).sum(-1).double().mean().item(),
        fvu=unexplained / variance if variance else float("nan"),
        dead=trainer.dead_neurons.double().mean().item(),
    )


def _with_fidelity(sae: SAE, training: Training, batches: Batches) -> SAE:
    """The SAE stating its own L0 and unexplained variance, on the last batches of its training."""
    steps = training.settings.steps
    last = batches(max(0, steps - _BATCHES_FOR_FIDELITY))
    count = min(_BATCHES_FOR_FIDELITY, steps)
    tokens = torch.cat([batch.to(training.device) for batch in islice(last, count)])
    fidelity = measure(sae, tokens)
    return replace(sae, stated=Stated(l0=fidelity.l0, fvu=fidelity.fvu, model=training.model))
