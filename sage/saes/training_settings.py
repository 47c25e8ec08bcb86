"""How an SAE is trained, whatever the model and the hook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sage.errors import SageError, unknown
from sage.saes.architectures import architecture_names

FREEZES = ("none", "decoder", "encoder", "soft")


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training; SageError where they contradict each other.

    `batch`: tokens per step. `k`: latents kept per token, or on average, by the architectures that
    keep a number of them. `penalty`: weight of the sparsity loss of the others, on activations
    rescaled to norm sqrt(d_model) on average. The learning rate and the penalty rise over `warm_up`
    steps, the learning rate falls to 0 over the last `decay`. A latent silent for
    `dead_after` steps is dead. `snapshots`: steps before which the SAE is saved; step 0 is
    untrained. `options`: what this architecture alone is told, such as {"nested": (64, 128)}.
    `freeze`: what may not learn, which makes a null of the SAE (see `freezing`): the decoder, drawn
    with the activations' covariance; the encoder, as it was drawn; or, softly, the decoder's
    directions, which stay within a cosine of .8 of their first ones.
    """

    architecture: str
    width: int
    steps: int
    batch: int
    k: float = 16.0
    penalty: float = 1.0
    learning_rate: float = 1e-3
    warm_up: int = 100
    decay: int = 0
    dead_after: int = 500
    snapshots: tuple[int, ...] = ()
    seed: int = 0
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    freeze: str = "none"

    def __post_init__(self) -> None:
        if self.architecture not in architecture_names():
            raise SageError(
                f"No SAE of architecture '{self.architecture}' can be trained. "
                f"There are: {', '.join(architecture_names())}."
            )
        if self.freeze not in FREEZES:
            raise unknown("way to freeze an SAE", self.freeze, FREEZES)
        if min(self.width, self.steps, self.batch, self.learning_rate) <= 0 or self.penalty < 0:
            raise SageError(
                "width, steps, batch and the learning rate of a training are positive, "
                "and its penalty is not negative."
            )
        if not 1 <= self.k <= self.width:
            raise SageError(
                f"k is {self.k:g}: of {self.width} latents a token keeps at least 1 and "
                "at most all."
            )
