"""The TransformerLens backend: a TransformerBridge over the unprocessed Hugging Face module.

Compatibility mode is never enabled: it folds norms into weights and changes the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.errors import Unsupported
from sage.models.steps import (
    HookPoint,
    Step,
    Steps,
    differentiate,
    forward_steps,
    gradient_steps,
    run_steps,
)

_NAMES = {
    "embed": "blocks.{layer}.hook_resid_pre",
    "resid_pre": "blocks.{layer}.hook_resid_pre",
    "q": "blocks.{layer}.attn.hook_q",
    "k": "blocks.{layer}.attn.hook_k",
    "v": "blocks.{layer}.attn.hook_v",
    "z": "blocks.{layer}.attn.hook_z",
    "pattern": "blocks.{layer}.attn.hook_pattern",
    "attn_out": "blocks.{layer}.hook_attn_out",
    "resid_mid": "blocks.{layer}.ln2.hook_in",
    "mlp_in": "blocks.{layer}.ln2.hook_out",
    "mlp_out": "blocks.{layer}.hook_mlp_out",
    "resid_post": "blocks.{layer}.hook_resid_post",
}
_BEFORE_UNEMBEDDING = "unembed.hook_in"


class HookedEngine:
    """Runs a TransformerBridge; ids are equally long prompts without padding."""

    def __init__(
        self, hf: Any, tokenizer: Any, *, source: str, device: str, dtype: torch.dtype
    ) -> None:
        from transformer_lens.model_bridge import TransformerBridge

        self.name = f"transformer-lens {version('transformer-lens')}"
        self.bridge: Any = TransformerBridge.boot_transformers(
            source, hf_model=hf, tokenizer=tokenizer, device=device, dtype=dtype
        )
        self.bridge.requires_grad_(False)
        # The bridge puts its dictionary of hooks together anew whenever it is asked, which takes
        # longer than a small model.
        self.hooks: dict[str, Any] = dict(self.bridge.hook_dict)

    def forward(
        self,
        ids: Int[Tensor, "batch position"],
        *,
        read: Collection[HookPoint] = (),
        write: Mapping[HookPoint, Step] | None = None,
    ) -> tuple[Float[Tensor, "batch vocab"], dict[HookPoint, Tensor]]:
        """Logits at the last position, and the activations read, after edits."""
        kept: dict[HookPoint, Tensor] = {}
        steps = forward_steps(read, write or {}, kept)
        with torch.no_grad():
            return self._run(ids, steps), kept

    def gradients(
        self,
        ids: Int[Tensor, "batch position"],
        hook_points: Collection[HookPoint],
        objective: Callable[[Tensor], Tensor],
        *,
        at: Float[Tensor, "batch position d_model"] | None = None,
        drop: int | None = None,
    ) -> dict[HookPoint, Tensor]:
        """d objective(logits at the last position).sum() / d activation."""
        kept: dict[HookPoint, Tensor] = {}
        steps = gradient_steps(hook_points, kept, at=at, drop=drop)
        with torch.enable_grad():
            return differentiate(objective(self._run(ids, steps)).sum(), kept)

    def _run(self, ids: Tensor, steps: Steps) -> Float[Tensor, "batch vocab"]:
        """One forward pass; only the last position is unembedded."""
        by_name: dict[str, list[Step]] = {_BEFORE_UNEMBEDDING: [_last_position]}
        # `embed` stands where 0.resid_pre does, and comes first.
        for hook_point in sorted(steps, key=lambda point: point.kind != "embed"):
            by_name.setdefault(self._name(hook_point), []).extend(steps[hook_point])
        try:
            for name, hook_steps in by_name.items():
                self.hooks[name].add_hook(partial(_hook, hook_steps))
            return self.bridge(ids, return_type="logits")[:, -1]
        finally:
            for name in by_name:
                self.hooks[name].remove_hooks()

    def _name(self, hook_point: HookPoint) -> str:
        """What TransformerLens calls it."""
        name = _NAMES[hook_point.kind].format(layer=hook_point.layer)
        if name not in self.hooks:
            raise Unsupported(f"TransformerLens has no hook {name} on this model.")
        return name


def _last_position(stream: Tensor) -> Tensor:
    return stream[:, -1:]


def _hook(steps: list[Step], value: Tensor, hook: Any) -> Tensor:
    del hook
    return run_steps(steps, value)
