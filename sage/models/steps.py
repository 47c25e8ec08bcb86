"""What is done to activations in one forward pass, hook point by hook point, on every backend.

A step takes a whole activation and returns what stands there from then on; reading is a step that
keeps what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class HookPoint(NamedTuple):
    """Where a whole activation of one layer stands, every position and head of it; `embed` has
    layer 0.

    q k v z: [batch, position, head, d_head] (k, v: key-value heads; q, k before rotary) · pattern:
    [batch, head, query, key], post-softmax · resid_*, attn_out, mlp_in, mlp_out, embed: [batch,
    position, d_model]. attn_out and mlp_out are what is added to the residual stream (after
    Gemma-2's post-norms).
    """

    kind: str
    layer: int


Step = Callable[[Tensor], Tensor]
Steps = dict[HookPoint, list[Step]]

EMBED = HookPoint("embed", 0)


def forward_steps(
    read: Collection[HookPoint],
    write: Mapping[HookPoint, Step],
    kept: dict[HookPoint, Tensor],
) -> Steps:
    """Edit some activations, and put others, as they are after the edits, into `kept`."""
    steps: Steps = {}
    for hook_point, edit in sorted(write.items(), key=lambda item: item[0].kind == "resid_mid"):
        _edit(steps, hook_point, edit)
    for hook_point in read:
        steps.setdefault(hook_point, []).append(partial(_keep, kept, hook_point))
    return steps


def gradient_steps(
    hook_points: Collection[HookPoint],
    kept: dict[HookPoint, Tensor],
    *,
    at: Float[Tensor, "batch position d_model"] | None,
    drop: int | None,
) -> Steps:
    """Start the graph at the embeddings (or at `at` in their place), put activations into `kept`,
    and cut off the outputs of layer `drop`.

    They are cut after they are kept, so that nothing flows back into them.
    """
    steps: Steps = {
        EMBED: [lambda value: (value if at is None else at.to(value)).detach().requires_grad_()]
    }
    for hook_point in hook_points:
        steps.setdefault(hook_point, []).append(partial(_keep, kept, hook_point))
    if drop is not None:
        for kind in ("attn_out", "mlp_out"):
            steps.setdefault(HookPoint(kind, drop), []).append(torch.Tensor.detach)
    return steps


def differentiate(
    total: Float[Tensor, ""], kept: Mapping[HookPoint, Tensor]
) -> dict[HookPoint, Tensor]:
    """d total / d activation; zero where the total does not depend on it."""
    gradients = torch.autograd.grad(
        total, list(kept.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(kept, gradients, strict=True))


def run_steps(steps: Collection[Step], value: Tensor) -> Tensor:
    """Every step in turn."""
    for step in steps:
        value = step(value)
    return value


def _edit(steps: Steps, hook_point: HookPoint, edit: Step) -> None:
    """Write an activation.

    What stands at resid_mid in the module is only the MLP's branch: attention's output brings it
    about. So attention's output is written, after its own edits.
    """
    if hook_point.kind != "resid_mid":
        steps.setdefault(hook_point, []).append(edit)
        return
    before: dict[HookPoint, Tensor] = {}
    resid_pre = HookPoint("resid_pre", hook_point.layer)
    steps.setdefault(resid_pre, []).append(partial(_keep, before, resid_pre))
    steps.setdefault(HookPoint("attn_out", hook_point.layer), []).append(
        lambda attn_out: edit(before[resid_pre] + attn_out) - before[resid_pre]
    )


def _keep(kept: dict[HookPoint, Tensor], hook_point: HookPoint, value: Tensor) -> Tensor:
    kept[hook_point] = value
    return value
