from __future__ import annotations

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as read_safetensors
from safetensors.torch import save_file as write_safetensors

from saes.examples import NAMES, WIDTH, D, encoder, inputs, sae
from sage.errors import BadFile, SageError, Unsupported
from sage.nodes import Node
from sage.saes.architectures.batchtopk import BatchTopK
from sage.saes.architectures.jumprelu import JumpReLU
from sage.saes.architectures.matryoshka import Matryoshka
from sage.saes.architectures.topk import TopK
from sage.saes.formats import (
    FORMATS,
    describe_file,
    dictionary_learning,
    gemma_scope,
    load_file,
    recognised,
    saelens,
    sparsify,
)
from sage.saes.sae import SAE, Normalisation, Stated, fold_decoder_norms

PYTHIA, GEMMA = Stated(l0=82.0, model="pythia-70m-deduped"), Stated(l0=82.0, model="gemma-2-2b")


def assert_same(found: SAE, made: SAE, *, tolerance: float = 0.0) -> None:
    """The two SAEs agree in every field but their names, and in what they compute."""
    for field in ("hook", "normalisation", "centred", "subtract_b_dec", "reads_bos", "stated"):
        assert getattr(found, field) == getattr(made, field), field
    assert found.architecture.name == made.architecture.name
    assert found.architecture.settings() == made.architecture.settings()
    for name, array in {
        **made.architecture.tensors(),
        "W_dec": made.W_dec,
        "b_dec": made.b_dec,
    }.items():
        other = {**found.architecture.tensors(), "W_dec": found.W_dec, "b_dec": found.b_dec}[name]
        assert (other - array).abs().max() <= tolerance, name
    assert (found.encode(inputs()) - made.encode(inputs())).abs().max() <= tolerance
    assert (found.reconstruct(inputs()) - made.reconstruct(inputs())).abs().max() <= tolerance


ROUND_TRIPS = [
    *((saelens, "blocks", sae(name, stated=PYTHIA)) for name in NAMES),
    (
        saelens,
        "per token",
        sae(
            "topk",
            normalisation=Normalisation("constant_norm_rescale"),
            subtract_b_dec=True,
            reads_bos=False,
        ),
    ),
    (
        saelens,
        "centred",
        sae(
            "relu",
            normalisation=Normalisation("layer_norm"),
            centred=True,
            hook=Node("resid_pre", 0),
        ),
    ),
    (saelens, "between", sae("gated", hook=Node("resid_mid", 11))),
    (saelens, "mlp", sae("gated", hook=Node("mlp_out", 11))),
    (saelens, "embed", sae("relu", hook=Node("embed", -1))),
    (saelens, "nested", sae("matryoshka", architecture=replace(encoder("matryoshka"), k=None))),
    (
        gemma_scope,
        "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_82",
        sae("jumprelu", reads_bos=False, stated=GEMMA),
    ),
    (
        sparsify,
        "layers.3",
        sae("topk", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=3.0)),
    ),
    (
        sparsify,
        "gpt2/h.3",
        sae("topk", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=3.0)),
    ),
    (
        dictionary_learning,
        "old",
        sae(
            "relu", subtract_b_dec=True, reads_bos=False, stated=Stated(model="pythia-70m-deduped")
        ),
    ),
    (dictionary_learning, "new", sae("relu", stated=Stated(model="gemma-2-2b"))),
    (
        dictionary_learning,
        "gated",
        sae("gated", subtract_b_dec=True, reads_bos=False, stated=Stated(model="gpt2")),
    ),
    (
        dictionary_learning,
        "jumprelu",
        sae("jumprelu", reads_bos=False, hook=Node("resid_pre", 3), stated=Stated(model="gpt2")),
    ),
    (
        dictionary_learning,
        "topk",
        sae("topk", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=3.0, model="gpt2")),
    ),
    (
        dictionary_learning,
        "batchtopk",
        sae("batchtopk", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=4.0, model="gpt2")),
    ),
    (
        dictionary_learning,
        "nested",
        sae(
            "matryoshka", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=4.0, model="gpt2")
        ),
    ),
]


