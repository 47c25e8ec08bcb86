"""best-m: the judged suite with only m latents at each site: a curve beside its scores.

Method, section 6. Kept are those that alone explain most of the variance of the site's nodes,
weighted by the nodes' statistic.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sage.dictionaries.activations import sites
from sage.dictionaries.controls.setting import Setting
from sage.dictionaries.projected import ProjectedSuite, explained
from sage.nodes import Node

SIZES = (1, 4, 16, 64)
NAMES = tuple(f"best-{m}" for m in SIZES)
RIVAL: frozenset[str] = frozenset()


def make(name: str, setting: Setting) -> ProjectedSuite:
    """The suite with only its m best latents at each site."""
    judged, fit = setting.judged, setting.fit
    m = int(name.removeprefix("best-"))
    shares = explained(judged, fit)
    kept: dict[Node, Tensor] = {}
    for nodes in sites(fit.nodes, judged.anatomy).values():
        gains = [setting.section.statistic[node] * shares[node] for node in nodes]
        order = torch.stack(gains).sum(0).argsort(descending=True, stable=True)
        mask = torch.zeros(len(order), dtype=torch.bool, device=order.device)
        mask[order[:m]] = True
        kept |= dict.fromkeys(nodes, mask)
    return replace(judged.only(kept), name=name)


def depends(name: str, setting: Setting) -> None:
    """On the suite."""
    del name, setting
