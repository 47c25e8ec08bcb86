from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from saes.trainings import (
    Interrupted,
    arrays,
    directions,
    interrupt_after,
    planted,
    training,
)
from sage.errors import SageError
from sage.nodes import Node
from sage.saes.architectures import architecture_names
from sage.saes.formats import load_file
from sage.saes.in_memory import as_suite
from sage.saes.releases import load_suites
from sage.saes.sae import fold_decoder_norms, measure
from sage.saes.sae_lens_trainer import current_sae, make_step, make_trainer
from sage.saes.train import Batches, TrainingStatus, shuffled, train


@pytest.mark.parametrize("architecture", architecture_names())
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    architecture: str, tmp_path: Path
) -> None:
    wanted = training(architecture, snapshots=(0, 5, 35), decay=10, dead_after=4)
    whole = train(wanted, planted, out=tmp_path / "whole")
    stop = interrupt_after(24)
    with pytest.raises(Interrupted):
        train(wanted, planted, out=tmp_path / "parts", report=stop, report_every=8, save_every=10)
    assert not (tmp_path / "parts" / "cfg.json").exists()
    asked: list[int] = []

    def watched(start: int) -> Iterator[torch.Tensor]:
        asked.append(start)
        return planted(start)

    parts = train(wanted, watched, out=tmp_path / "parts", save_every=10)
    assert asked[0] == 20
    assert parts.encoder.name == whole.encoder.name == architecture
    assert parts.stated == whole.stated
    for name, array in arrays(whole).items():
        assert torch.equal(arrays(parts)[name], array), name
    for step in (0, 5, 35):
        folders = [tmp_path / run / "snapshots" / f"step_{step:06d}" for run in ("whole", "parts")]
        assert torch.equal(load_file(folders[0]).W_dec, load_file(folders[1]).W_dec)
    assert sorted(entry.name for entry in (tmp_path / "parts").iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
        "snapshots",
        "training.json",
    ]


def test_a_trainer_in_the_middle_of_training_is_the_sae_it_would_save() -> None:
    """Its scale of activations stands in the trainer alone."""
    wanted = training("batchtopk")
    trainer = make_trainer(wanted)
    trainer.activation_scaler.scaling_factor = 0.5
    for batch in islice(planted(0), 3):
        make_step(trainer, batch * 0.5)
    saved, x = current_sae(trainer, wanted), next(planted(9))
    (taken,) = as_suite({"layers.1": trainer}).saes.values()
    torch.testing.assert_close(taken.reconstruct(x), saved.reconstruct(x))


@pytest.mark.parametrize("architecture", architecture_names())
def test_a_trained_sae_is_read_by_sae_lens_too(architecture: str, tmp_path: Path) -> None:
    import sae_lens

    ours = train(training(architecture, snapshots=(0,)), planted, out=tmp_path / "sae")
    x = next(planted(77))
    snapshot = tmp_path / "sae" / "snapshots" / "step_000000"
    for folder, loaded in ((tmp_path / "sae", ours), (snapshot, load_file(snapshot))):
        theirs = sae_lens.SAE.load_from_disk(folder)
        assert theirs.cfg.metadata.model_name == "wired"
        with torch.no_grad():
            assert (theirs.encode(x) - loaded.encode(x)).abs().max() < 1e-5
            assert (theirs(x) - loaded.reconstruct(x)).abs().max() < 1e-5
            (taken,) = as_suite({"layers.1": theirs}).saes.values()
            assert (theirs(x) - taken.reconstruct(x)).abs().max() < 1e-5
    assert ours.hook == Node("resid_post", 1)
    assert ours.stated.model == "wired"


@pytest.mark.parametrize("architecture", ["relu", "topk", "prolu"])
def test_training_finds_planted_features(architecture: str, tmp_path: Path) -> None:
    reports: list[TrainingStatus] = []
    wanted = training(architecture, steps=600, learning_rate=3e-3, snapshots=(0,), k=2.0)
    sae = train(wanted, planted, out=tmp_path / "sae", report=reports.append, report_every=200)
    x = torch.cat(list(islice(planted(5000), 16)))
    untrained = load_file(tmp_path / "sae" / "snapshots" / "step_000000")
    assert measure(sae, x).fvu < 0.3 < 0.6 < measure(untrained, x).fvu
    cosines = normalize(sae.W_dec, dim=1) @ directions().T
    assert cosines.max(0).values.mean() > 0.85
    assert [report.step for report in reports] == [200, 400, 600]
    assert sae.stated.l0 == pytest.approx(reports[-1].l0, rel=0.3)
    assert sae.stated.fvu == pytest.approx(reports[-1].fvu, abs=0.1)


def test_topk_keeps_k_and_batchtopk_k_on_average(tmp_path: Path) -> None:
    x = torch.cat(list(islice(planted(5000), 16)))
    for architecture, steps, off in (
        ("topk", 20, 0.0),
        ("batchtopk", 500, 0.3),
        ("matryoshka", 500, 0.3),
    ):
        sae = train(training(architecture, steps=steps), planted, out=tmp_path / architecture)
        assert measure(sae, x).l0 == pytest.approx(3, rel=off), architecture
        assert sae.encoder.settings()["k"] == 3
    assert sae.encoder.settings()["sizes"] == [4, 12, 32]


