"""Nulls of SAEs: what is frozen stays as it was drawn, softly frozen rows stay near it."""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.nn.functional import cosine_similarity, normalize

from saes.trainings import (
    Interrupted,
    arrays,
    directions,
    interrupt_after,
    planted,
    training,
)
from sage.cli.making import train_sae
from sage.errors import SageError
from sage.saes import sae_lens_trainer
from sage.saes.architectures import architecture_names
from sage.saes.formats import load_file
from sage.saes.freezing import held_near, random_directions
from sage.saes.sae import measure
from sage.saes.train import train
from sage.saes.training_settings import FREEZES

FROZEN = [freeze for freeze in FREEZES if freeze != "none"]
EVERY = list(product(architecture_names(), FROZEN))


@pytest.mark.parametrize(
    ("row", "start", "held"),
    [
        pytest.param((0, 5), (1, 0), (4, 3), id="at a right angle, to one side"),
        pytest.param((0, -5), (1, 0), (4, -3), id="at a right angle, to the other"),
        pytest.param((3, 4), (1, 0), (4, 3), id="cosine .6"),
        pytest.param((-6, 8), (1, 0), (8, 6), id="cosine -.6"),
        pytest.param((8, -6), (0.6, 0.8), (9.6, 2.8), id="from a start aslant"),
        pytest.param((-2, 0), (1, 0), (2, 0), id="opposite"),
    ],
)
def test_a_row_that_went_too_far_is_turned_back_to_a_cosine_of_four_fifths(
    row: tuple[float, float], start: tuple[float, float], held: tuple[float, float]
) -> None:
    turned = held_near(torch.tensor([row]).float(), torch.tensor([start]).float())
    assert torch.allclose(turned, torch.tensor([held]).float(), atol=1e-6)


def test_rows_within_the_cosine_and_rows_of_zeros_are_untouched() -> None:
    rows = torch.tensor([[9, 1], [4.1, -3], [0.3, 0.2], [0, 0]])
    start = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert torch.equal(held_near(rows, start), rows)


def test_held_rows_keep_their_norm_the_side_they_left_to_and_the_cosine() -> None:
    draw = torch.Generator().manual_seed(1)
    rows = torch.randn(500, 7, generator=draw) * torch.rand(500, 1, generator=draw) * 30
    start = normalize(torch.randn(500, 7, generator=draw), dim=-1)
    held, before = held_near(rows, start), cosine_similarity(rows, start)
    assert torch.allclose(held.norm(dim=-1), rows.norm(dim=-1), rtol=1e-5)
    assert torch.allclose(cosine_similarity(held, start), before.clamp(min=0.8), atol=1e-6)
    away, away_held = (each - (each * start).sum(-1, keepdim=True) * start for each in (rows, held))
    assert torch.allclose(cosine_similarity(away, away_held), torch.ones(500), atol=1e-5)
    assert torch.allclose(held_near(held, start), held, atol=1e-5)


