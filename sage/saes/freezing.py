"""What of an SAE may not learn, so that its training gives a null of the SAE it would have become.

"Sanity Checks for Sparse Autoencoders" (Korznikov et al. 2026, https://arxiv.org/abs/2602.14111);
method, section 6. All else is the recipe of the SAE that the null stands beside.

- decoder: rows drawn with the covariance of the activations, which stay as they were drawn.
- encoder: the encoder's weights stay as they were drawn; its biases and thresholds learn, without
  which most architectures could not become sparse.
- soft: a row of the decoder may leave where it began as far as a cosine of .8, and no further.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

LEAST_COSINE = 0.8


def random_directions(
    x: Float[Tensor, "token d_model"], *, count: int, seed: int
) -> Float[Tensor, "latent d_model"]:
    """Directions of norm 1, drawn from the Gaussian that has the covariance of these activations.

    They favour the dimensions in which activations differ, and know nothing else of them.
    """
    centred = x.cpu().double() - x.cpu().double().mean(0)
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(x))
    root_of_covariance = axes * variances.clamp(min=0).sqrt() @ axes.T
    draw = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, x.shape[1], generator=draw, dtype=torch.float64)
    return normalize(normal @ root_of_covariance, dim=-1).float()


def held_near(
    rows: Float[Tensor, "latent d_model"],
    start: Float[Tensor, "latent d_model"],
    *,
    least_cosine: float = LEAST_COSINE,
) -> Float[Tensor, "latent d_model"]:
    """Rows that went too far from `start`, turned back until their cosine with it is the least.

    A row W with cosine c < .8 to its start W0, of norm 1, becomes |W| (.8 W0 + .6 P / |P|), P being
    the part of W orthogonal to W0: it keeps its norm and the way in which it left. The others are
    untouched. A row exactly opposite to its start has no such part and takes the start's direction.
    """
    norms = rows.norm(dim=-1, keepdim=True)
    along = (rows * start).sum(-1, keepdim=True)
    away = normalize(rows - along * start, dim=-1)
    border = normalize(least_cosine * start + (1 - least_cosine**2) ** 0.5 * away, dim=-1)
    return torch.where(along < least_cosine * norms, norms * border, rows)
