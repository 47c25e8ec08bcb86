"""What is done to activations in one forward pass, point by point: the same for every backend.

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


class Point(NamedTuple):
    """A whole activation of one layer (`embed` has layer 0), every position and head of it.

    q k v z: [batch, position, head, d_head] (k, v: key-value heads; q, k before rotary) · pattern:
    [batch, head, query, key], post-softmax · resid_*, attn_out, mlp_in, mlp_out, embed: [batch,
    position, d_model]. attn_out and mlp_out are what is added to the residual stream (after
    Gemma-2's post-norms).
    """

    kind: str
    layer: int


Step = Callable[[Tensor], Tensor]
Steps = dict[Point, list[Step]]

EMBED = Point("embed", 0)


def forward_steps(
    read: Collection[Point], write: Mapping[Point, Step], found: dict[Point, Tensor]
) -> Steps:
    """Write points and keep others, as they are after the edits, in `found`."""
    steps: Steps = {}
    for point, edit in sorted(write.items(), key=lambda item: item[0].kind == "resid_mid"):
        _edit(steps, point, edit)
    for point in read:
        steps.setdefault(point, []).append(partial(_keep, found, point))
    return steps


def gradient_steps(
    points: Collection[Point],
    found: dict[Point, Tensor],
    *,
    at: Float[Tensor, "batch position d_model"] | None,
    drop: int | None,
) -> Steps:
    """Start the graph at the embeddings (or at `at` in their place), keep the points in `found`,
    and cut off the outputs of layer `drop`.

    They are cut after they are kept, so that nothing flows back into them.
    """
    steps: Steps = {
        EMBED: [lambda value: (value if at is None else at.to(value)).detach().requires_grad_()]
    }
    for point in points:
        steps.setdefault(point, []).append(partial(_keep, found, point))
    if drop is not None:
        for kind in ("attn_out", "mlp_out"):
            steps.setdefault(Point(kind, drop), []).append(torch.Tensor.detach)
    return steps


def differentiate(total: Float[Tensor, ""], found: Mapping[Point, Tensor]) -> dict[Point, Tensor]:
    """d total / d point; zero where the total does not depend on it."""
    values = torch.autograd.grad(
        total, list(found.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(found, values, strict=True))


def run_steps(steps: Collection[Step], value: Tensor) -> Tensor:
    """Every step in turn."""
    for step in steps:
        value = step(value)
    return value


def _edit(steps: Steps, point: Point, edit: Step) -> None:
    """Write a point. What stands at resid_mid in the module is only the MLP's branch: attention's
    output brings it about.

    So attention's output is written, after its own edits.
    """
    if point.kind != "resid_mid":
        steps.setdefault(point, []).append(edit)
        return
    before: dict[Point, Tensor] = {}
    start = Point("resid_pre", point.layer)
    steps.setdefault(start, []).append(partial(_keep, before, start))
    steps.setdefault(Point("attn_out", point.layer), []).append(
        lambda value: edit(before[start] + value) - before[start]
    )


def _keep(found: dict[Point, Tensor], point: Point, value: Tensor) -> Tensor:
    found[point] = value
    return value
