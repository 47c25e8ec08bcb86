"""What a control is made from: the judged suite, the split `fit`, a seed that no training uses."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.dictionaries.projected import ProjectedSuite, mean_l0
from sage.dictionaries.streams import EncodedStreams
from sage.nodes import Node, Section
from sage.saes.sae import SAE
from sage.saes.suite import Suite

# The scores of which a control may be the best control; PCA and neurons reconstruct by construction
# and are no rivals in approximation.
APPROXIMATION = "approximation"
EVERY_SCORE = frozenset((APPROXIMATION, "control", "interpretable", "geometry", "move"))


@dataclass(frozen=True, eq=False)
class Setting:
    """Where a control is made.

    `text` has residual tokens of ordinary text at hooks, [token, d_model], where any is known;
    `tables` holds the centres of lookup tables made so far, by name.
    """

    judged: ProjectedSuite
    fit: Activations
    section: Section
    seed: int = 0
    text: Mapping[Node, Tensor] | None = None
    tables: MutableMapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @cached_property
    def sparsity(self) -> dict[Node, int]:
        """The judged suite's rounded L0 at each hook, at least 1."""
        return {hook: max(1, round(l0)) for hook, l0 in mean_l0(self.judged, self.fit).items()}

    def sae(self, hook: Node) -> SAE:
        """The judged SAE at a hook."""
        return self.judged.suite.saes[hook]

    def tokens(self, hook: Node) -> Float[Tensor, "token d_model"]:
        """The residual stream at every token of every prompt of `fit` but BOS."""
        first = 1 if self.fit.bos else 0
        rows = zip(self.fit.streams[hook], self.fit.prompts, strict=True)
        return torch.cat([row[first : len(prompt.ids)] for row, prompt in rows])

    def projected(
        self, name: str, saes: Mapping[Node, SAE], *, signed: bool = False
    ) -> ProjectedSuite:
        """SAEs made in the place of the judged ones."""
        streams = EncodedStreams(self.judged.nodes)
        suite = Suite(name, dict(sorted(saes.items())))
        return replace(self.judged, name=name, suite=suite, streams=streams, signed=signed, kept={})

    def facts(self) -> tuple[object, ...]:
        """What the judged SAEs are beside their weights and sparsity."""
        return tuple(
            (
                str(hook), sae.width, str(sae.W_dec.dtype), sae.normalisation, sae.centred,
                sae.reads_bos,
            )
            for hook, sae in sorted(self.judged.suite.saes.items())
            if hook in self.sparsity
        )  # fmt: skip


def generator(stream: str) -> torch.Generator:
    """A generator seeded from a name, so that no seed of a training run can meet it."""
    digest = hashlib.sha256(f"sage control/{stream}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))


@lru_cache(maxsize=2)
def unit_vectors(count: int, d: int, stream: str) -> Float[Tensor, "vector d"]:
    """Random directions; the last few sets are held, because every site of a hook asks for the
    same."""
    vectors = torch.randn(count, d, generator=generator(stream))
    return torch.nn.functional.normalize(vectors, dim=-1)
