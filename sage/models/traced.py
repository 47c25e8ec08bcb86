"""The nnsight backend: interventions traced on the Hugging Face module itself, here or, with
`remote`, where the model is served.

nnsight runs the body of a trace beside the forward pass, so activations are visited in the order in
which they are computed. It patches `Tensor.backward`, so gradients are taken with
`torch.autograd.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import version
from operator import attrgetter
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.models.families.family import Family, Place
from sage.models.steps import (
    Point,
    Step,
    Steps,
    differentiate,
    forward_steps,
    gradient_steps,
    run_steps,
)

_FUSED = ("q", "k", "v")


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
        self.places = {"embed": family.places["resid_pre"], **family.places}
        self.blocks = family.blocks
        self.d_head = family.anatomy(hf).d_head

    def forward(
        self,
        ids: Int[Tensor, "batch position"],
        *,
        read: Collection[Point] = (),
        write: Mapping[Point, Step] | None = None,
    ) -> tuple[Float[Tensor, "batch vocab"], dict[Point, Tensor]]:
        """Logits at the last position, and the points read, after edits."""
        kept: dict[Point, Tensor] = {}
        steps = forward_steps(read, write or {}, kept)
        with torch.no_grad(), self.model.trace(ids, **self.options):
            self._visit(steps)
            found: Any = dict(kept)
            found.save()
            logits: Any = self.model.output.logits[:, -1]
            logits.save()
        return logits, found

    def gradients(
        self,
        ids: Int[Tensor, "batch position"],
        points: Collection[Point],
        objective: Callable[[Tensor], Tensor],
        *,
        at: Float[Tensor, "batch position d_model"] | None = None,
        drop: int | None = None,
    ) -> dict[Point, Tensor]:
        """d objective(logits at the last position).sum() / d point."""
        kept: dict[Point, Tensor] = {}
        steps = gradient_steps(points, kept, at=at, drop=drop)
        with torch.enable_grad(), self.model.trace(ids, **self.options):
            self._visit(steps)
            found: Any = differentiate(objective(self.model.output.logits[:, -1]).sum(), kept)
            found.save()
        return found

    def _visit(self, steps: Steps) -> None:
        """Do the steps of every point, in the order of computation."""
        order = list(self.places)
        for point, own in sorted(
            steps.items(), key=lambda item: (item[0].layer, order.index(item[0].kind))
        ):
            place = self.places[point.kind]
            block = attrgetter(self.blocks)(self.model)[point.layer]
            module = attrgetter(place.module)(block) if place.module else block
            whole = getattr(module, place.side)
            value = self._unpack(whole, place, point.kind)
            setattr(module, place.side, self._pack(whole, place, point.kind, run_steps(own, value)))

    def _unpack(self, whole: Any, place: Place, kind: str) -> Tensor:
        """The activation in what the module takes or gives."""
        value = whole if place.part is None else whole[place.part]
        if place.layout == "heads":
            return value.unflatten(-1, (-1, self.d_head))
        return (
            value
            if place.layout == "whole"
            else self._fused(value, place).select(_axis(place), _FUSED.index(kind))
        )

    def _pack(self, whole: Any, place: Place, kind: str, value: Tensor) -> Any:
        """What the module takes or gives, with the activation in it."""
        if place.part is not None:
            return tuple(value if index == place.part else part for index, part in enumerate(whole))
        if place.layout == "heads":
            return value.flatten(-2)
        if place.layout == "whole":
            return value
        parts = list(self._fused(whole, place).unbind(_axis(place)))
        parts[_FUSED.index(kind)] = value
        return torch.stack(parts, _axis(place)).flatten(2)

    def _fused(self, value: Tensor, place: Place) -> Tensor:
        sizes = (3, -1, self.d_head) if place.layout == "qkv heads" else (-1, 3, self.d_head)
        return value.unflatten(-1, sizes)


def _axis(place: Place) -> int:
    """Which axis of the fused projection tells q, k and v apart."""
    return 2 if place.layout == "qkv heads" else 3
