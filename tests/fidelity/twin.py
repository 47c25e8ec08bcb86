"""The literal twin: one sequence at a time through transformers, with one plain hook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sage.saes.sae import SAE
from sage.zoo.recipes import ZOO

BLOCKS = {
    "tiny-gpt2": "transformer.h",
    "tiny-neox": "gpt_neox.layers",
    "tiny-gemma2": "model.layers",
}


def load(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        ZOO / name, attn_implementation="eager", dtype=torch.float32
    ).eval()


class Twin:
    """What enters block `layer` of a model, read and replaced."""

    def __init__(self, name: str, layer: int) -> None:
        self.hf = load(name)
        self.block = self.hf.get_submodule(BLOCKS[name])[layer]

    def stream(self, ids: Sequence[int]) -> Tensor:
        kept: list[Tensor] = []
        with self._hook(lambda x: kept.append(x.clone()) or x):
            self.hf(torch.tensor([ids]))
        return kept[0][0]

    def log_probabilities(self, ids: Sequence[int], stream: Tensor | None = None) -> Tensor:
        with self._hook(lambda x: x if stream is None else stream[None]):
            return self.hf(torch.tensor([ids])).logits[0].log_softmax(-1)

    @contextmanager
    def _hook(self, change: Any) -> Iterator[None]:
        def before(module: Any, inputs: Any) -> Any:
            del module
            return (change(inputs[0]), *inputs[1:])

        handle = self.block.register_forward_pre_hook(before)
        with torch.no_grad():
            yield
        handle.remove()


def measure(
    twin: Twin, sae: SAE, sequences: Sequence[tuple[Sequence[int], Sequence[int] | None]], bos: bool
) -> dict[str, float]:
    """Every measure by its definition; a sequence is its ids with the answers at its end, or None
    where every next token is asked for."""
    skip = 1 if sae.reads_bos != bos else 0
    measured_from = 1 if bos or skip else 0
    streams = [twin.stream(ids) for ids, _ in sequences]
    x = torch.cat([stream[measured_from:] for stream in streams])
    mean = x.double().mean(0).float()
    sums = dict.fromkeys(("clean", "sae", "zero", "mean", "kl", "kl_zero", "kl_mean"), 0.0)
    scored = 0
    for (ids, answers), stream in zip(sequences, streams, strict=True):
        replaced = {"sae": stream.clone(), "zero": stream.clone(), "mean": stream.clone()}
        for position in range(skip, len(ids)):
            replaced["sae"][position] = sae.reconstruct(stream[position])
            replaced["zero"][position] = 0
            replaced["mean"][position] = mean
        clean = twin.log_probabilities(ids)
        said = {name: twin.log_probabilities(ids, value) for name, value in replaced.items()}
        positions = [len(ids) - 1] if answers else range(1 if bos else 0, len(ids) - 1)
        for position in positions:
            wanted = list(answers) if answers else [ids[position + 1]]
            scored += 1
            for name, log_p in {"clean": clean, **said}.items():
                sums[name] -= float(log_p[position, wanted].exp().sum().log())
            for name, kl in (("sae", "kl"), ("zero", "kl_zero"), ("mean", "kl_mean")):
                p, difference = clean[position].exp(), clean[position] - said[name][position]
                sums[kl] += float((p * difference).sum())
    x_hat = sae.reconstruct(x)
    clean, ours, zero, at_mean = (sums[name] / scored for name in ("clean", "sae", "zero", "mean"))
    kl, kl_zero, kl_mean = (sums[name] / scored for name in ("kl", "kl_zero", "kl_mean"))
    return {
        "cross_entropy": clean,
        "cross_entropy_sae": ours,
        "cross_entropy_zero": zero,
        "cross_entropy_mean": at_mean,
        "loss_recovered_zero": (zero - ours) / (zero - clean),
        "loss_recovered_mean": (at_mean - ours) / (at_mean - clean),
        "nats_lost": ours - clean,
        "kl": kl,
        "kl_recovered_zero": 1 - kl / kl_zero,
        "kl_recovered_mean": 1 - kl / kl_mean,
        "l0": float((sae.encode(x) != 0).sum()) / len(x),
        "fvu": float((x - x_hat).square().sum() / (x - mean).square().sum()),
        "cosine": float(torch.cosine_similarity(x, x_hat, dim=-1).mean()),
        "bias": float(x_hat.square().sum() / (x * x_hat).sum()),
    }


def latent_shares(
    twin: Twin, sae: SAE, ids: Sequence[Sequence[int]], start: int
) -> tuple[float, float]:
    """Shares of dead and of dense latents."""
    active = sae.encode(torch.cat([twin.stream(one)[start:] for one in ids])) != 0
    share = active.double().mean(0)
    return float((share == 0).double().mean()), float((share > 0.1).double().mean())
