"""Residual streams of text, kept on disk: read once for all SAEs of a model.

They are written shard by shard, so that reading goes on where it was, in bfloat16, whose rounding
(.4 % of a number) is far below what any SAE leaves unexplained. Sinks are left out
(`sage.models.sinks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from sage.errors import SageError
from sage.files import write_atomically
from sage.models.base import Model
from sage.nodes import EVERYWHERE, Node
from sage.progress import advance, expect
from sage.saes.residual_tokens import windows, without_bos, without_massive
from sage.saes.sae import hook_label
from sage.task.tokens import Tokenized

WINDOWS_A_SHARD = 256


@dataclass(frozen=True)
class TextStreams:
    """Streams of some windows of text at some hooks, in a folder."""

    model: Model
    hooks: Sequence[Node]
    folder: Path
    prompts: Sequence[Tokenized]

    def fill(self) -> None:
        """Read what is not there yet."""
        expect(len(self.prompts))
        for number, chunk in enumerate(self._chunks()):
            path = self._shard(number)
            if not path.is_file():
                everywhere = {hook: hook.at(EVERYWHERE) for hook in self.hooks}
                read = self.model.read(list(everywhere.values()), chunk)
                tokens = {
                    hook_label(hook): without_bos(read[node], chunk, bos=self.model.sink)
                    .to(torch.bfloat16)
                    .cpu()
                    .contiguous()
                    for hook, node in everywhere.items()
                }
                write_atomically(path, save(tokens), durable=False)
            advance(len(chunk))

    def tokens(self, hook: Node) -> Float[Tensor, "token d_model"]:
        """All tokens at a hook but massive ones; bfloat16."""
        shards = [self._shard(number) for number, _ in enumerate(self._chunks())]
        parts = [load_file(shard)[hook_label(hook)] for shard in shards]
        return without_massive(torch.cat(parts))

    def _chunks(self) -> list[Sequence[Tokenized]]:
        starts = range(0, len(self.prompts), WINDOWS_A_SHARD)
        return [self.prompts[start : start + WINDOWS_A_SHARD] for start in starts]

    def _shard(self, number: int) -> Path:
        return self.folder / f"{number:05d}.safetensors"


def take_windows(
    model: Model, passages: Sequence[str], *, tokens: int, seed: int
) -> list[Tokenized]:
    """Windows of passages in an order drawn from the seed, until so many tokens are taken."""
    order = torch.randperm(len(passages), generator=torch.Generator().manual_seed(seed))
    taken: list[Tokenized] = []
    count = 0
    for place in order.tolist():
        for window in windows(model, [passages[int(place)]]):
            if count >= tokens:
                return taken
            taken.append(window)
            count += len(window.ids)
    if not taken:
        raise SageError("There is no text to train on. Give a file of passages, one a line.")
    return taken
