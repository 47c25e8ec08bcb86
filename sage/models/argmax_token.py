"""The argmax of all logits in float32, at a third of the price where a CPU multiplies in bfloat16.

All logits are computed from rounded numbers. Only the tokens that the error of these does not rule
out are computed in float32, and the largest of them wins; where too many are left, all are. The
error is bounded, not guessed (Higham 2002, sections 2.1 and 3.1).

Let w be the weights of a token, m their mean over tokens, r = w - m rounded, x what is unembedded,
y = x rounded, d their width. Rounding to bfloat16 changes a number by no more than u = 2^-8 of it,
to float32 by v = 2^-24 (underflow aside). A float32 sum of d products, in any order, is off by no
more than g = n v / (1 - n v) of the sum of their magnitudes; n = d + 8 leaves eight roundings for
w - m and for what is computed here. Taking x m from every logit leaves the tokens in their order,
and by Cauchy and Schwarz

    |(w - m) x - r y| <= |(w - m - r) / k| |k x| + |r / k| |k (x - y)|
    |sum(r y) - r y|  <= g |r / k| |k y|    products of two bfloat16 are exact in float32
    |sum(w x) - w x|  <= g |w| |x|          the logit in float32, whichever way it is summed

for any scale k > 0 of every dimension. With the spread of w over tokens for k, a large number in x
costs little where tokens are alike. Let e be the three together, with the largest norms of all
tokens. A rounded logit s is off by no more than e + u |s|, so that a token may be the argmax only
if s + u |s| + e >= t - u |t| - e, where t is the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from sage.memory import UNEMBEDDING_ROWS_AT_ONCE

BFLOAT16_ROUNDING, FLOAT32_ROUNDING = 2.0**-8, 2.0**-24
# Norms are float32 sums themselves, off by less than d v, which is below this for widths up to
# 100,000.
SLACK = 1.01
# As many candidates of one run are computed on their own; with more of them, the whole vocabulary
# is.
MOST_CANDIDATES = 128
# No dimension's scale is less than this share of the largest.
LEAST_SCALE = 2.0**-10
# Weights of an unembedding from which on rounding it pays.
LEAST_WEIGHTS = 2**22


@dataclass(frozen=True, eq=False)
class RoundedUnembedding:
    """An unembedding, r, k, and the largest norms over tokens: of w, of r / k and of
    (w - m - r) / k."""

    W_U: Float[Tensor, "vocab d_model"]
    rounded: Float[Tensor, "vocab d_model"]
    scale: Float[Tensor, " d_model"]
    exact_norm: float
    rounded_norm: float
    residual_norm: float

    def argmax_token(self, x: Float[Tensor, "run d_model"]) -> Int[Tensor, "run"]:
        """The first of the tokens with the largest float32 logit."""
        run, token = self.candidates(x).nonzero(as_tuple=True)
        few = (run.bincount(minlength=len(x)) <= MOST_CANDIDATES)[run]
        run, token = run[few], token[few]
        logits = torch.linalg.vecdot(self.W_U[token], x[run])
        largest = x.new_full((len(x),), -torch.inf).scatter_reduce(0, run, logits, "amax")
        wins, undecided = logits == largest[run], len(self.W_U)
        argmax = run.new_full((len(x),), undecided)
        argmax = argmax.scatter_reduce(0, run[wins], token[wins], "amin")
        left = argmax == undecided
        if bool(left.any()):
            argmax[left] = argmax_token(x[left], self.W_U)
        return argmax

    def candidates(self, x: Float[Tensor, "run d_model"]) -> Bool[Tensor, "run vocab"]:
        """The tokens that may be the argmax; none where x is not finite."""
        y = x.bfloat16()
        logits = functional.linear(y, self.rounded)
        top = logits.amax(-1, keepdim=True).float()
        error = self.error(x, y.float())[:, None]
        least = top - BFLOAT16_ROUNDING * top.abs() - 2 * error
        return logits >= torch.where(
            least > 0, least / (1 + BFLOAT16_ROUNDING), least / (1 - BFLOAT16_ROUNDING)
        )

    def error(
        self, x: Float[Tensor, "run d_model"], y: Float[Tensor, "run d_model"]
    ) -> Float[Tensor, "run"]:
        """e: what the logits of x may differ from those of y, x rounded, before they are rounded
        themselves."""
        steps = (x.shape[1] + 8) * FLOAT32_ROUNDING
        exact, rounded, lost = ((self.scale * value).norm(dim=-1) for value in (x, y, x - y))
        summed = self.rounded_norm * rounded + self.exact_norm * x.norm(dim=-1)
        sums = steps / (1 - steps) * summed
        return SLACK * (self.residual_norm * exact + self.rounded_norm * lost + sums)


def round_unembedding(W_U: Float[Tensor, "vocab d_model"]) -> RoundedUnembedding:
    """An unembedding rounded; half as many bytes again."""
    parts = W_U.split(UNEMBEDDING_ROWS_AT_ONCE)
    mean, rounded = W_U.mean(0), torch.empty_like(W_U, dtype=torch.bfloat16)
    squares = torch.stack([(part - mean).square().sum(0) for part in parts])
    spread = squares.sum(0).sqrt() / len(W_U) ** 0.5
    scale = spread.clamp(min=LEAST_SCALE * float(spread.max()))
    norms: list[Tensor] = []
    for part, into in zip(parts, rounded.split(UNEMBEDDING_ROWS_AT_ONCE), strict=True):
        centred = part - mean
        into.copy_(centred)
        vectors = (part, into / scale, (centred - into) / scale)
        norms.append(torch.stack([value.norm(dim=-1).max() for value in vectors]))
    return RoundedUnembedding(W_U, rounded, scale, *torch.stack(norms).amax(0).tolist())


def rounding_pays(W_U: Float[Tensor, "vocab d_model"], *, fast: bool | None = None) -> bool:
    """Whether rounding first is faster than all logits in float32; `fast` says whether the CPU
    multiplies in bfloat16, else it is asked."""
    if W_U.device.type != "cpu" or W_U.dtype != torch.float32 or W_U.numel() < LEAST_WEIGHTS:
        return False
    return _multiplies_in_bfloat16() if fast is None else fast


def argmax_token(
    x: Float[Tensor, "run d_model"], W_U: Float[Tensor, "vocab d_model"]
) -> Int[Tensor, "run"]:
    """The same from all logits."""
    return functional.linear(x, W_U).argmax(-1)


def _multiplies_in_bfloat16() -> bool:
    """By instructions of its own; oneDNN takes bfloat16 on older CPUs too, which is slower than
    float32."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
