"""Identity and mean only: dictionaries without latents, between which every approximation lies.

Method, section 6. The identity gives every activation back; mean only gives its mean over `fit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Activations, Moments
from sage.dictionaries.controls.setting import EVERY_SCORE, Setting
from sage.models.anatomy import Anatomy
from sage.nodes import Node

IDENTITY, MEAN_ONLY = "identity", "mean only"
NAMES = (MEAN_ONLY,)
RIVAL = EVERY_SCORE


@dataclass(frozen=True, eq=False)
class WithoutLatents:
    """A dictionary that only reconstructs: it has nothing to edit with."""

    name: str
    anatomy: Anatomy
    reconstruction: Callable[[Activations], dict[Node, Tensor]]
    signed: bool = False

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """What it makes of every node, [prompt, d]."""
        return self.reconstruction(given)

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """No latents."""
        return {node: value.new_zeros(len(given), 0) for node, value in given.values.items()}

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """No latents."""
        width = self.anatomy.width(node.kind)
        return self.anatomy.norm_before(node).weight.new_zeros(0, width)


def identity(anatomy: Anatomy) -> WithoutLatents:
    """Gives every activation back."""
    return WithoutLatents(IDENTITY, anatomy, lambda given: dict(given.values))


def mean_only(anatomy: Anatomy, moments: Moments) -> WithoutLatents:
    """Gives every activation's mean over `fit`."""

    def means(given: Activations) -> dict[Node, Tensor]:
        return {node: moments.mean[node].expand_as(given.values[node]) for node in given.nodes}

    return WithoutLatents(MEAN_ONLY, anatomy, means)


def make(name: str, setting: Setting) -> WithoutLatents:
    """The means at every node."""
    del name
    judged = setting.judged
    return mean_only(judged.anatomy, judged.moments)


def depends(name: str, setting: Setting) -> tuple[object, ...]:
    """On nothing."""
    del name, setting
    return ()
