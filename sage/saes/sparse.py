"""Sparse codes: of each token only the latents that are active, so that thousands of tokens of a
wide SAE fit in memory.

Method, section 4. A 24,576-latent SAE with 60 active latents keeps 1/400 of its code matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sage.saes.sae import SAE

# More do not stay in a CPU's caches between the product and the choice among its results.
_CODES_AT_ONCE = 2**23


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
        """The codes of that many tokens as a matrix, a column for each of these latents: sorted,
        all active ones among them."""
        found = self.code.new_zeros(tokens, len(latents))
        found[self.token, torch.searchsorted(latents, self.latent)] = self.code
        return found


@dataclass(frozen=True, eq=False)
class SparseCodes:
    """The codes of tokens: those of token t are the entries from `start[t]` up to `start[t + 1]`."""

    start: Int[Tensor, "token_and_end"]
    latent: Int[Tensor, "entry"]
    code: Float[Tensor, "entry"]

    @property
    def counts(self) -> Int[Tensor, "token"]:
        """Each token's number of latents that are not 0."""
        return self.start.diff()

    def of(self, tokens: Int[Tensor, "chosen"]) -> Entries:
        """The entries of the tokens chosen, numbered by their place in the choice; -1 chooses a
        token without entries."""
        counts = torch.where(tokens >= 0, self.start[tokens + 1] - self.start[tokens], 0)
        place = torch.arange(len(tokens), device=tokens.device).repeat_interleave(counts)
        ahead = counts.cumsum(0) - counts
        entry = (self.start[tokens] - ahead)[place] + torch.arange(len(place), device=tokens.device)
        return Entries(place, self.latent[entry].long(), self.code[entry])


def sparse_codes(sae: SAE, x: Float[Tensor, "token d_model"]) -> SparseCodes:
    """The codes of activations of the SAE's hook, encoded in chunks of a bounded number of codes."""
    latents, codes, counts = (
        [x.new_zeros(0, dtype=torch.int32)],
        [x.new_zeros(0, dtype=torch.float32)],
        [x.new_zeros(1, dtype=torch.long)],
    )
    for chunk in x.split(max(1, _CODES_AT_ONCE // sae.width)):
        dense = sae.encode(chunk)
        token, latent = dense.nonzero(as_tuple=True)
        latents.append(latent.to(torch.int32))
        codes.append(dense[token, latent])
        counts.append(torch.bincount(token, minlength=len(chunk)))
    return SparseCodes(torch.cat(counts).cumsum(0), torch.cat(latents), torch.cat(codes))