def test_random_directions_have_norm_1_and_the_covariance_of_the_activations() -> None:
    """Variances 9 and 1: of z1, z2 from a unit Gaussian, |3 z1| > |z2| in 2/pi atan(3) of draws."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(40_000, 3, generator=draw) * torch.tensor([3, 1, 0]) + torch.tensor([50, -7, 4])
    rows = random_directions(x, count=20_000, seed=0)
    assert torch.allclose(rows.norm(dim=-1), torch.ones(20_000), atol=1e-6)
    assert rows[:, 2].abs().max() < 1e-6
    mostly_first = (rows[:, 0].abs() > rows[:, 1].abs()).float().mean()
    assert mostly_first.item() == pytest.approx(0.7952, abs=0.01)
    assert rows.mean(0).abs().max() < 0.02


def test_random_directions_lean_the_way_activations_do() -> None:
    """A line of activations has one direction, either way round."""
    x = torch.linspace(-1, 5, 100)[:, None] * torch.tensor([[0.6, 0.8]])
    rows = random_directions(x, count=50, seed=3)
    assert torch.allclose(rows.abs(), torch.tensor([[0.6, 0.8]]).expand(50, 2), atol=1e-5)
    assert set(rows[:, 0].sign().tolist()) == {-1.0, 1.0}
    assert torch.equal(random_directions(x, count=50, seed=3), rows)
    assert not torch.equal(random_directions(x, count=50, seed=4), rows)


@pytest.mark.parametrize("architecture", architecture_names())
@pytest.mark.parametrize(("freeze", "frozen"), [("decoder", "W_dec"), ("encoder", "W_enc")])
def test_what_is_frozen_keeps_every_bit_and_all_else_learns(
    architecture: str, freeze: str, frozen: str
) -> None:
    trainer = _started(architecture, freeze)
    before = _weights(trainer)
    for batch in islice(planted(0), 20):
        sae_lens_trainer.make_step(trainer, batch)
    after = _weights(trainer)
    assert torch.equal(before[frozen], after[frozen])
    (learned,) = {"W_enc", "W_dec"} - {frozen}
    for name in (learned, "b_dec"):
        assert not torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("architecture", architecture_names())
def test_soft_frozen_rows_are_within_a_cosine_of_four_fifths_after_every_step(
    architecture: str,
) -> None:
    trainer, free = _started(architecture, "soft"), _started(architecture, "none")
    start = _weights(trainer)["W_dec"]
    assert torch.equal(start, _weights(free)["W_dec"])
    for batch in islice(planted(0), 40):
        for each in (trainer, free):
            sae_lens_trainer.make_step(each, batch)
        assert cosine_similarity(_weights(trainer)["W_dec"], start).min() > 0.8 - 1e-6
    at_border = cosine_similarity(_weights(trainer)["W_dec"], start) < 0.8 + 1e-6
    assert at_border.any()
    assert cosine_similarity(_weights(free)["W_dec"], start).min() < 0.7
    norms = _weights(trainer)["W_dec"].norm(dim=-1)
    assert norms.max() > 1.2 * start.norm(dim=-1).max()


@pytest.mark.parametrize(("architecture", "freeze"), EVERY)
def test_an_interrupted_null_ends_with_the_weights_of_an_uninterrupted_one(
    architecture: str, freeze: str, tmp_path: Path
) -> None:
    wanted = training(architecture, freeze=freeze, learning_rate=4e-3, steps=30, decay=10)
    whole = train(wanted, planted, out=tmp_path / "whole")
    stop, folder = interrupt_after(24), tmp_path / "parts"
    with pytest.raises(Interrupted):
        train(wanted, planted, out=folder, report=stop, report_every=8, save_every=10)
    parts = train(wanted, planted, out=folder, save_every=10)
    for name, array in arrays(whole).items():
        assert torch.equal(arrays(parts)[name], array), name
    assert parts.stated == whole.stated


def test_a_frozen_decoder_is_drawn_from_the_activations_and_begins_with_its_encoder(
    tmp_path: Path,
) -> None:
    """Activations that differ in the plane of two features alone have all rows drawn in it."""

    def flat(start: int) -> Any:
        for batch in planted(start):
            yield batch @ directions().T[:, :2] @ directions()[:2] + 5.0

    wanted = training("relu", freeze="decoder", snapshots=(0,))
    sae = train(wanted, flat, out=tmp_path / "sae")
    drawn = load_file(tmp_path / "sae" / "snapshots" / "step_000000")
    plane = torch.linalg.qr(directions()[:2].T)[0]
    assert torch.allclose(drawn.W_dec @ plane @ plane.T, drawn.W_dec, atol=1e-5)
    norms = drawn.W_dec.norm(dim=-1)
    assert torch.allclose(norms, norms[:1], rtol=1e-5)
    encoder = drawn.encoder.W_enc.T
    assert torch.allclose(cosine_similarity(encoder, drawn.W_dec), torch.ones(32), atol=1e-5)
    assert torch.equal(sae.W_dec, drawn.W_dec)
    other = train(training("relu", freeze="decoder", seed=1, steps=1), flat, out=tmp_path / "other")
    assert not torch.allclose(other.W_dec, sae.W_dec, atol=0.1)


def test_nulls_describe_planted_activations_worse_than_what_learned(tmp_path: Path) -> None:
    x = torch.cat(list(islice(planted(5000), 16)))
    unexplained: dict[str, float] = {}
    cosine: dict[str, float] = {}
    for freeze in FREEZES:
        wanted = training("topk", freeze=freeze, steps=600, learning_rate=3e-3, k=2.0)
        sae = train(wanted, planted, out=tmp_path / freeze)
        unexplained[freeze] = measure(sae, x).fvu
        cosines = normalize(sae.W_dec, dim=1) @ directions().T
        cosine[freeze] = cosines.max(0).values.mean().item()
    assert (
        unexplained["none"]
        < unexplained["soft"]
        < min(unexplained[f] for f in ("decoder", "encoder"))
    )
    assert cosine["decoder"] < cosine["soft"] < cosine["none"]


def test_what_was_frozen_is_written_down_and_another_freeze_is_another_training(
    tmp_path: Path,
) -> None:
    train(training("topk", freeze="soft", steps=4), planted, out=tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["freeze"] == "soft"
    with pytest.raises(SageError, match="another training: freeze 'soft' there, 'none' here"):
        train(training("topk", steps=4), planted, out=tmp_path)
    with pytest.raises(SageError, match=r"way to freeze an SAE is named 'solid'.*decoder, encoder"):
        training("topk", freeze="solid")


def test_the_command_line_trains_nulls(tmp_path: Path) -> None:
    (option,) = (parameter for parameter in train_sae.params if parameter.name == "freeze")
    assert tuple(option.type.choices) == FREEZES
    for freeze in FREEZES:
        words = "--model wired --hook 2.resid_pre --width 16 --steps 4 --batch 64 --k 4"
        text = f"--task wired --prompts 40 --freeze {freeze} --out {tmp_path / freeze}"
        done = CliRunner().invoke(train_sae, [*words.split(), *text.split()])
        assert done.exit_code == 0, done.output
        written = json.loads((tmp_path / freeze / "training.json").read_text())
        assert written["freeze"] == freeze


def _started(architecture: str, freeze: str) -> Any:
    """A trainer before its first step."""
    wanted = training(architecture, freeze=freeze, learning_rate=4e-3)
    trainer = sae_lens_trainer.make_trainer(wanted)
    trainer.activation_scaler.scaling_factor = 1.0
    return trainer


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: array.detach().clone() for name, array in trainer.sae.named_parameters()}