@pytest.mark.parametrize(
    ("form", "folder", "made"),
    ROUND_TRIPS,
    ids=lambda part: part.id if isinstance(part, SAE) else None,
)
def test_every_format_gives_back_what_was_saved(
    form: object, folder: str, made: SAE, tmp_path: Path
) -> None:
    path = tmp_path / folder
    form.save(made, path)
    assert recognised(path)
    assert [other for other in FORMATS if other.recognises(path)] == [form]
    found = load_file(path)
    assert_same(found, made)
    assert describe_file(path) == (found.hook, found.width, found.stated)
    for file in path.iterdir():
        assert_same(load_file(file), made)


@pytest.mark.parametrize(
    ("form", "folder", "made"),
    [trip for trip in ROUND_TRIPS if trip[2].architecture.name == "topk"],
)
def test_a_folded_topk_is_saved_so_that_the_same_latents_win(
    form: object, folder: str, made: SAE, tmp_path: Path
) -> None:
    form.save(fold_decoder_norms(made), tmp_path / folder)
    found = load_file(tmp_path / folder)
    assert torch.equal(found.active(inputs()), made.active(inputs()))
    assert (found.reconstruct(inputs()) - made.reconstruct(inputs())).abs().max() < 1e-4


def test_a_factor_is_folded_into_saelens_weights(tmp_path: Path) -> None:
    made = sae(
        "batchtopk",
        normalisation=Normalisation("expected_average_only_in", 0.4),
        subtract_b_dec=True,
    )
    saelens.save(made, tmp_path / "sae")
    found = load_file(tmp_path / "sae")
    assert found.normalisation == Normalisation()
    assert (found.reconstruct(inputs()) - made.reconstruct(inputs())).abs().max() < 1e-4


def test_a_format_refuses_what_it_has_no_words_for(tmp_path: Path) -> None:
    for form, name in ((gemma_scope, "topk"), (sparsify, "relu"), (dictionary_learning, "prolu")):
        with pytest.raises(Unsupported, match="Save it in SAELens format"):
            form.save(sae(name), tmp_path / "layer_3" / "layers.3")
    with pytest.raises(
        SageError, match=r"says 4\.resid_post@\*, but SAE 'jumprelu' reads 3\.resid_post@\*"
    ):
        gemma_scope.save(sae("jumprelu", reads_bos=False), tmp_path / "layer_4")
    with pytest.raises(SageError, match=r"says 2\.resid_post"):
        sparsify.save(sae("topk", subtract_b_dec=True, reads_bos=False), tmp_path / "layers.2")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saelens.save(sae("relu"), tmp_path / "sae")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space"):
        saelens.save(sae("relu", seed=9), tmp_path / "sae")
    assert sorted(file.name for file in (tmp_path / "sae").iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]
    assert_same(load_file(tmp_path / "sae"), sae("relu"))


def written(folder: Path, config: dict[str, object], **changes: torch.Tensor | None) -> Path:
    """A SAELens folder with this configuration; arrays can be added, replaced or taken away."""
    made = sae("relu")
    arrays = {**made.architecture.tensors(), "W_dec": made.W_dec, "b_dec": made.b_dec, **changes}
    folder.mkdir(exist_ok=True)
    write_safetensors(
        {name: array for name, array in arrays.items() if array is not None},
        folder / "sae_weights.safetensors",
    )
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


OLD = {
    "model_name": "gpt2-small",
    "hook_point": "blocks.8.hook_resid_pre",
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "prepend_bos": True,
    "d_in": D,
    "d_sae": WIDTH,
    "expansion_factor": 32,
    "activation_fn_str": "relu",
    "normalize_activations": False,
    "device": "mps",
    "dtype": "torch.float32",
}
NEW = {
    "architecture": "standard",
    "d_in": D,
    "d_sae": WIDTH,
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {
        "sae_lens_version": "6.20.0",
        "model_name": "gpt2-small",
        "hook_name": "blocks.8.hook_resid_pre",
        "prepend_bos": True,
    },
}


