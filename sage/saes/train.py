"""Training SAEs on residual activations, with the trainers of sae-lens and without its stores:
activations come from the caller.

https://github.com/decoderesearch/SAELens. A training is resumed where it was interrupted and ends
with the same weights, because batches are asked for by step and everything else that a step depends
on is saved.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sage.errors import SageError
from sage.nodes import Node
from sage.saes.architectures.prolu import Gradient
from sage.saes.formats import saelens
from sage.saes.formats.reading import Arrays, Fields, read_json, write_json
from sage.saes.sae import SAE, Normalisation, Stated, measure

ARCHITECTURES = ("relu", "gated", "jumprelu", "topk", "batchtopk", "matryoshka", "prolu")

Batches = Callable[[int], Iterator[Float[Tensor, "token d_model"]]]

_BATCHES_FOR_FACTOR = 32
_BATCHES_FOR_FIDELITY = 8


@dataclass(frozen=True)
class Training:
    """Everything that decides what an SAE becomes, apart from the activations.

    `k`: latents kept per token (topk, and on average batchtopk and matryoshka). `penalty`: weight
    of the sparsity loss of the others, L0 for jumprelu and L1 for relu, gated and prolu, on
    activations rescaled to norm sqrt(d_model) on average. `nested`: the widths of matryoshka's
    inner dictionaries. The learning rate and the penalty rise over `warm_up` steps, the learning
    rate falls to 0 over the last `decay`. A latent silent for `dead_after` steps is dead.
    `snapshots`: steps before which the SAE is saved; step 0 is untrained.
    """

    architecture: str
    model: str
    hook: Node
    d_model: int
    width: int
    steps: int
    batch: int
    k: float = 16.0
    penalty: float = 1.0
    nested: tuple[int, ...] = ()
    gradient: Gradient = "ste"
    learning_rate: float = 1e-3
    warm_up: int = 100
    decay: int = 0
    dead_after: int = 500
    reads_bos: bool = True
    snapshots: tuple[int, ...] = ()
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise SageError(
                f"No SAE of architecture '{self.architecture}' can be trained. There are: {', '.join(ARCHITECTURES)}."
            )
        if (
            min(self.d_model, self.width, self.steps, self.batch, self.learning_rate) <= 0
            or self.penalty < 0
        ):
            raise SageError(
                "d_model, width, steps, batch and the learning rate of a training are positive, and its penalty is not negative."
            )
        if not 1 <= self.k <= self.width or (self.architecture == "topk" and self.k != int(self.k)):
            raise SageError(
                f"k is {self.k:g}: of {self.width} latents a token keeps at least 1 and at most all, and topk a whole number."
            )
        if self.architecture == "matryoshka" and (
            list(self.nested) != sorted(set(self.nested)) or not self._nested_inside()
        ):
            raise SageError(
                f"nested is {self.nested}: a matryoshka needs rising widths below its own, {self.width}."
            )

    def _nested_inside(self) -> bool:
        return bool(self.nested) and self.nested[0] > 0 and self.nested[-1] < self.width


class Progress(NamedTuple):
    """Where a training stands: the last step's loss, L0, unexplained variance, and the share of
    dead latents."""

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
    report: Callable[[Progress], None] | None = None,
    report_every: int = 100,
    save_every: int = 500,
) -> SAE:
    """Train an SAE and save it into `out` in SAELens format, its snapshots into
    out/snapshots/step_N.

    `batches(n)` yields the batches of steps n, n + 1, ..., each [batch, d_model], the same ones
    whenever it is called. If `out` holds the same training unfinished, it goes on from its last
    saved state; finished, its SAE is returned; another training is an error.
    """
    _claim(out, training)
    if (out / saelens.CONFIG).is_file():
        return saelens.load(out)
    trainer = _trainer(training)
    start = _resume(trainer, out)
    if start == 0:
        trainer.activation_scaler.scaling_factor = _factor(training, batches)
    stream = batches(start)
    for step in range(start, training.steps):
        if step in training.snapshots:
            saelens.save(_current(trainer, training), out / "snapshots" / f"step_{step:06d}")
        output = _step(trainer, _next(stream, training, step))
        if report is not None and (step + 1) % report_every == 0:
            report(_progress(trainer, output, training))
        if (step + 1) % save_every == 0:
            _save_state(trainer, out)
    sae = _with_fidelity(_current(trainer, training), training, batches)
    saelens.save(sae, out)
    shutil.rmtree(out / ".resume", ignore_errors=True)
    return saelens.load(out)


def shuffled(x: Float[Tensor, "token d_model"], *, batch: int, seed: int = 0) -> Batches:
    """Batches of held activations without end: every epoch in an order of its own, the leftover of
    each left out."""
    if len(x) < batch:
        raise SageError(
            f"There are {len(x)} activations, fewer than one batch of {batch}. Give more text or a smaller batch."
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


def log_spaced(steps: int) -> tuple[int, ...]:
    """Snapshots that follow a training from the start: 0, 10, 30, 100, 300, ... below `steps`."""
    grown = (first * 10**power for power in range(1, 12) for first in (1, 3))
    return (0, *(step for step in grown if step < steps))


def _claim(out: Path, training: Training) -> None:
    """`out` belongs to one training: written there at its start, compared ever after."""
    file = out / "training.json"
    wanted = json.loads(json.dumps({**asdict(training), "hook": str(training.hook)}))
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise SageError(
                f"{out} is not empty and holds no training. Give an empty or new folder."
            )
        write_json(file, wanted)
    found = read_json(file).values
    if differing := [
        f"{name} {found.get(name)!r} there, {wanted.get(name)!r} here"
        for name in wanted
        if found.get(name) != wanted[name]
    ]:
        raise SageError(
            f"{out} holds another training: {'; '.join(differing)}. Give another folder, or the same settings to go on with it."
        )


def _trainer(training: Training) -> Any:
    """The trainer of sae-lens around a freshly drawn SAE."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens import SAETrainer
        from sae_lens.config import SAETrainerConfig
        from sae_lens.registry import get_sae_training_class

        torch.manual_seed(training.seed)
        kind, settings = _settings(training)
        sae_class, config_class = get_sae_training_class(kind)
        config: Any = config_class(
            d_in=training.d_model, d_sae=training.width, device=training.device, **settings
        )
        for name, value in (
            ("model_name", training.model),
            ("hook_name", saelens.hook_name(training.hook)),
            ("prepend_bos", training.reads_bos),
        ):
            config.metadata[name] = value
        sae = sae_class(config)
        warm_up = training.warm_up if training.warm_up > 1 else 0
        return SAETrainer(
            SAETrainerConfig(
                total_training_samples=training.steps * training.batch,
                train_batch_size_samples=training.batch,
                lr=training.learning_rate,
                lr_end=training.learning_rate / 10,
                lr_warm_up_steps=min(warm_up, training.steps // 2),
                lr_decay_steps=min(training.decay, training.steps // 2),
                device=training.device,
                dead_feature_window=training.dead_after,
                feature_sampling_window=training.steps + 1,
            ),
            sae,
            iter(()),
        )


def _settings(training: Training) -> tuple[str, dict[str, Any]]:
    """The architecture's name in sae-lens, and what its configuration is given."""
    name, k, warm_up = training.architecture, training.k, training.warm_up
    if name == "topk":
        return "topk", {"k": int(k)}
    if name == "batchtopk":
        return "batchtopk", {"k": float(k)}
    if name == "matryoshka":
        return "matryoshka_batchtopk", {
            "k": float(k),
            "matryoshka_widths": [*training.nested, training.width],
        }
    if name == "jumprelu":
        return "jumprelu", {"l0_coefficient": training.penalty, "l0_warm_up_steps": warm_up}
    penalty: dict[str, Any] = {"l1_coefficient": training.penalty, "l1_warm_up_steps": warm_up}
    if name == "prolu":
        from sage.saes.architectures.prolu_training import register

        register()
        return "prolu", {**penalty, "gradient": training.gradient}
    return {"relu": "standard"}.get(name, name), penalty


def _step(trainer: Any, batch: Tensor) -> Any:
    output = trainer.step(batch)
    trainer.n_training_steps += 1
    return output


def _next(stream: Iterator[Tensor], training: Training, step: int) -> Tensor:
    batch = next(stream, None)
    if batch is None:
        raise SageError(
            f"The activations ran out before step {step} of {training.steps}. Give more text, or train for fewer steps."
        )
    if tuple(batch.shape) != (training.batch, training.d_model):
        raise SageError(
            f"The batch of step {step} is {list(batch.shape)}; expected [{training.batch}, {training.d_model}]."
        )
    return batch.to(training.device, torch.float32)


def _factor(training: Training, batches: Batches) -> float:
    """What makes the norm of an activation sqrt(d_model) on average."""
    stream = batches(0)
    first = [
        _next(stream, training, step) for step in range(min(_BATCHES_FOR_FACTOR, training.steps))
    ]
    norms = torch.stack([batch.double().norm(dim=-1).mean() for batch in first])
    return training.d_model**0.5 / norms.mean().item()


def _progress(trainer: Any, output: Any, training: Training) -> Progress:
    given, rebuilt = output.sae_in.double(), output.sae_out.detach().double()
    lost, total = (
        (given - rebuilt).square().sum().item(),
        (given - given.mean(0)).square().sum().item(),
    )
    return Progress(
        step=trainer.n_training_steps,
        steps=training.steps,
        loss=output.loss.item(),
        l0=output.feature_acts.ne(0).sum(-1).double().mean().item(),
        fvu=lost / total if total else float("nan"),
        dead=trainer.dead_neurons.double().mean().item(),
    )


def _current(trainer: Any, training: Training) -> SAE:
    """The SAE as it would be if training ended here."""
    state = {name: array.detach().clone() for name, array in trainer.sae.state_dict().items()}
    trainer.sae.process_state_dict_for_saving_inference(state)
    config = trainer.sae.cfg.get_inference_sae_cfg_dict()
    name = f"{training.model}/{training.hook.layer}.{training.hook.kind}"
    sae = saelens.read(Fields(Path(name), config), Arrays(Path(name), state), name=name)
    return replace(
        sae,
        normalisation=Normalisation(
            "expected_average_only_in", trainer.activation_scaler.scaling_factor
        ),
    )


def _with_fidelity(sae: SAE, training: Training, batches: Batches) -> SAE:
    """The SAE stating its own L0 and unexplained variance, on the last batches of its training."""
    last = batches(max(0, training.steps - _BATCHES_FOR_FIDELITY))
    found = measure(
        sae,
        torch.cat(
            [
                batch.to(training.device)
                for batch in islice(last, min(_BATCHES_FOR_FIDELITY, training.steps))
            ]
        ),
    )
    return replace(sae, stated=Stated(l0=found.l0, fvu=found.fvu, model=training.model))


def _save_state(trainer: Any, out: Path) -> None:
    """Everything the next step depends on, in a folder that takes its name when it is whole; older
    ones go after that."""
    states, part = out / ".resume", out / ".resume" / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    trainer.sae.save_model(part)
    trainer.save_trainer_state(part)
    name = f"step_{trainer.n_training_steps:09d}"
    os.replace(part, states / name)
    for older in states.glob("step_*"):
        if older.name != name:
            shutil.rmtree(older)


def _resume(trainer: Any, out: Path) -> int:
    """Put the trainer where it last was and give the step it does next; 0 where nothing was saved."""
    saved = sorted((out / ".resume").glob("step_*"))
    if not saved:
        return 0
    trainer.sae.load_weights_from_checkpoint(saved[-1])
    trainer.load_trainer_state(saved[-1])
    return trainer.n_training_steps
