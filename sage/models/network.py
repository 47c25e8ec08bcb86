"""Network: all the weights of a model, for a forward pass without the library that loaded it.

What `Anatomy` says of norms and attention, and beside it embeddings, MLPs, the final norm and the
unembedding. Weights are views of the loaded module's parameters; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from sage.models.anatomy import Anatomy, Norm, normalise


@dataclass(frozen=True, eq=False)
class MLP:
    """W_out act(W_in x + b_in) + b_out; with a gate W_out (act(W_gate x + b_gate) * (W_in x +
    b_in)) + b_out."""

    W_in: Float[Tensor, "d_mlp d_model"]
    b_in: Float[Tensor, " d_mlp"] | None
    W_out: Float[Tensor, "d_model d_mlp"]
    b_out: Float[Tensor, " d_model"] | None
    act: Callable[[Tensor], Tensor]
    W_gate: Float[Tensor, "d_mlp d_model"] | None = None
    b_gate: Float[Tensor, " d_mlp"] | None = None

    def __call__(self, x: Float[Tensor, "*many d_model"]) -> Float[Tensor, "*many d_model"]:
        """What the MLP says to the output of the norm before it."""
        inner = functional.linear(x, self.W_in, self.b_in)
        if self.W_gate is None:
            hidden = self.act(inner)
        else:
            hidden = self.act(functional.linear(x, self.W_gate, self.b_gate)) * inner
        return functional.linear(hidden, self.W_out, self.b_out)


@dataclass(frozen=True, eq=False)
class Network:
    """A whole model: its anatomy, an MLP for each block, and what comes before the first block and
    after the last.

    `W_pos` are learned positions, None where the model has none.
    """

    anatomy: Anatomy
    mlps: Sequence[MLP]
    W_E: Float[Tensor, "vocab d_model"]
    W_pos: Float[Tensor, "place d_model"] | None
    final_norm: Norm
    W_U: Float[Tensor, "vocab d_model"]

    @property
    def positions(self) -> int | None:
        """How many tokens a prompt may have at most; None where positions are not learned."""
        return None if self.W_pos is None else len(self.W_pos)

    def embed(self, ids: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position d_model"]:
        """What enters the first block."""
        x = self.W_E[ids]
        if self.anatomy.embedding_scale != 1:
            x = x * torch.tensor(self.anatomy.embedding_scale, dtype=x.dtype)
        return x if self.W_pos is None else x + self.W_pos[: ids.shape[1]]

    def unembed(
        self, x: Float[Tensor, "run d_model"], token_ids: Int[Tensor, "token"] | None = None
    ) -> Float[Tensor, "run token"]:
        """Logits from what leaves the last block: of the whole vocabulary, or of some tokens."""
        W_U = self.W_U if token_ids is None else self.W_U[token_ids]
        logits = functional.linear(normalise(self.final_norm, x), W_U)
        cap = self.anatomy.logit_cap
        return logits if cap is None else torch.tanh(logits / cap) * cap


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The function a Hugging Face configuration calls by that name; `gelu_new` is the tanh form,
    for which torch has a kernel."""
    from transformers.activations import ACT2FN

    return ACT2FN["gelu_pytorch_tanh" if name in ("gelu_new", "gelu_fast") else name]