def with_metadata(**values: object) -> dict[str, object]:
    return {**NEW, "metadata": {**NEW["metadata"], **values}}


def test_a_flat_saelens_configuration_is_read_with_its_own_defaults(tmp_path: Path) -> None:
    found = load_file(written(tmp_path / "old", OLD))
    assert found.hook == Node("resid_pre", 8)
    assert found.architecture.name == "relu"
    assert found.subtract_b_dec
    assert found.reads_bos
    assert not found.centred
    assert found.stated.model == "gpt2-small"
    assert found.normalisation == Normalisation()


def test_an_old_topk_names_its_activation(tmp_path: Path) -> None:
    config = {
        **OLD,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 4},
        "normalize_activations": "layer_norm",
    }
    found = load_file(written(tmp_path / "old", config))
    assert isinstance(found.architecture, TopK)
    assert found.architecture.k == 4
    assert found.normalisation == Normalisation("layer_norm")


def test_an_old_code_scale_goes_into_the_decoder(tmp_path: Path) -> None:
    scale = torch.linspace(0.5, 2, WIDTH)
    found = load_file(written(tmp_path / "old", OLD, scaling_factor=scale))
    assert torch.equal(found.W_dec, sae("relu").W_dec * scale[:, None])


def test_a_registry_may_override_the_configuration(tmp_path: Path) -> None:
    folder = written(tmp_path / "old", OLD)
    assert saelens.load(
        folder, overrides={"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    ).centred
    assert (
        saelens.load(
            folder, overrides={"normalize_activations": "constant_norm_rescale"}
        ).normalisation.kind
        == "constant_norm_rescale"
    )


def test_bos_is_read_unless_training_left_it_out(tmp_path: Path) -> None:
    for values, reads in (
        ({}, True),
        ({"prepend_bos": False}, False),
        ({"exclude_special_tokens": True}, False),
        ({"exclude_special_tokens": [0, 2]}, False),
        ({"exclude_special_tokens": False, "seqpos_slice": [None]}, True),
        ({"seqpos_slice": [1, None]}, False),
    ):
        assert load_file(written(tmp_path / "new", with_metadata(**values))).reads_bos is reads, (
            values
        )


def test_what_a_jumprelu_was_in_training_is_kept(tmp_path: Path) -> None:
    threshold = torch.full((WIDTH,), 0.25)
    details: dict[str, object] = {"k": 40.0, "matryoshka_widths": [2, 5, WIDTH]}
    for was, made in (
        ("batchtopk", BatchTopK),
        ("matryoshka_batchtopk", Matryoshka),
        ("jumprelu", JumpReLU),
    ):
        config = {
            **with_metadata(training_architecture=was, training_architecture_details=details),
            "architecture": "jumprelu",
        }
        found = load_file(written(tmp_path / was, config, threshold=threshold))
        assert type(found.architecture) is made
        assert (
            found.encode(inputs())
            == JumpReLU(**sae("relu").architecture.tensors(), threshold=threshold).encode(inputs())
        ).all()


def test_a_checkpoint_in_mid_training_is_read_as_it_stands(tmp_path: Path) -> None:
    # BatchTopK compares codes times decoder norms with one threshold, and multiplies its inputs by
    # a factor kept beside it.
    config = {
        **NEW,
        "architecture": "batchtopk",
        "k": 4,
        "rescale_acts_by_decoder_norm": True,
        "normalize_activations": "expected_average_only_in",
    }
    folder = written(
        tmp_path / "500", config, topk_threshold=torch.tensor(0.8, dtype=torch.float64)
    )
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.5}')
    found, raw, x = load_file(folder), sae("relu"), inputs()
    norms = raw.W_dec.norm(dim=-1)
    pre = (x * 0.5) @ raw.architecture.W_enc + raw.architecture.tensors()["b_enc"]
    codes = torch.relu(pre) * (pre * norms > 0.8)
    assert (found.reconstruct(x) - (codes @ raw.W_dec + raw.b_dec) / 0.5).abs().max() < 1e-4
    assert torch.equal(found.active(x), codes > 0)


def test_topk_by_decoder_norm_picks_the_largest_contributions(tmp_path: Path) -> None:
    found = load_file(
        written(
            tmp_path / "sae",
            {**NEW, "architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": True},
        )
    )
    raw, x = sae("relu"), inputs()
    pre = x @ raw.architecture.W_enc + raw.architecture.tensors()["b_enc"]
    winners = (pre * raw.W_dec.norm(dim=-1)).topk(2).indices
    codes = torch.zeros_like(pre).scatter(-1, winners, torch.relu(pre.gather(-1, winners)))
    assert (found.reconstruct(x) - (codes @ raw.W_dec + raw.b_dec)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**NEW, "d_in": 8}, r"W_enc is of shape \[6, 10\]; expected \[8, 10\]"),
        ({**NEW, "d_sae": 12}, r"W_enc is of shape \[6, 10\]; expected \[6, 12\]"),
        ({**NEW, "d_in": "6"}, "d_in is 6; expected a whole number"),
        ({**NEW, "d_sae": True}, "d_sae is True; expected a whole number"),
        ({**NEW, "d_in": None}, "d_in is missing"),
        ({**NEW, "metadata": []}, "metadata is \\[\\]; expected an object"),
        ({**NEW, "architecture": "topk", "k": 11}, "k is 11; expected at most the 10 latents"),
        ({**NEW, "architecture": "gated"}, "b_gate is missing; there are"),
        ({**NEW, "architecture": "jumprelu"}, "threshold is missing"),
        (
            {**NEW, "normalize_activations": "batch"},
            "normalize_activations is batch; expected one of none",
        ),
        (
            {**NEW, "normalize_activations": "expected_average_only_in"},
            "norm_scaling_factor is missing",
        ),
        (with_metadata(hook_name="somewhere"), "hook_name is somewhere; expected a hook such as"),
        (with_metadata(hook_name=None), "metadata.hook_name is missing"),
    ],
)
def test_a_contradiction_names_file_field_found_and_expected(
    config: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFile, match=message) as caught:
        load_file(written(tmp_path / "sae", config))
    assert str(tmp_path / "sae") in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        {**NEW, "architecture": "temporal"},
        {**NEW, "architecture": "transcoder"},
        {**OLD, "activation_fn_str": "tanh-relu"},
        {**NEW, "normalize_activations": "covariance_whitening"},
        {**NEW, "reshape_activations": "hook_z"},
        with_metadata(hook_head_index=3),
        with_metadata(hook_name="blocks.8.attn.hook_z"),
        with_metadata(hook_name="blocks.8.ln2.hook_normalized"),
    ],
)
def test_what_cannot_be_judged_is_said_to_be_unsupported(
    config: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(Unsupported):
        load_file(written(tmp_path / "sae", config))


def test_a_leftover_array_betrays_another_architecture(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="larger than the architecture's by threshold"):
        load_file(written(tmp_path / "sae", NEW, threshold=torch.zeros(WIDTH)))


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    found = load_file(written(tmp_path / "sae", NEW, W_dec=sae("relu").W_dec.bfloat16()))
    assert found.W_dec.dtype == torch.float32
    assert torch.equal(found.W_dec, sae("relu").W_dec.bfloat16().float())


def test_a_place_without_an_sae_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(
        BadFile,
        match=r"it holds notes\.txt.*Known: a folder with cfg\.json and sae_weights\.safetensors",
    ):
        load_file(tmp_path)
    with pytest.raises(BadFile, match="nothing is there"):
        load_file(tmp_path / "none")
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    with pytest.raises(BadFile, match=r"cfg\.json: not readable as JSON"):
        load_file(tmp_path)


def test_gemma_scope_needs_a_path_that_says_the_layer(tmp_path: Path) -> None:
    gemma_scope.save(sae("jumprelu", reads_bos=False), tmp_path / "layer_3")
    (tmp_path / "layer_3").rename(tmp_path / "mine")
    with pytest.raises(BadFile, match="no folder above it says the layer"):
        load_file(tmp_path / "mine")
    for folder in ("gemma-scope-2b-pt-att/layer_3", "gemma-scope-2b-pt-res/embedding"):
        (tmp_path / folder).parent.mkdir()
        (tmp_path / "mine").rename(tmp_path / folder)
        with pytest.raises(Unsupported):
            load_file(tmp_path / folder)
        (tmp_path / folder).rename(tmp_path / "mine")


def test_dictionary_learning_thresholds_that_training_never_set_let_all_positive_codes_through(
    tmp_path: Path,
) -> None:
    dictionary_learning.save(
        sae("batchtopk", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=4.0, model="gpt2")),
        tmp_path / "ae",
    )
    arrays = torch.load(tmp_path / "ae" / "ae.pt", weights_only=True)
    torch.save({**arrays, "threshold": torch.tensor(-1.0)}, tmp_path / "ae" / "ae.pt")
    found = load_file(tmp_path / "ae")
    relu = sae("relu", subtract_b_dec=True)
    assert torch.equal(found.encode(inputs()), relu.encode(inputs()))


