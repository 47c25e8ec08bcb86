"""One small SAE of each architecture, with weights drawn from a seed."""

from __future__ import annotations

import torch

from sage.nodes import Node
from sage.saes.architectures.batchtopk import BatchTopK
from sage.saes.architectures.gated import Gated
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.architectures.matryoshka import Matryoshka
from sage.saes.architectures.prolu import ProLU
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.saes.sae import SAE, Encoder, Stated

D, WIDTH = 6, 10
NAMES = ("relu", "gated", "jumprelu", "topk", "batchtopk", "matryoshka", "prolu", "prolu ste")


def encoder(name: str, *, seed: int = 0, d: int = D, width: int = WIDTH) -> Encoder:
    """An encoder of that architecture whose latents are active now and then."""
    draw = torch.Generator().manual_seed(seed)
    W_enc = torch.randn(d, width, generator=draw)
    b, c = torch.randn(width, generator=draw), torch.randn(width, generator=draw)
    threshold = torch.rand(width, generator=draw)
    encoders: dict[str, Encoder] = {
        "relu": ReLU(W_enc, b),
        "gated": Gated(W_enc, b, 0.3 * c, b + 0.5 * c),
        "jumprelu": JumpReLU(W_enc, b, threshold - 0.2),
        "topk": TopK(W_enc, b, torch.ones(width), 3),
        "batchtopk": BatchTopK(W_enc, b, threshold[:1].expand(width).contiguous(), 4.0),
        "matryoshka": Matryoshka(
            W_enc, b, threshold[:1].expand(width).contiguous(), (2, 5, width), 4.0
        ),
        "prolu": ProLU(W_enc, b, "relu"),
        "prolu ste": ProLU(W_enc, b, "ste"),
    }
    return encoders[name]


def sae(name: str, *, seed: int = 0, d: int = D, width: int = WIDTH, **changes: object) -> SAE:
    """An SAE around that encoder, with decoder rows of uneven norm."""
    draw = torch.Generator().manual_seed(seed + 1)
    fields: dict[str, object] = {
        "id": name,
        "encoder": encoder(name, seed=seed, d=d, width=width),
        "W_dec": torch.randn(width, d, generator=draw) * torch.linspace(0.3, 2, width)[:, None],
        "b_dec": torch.randn(d, generator=draw),
        "hook": Node("resid_post", 3),
        "stated": Stated(model="gpt2-small"),
        **changes,
    }
    return SAE(**fields)


def inputs(*, seed: int = 7, tokens: int = 40, d: int = D) -> torch.Tensor:
    """Residuals with a mean away from zero and norms that differ."""
    draw = torch.Generator().manual_seed(seed)
    return (torch.randn(tokens, d, generator=draw) + 0.7) * torch.linspace(0.2, 4, tokens)[:, None]
