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
    describe_file,
    dictionary_learning,
    formats,
    gemma_scope,
    load_file,
    recognised,
    saelens,
    sparsify,
)
from sage.saes.sae import SAE, Normalisation, Stated, fold_decoder_norms

PYTHIA, GEMMA = Stated(l0=82.0, model="pythia-70m-deduped"), Stated(l0=82.0, model="gemma-2-2b")
# As most dictionaries of dictionary_learning and all of sparsify are trained.
RAW = {"subtract_b_dec": True, "reads_bos": False}
GPT2 = Stated(model="gpt2")


def arrays_of(sae: SAE) -> dict[str, torch.Tensor]:
    return {**sae.encoder.tensors(), "W_dec": sae.W_dec, "b_dec": sae.b_dec}


def assert_same(loaded: SAE, original: SAE, *, tolerance: float = 0.0) -> None:
    """The two SAEs agree in every field but their names, and in what they compute."""
    for field in ("hook", "normalisation", "centred", "subtract_b_dec", "reads_bos", "stated"):
        assert getattr(loaded, field) == getattr(original, field), field
    assert loaded.encoder.name == original.encoder.name
    assert loaded.encoder.settings() == original.encoder.settings()
    arrays = arrays_of(loaded)
    for name, array in arrays_of(original).items():
        assert (arrays[name] - array).abs().max() <= tolerance, name
    assert (loaded.encode(inputs()) - original.encode(inputs())).abs().max() <= tolerance
    assert (loaded.reconstruct(inputs()) - original.reconstruct(inputs())).abs().max() <= tolerance


PER_TOKEN = Normalisation("constant_norm_rescale")
CENTRED = {"normalisation": Normalisation("layer_norm"), "centred": True}
IN_SAELENS = {
    **{f"blocks {name}": sae(name, stated=PYTHIA) for name in NAMES},
    "per token": sae("topk", normalisation=PER_TOKEN, **RAW),
    "centred": sae("relu", hook=Node("resid_pre", 0), **CENTRED),
    "between": sae("gated", hook=Node("resid_mid", 11)),
    "mlp": sae("gated", hook=Node("mlp_out", 11)),
    "embed": sae("relu", hook=Node("embed", -1)),
    "nested": sae("matryoshka", encoder=replace(encoder("matryoshka"), k=None)),
}
IN_DICTIONARY_LEARNING = {
    "old": sae("relu", stated=Stated(model="pythia-70m-deduped"), **RAW),
    "new": sae("relu", stated=Stated(model="gemma-2-2b")),
    "gated": sae("gated", stated=GPT2, **RAW),
    "jumprelu": sae("jumprelu", reads_bos=False, hook=Node("resid_pre", 3), stated=GPT2),
    "topk": sae("topk", stated=replace(GPT2, l0=3.0), **RAW),
    "batchtopk": sae("batchtopk", stated=replace(GPT2, l0=4.0), **RAW),
    "nested": sae("matryoshka", stated=replace(GPT2, l0=4.0), **RAW),
}
IN_SPARSIFY = sae("topk", stated=Stated(l0=3.0), **RAW)
ROUND_TRIPS = [
    *((saelens, folder, example) for folder, example in IN_SAELENS.items()),
    (
        gemma_scope,
        "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_82",
        sae("jumprelu", reads_bos=False, stated=GEMMA),
    ),
    (sparsify, "layers.3", IN_SPARSIFY),
    (sparsify, "gpt2/h.3", IN_SPARSIFY),
    *(
        (dictionary_learning, folder, original)
        for folder, original in IN_DICTIONARY_LEARNING.items()
    ),
]


@pytest.mark.parametrize(
    ("form", "folder", "original"),
    ROUND_TRIPS,
    ids=lambda part: part.id if isinstance(part, SAE) else None,
)
def test_every_format_gives_back_what_was_saved(
    form: object, folder: str, original: SAE, tmp_path: Path
) -> None:
    path = tmp_path / folder
    form.save(original, path)
    assert recognised(path)
    assert [other for other in formats() if other.recognises(path)] == [form]
    loaded = load_file(path)
    assert_same(loaded, original)
    assert describe_file(path) == (loaded.hook, loaded.width, loaded.stated)
    for file in path.iterdir():
        assert_same(load_file(file), original)


@pytest.mark.parametrize(
    ("form", "folder", "original"),
    [trip for trip in ROUND_TRIPS if trip[2].encoder.name == "topk"],
)
def test_a_folded_topk_is_saved_so_that_the_same_latents_win(
    form: object, folder: str, original: SAE, tmp_path: Path
) -> None:
    form.save(fold_decoder_norms(original), tmp_path / folder)
    loaded = load_file(tmp_path / folder)
    assert torch.equal(loaded.active(inputs()), original.active(inputs()))
    assert (loaded.reconstruct(inputs()) - original.reconstruct(inputs())).abs().max() < 1e-4


