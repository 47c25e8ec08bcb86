"""How much of a model has been run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counter:
    """A forward pass counts once, one with its backward pass three times.

    `token_layers`: one for every layer computed at a token. `tokens`: the same in whole passes of
    one token through all layers.
    """

    tokens: float = 0
    token_layers: int = 0

    def count(self, token_layers: int, *, layers: int) -> None:
        """So many token-layers of a model of so many layers were computed."""
        self.token_layers += token_layers
        self.tokens += token_layers / layers
