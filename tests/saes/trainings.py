"""Small trainings on planted features, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import normalize

from sage.nodes import Node
from sage.saes.sae import SAE
from sage.saes.train import TrainingStatus
from sage.saes.training import Training
from sage.saes.training_settings import TrainingSettings

D, FEATURES, BATCH = 12, 16, 64


def directions() -> torch.Tensor:
    return normalize(torch.randn(FEATURES, D, generator=torch.Generator().manual_seed(5)), dim=1)


def planted(start: int) -> Iterator[torch.Tensor]:
    """Two of sixteen features at a time, each step's batch drawn from a seed of its own."""
    step = start
    while True:
        draw = torch.Generator().manual_seed(1000 + step)
        active = torch.rand(BATCH, FEATURES, generator=draw) < 2 / FEATURES
        yield (
            active * (0.5 + torch.rand(BATCH, FEATURES, generator=draw))
        ) @ directions() * 3 + 0.2
        step += 1


def settings(architecture: str, **changes: object) -> TrainingSettings:
    fields: dict[str, object] = {
        "width": 32,
        "steps": 40,
        "batch": BATCH,
        "k": 3.0,
        "penalty": 0.05 if architecture == "jumprelu" else 0.5,
        "warm_up": 10,
        "options": {"nested": (4, 12)} if architecture == "matryoshka" else {},
        **changes,
    }
    return TrainingSettings(architecture, **fields)


def training(architecture: str, *, layer: int = 1, **changes: object) -> Training:
    return Training(settings(architecture, **changes), "wired", Node("resid_post", layer), D)


def arrays(sae: SAE) -> dict[str, torch.Tensor]:
    return {**sae.encoder.tensors(), "W_dec": sae.W_dec, "b_dec": sae.b_dec}


class Interrupted(Exception):
    """What a user's Ctrl-C is to a training."""


def interrupt_after(step: int) -> Callable[[TrainingStatus], None]:
    """What is reported to, and stops the training that reports this step."""

    def report(status: TrainingStatus) -> None:
        if status.step == step:
            raise Interrupted

    return report
