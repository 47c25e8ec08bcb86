"""Logistic regression with an L1 penalty, many problems at once.

min |w|_1 + C sum_i log(1 + exp(-s_i (w . x_i + b))), s_i = +-1, b unpenalised: the objective of
scikit-learn's `saga`. Solved by proximal Newton steps whose quadratic models coordinate descent
minimises (Friedman, Hastie and Tibshirani 2010), each followed by a line search.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

STEPS = 25
SWEEPS = 12
HALVINGS = 8
TOLERANCE = 1e-6
RIDGE = 1e-9
# Of a weight, beside 1: a sweep that changes less has found the minimum of the model.
CLOSE = 1e-4
ROUNDING = 1e-12


class Logistic(NamedTuple):
    """Weights [problem, C, column] and intercepts [problem, C]."""

    weights: Float[Tensor, "problem strength column"]
    intercepts: Float[Tensor, "problem strength"]

    def logits(
        self, x: Float[Tensor, "problem prompt column"]
    ) -> Float[Tensor, "problem strength prompt"]:
        """w . x + b."""
        return self.weights @ x.to(self.weights).mT + self.intercepts[..., None]


def fit_logistic(
    x: Float[Tensor, "problem prompt column"],
    y: Float[Tensor, "problem prompt"],
    strengths: Float[Tensor, "problem strength"],
) -> Logistic:
    """Every problem at each of its C; y is 0 or 1. Columns are scaled by their own root mean square
    while they are solved, with the penalty of the columns as given."""
    size = x.double().square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
    scaled = x.double() / size
    padded = torch.cat([scaled, torch.ones_like(scaled[..., :1])], -1)
    target = y.double()[:, None]
    penalty = torch.cat([1 / size, torch.zeros_like(size[..., :1])], -1)
    weights = _Problems(padded, target, strengths.double()[..., None], penalty).solve()
    return Logistic(weights[..., :-1] / size, weights[..., -1])


class _Problems(NamedTuple):
    """x [problem, prompt, column], the last column 1; y [problem, 1, prompt]; C [problem, C, 1];
    penalty [problem, 1, column]."""

    x: Tensor
    y: Tensor
    C: Tensor
    penalty: Tensor

    def solve(self) -> Float[Tensor, "problem strength column"]:
        weights = self.x.new_zeros(*self.C.shape[:2], self.x.shape[-1])
        share = self.y.mean(-1).clamp(1e-6, 1 - 1e-6)
        weights[..., -1] = (share / (1 - share)).log()
        loss = self._loss(weights)
        for _ in range(STEPS):
            step = self._newton(weights)
            weights, better = self._searched(weights, step, loss)
            if bool((loss - better <= TOLERANCE * loss.abs()).all()):
                break
            loss = better
        return weights

    def _loss(self, weights: Tensor) -> Tensor:
        logits = weights @ self.x.mT
        likelihood = (softplus(logits) - self.y * logits).sum(-1)
        return self.C[..., 0] * likelihood + (self.penalty * weights.abs()).sum(-1)

    def _newton(self, weights: Tensor) -> Tensor:
        """The step to the minimum of the quadratic model with the penalty."""
        chance = torch.sigmoid(weights @ self.x.mT)
        gradient = self.C * ((chance - self.y) @ self.x)
        curvature = self.C * (chance * (1 - chance)).clamp(min=1e-9)
        hessian = torch.einsum("qcn,qnk,qnl->qckl", curvature, self.x, self.x)
        diagonal = hessian.diagonal(dim1=-2, dim2=-1) + RIDGE
        step = torch.zeros_like(weights)
        moved = torch.zeros_like(weights)
        for _ in range(SWEEPS):
            before = step.clone()
            for k in range(weights.shape[-1]):
                at = weights[..., k] + step[..., k]
                slope = gradient[..., k] + moved[..., k]
                wanted = at - slope / diagonal[..., k]
                shrunk = (wanted.abs() - self.penalty[..., k] / diagonal[..., k]).clamp(min=0)
                change = wanted.sign() * shrunk - at
                step[..., k] += change
                moved += change[..., None] * hessian[..., k]
            if bool(((step - before).abs() <= CLOSE * (1 + weights.abs())).all()):
                break
        return step

    def _searched(self, weights: Tensor, step: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
        """The longest of the step, half of it, a quarter, ... that lowers each loss."""
        best, lowest = weights, loss
        undone = torch.ones_like(loss, dtype=torch.bool)
        for halving in range(HALVINGS):
            tried = weights + step * 0.5**halving
            value = self._loss(tried)
            lower = undone & (value <= loss + ROUNDING * loss.abs())
            best = torch.where(lower[..., None], tried, best)
            lowest = torch.where(lower, value, lowest)
            undone = undone & ~lower
            if not bool(undone.any()):
                break
        return best, lowest
