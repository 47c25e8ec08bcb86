"""The slow literal twin: plain hooks on the transformers module, in double precision.

One prompt and one patch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sage.nodes import EVERYWHERE, Node
from sage.task.tokens import Tokenized
from tests.families import EVERY, Where


@dataclass(frozen=True)
class Twin:
    """A transformers model and nothing else."""

    family: str
    hf: Any

    def logits(self, prompt: Tokenized) -> Tensor:
        """Logits at the last position."""
        return self.hf(torch.tensor([prompt.ids])).logits[0, -1]

    def read(
        self, node: Node, prompt: Tokenized, patches: Sequence[tuple[Node, Tensor]] = ()
    ) -> Tensor:
        """The node's value with the patches made; every position for `*`."""
        kept: list[Tensor] = []
        with ExitStack() as stack:
            for patch, value in patches:
                self._set(stack, patch, prompt, value)
            if node.kind == "pattern":
                stack.enter_context(_attention(self.family, node, keep=kept))
            else:
                self._hook(stack, self._where(node), lambda x: kept.append(x.detach().clone()))
            self.logits(prompt)
        (value,) = kept
        return value[0] if node.position == EVERYWHERE else value[0, prompt.index[node.position]]

    def patched(self, patches: Sequence[tuple[Node, Tensor]], prompt: Tokenized) -> Tensor:
        """Logits at the last position with the nodes set."""
        with ExitStack() as stack:
            for node, value in patches:
                self._set(stack, node, prompt, value)
            return self.logits(prompt)

    def _set(self, stack: ExitStack, node: Node, prompt: Tokenized, value: Tensor) -> None:
        rows = slice(None) if node.position == EVERYWHERE else prompt.index[node.position]
        if node.kind == "pattern":
            stack.enter_context(_attention(self.family, node, put=(rows, value)))
            return
        if node.kind == "resid_mid":
            before: list[Tensor] = []
            self._hook(
                stack, self._where(Node("resid_pre", node.layer)), lambda x: before.append(x)
            )

            def skip(x: Tensor) -> None:
                x[0, rows] = value - before[0][0, rows]

            self._hook(stack, self._where(Node("attn_out", node.layer)), skip)
            return

        def put(x: Tensor) -> None:
            x[0, rows] = value.to(x)

        self._hook(stack, self._where(node), put)

    def _hook(self, stack: ExitStack, where: Where, act: Any) -> None:
        """Show `act` the columns, which it may overwrite."""

        def changed(value: Any) -> Any:
            if where.element is not None:
                parts = list(value)
                parts[where.element] = parts[where.element].clone()
                act(parts[where.element][..., where.columns])
                return tuple(parts)
            value = value.clone()
            act(value[..., where.columns])
            return value

        if where.side == "output":
            handle = where.module.register_forward_hook(
                lambda _module, _inputs, output: changed(output)
            )
        else:
            handle = where.module.register_forward_pre_hook(
                lambda _module, inputs: (changed(inputs[0]), *inputs[1:])
            )
        stack.callback(handle.remove)

    def _where(self, node: Node) -> Where:
        if node.kind == "embed":
            return self._where(Node("resid_pre", 0))
        return EVERY[self.family].where(self.hf, node)


def load_twin(family: str, folder: Path) -> Twin:
    from transformers import AutoModelForCausalLM

    hf = (
        AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        )
        .eval()
        .double()
    )
    return Twin(family, hf.requires_grad_(False))


@contextmanager
def _attention(
    family: str,
    node: Node,
    *,
    keep: list[Tensor] | None = None,
    put: tuple[Any, Tensor] | None = None,
) -> Iterator[None]:
    """Attention written out, in place of transformers' own, so that one head's pattern can be kept
    or set."""
    library = import_module(f"transformers.models.{EVERY[family].module}")

    def attend(
        module: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor,
        scaling: float,
        softcap: float | None = None,
        **_: Any,
    ) -> Any:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        scores = torch.einsum("bhtd,bhsd->bhts", q, k) * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        pattern = (scores + mask).softmax(-1)
        if module.layer_idx == node.layer:
            if keep is not None:
                keep.append(pattern[:, node.head].clone())
            if put is not None:
                pattern[0, node.head, put[0]] = put[1].to(pattern)
        return torch.einsum("bhts,bhsd->bthd", pattern, v), pattern

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "eager_attention_forward", attend)
        yield
