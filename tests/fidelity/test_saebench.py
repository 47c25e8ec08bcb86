"""SAEBench's loss-recovered figure on the same SAE and tokens, and what makes ours another.

A literal twin of what `sae_bench.evals.core` (version 0.6.0) does: it ablates to zero alone, zeroes
BOS whatever the SAE was trained on, replaces BOS too unless it is told to keep special tokens, and
leaves the token after an ignored one out of the mean. Run on these very tokens, its own code gave
what the twin gives.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sage.fidelity.measure import measure_fidelity
from sage.fidelity.sequences import sequences_of
from sage.models.base import Model
from sage.saes.sae import SAE
from tests.fidelity.test_measure import suite_at, values
from tests.fidelity.test_saelens import LAYER, NAME, model, prompts

Change = Callable[[Tensor], Tensor]


def logits(of: Model, ids: Tensor, change: Change) -> Tensor:
    """The model with its stream changed at the hook, by a forward hook of torch."""
    block = of.engine.bridge.original_model.transformer.h[LAYER]  # pyright: ignore[reportAttributeAccessIssue]

    def hook(_: object, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (change(arguments[0]), *arguments[1:])

    handle = block.register_forward_pre_hook(hook)
    try:
        return of.engine.bridge.original_model(ids).logits  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        handle.remove()


@torch.no_grad()
def saebench(sae: SAE, *, keep_special: bool) -> dict[str, float]:
    """Its ce_loss_score and the losses that it is made of, BOS among the ignored tokens."""
    ids = torch.tensor([prompt.ids for prompt in prompts()])
    bos = ids == ids[0, 0]

    def replaced(stream: Tensor) -> Tensor:
        reconstruction = sae.reconstruct(stream)
        return torch.where(bos[..., None] & keep_special, stream, reconstruction)

    losses: dict[str, float] = {}
    changes = {"base": lambda x: x, "sae": replaced, "zero": torch.zeros_like}
    for name, change in changes.items():
        log_p = logits(model(), ids, change).log_softmax(-1)
        by_token = -log_p[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
        losses[name] = float(by_token[~bos[:, :-1]].mean())
    lost = losses["zero"] - losses["base"]
    return {**losses, "score": (losses["zero"] - losses["sae"]) / lost}


def ours(*, reads_bos: bool) -> dict[str, float]:
    suite = suite_at(NAME, LAYER, reads_bos=reads_bos)
    return values(measure_fidelity(model(), [suite], sequences_of(model(), prompts(), source="t")))


def sae_of() -> SAE:
    (sae,) = suite_at(NAME, LAYER).saes.values()
    return sae


def test_where_bos_is_replaced_in_both_the_figures_are_one() -> None:
    theirs, measured = saebench(sae_of(), keep_special=False), ours(reads_bos=True)
    assert measured["loss_recovered_zero"] == pytest.approx(theirs["score"], rel=1e-5)
    for name, other in (("", "base"), ("_sae", "sae"), ("_zero", "zero")):
        assert measured[f"cross_entropy{name}"] == pytest.approx(theirs[other], rel=1e-5)


def test_where_bos_is_kept_saebench_zeroes_it_all_the_same() -> None:
    """The loss with the SAE is the same; what zeroing loses is not, nor is the share of it."""
    theirs, measured = saebench(sae_of(), keep_special=True), ours(reads_bos=False)
    assert measured["cross_entropy_sae"] == pytest.approx(theirs["sae"], rel=1e-5)
    assert abs(measured["cross_entropy_zero"] - theirs["zero"]) > 0.1
    assert measured["loss_recovered_zero"] != pytest.approx(theirs["score"], abs=1e-4)
