"""What heads of a circuit do: where they attend from their position, and what they say directly.

The direct effect of a head at END is what its output, through the final norm at the scale it has
there, adds to the logit of the answer above that of the foil (Wang et al. 2022, arXiv 2211.00593,
section 3.1): before a soft cap, where the model has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from sage.models.base import Model
from sage.models.network import Network
from sage.nodes import Node
from sage.task.declaration import END
from sage.task.tokens import Tokenized


class HeadRole(NamedTuple):
    """A head's output at a position: mean attention to every named position, the largest first,
    and its mean direct effect with its standard error; None elsewhere than at END."""

    node: Node
    attends: tuple[tuple[str, float], ...]
    direct: float | None
    stderr: float | None
    n: int


def head_roles(model: Model, nodes: Sequence[Node], prompts: Sequence[Tokenized]) -> list[HeadRole]:
    """The roles of z nodes on some prompts of a task."""
    patterns = [Node("pattern", node.layer, node.head, node.position) for node in nodes]
    values = model.read(patterns, prompts) if nodes else {}
    ends = [node for node in nodes if node.position == END]
    network = model.partial.network if model.partial else None
    effects = direct_effects(model, network, ends, prompts) if network and ends else {}
    return [
        HeadRole(node, _attention(values[pattern], prompts), *effects.get(node, (None, None)),
                 len(prompts))
        for node, pattern in zip(nodes, patterns, strict=True)
    ]  # fmt: skip


def direct_effects(
    model: Model, network: Network, nodes: Sequence[Node], prompts: Sequence[Tokenized]
) -> dict[Node, tuple[float, float]]:
    """Mean and standard error of the direct effect of z nodes at END."""
    anatomy = model.anatomy
    layers = sorted({node.layer for node in nodes})
    heads = {
        layer: [Node("z", layer, head, END) for head in range(anatomy.heads)] for layer in layers
    }
    last = Node("resid_post", anatomy.layers - 1, None, END)
    values = model.read([last, *(node for all_heads in heads.values() for node in all_heads)],
                        prompts)  # fmt: skip
    norm, W_U = network.final_norm, network.W_U.float()
    wanted = torch.stack(
        [W_U[list(prompt.answers)].mean(0) - W_U[list(prompt.foils)].mean(0) for prompt in prompts]
    )
    towards = norm.centre(wanted * norm.weight.float()) / norm.scale(values[last].float())
    effects: dict[Node, tuple[float, float]] = {}
    for node in nodes:
        assert node.head is not None
        post = anatomy.blocks[node.layer].attention_post
        added = values[node] @ anatomy.output(node.layer, node.head).float().T
        if post is not None:
            whole = sum(
                (
                    values[other] @ anatomy.output(node.layer, head).float().T
                    for head, other in enumerate(heads[node.layer])
                ),
                start=anatomy.output_bias(node.layer).float(),
            )
            added = post.weight * post.centre(added) / post.scale(whole)
        said = einsum(added, towards, "prompt d_model, prompt d_model -> prompt")
        effects[node] = (said.mean().item(), (said.std() / len(said) ** 0.5).item())
    return effects


def _attention(
    pattern: Float[Tensor, "prompt key"], prompts: Sequence[Tokenized]
) -> tuple[tuple[str, float], ...]:
    """Mean attention to every position that all prompts name. A token counts once in each prompt,
    for its own name where it has one, and not for `name+1` of the token before it."""
    names = [
        name
        for name in prompts[0].index
        if not name.endswith(":first") and all(name in prompt.index for prompt in prompts)
    ]
    names.sort(key=lambda name: name.endswith("+1"))
    sums = dict.fromkeys(names, 0.0)
    for row, prompt in zip(pattern.cpu(), prompts, strict=True):
        taken: set[int] = set()
        for name in names:
            place = prompt.index[name]
            if place not in taken:
                taken.add(place)
                sums[name] += row[place].item()
    means = {name: total / len(prompts) for name, total in sums.items()}
    return tuple(sorted(means.items(), key=lambda item: -item[1]))
