"""A backend, as the rest of the package sees it: forward passes and gradients at hook points."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from sage.models.steps import HookPoint, Step


@runtime_checkable
class Engine(Protocol):
    """One backend on one loaded model; ids are equally long prompts without padding."""

    name: str

    def forward(
        self,
        ids: Int[Tensor, "batch position"],
        *,
        read: Collection[HookPoint] = (),
        write: Mapping[HookPoint, Step] | None = None,
    ) -> tuple[Float[Tensor, "batch vocab"], dict[HookPoint, Tensor]]:
        """Logits at the last position, and the activations read, after edits; no graph is kept."""
        ...

    def gradients(
        self,
        ids: Int[Tensor, "batch position"],
        hook_points: Collection[HookPoint],
        objective: Callable[[Tensor], Tensor],
        *,
        at: Float[Tensor, "batch position d_model"] | None = None,
        drop: int | None = None,
    ) -> dict[HookPoint, Tensor]:
        """d objective(logits at the last position).sum() / d activation.

        `at` replaces `embed`; `drop` cuts the gradient through a layer's sublayer outputs
        (GradDrop).
        """
        ...
