"""The nnsight backend: interventions traced on the Hugging Face module itself.

It runs here or, with `remote`, where the model is served. nnsight runs the body of a trace beside
the forward pass, so activations are visited in the order in which they are computed. It patches
`Tensor.backward`, so gradients are taken with `torch.autograd.grad`. What a trace calls is sent to
where it runs: it needs torch and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.models.families.family import Family, Location
from sage.models.steps import (
    HookPoint,
    Step,
    Steps,
    differentiate,
    forward_steps,
    gradient_steps,
    run_steps,
)

_QKV = ("q", "k", "v")


class TracedEngine:
    """Runs a module wrapped by nnsight; ids are equally long prompts without padding.

    With `remote` the module stays as it is, and every trace is sent to where the model of the hub
    id `source` is served; "local" rehearses that here, with all that would be sent packed and
    unpacked.
    """

    def __init__(
        self,
        hf: Any,
        *,
        family: Family,
        remote: bool | str = False,
        source: str = "",
        tokenizer: Any = None,
    ) -> None:
        import nnsight

        self.name = f"nnsight {version('nnsight')}"
        # Only the last position is unembedded.
        self.options: dict[str, Any] = {"logits_to_keep": 1, "use_cache": False}
        if remote:
            from nnsight.modeling.transformers import TransformersModel

            nnsight.register("sage")
            self.model: Any = TransformersModel(
                source, task="text-generation", tokenizer=tokenizer, attn_implementation="eager"
            )
            self.options["remote"] = remote
        else:
            self.model = nnsight.NNsight(hf)
        self.locations = {"embed": family.locations["resid_pre"], **family.locations}
        self.blocks = family.blocks
        self.d_head = family.anatomy(hf).d_head

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
        with torch.no_grad(), self.model.trace(ids, **self.options):
            self._visit(steps)
            activations: Any = dict(kept)
            activations.save()
            logits: Any = self.model.output.logits[:, -1]
            logits.save()
        return logits, activations

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
        with torch.enable_grad(), self.model.trace(ids, **self.options):
            self._visit(steps)
            total = objective(self.model.output.logits[:, -1]).sum()
            gradients: Any = differentiate(total, kept)
            gradients.save()
        return gradients

    def _visit(self, steps: Steps) -> None:
        """Do the steps at every hook point, in the order of computation."""
        order = list(self.locations)
        for hook_point in sorted(steps, key=lambda at: (at.layer, order.index(at.kind))):
            location = self.locations[hook_point.kind]
            block = attrgetter(self.blocks)(self.model)[hook_point.layer]
            module = attrgetter(location.module)(block) if location.module else block
            whole = getattr(module, location.side)
            value = run_steps(steps[hook_point], self._unpack(whole, location, hook_point.kind))
            setattr(module, location.side, self._pack(whole, location, hook_point.kind, value))

    def _unpack(self, whole: Any, location: Location, kind: str) -> Tensor:
        """The activation in what the module takes or gives."""
        value = whole if location.element is None else whole[location.element]
        if location.layout == "whole":
            return value
        if location.layout == "heads":
            return value.unflatten(-1, (-1, self.d_head))
        return self._split(value, location).select(_qkv_axis(location), _QKV.index(kind))

    def _pack(self, whole: Any, location: Location, kind: str, value: Tensor) -> Any:
        """What the module takes or gives, with the activation in it."""
        if location.element is not None:
            elements = list(whole)
            elements[location.element] = value
            return tuple(elements)
        if location.layout == "whole":
            return value
        if location.layout == "heads":
            return value.flatten(-2)
        axis = _qkv_axis(location)
        qkv = list(self._split(whole, location).unbind(axis))
        qkv[_QKV.index(kind)] = value
        return torch.stack(qkv, axis).flatten(2)

    def _split(self, fused: Tensor, location: Location) -> Tensor:
        """The fused projection with axes of its own for q, k, v and for heads."""
        sizes = (3, -1, self.d_head) if location.layout == "qkv heads" else (-1, 3, self.d_head)
        return fused.unflatten(-1, sizes)


def _qkv_axis(location: Location) -> int:
    """Which axis of the split projection tells q, k and v apart."""
    return 2 if location.layout == "qkv heads" else 3
