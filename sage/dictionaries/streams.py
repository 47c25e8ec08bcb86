"""Residual streams as an SAE encodes them, at the tokens that nodes read.

Every stream is encoded once for all dictionaries of a suite, and prompts that begin alike, which
hold the same there, once for all of them (method, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.memory import CODE_ENTRIES_KEPT
from sage.nodes import Node
from sage.saes.sae import SAE
from sage.saes.sparse import Entries, SparseCodes, sparse_codes


class EncodedStream(NamedTuple):
    """Sparse codes of a residual stream, and which of its tokens they are: -1 for those that
    nothing reads or that pass through."""

    codes: SparseCodes
    token: Int[Tensor, "prompt position"]


@dataclass
class EncodedStreams:
    """The streams encoded so far; `readers` are the nodes that any dictionary of the suite has."""

    readers: tuple[Node, ...]
    encoded: dict[int, tuple[Tensor, EncodedStream]] = field(
        default_factory=dict[int, tuple[Tensor, EncodedStream]], repr=False
    )

    def of(self, given: Activations, hook: Node, sae: SAE) -> EncodedStream:
        """The codes of one stream at the tokens that some reader reads."""
        stream = given.streams[hook]
        if id(stream) in self.encoded:
            return self.encoded[id(stream)][1]
        needed = _needed(given, hook, self.readers, stream.shape)
        if sae.passes_first(bos=given.bos):
            needed[:, 0] = False
        different, place = stream[needed].unique(dim=0, return_inverse=True)
        token = torch.full(stream.shape[:2], -1, device=stream.device)
        token[needed] = place
        encoded = EncodedStream(sparse_codes(sae, different), token)
        held = sum(len(other.codes.latent) for _, other in self.encoded.values())
        if held + len(encoded.codes.latent) <= CODE_ENTRIES_KEPT:
            self.encoded[id(stream)] = (stream, encoded)
        return encoded


def _needed(
    given: Activations, hook: Node, readers: Sequence[Node], shape: torch.Size
) -> Bool[Tensor, "prompt position"]:
    """Which tokens some reader of the hook reads: at z all up to its position."""
    device = given.streams[hook].device
    place = torch.arange(shape[1], device=device)
    needed = torch.zeros(shape[:2], dtype=torch.bool, device=device)
    for reader in readers:
        if given.anatomy.source(reader) == hook:
            last = given.index(reader.position)[:, None]
            needed |= place <= last if reader.kind == "z" else place == last
    return needed


class Sources(NamedTuple):
    """The tokens that a site's nodes read in one run, counted back from the destination: x_hat = n
    sum_i f_i d_i + rest.

    `attention` is what each node takes of each; `entries` are the codes f of the tokens, prompt
    after prompt.
    """

    entries: Entries
    x: Float[Tensor, "prompt back d_model"]
    n: Float[Tensor, "prompt back"]
    rest: Float[Tensor, "prompt back d_model"]
    attention: Float[Tensor, "node prompt back"]


def read_sources(
    given: Activations,
    nodes: Sequence[Node],
    rows: slice,
    *,
    depth: int,
    sae: SAE,
    encoded: EncodedStream,
) -> Sources:
    """The sources of nodes of one site on some prompts, at most `depth` of them each."""
    last = given.index(nodes[0].position)[rows, None]
    back = torch.arange(depth, device=last.device)
    inside = last >= back
    position = (last - back).clamp(min=0)
    x = _at(given.streams[given.anatomy.source(nodes[0])][rows], position).float()
    normalised = sae.normalise(x)
    passed = (position == 0) & sae.passes_first(bos=given.bos)
    rest = torch.where(passed[..., None], x, normalised.n * sae.b_dec + normalised.mu)
    itself = (back == 0).expand_as(position).float()
    attention = [
        _at(given.patterns[node][rows], position).float() * inside if node.kind == "z" else itself
        for node in nodes
    ]
    tokens = torch.where(inside, _at(encoded.token[rows], position), -1).flatten()
    entries = encoded.codes.of(tokens)
    return Sources(entries, x, normalised.n[..., 0], rest, torch.stack(attention))


def _at(values: Tensor, position: Int[Tensor, "prompt back"]) -> Tensor:
    """values[p, position[p, b]]."""
    return values[torch.arange(len(position), device=position.device)[:, None], position]
