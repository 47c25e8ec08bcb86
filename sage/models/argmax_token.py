"""The loudest word: the argmax of all logits in float32, at a third of the price where a CPU
multiplies in bfloat16.

All logits are computed from rounded numbers. Only the words that the error of these does not rule
out are computed in float32, and the largest of them wins; where too many are left, all are. The
error is bounded, not guessed (Higham 2002, sections 2.1 and 3.1).

Let w be the weights of a word, m their mean over words, r = w - m rounded, x what is unembedded, y
= x rounded, d their width. Rounding to bfloat16 changes a number by no more than u = 2^-8 of it, to
float32 by v = 2^-24 (underflow aside). A float32 sum of d products, in any order, is off by no more
than g = n v / (1 - n v) of the sum of their magnitudes; n = d + 8 leaves eight roundings for w - m
and for what is computed here. Taking x m from every logit leaves the words in their order, and by
Cauchy and Schwarz

    |(w - m) x - r y| <= |(w - m - r) / k| |k x| + |r / k| |k (x - y)|
    |sum(r y) - r y|  <= g |r / k| |k y|    products of two bfloat16 are exact in float32
    |sum(w x) - w x|  <= g |w| |x|          the logit in float32, whichever way it is summed

for any scale k > 0 of every dimension. With the spread of w over words for k, a large number in x
costs little where words are alike. Let e be the three together, with the largest norms of all
words. A rounded logit s is off by no more than e + u |s|, so that a word may be the loudest only if
s + u |s| + e >= t - u |t| - e, where t is the largest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

ROUNDED, SINGLE = 2.0**-8, 2.0**-24
# Norms are float32 sums themselves, off by less than d v, which is below this for widths up to
# 100,000.
SLACK = 1.01
# As many words of one run are computed on their own; with more of them left, the whole vocabulary
# is.
MOST = 128
# No dimension's scale is less than this share of the largest.
LEAST_SCALE = 2.0**-10
# Weights of an unembedding from which on rounding it pays.
LEAST = 2**22
# Rows of weights that are rounded at once.
AT_ONCE = 2**10


@dataclass(frozen=True, eq=False)
class Sieve:
    """An unembedding, r, k, and the largest norms over words: of w, of r / k and of (w - m - r) /
    k."""

    W_U: Float[Tensor, "vocab d_model"]
    rounded: Float[Tensor, "vocab d_model"]
    scale: Float[Tensor, " d_model"]
    exact_norm: float
    rounded_norm: float
    residual_norm: float

    def loudest(self, x: Float[Tensor, "run d_model"]) -> Int[Tensor, "run"]:
        """The first of the words with the largest float32 logit."""
        run, word = self.left(x).nonzero(as_tuple=True)
        few = (run.bincount(minlength=len(x)) <= MOST)[run]
        run, word = run[few], word[few]
        logits = torch.linalg.vecdot(self.W_U[word], x[run])
        largest = x.new_full((len(x),), -torch.inf).scatter_reduce(0, run, logits, "amax")
        wins, none = logits == largest[run], len(self.W_U)
        found = run.new_full((len(x),), none).scatter_reduce(0, run[wins], word[wins], "amin")
        undecided = found == none
        if bool(undecided.any()):
            found[undecided] = loudest(x[undecided], self.W_U)
        return found

    def left(self, x: Float[Tensor, "run d_model"]) -> Bool[Tensor, "run vocab"]:
        """The words that may be the loudest; none where x is not finite."""
        y = x.bfloat16()
        logits = functional.linear(y, self.rounded)
        top = logits.amax(-1, keepdim=True).float()
        least = top - ROUNDED * top.abs() - 2 * self.error(x, y.float())[:, None]
        return logits >= torch.where(least > 0, least / (1 + ROUNDED), least / (1 - ROUNDED))

    def error(
        self, x: Float[Tensor, "run d_model"], y: Float[Tensor, "run d_model"]
    ) -> Float[Tensor, "run"]:
        """e: what the logits of x may differ from those of y, x rounded, before they are rounded
        themselves."""
        steps = (x.shape[1] + 8) * SINGLE
        size, rounded, lost = ((self.scale * value).norm(dim=-1) for value in (x, y, x - y))
        sums = (
            steps / (1 - steps) * (self.rounded_norm * rounded + self.exact_norm * x.norm(dim=-1))
        )
        return SLACK * (self.residual_norm * size + self.rounded_norm * lost + sums)


def sieve(W_U: Float[Tensor, "vocab d_model"]) -> Sieve:
    """An unembedding rounded; half as many bytes again."""
    mean, rounded = W_U.mean(0), torch.empty_like(W_U, dtype=torch.bfloat16)
    spread = (
        torch.stack([(own - mean).square().sum(0) for own in W_U.split(AT_ONCE)]).sum(0).sqrt()
        / len(W_U) ** 0.5
    )
    scale = spread.clamp(min=LEAST_SCALE * float(spread.max()))
    norms: list[Tensor] = []
    for own, into in zip(W_U.split(AT_ONCE), rounded.split(AT_ONCE), strict=True):
        centred = own - mean
        into.copy_(centred)
        norms.append(
            torch.stack(
                [
                    value.norm(dim=-1).max()
                    for value in (own, into / scale, (centred - into) / scale)
                ]
            )
        )
    return Sieve(W_U, rounded, scale, *torch.stack(norms).amax(0).tolist())


def pays(W_U: Float[Tensor, "vocab d_model"], *, fast: bool | None = None) -> bool:
    """Whether a sieve is faster than all logits in float32; `fast` says whether the CPU multiplies
    in bfloat16, else it is asked."""
    fits = W_U.device.type == "cpu" and W_U.dtype == torch.float32 and W_U.numel() >= LEAST
    return fits and (_multiplies_in_bfloat16() if fast is None else fast)


def loudest(
    x: Float[Tensor, "run d_model"], W_U: Float[Tensor, "vocab d_model"]
) -> Int[Tensor, "run"]:
    """The same from all logits."""
    return functional.linear(x, W_U).argmax(-1)


def _multiplies_in_bfloat16() -> bool:
    """By instructions of its own; oneDNN takes bfloat16 on older CPUs too, which is slower than
    float32."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in ("avx512_bf16", "amx_bf16"))
