"""The wired model as plain transformers runs it, read and patched by plain hooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sage.models.wired import Wired, language, truth, wired_folder
from sage.models.wired.circuit import N_HEADS, N_LAYERS
from sage.models.wired.layout import D_MODEL
from sage.nodes import Node
from sage.task.task import Prompt

D_HEAD = D_MODEL // N_HEADS


class HookedWired(NamedTuple):
    """A wired model in transformers, with what should be true of it."""

    model: Any
    tokenizer: Any
    truth: Wired

    def ids(self, prompts: Sequence[Prompt]) -> Tensor:
        """[prompt, position], <bos> first."""
        ids = self.tokenizer([prompt.text for prompt in prompts])["input_ids"]
        return torch.tensor([[self.tokenizer.bos_token_id, *of_prompt] for of_prompt in ids])

    def index(self, prompts: Sequence[Prompt], position: str) -> Tensor:
        """The token that ends where the position's characters end, after <bos>."""
        if position == "END":
            return torch.full((len(prompts),), language.LENGTH - 1)
        texts = [prompt.text for prompt in prompts]
        offsets = self.tokenizer(texts, return_offsets_mapping=True)["offset_mapping"]
        tokens: list[int] = []
        for prompt, pieces in zip(prompts, offsets, strict=True):
            ends = [end for _, end in pieces]
            tokens.append(1 + ends.index(prompt.spans[position][1]))
        return torch.tensor(tokens)

    def answers_and_foils(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """The ids of every prompt's answer, and of its foil."""
        convert = self.tokenizer.convert_tokens_to_ids
        answers = torch.tensor([convert(prompt.answers[0]) for prompt in prompts])
        return answers, torch.tensor([convert(prompt.foils[0]) for prompt in prompts])

    def columns(self, node: Node) -> slice:
        """Where a node stands in the vectors that its module takes or gives."""
        if node.head is None:
            return slice(0, D_MODEL)
        part = 0 if node.kind == "z" else D_MODEL * "qkv".index(node.kind)
        return slice(part + D_HEAD * node.head, part + D_HEAD * (node.head + 1))

    def hook(self, node: Node, act: Any) -> Any:
        """Call act(activation) at a node's module; what it returns, if anything, takes the
        activation's place."""
        block = self.model.transformer.h[node.layer]
        if node.kind == "z":
            return block.attn.c_proj.register_forward_pre_hook(
                lambda _, args: None if (new := act(args[0])) is None else (new,)
            )
        module = block.ln_2 if node.head is None else block.attn.c_attn
        return module.register_forward_hook(lambda _, __, out: act(out))

    def read(self, ids: Tensor, at: dict[Node, Tensor]) -> dict[Node, np.ndarray]:
        """Values at nodes, each at its own token of every prompt."""
        values: dict[Node, np.ndarray] = {}

        def keep(node: Node, activation: Tensor) -> None:
            rows, columns = torch.arange(len(ids)), self.columns(node)
            values[node] = activation[rows, at[node], columns].double().numpy()

        handles = [self.hook(node, lambda value, node=node: keep(node, value)) for node in at]
        self.model(ids)
        for handle in handles:
            handle.remove()
        return values

    def streams(self, prompts: Sequence[Prompt]) -> dict[Node, np.ndarray]:
        """Every residual stream, [prompt, position, d_model]."""
        blocks = self.model.transformer.h
        modules = {Node("resid_pre", layer): block.ln_1 for layer, block in enumerate(blocks)}
        modules |= {Node("resid_mid", layer): block.ln_2 for layer, block in enumerate(blocks)}
        modules[Node("resid_post", N_LAYERS - 1)] = self.model.transformer.ln_f
        streams: dict[Node, np.ndarray] = {}

        def keep(hook: Node, args: tuple[Tensor, ...]) -> None:
            streams[hook] = args[0].numpy()

        handles = [
            module.register_forward_pre_hook(lambda _, args, hook=hook: keep(hook, args))
            for hook, module in modules.items()
        ]
        self.model(self.ids(prompts))
        for handle in handles:
            handle.remove()
        return streams


def load_wired(seed: int, folder: Path) -> HookedWired:
    """The wired model of a seed, written to a folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wired_folder(seed, folder)
    model = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return HookedWired(model.eval().requires_grad_(False), tokenizer, truth(seed))