def test_the_two_gradients_of_prolu_train_different_saes(tmp_path: Path) -> None:
    relu, ste = (
        train(training("prolu", options={"gradient": gradient}), planted, out=tmp_path / gradient)
        for gradient in ("relu", "ste")
    )
    assert (relu.encoder.settings(), ste.encoder.settings()) == (
        {"gradient": "relu"},
        {"gradient": "ste"},
    )
    assert relu.encoder.tensors()["b_enc"].any()
    assert ste.encoder.tensors()["b_enc"].any()
    assert not torch.equal(relu.W_dec, ste.W_dec)


def test_seeds_decide_the_weights_and_nothing_else_random_is_touched(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, again, other = (
        train(training("relu", seed=seed), planted, out=tmp_path / name)
        for seed, name in ((0, "a"), (0, "b"), (1, "c"))
    )
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first.W_dec, again.W_dec)
    assert not torch.equal(first.W_dec, other.W_dec)


def test_a_finished_training_is_returned_and_another_one_refused(tmp_path: Path) -> None:
    first = train(training("relu"), planted, out=tmp_path / "sae")

    def never(start: int) -> Iterator[torch.Tensor]:
        raise AssertionError(start)

    assert torch.equal(train(training("relu"), never, out=tmp_path / "sae").W_dec, first.W_dec)
    with pytest.raises(SageError, match=r"holds another training: penalty 0\.5 there, 0\.25 here"):
        train(training("relu", penalty=0.25), planted, out=tmp_path / "sae")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    with pytest.raises(SageError, match="not empty and holds no training"):
        train(training("relu"), planted, out=tmp_path / "full")
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_the_folder_of_trainings_is_a_local_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for layer in (0, 1):
        train(
            training("topk", layer=layer, steps=6, snapshots=(0, 4)),
            planted,
            out=tmp_path / "mine" / f"{layer}.resid_post",
        )
    suites = {suite.id: len(suite.saes) for suite in load_suites(["mine"])}
    assert suites == {"mine": 2, "mine/snapshots/step_000000": 2, "mine/snapshots/step_000004": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "transformer"}, "No SAE of architecture 'transformer' can be trained"),
        ({"steps": 0}, "are positive"),
        ({"penalty": -1.0}, "not negative"),
        ({"k": 33.0}, "k is 33: of 32 latents"),
        ({"architecture": "topk", "k": 2.5}, "topk a whole number"),
        ({"architecture": "matryoshka", "nested": ()}, "rising widths below its own, 32"),
        ({"architecture": "matryoshka", "nested": (8, 4)}, "rising widths"),
        ({"architecture": "matryoshka", "nested": (8, 32)}, "rising widths"),
        ({"architecture": "matryoshka", "nested": (0, 8)}, "rising widths"),
        ({"architecture": "prolu", "gradient": "true"}, "has 'relu' and 'ste'"),
        ({"nested": (8, 16)}, "training of relu has no option 'nested'. There are: none"),
        ({"architecture": "prolu", "nested": (8, 16)}, "has no option 'nested'.*: gradient"),
    ],
)
def test_a_training_that_cannot_be_is_refused_at_once(
    changes: dict[str, object], message: str
) -> None:
    options = {name: changes[name] for name in ("nested", "gradient") if name in changes}
    fields = {name: value for name, value in changes.items() if name not in options}
    with pytest.raises(SageError, match=message):
        training(**{"architecture": "relu", "options": options, **fields})


def test_a_matryoshka_nests_a_quarter_and_a_half_unless_it_is_told_otherwise(
    tmp_path: Path,
) -> None:
    sae = train(training("matryoshka", steps=4, options={}), planted, out=tmp_path / "sae")
    assert sae.encoder.settings()["sizes"] == [8, 16, 32]


def test_activations_that_run_out_or_have_another_shape_are_an_error(tmp_path: Path) -> None:
    def few(start: int) -> Iterator[torch.Tensor]:
        return islice(planted(start), 9 - start)

    with pytest.raises(SageError, match="ran out before step 9 of 40"):
        train(training("relu"), few, out=tmp_path / "few")
    with pytest.raises(SageError, match="ran out before step 0 of 40"):
        train(training("relu"), lambda start: islice(planted(start), 0), out=tmp_path / "none")
    with pytest.raises(SageError, match=r"The batch of step 0 is \[64, 12\]; expected \[32, 12\]"):
        train(training("relu", batch=32), planted, out=tmp_path / "batch")


def test_shuffled_activations_come_in_the_same_order_from_any_step() -> None:
    x = torch.arange(22.0)[:, None].expand(22, 2)
    batches: Batches = shuffled(x, batch=4, seed=1)
    whole = list(islice(batches(0), 12))
    for start in (3, 5, 11):
        assert all(
            torch.equal(a, b)
            for a, b in zip(islice(batches(start), 12 - start), whole[start:], strict=True)
        )
    epochs = [torch.cat(whole[:5])[:, 0].tolist(), torch.cat(whole[5:10])[:, 0].tolist()]
    assert all(len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1]
    with pytest.raises(SageError, match="22 activations, fewer than one batch of 23"):
        shuffled(x, batch=23)


def test_what_was_trained_is_written_down(tmp_path: Path) -> None:
    sae = train(training("gated"), planted, out=tmp_path / "sae")
    written = json.loads((tmp_path / "sae" / "training.json").read_text())
    assert written["architecture"] == "gated"
    assert written["hook"] == "1.resid_post@*"
    assert fold_decoder_norms(sae).W_dec.norm(dim=-1).allclose(torch.ones(32))
