"""Splicing: whole forward passes with a residual stream replaced, and what they say everywhere.

Replaced are all positions but those that SAEs pass through. A vocabulary is large: logits are made
of a few tokens at a time, for all runs together, so that those of the unmodified model are made
once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sage.errors import Unsupported
from sage.fidelity.sequences import NextTokens
from sage.memory import LOGITS_AT_ONCE
from sage.models.base import Model
from sage.models.network import Network
from sage.models.steps import HookPoint, Step
from sage.nodes import Node

Run = TypeVar("Run", bound=Hashable)


class Place(NamedTuple):
    """Where SAEs of one BOS policy stand: a residual node, and whether position 0 is passed
    through."""

    site: Node
    passes_first: bool

    @property
    def first_replaced(self) -> int:
        """The first position that a reconstruction stands at."""
        return int(self.passes_first)

    def first_measured(self, *, bos: bool) -> int:
        """The first position that measures of reconstruction take in: no BOS, and none that is
        passed through."""
        return int(bos or self.passes_first)

    def hook_point(self, layers: int) -> HookPoint:
        """Where the stream stands in a model of so many layers."""
        if self.site.layer == layers:
            return HookPoint("resid_post", layers - 1)
        return HookPoint(self.site.kind, self.site.layer)


class Replaced(NamedTuple):
    """A stream put in place of the one that stands there, from a position on; one vector stands at
    every position."""

    stream: Tensor
    first: int

    def __call__(self, value: Tensor) -> Tensor:
        spliced = value.clone()
        spliced[:, self.first :] = self.stream.to(value)
        return spliced


class Said(NamedTuple):
    """What one run says of sequences: cross-entropy of what they are asked for, and the divergence
    of the unmodified model from it, in nats, summed over what was asked."""

    cross_entropy: Float[Tensor, "sequence"]
    kl: Float[Tensor, "sequence"]


class Streams(NamedTuple):
    """What leaves the last block, and activations read on the way."""

    last: Float[Tensor, "sequence position d_model"]
    read: Mapping[HookPoint, Tensor]


def network_of(model: Model) -> Network:
    """The weights that turn a stream into logits; Unsupported where they are not on this
    machine."""
    if model.partial is None:
        raise Unsupported(
            f"Fidelity needs logits at every token, and {model.name} gives those of the last one "
            "alone. Load it on this machine, with partial=True (the default)."
        )
    return model.partial.network


def run_streams(
    model: Model,
    ids: Int[Tensor, "sequence position"],
    *,
    read: Collection[HookPoint] = (),
    write: Mapping[HookPoint, Step] | None = None,
) -> Streams:
    """One whole forward pass."""
    layers = model.anatomy.layers
    last = HookPoint("resid_post", layers - 1)
    model.counter.count(ids.numel() * layers, layers=layers)
    _, activations = model.engine.forward(ids, read={last, *read}, write=write)
    return Streams(activations[last], activations)


def compare_logits(
    network: Network,
    clean: Float[Tensor, "sequence scored d_model"],
    runs: Mapping[Run, Float[Tensor, "sequence scored d_model"]],
    asked: NextTokens,
) -> tuple[Said, dict[Run, Said]]:
    """What the unmodified run and each of the others say, from what leaves their last block at the
    positions asked."""
    sequences, scored = clean.shape[:2]
    token_ids = asked.token_ids.flatten(0, 1).to(clean.device)
    valid = asked.valid.flatten(0, 1).to(clean.device)
    flat = [stream.flatten(0, 1) for stream in (clean, *runs.values())]
    entropies = torch.zeros(len(flat), sequences * scored, device=clean.device)
    divergences = torch.zeros_like(entropies)
    size = max(1, LOGITS_AT_ONCE // len(network.W_U))
    with torch.no_grad():
        for first in range(0, sequences * scored, size):
            part = slice(first, first + size)
            unmodified = _log_probabilities(network, flat[0][part])
            for number, stream in enumerate(flat):
                heard = _log_probabilities(network, stream[part]) if number else unmodified
                entropies[number, part] = _cross_entropy(heard, token_ids[part], valid[part])
                divergences[number, part] = _divergence(unmodified, heard)
    tables = torch.stack([entropies, divergences]).cpu().double()
    sums = tables.view(2, len(flat), sequences, scored).sum(-1)
    said = [Said(*sums[:, number]) for number in range(len(flat))]
    return said[0], dict(zip(runs, said[1:], strict=True))


def _log_probabilities(
    network: Network, stream: Float[Tensor, "token d_model"]
) -> Float[Tensor, "token vocab"]:
    return network.unembed(stream).float().log_softmax(-1)


def _cross_entropy(
    log_probabilities: Float[Tensor, "token vocab"],
    token_ids: Int[Tensor, "token choice"],
    valid: Tensor,
) -> Float[Tensor, "token"]:
    """Minus the log of the summed probability of what is asked for."""
    chosen = log_probabilities.gather(-1, token_ids).masked_fill(~valid, -torch.inf)
    return -chosen.logsumexp(-1)


def _divergence(
    unmodified: Float[Tensor, "token vocab"], heard: Float[Tensor, "token vocab"]
) -> Float[Tensor, "token"]:
    """KL(unmodified || heard)."""
    return (unmodified.exp() * (unmodified - heard)).sum(-1)
