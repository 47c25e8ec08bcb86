"""ProLU among the trainable SAEs of sae-lens: a ReLU SAE whose bias gates instead of being added.

Method, section 9. It is trained with the penalty of a ReLU SAE, the L1 norm of the codes weighted
by decoder norms, and stored as the JumpReLU it is at inference. This file alone derives from
classes of sae-lens; it is imported when a ProLU is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import (
    JumpReLUSAEConfig,
    SAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    register_sae_training_class,
)
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from torch import Tensor

from sage.saes.architectures._prolu_function import Gradient, prolu


@dataclass
class ProLUTrainingSAEConfig(StandardTrainingSAEConfig):
    """The configuration of a ReLU SAE and the stand-in gradient."""

    gradient: Gradient = "ste"

    @classmethod
    def architecture(cls) -> str:
        """The name under which sae-lens knows it."""
        return "prolu"

    def get_inference_config_class(self) -> type[SAEConfig]:
        """A JumpReLU at inference."""
        return JumpReLUSAEConfig


class ProLUTrainingSAE(StandardTrainingSAE):
    """A ReLU SAE of sae-lens with another encoder."""

    def encode_with_hidden_pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The codes, and the pre-activations m that are gated by m > 0 and m + b > 0."""
        m = self.hook_sae_acts_pre(self.process_sae_in(x) @ self.W_enc)
        gradient: Gradient = self.cfg.gradient  # pyright: ignore[reportAttributeAccessIssue]
        return self.hook_sae_acts_post(prolu(m, self.b_enc, gradient=gradient)), m

    def process_state_dict_for_saving_inference(self, state_dict: dict[str, Any]) -> None:
        """The weights of the JumpReLU: its own gate m > 0 makes the threshold -b enough."""
        state_dict["threshold"] = -state_dict["b_enc"]
        state_dict["b_enc"] = torch.zeros_like(state_dict["b_enc"])


def register() -> None:
    """Make sae-lens know ProLU, once."""
    if "prolu" not in SAE_TRAINING_CLASS_REGISTRY:
        register_sae_training_class("prolu", ProLUTrainingSAE, ProLUTrainingSAEConfig)
