"""The trainer of sae-lens around one SAE: made, stepped, read, saved and restored.

https://github.com/decoderesearch/SAELens. What it is in sae-lens differs between versions and is
known here alone.
"""

from __future__ import annotations

import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sage.saes import freezing
from sage.saes.architectures.architecture import find_architecture, trainer_settings
from sage.saes.formats import saelens
from sage.saes.sae import SAE, Normalisation, hook_label
from sage.saes.sae_files import Arrays, Fields
from sage.saes.training import Training


def make_trainer(training: Training) -> Any:
    """The trainer around a freshly drawn SAE."""
    settings = training.settings
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sae_lens import SAETrainer
        from sae_lens.config import SAETrainerConfig

        torch.manual_seed(settings.seed)
        sae = _fresh_sae(training)
        warm_up = settings.warm_up if settings.warm_up > 1 else 0
        config = SAETrainerConfig(
            total_training_samples=settings.steps * settings.batch,
            train_batch_size_samples=settings.batch,
            lr=settings.learning_rate,
            lr_end=settings.learning_rate / 10,
            lr_warm_up_steps=min(warm_up, settings.steps // 2),
            lr_decay_steps=min(settings.decay, settings.steps // 2),
            device=training.device,
            dead_feature_window=settings.dead_after,
            feature_sampling_window=settings.steps + 1,
        )
        trainer = SAETrainer(config, sae, iter(()))
        _freeze(trainer, settings.freeze)
        return trainer


@torch.no_grad()
def draw_decoder(trainer: Any, x: Float[Tensor, "token d_model"], *, seed: int) -> None:
    """Give the decoder unit rows with the covariance of these activations.

    The encoder starts along them, with the norms it was drawn with: in sae-lens it starts as the
    decoder's transpose.
    """
    sae = trainer.sae
    rows = freezing.random_directions(x, count=sae.cfg.d_sae, seed=seed).to(sae.W_dec)
    sae.W_dec.copy_(rows)
    sae.W_enc.copy_(rows.T * sae.W_enc.norm(dim=0))


def make_step(trainer: Any, batch: Tensor) -> Any:
    """Train on one batch [token, d_model]; what sae-lens says of the step."""
    output = trainer.step(batch)
    trainer.n_training_steps += 1
    return output


def current_sae(trainer: Any, training: Training) -> SAE:
    """The SAE as it would be if training ended here."""
    arrays = {name: array.detach().clone() for name, array in trainer.sae.state_dict().items()}
    trainer.sae.process_state_dict_for_saving_inference(arrays)
    config = trainer.sae.cfg.get_inference_sae_cfg_dict()
    name = f"{training.model}/{hook_label(training.hook)}"
    sae = saelens.read(Fields(Path(name), config), Arrays(Path(name), arrays), name=name)
    factor = trainer.activation_scaler.scaling_factor
    return replace(sae, normalisation=Normalisation("expected_average_only_in", factor))


def save_state(trainer: Any, states: Path) -> None:
    """Save everything the next step depends on below `states`.

    A state's folder takes its name when it is whole; older ones go after that.
    """
    part = states / "part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    trainer.sae.save_model(part)
    trainer.save_trainer_state(part)
    name = f"step_{trainer.n_training_steps:09d}"
    os.replace(part, states / name)
    for older in states.glob("step_*"):
        if older.name != name:
            shutil.rmtree(older)


def restore(trainer: Any, states: Path) -> int:
    """Put the trainer where it last was; the step it does next, 0 where nothing was saved."""
    saved = sorted(states.glob("step_*"))
    if not saved:
        return 0
    trainer.sae.load_weights_from_checkpoint(saved[-1])
    trainer.load_trainer_state(saved[-1])
    return trainer.n_training_steps


def forget_states(states: Path) -> None:
    """Remove what was saved on the way."""
    shutil.rmtree(states, ignore_errors=True)


def _freeze(trainer: Any, freeze: str) -> None:
    """Keep what an SAE was drawn as, or near it, from now on."""
    sae = trainer.sae
    if freeze in ("decoder", "encoder"):
        frozen = sae.W_dec if freeze == "decoder" else sae.W_enc
        frozen.requires_grad_(requires_grad=False)
    if freeze == "soft":
        start = normalize(sae.W_dec.detach(), dim=-1)

        @torch.no_grad()
        def hold_decoder(*_: object) -> None:
            sae.W_dec.copy_(freezing.held_near(sae.W_dec, start))

        trainer.optimizer.register_step_post_hook(hold_decoder)


def _fresh_sae(training: Training) -> Any:
    from sae_lens.registry import get_sae_training_class

    settings = training.settings
    trainer = find_architecture(settings.architecture).trainer
    trainer.register()
    sae_class, config_class = get_sae_training_class(trainer.name)
    config: Any = config_class(
        d_in=training.d_model,
        d_sae=settings.width,
        device=training.device,
        **trainer_settings(settings),
    )
    config.metadata["model_name"] = training.model
    config.metadata["hook_name"] = saelens.hook_name(training.hook)
    config.metadata["prepend_bos"] = training.reads_bos
    return sae_class(config)
