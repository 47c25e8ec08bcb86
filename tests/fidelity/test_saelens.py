"""SAELens' own figures on the same SAE and tokens, and what makes them differ.

SAELens asks for the token after BOS too, takes KL after the last token as well, replaces BOS
whatever the SAE was trained on, unless told to ignore it, zeroes it always, and runs an SAE in the
precision it is stored in. Where both do the same, both say the same.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from sage.fidelity.measure import measure_fidelity
from sage.fidelity.sequences import sequences_of
from sage.models.base import Model
from sage.models.load import load_model
from sage.saes.residual_tokens import windows
from sage.task.tokens import Tokenized
from sage.zoo.recipes import ZOO
from tests.fidelity.test_measure import TEXT, suite_at, values

NAME, LAYER = "tiny-gpt2", 1


@cache
def model() -> Model:
    return load_model(NAME, device="cpu")


@cache
def prompts() -> list[Tokenized]:
    """Sequences of one length, as SAELens knows no other."""
    cut = windows(model(), TEXT, window=9)
    return [prompt for prompt in cut if len(prompt.ids) == 9]


def saelens(*, ignore_bos: bool) -> dict[str, Tensor]:
    """Losses and KL token by token."""
    from sae_lens import SAE
    from sae_lens.evals import get_recons_loss
    from sae_lens.training.activation_scaler import ActivationScaler

    sae = SAE.load_from_disk(
        str(ZOO / NAME / "saes" / "topk4" / f"{LAYER}.resid_pre"), dtype="float32"
    )
    ids = torch.tensor([prompt.ids for prompt in prompts()])
    bos = [int(ids[0, 0])] if ignore_bos else None
    bridge = model().engine.bridge  # pyright: ignore[reportAttributeAccessIssue]
    return get_recons_loss(
        sae, bridge, ActivationScaler(), ids, compute_kl=True, compute_ce_loss=True,
        ignore_tokens=bos,
    )  # fmt: skip


def ours(*, reads_bos: bool) -> dict[str, float]:
    sequences = sequences_of(model(), prompts(), source="text")
    return values(
        measure_fidelity(model(), [suite_at(NAME, LAYER, reads_bos=reads_bos)], sequences)
    )


def test_where_bos_is_replaced_in_both_all_figures_agree() -> None:
    theirs = saelens(ignore_bos=False)
    measured = ours(reads_bos=True)
    after_bos = {name: float(per_token[:, 1:].mean()) for name, per_token in theirs.items()}
    assert measured["cross_entropy"] == pytest.approx(after_bos["ce_loss_without_sae"], rel=1e-5)
    assert measured["cross_entropy_sae"] == pytest.approx(after_bos["ce_loss_with_sae"], rel=1e-5)
    assert measured["cross_entropy_zero"] == pytest.approx(
        after_bos["ce_loss_with_ablation"], rel=1e-5
    )
    recovered = (after_bos["ce_loss_with_ablation"] - after_bos["ce_loss_with_sae"]) / (
        after_bos["ce_loss_with_ablation"] - after_bos["ce_loss_without_sae"]
    )
    assert measured["loss_recovered_zero"] == pytest.approx(recovered, rel=1e-5)
    kl = float(theirs["kl_div_with_sae"][:, 1:-1].mean())
    assert measured["kl"] == pytest.approx(kl, rel=1e-4)


def test_where_bos_is_passed_through_saelens_still_zeroes_it() -> None:
    theirs = saelens(ignore_bos=True)
    measured = ours(reads_bos=False)
    with_sae = float(theirs["ce_loss_with_sae"][:, 1:].mean())
    assert measured["cross_entropy_sae"] == pytest.approx(with_sae, rel=1e-5)
    zeroed = float(theirs["ce_loss_with_ablation"][:, 1:].mean())
    assert abs(measured["cross_entropy_zero"] - zeroed) > 0.1
