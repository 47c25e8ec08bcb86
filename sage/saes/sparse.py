"""Sparse codes: of each token only the active latents, so that many tokens of a wide SAE fit.

Method, section 4. A 24,576-latent SAE with 60 active latents keeps 1/400 of its code matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.saes.sae import SAE, token_chunks


class Entries(NamedTuple):
    """The active latents of some tokens: which of those tokens, which latent, and its code."""

    token: Int[Tensor, "entry"]
    latent: Int[Tensor, "entry"]
    code: Float[Tensor, "entry"]

    def among(self, chosen: Bool[Tensor, "every_latent"]) -> Entries:
        """The entries of the latents that are chosen."""
        kept = chosen[self.latent]
        return Entries(self.token[kept], self.latent[kept], self.code[kept])

    def dense(self, tokens: int, latents: Int[Tensor, "column"]) -> Float[Tensor, "token column"]:
        """The codes of that many tokens as a matrix, a column for each of these latents.

        `latents` is sorted, and every entry's latent is among them.
        """
        codes = self.code.new_zeros(tokens, len(latents))
        codes[self.token, torch.searchsorted(latents, self.latent)] = self.code
        return codes


@runtime_checkable
class SparseEncoder(Protocol):
    """An encoder that knows which latents are not 0 without a matrix of all codes."""

    def encode_sparse(self, x_in: Float[Tensor, "token d_model"]) -> Entries:
        """The codes of normalised inputs that are not 0, in the order of tokens and latents."""
        ...


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """The codes of tokens: those of token t are the entries `start[t]` up to `start[t + 1]`."""

    start: Int[Tensor, "token_and_end"]
    latent: Int[Tensor, "entry"]
    code: Float[Tensor, "entry"]

    @property
    def counts(self) -> Int[Tensor, "token"]:
        """Each token's number of latents that are not 0."""
        return self.start.diff()

    def of(self, tokens: Int[Tensor, "chosen"]) -> Entries:
        """The entries of the tokens chosen, numbered by their place in the choice.

        -1 chooses a token without entries.
        """
        counts = torch.where(tokens >= 0, self.start[tokens + 1] - self.start[tokens], 0)
        place = torch.arange(len(tokens), device=tokens.device).repeat_interleave(counts)
        entries_before = counts.cumsum(0) - counts
        within = torch.arange(len(place), device=tokens.device) - entries_before[place]
        entry = self.start[tokens][place] + within
        return Entries(place, self.latent[entry].long(), self.code[entry])


def sparse_codes(sae: SAE, x: Float[Tensor, "token d_model"]) -> SparseCodes:
    """The codes of activations of the SAE's hook, encoded chunk by chunk."""
    latents = [x.new_zeros(0, dtype=torch.int32)]
    codes = [x.new_zeros(0, dtype=torch.float32)]
    counts = [x.new_zeros(1, dtype=torch.long)]
    for chunk in token_chunks(sae, x):
        entries = _entries(sae, chunk)
        latents.append(entries.latent.to(torch.int32))
        codes.append(entries.code)
        counts.append(torch.bincount(entries.token, minlength=len(chunk)))
    return SparseCodes(torch.cat(counts).cumsum(0), torch.cat(latents), torch.cat(codes))


def _entries(sae: SAE, x: Float[Tensor, "token d_model"]) -> Entries:
    if isinstance(sae.encoder, SparseEncoder):
        return sae.encoder.encode_sparse(sae.normalise(x).x_in)
    dense = sae.encode(x)
    token, latent = dense.nonzero(as_tuple=True)
    return Entries(token, latent, dense[token, latent])
