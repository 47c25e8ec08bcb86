"""A dictionary of the nodes themselves: an encoder and directions at each node.

For SAEs that were trained on an activation and not on the residual stream, and for dictionaries
built by hand (planted features), whose scores are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Activations
from sage.nodes import Node

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class NativeDictionary:
    """a_hat = bias + codes @ directions, with codes = encode(a) at each node."""

    name: str
    encoders: Mapping[Node, Encode]
    decoders: Mapping[Node, Float[Tensor, "latent d"]]
    biases: Mapping[Node, Float[Tensor, "d"]] = field(default_factory=dict[Node, Tensor])
    signed: bool = False

    def codes(self, given: Activations) -> dict[Node, Float[Tensor, "prompt latent"]]:
        """The encoder's codes at every node."""
        return {node: self.encoders[node](value) for node, value in given.values.items()}

    def reconstruct(self, given: Activations) -> dict[Node, Tensor]:
        """a_hat at every node, [prompt, d]."""
        whole = {n: codes @ self.decoders[n] for n, codes in self.codes(given).items()}
        return {
            n: value + self.biases[n] if n in self.biases else value for n, value in whole.items()
        }

    def directions(self, node: Node) -> Float[Tensor, "latent d"]:
        """The decoder's rows."""
        return self.decoders[node]