def test_a_transcoder_is_not_an_autoencoder(tmp_path: Path) -> None:
    sparsify.save(sae("topk", subtract_b_dec=True, reads_bos=False), tmp_path / "layers.3")
    config = json.loads((tmp_path / "layers.3" / "cfg.json").read_text())
    for name in ("transcode", "skip_connection"):
        (tmp_path / "layers.3" / "cfg.json").write_text(json.dumps({**config, name: True}))
        with pytest.raises(Unsupported, match=name):
            load_file(tmp_path / "layers.3")
    dictionary_learning.save(sae("relu", stated=Stated(model="gemma-2-2b")), tmp_path / "ae")
    settings = json.loads((tmp_path / "ae" / "config.json").read_text())
    (tmp_path / "ae" / "config.json").write_text(
        json.dumps({**settings, "buffer": {"io": "in_and_out"}})
    )
    with pytest.raises(Unsupported, match="transcoder"):
        load_file(tmp_path / "ae")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["none", "constant_norm_rescale", "layer_norm"])
def test_saelens_itself_computes_the_same_from_what_we_save(
    name: str, kind: str, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import sae_lens

    made = sae(name, normalisation=Normalisation(kind), subtract_b_dec=True)
    saelens.save(made, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    with torch.no_grad():
        for their, our in (
            (theirs.encode(inputs()), made.encode(inputs())),
            (theirs(inputs()), made.reconstruct(inputs())),
        ):
            assert (their - our).abs().max() < 1e-5 * our.abs().max()
            assert our.any()


def test_local_files_load_without_saelens(tmp_path: Path) -> None:
    saelens.save(sae("topk"), tmp_path / "sae")
    code = "import sys; sys.modules['sae_lens'] = None; from sage.saes.formats import load_file; print(load_file(sys.argv[1]).width)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "sae")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(WIDTH)


def test_nothing_is_left_beside_the_files(tmp_path: Path) -> None:
    saelens.save(sae("relu"), tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]
    assert set(read_safetensors(tmp_path / "sae_weights.safetensors")) == {
        "W_enc",
        "b_enc",
        "W_dec",
        "b_dec",
    }
    assert np.isfinite(inputs().numpy()).all()