def test_a_factor_is_folded_into_saelens_weights(tmp_path: Path) -> None:
    original = sae(
        "batchtopk",
        normalisation=Normalisation("expected_average_only_in", 0.4),
        subtract_b_dec=True,
    )
    saelens.save(original, tmp_path / "sae")
    loaded = load_file(tmp_path / "sae")
    assert loaded.normalisation == Normalisation()
    assert (loaded.reconstruct(inputs()) - original.reconstruct(inputs())).abs().max() < 1e-4


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

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        saelens.save(sae("relu", seed=9), tmp_path / "sae")
    assert sorted(file.name for file in (tmp_path / "sae").iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]
    assert_same(load_file(tmp_path / "sae"), sae("relu"))


def written(folder: Path, config: dict[str, object], **changes: torch.Tensor | None) -> Path:
    """A SAELens folder with this configuration; arrays can be added, replaced or taken away."""
    original = sae("relu")
    arrays = {
        **original.encoder.tensors(),
        "W_dec": original.W_dec,
        "b_dec": original.b_dec,
        **changes,
    }
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
    loaded = load_file(written(tmp_path / "old", OLD))
    assert loaded.hook == Node("resid_pre", 8)
    assert loaded.encoder.name == "relu"
    assert loaded.subtract_b_dec
    assert loaded.reads_bos
    assert not loaded.centred
    assert loaded.stated.model == "gpt2-small"
    assert loaded.normalisation == Normalisation()


def test_an_old_topk_names_its_activation(tmp_path: Path) -> None:
    config = {
        **OLD,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 4},
        "normalize_activations": "layer_norm",
    }
    loaded = load_file(written(tmp_path / "old", config))
    assert isinstance(loaded.encoder, TopK)
    assert loaded.encoder.k == 4
    assert loaded.normalisation == Normalisation("layer_norm")


def test_an_old_code_scale_goes_into_the_decoder(tmp_path: Path) -> None:
    scale = torch.linspace(0.5, 2, WIDTH)
    loaded = load_file(written(tmp_path / "old", OLD, scaling_factor=scale))
    assert torch.equal(loaded.W_dec, sae("relu").W_dec * scale[:, None])


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
    for was, original in (
        ("batchtopk", BatchTopK),
        ("matryoshka_batchtopk", Matryoshka),
        ("jumprelu", JumpReLU),
    ):
        config = {
            **with_metadata(training_architecture=was, training_architecture_details=details),
            "architecture": "jumprelu",
        }
        loaded = load_file(written(tmp_path / was, config, threshold=threshold))
        assert type(loaded.encoder) is original
        assert (
            loaded.encode(inputs())
            == JumpReLU(**sae("relu").encoder.tensors(), threshold=threshold).encode(inputs())
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
    loaded, raw, x = load_file(folder), sae("relu"), inputs()
    norms = raw.W_dec.norm(dim=-1)
    pre = (x * 0.5) @ raw.encoder.W_enc + raw.encoder.tensors()["b_enc"]
    codes = torch.relu(pre) * (pre * norms > 0.8)
    assert (loaded.reconstruct(x) - (codes @ raw.W_dec + raw.b_dec) / 0.5).abs().max() < 1e-4
    assert torch.equal(loaded.active(x), codes > 0)


def test_topk_by_decoder_norm_picks_the_largest_contributions(tmp_path: Path) -> None:
    loaded = load_file(
        written(
            tmp_path / "sae",
            {**NEW, "architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": True},
        )
    )
    raw, x = sae("relu"), inputs()
    pre = x @ raw.encoder.W_enc + raw.encoder.tensors()["b_enc"]
    winners = (pre * raw.W_dec.norm(dim=-1)).topk(2).indices
    codes = torch.zeros_like(pre).scatter(-1, winners, torch.relu(pre.gather(-1, winners)))
    assert (loaded.reconstruct(x) - (codes @ raw.W_dec + raw.b_dec)).abs().max() < 1e-4


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
    loaded = load_file(written(tmp_path / "sae", NEW, W_dec=sae("relu").W_dec.bfloat16()))
    assert loaded.W_dec.dtype == torch.float32
    assert torch.equal(loaded.W_dec, sae("relu").W_dec.bfloat16().float())


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
    loaded = load_file(tmp_path / "ae")
    relu = sae("relu", subtract_b_dec=True)
    assert torch.equal(loaded.encode(inputs()), relu.encode(inputs()))


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

    original = sae(name, normalisation=Normalisation(kind), subtract_b_dec=True)
    saelens.save(original, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    with torch.no_grad():
        for their, our in (
            (theirs.encode(inputs()), original.encode(inputs())),
            (theirs(inputs()), original.reconstruct(inputs())),
        ):
            assert (their - our).abs().max() < 1e-5 * our.abs().max()
            assert our.any()


def test_local_files_load_without_saelens(tmp_path: Path) -> None:
    saelens.save(sae("topk"), tmp_path / "sae")
    code = """
import sys
sys.modules["sae_lens"] = None
from sage.saes.formats import load_file
print(load_file(sys.argv[1]).width)
"""
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
