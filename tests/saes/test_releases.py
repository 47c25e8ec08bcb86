from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file as write_safetensors

from saes.examples import WIDTH, D, encoder, inputs, sae
from sage.errors import BadFile, SageError, UnknownName, Unsupported
from sage.nodes import Node
from sage.saes.architectures.gated import Gated
from sage.saes.formats import gemma_scope, saelens, sparsify
from sage.saes.registry import published, registry
from sage.saes.releases import list_releases, load_suite, load_suites, plan
from sage.saes.sae import SAE, Stated


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the working directory, so that specs are short and free of it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(cache: Path, repository: str) -> Path:
    """The folder of a downloaded repository's files."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / "main").write_text("0" * 40)
    return root / "snapshots" / ("0" * 40)


def at(layer: int, name: str = "topk", *, kind: str = "resid_post", **changes: object) -> SAE:
    return sae(name, hook=Node(kind, layer), seed=layer, **changes)


def test_a_local_folder_is_one_suite_of_one_sae(shelf: Path) -> None:
    saelens.save(at(3), shelf / "mine")
    for spec in ("mine", "mine/", "mine/cfg.json", str(shelf / "mine")):
        suite = load_suite(spec, d_model=D)
        assert suite.id == spec.rstrip("/")
        assert suite.hooks == (Node("resid_pre", 4),)
        assert suite.saes[Node("resid_pre", 4)].id == spec.rstrip("/")


def test_local_saes_joined_by_plus_are_one_suite(shelf: Path) -> None:
    saelens.save(at(3), shelf / "a")
    saelens.save(at(1, "relu", kind="resid_pre"), shelf / "b")
    suite = load_suite("a + b")
    assert suite.hooks == (Node("resid_pre", 1), Node("resid_pre", 4))
    assert [found.id for found in suite.saes.values()] == ["b", "a"]
    saelens.save(at(2, "relu"), shelf / "c+d")
    assert load_suite("c+d").hooks == (Node("resid_pre", 3),)
    saelens.save(at(4, kind="resid_pre"), shelf / "e")
    with pytest.raises(SageError, match=r"two SAEs at 4\.resid_pre@\*: 'a' .* and 'e'"):
        load_suite("a+e")


def test_a_local_release_splits_by_width_variant_and_sparsity(shelf: Path) -> None:
    for layer in (0, 1, 2):
        for width in (16, 32):
            made = at(layer, "jumprelu", width=width, reads_bos=False)
            for l0 in (10 + layer, 70 - layer):
                gemma_scope.save(
                    made,
                    shelf / "release" / f"layer_{layer}" / f"width_{width}" / f"average_l0_{l0}",
                )
    suites = {suite.id: suite for suite in load_suites(["release"])}
    assert list(suites) == [
        f"release/width_{width}/sparsity_{rank}" for width in (16, 32) for rank in (1, 2)
    ]
    sparse = suites["release/width_32/sparsity_1"]
    assert [found.stated.l0 for found in sparse.saes.values()] == [10, 11, 12]
    assert {found.width for found in sparse.saes.values()} == {32}
    with pytest.raises(SageError, match="'release' is 4 suites, one for each width and variant"):
        load_suite("release")


def test_a_local_release_of_one_width_and_variant_is_one_suite(shelf: Path) -> None:
    for layer in (1, 3, 10):
        sparsify.save(
            at(layer, subtract_b_dec=True, reads_bos=False), shelf / "release" / f"layers.{layer}"
        )
    saelens.save(at(0, "relu", kind="mlp_out"), shelf / "release" / "layers.0.mlp")
    (shelf / "release" / ".resume").mkdir()
    saelens.save(at(7), shelf / "release" / ".resume" / "layers.7")
    assert [(one.id, [found.name for found in one.candidates]) for one in plan("release")] == [
        ("release", ["layers.1", "layers.10", "layers.3"])
    ]
    suite = load_suite("release")
    assert suite.hooks == (Node("resid_pre", 2), Node("resid_pre", 4), Node("resid_pre", 11))
    assert suite.at(Node("resid_post", 3)).id == "release/layers.3"


def test_unnamed_widths_are_told_apart(shelf: Path) -> None:
    for layer in (0, 1):
        for width in (12, 24):
            saelens.save(
                at(layer, width=width),
                shelf / "release" / f"layer_{layer}" / ("wide" if width == 24 else "narrow"),
            )
    saelens.save(at(2, width=12), shelf / "release" / "layer_2" / "wide")
    labels = {
        one.label: sorted(str(found.hook) for found in one.candidates) for one in plan("release")
    }
    post = ["0.resid_post@*", "1.resid_post@*", "2.resid_post@*"]
    assert labels == {"narrow": post[:2], "wide/width_12": post[2:], "wide/width_24": post[:2]}


def test_only_saes_of_the_hooks_asked_for_are_loaded(shelf: Path) -> None:
    for layer in (0, 1, 2):
        saelens.save(at(layer), shelf / "release" / f"layer_{layer}")
    (shelf / "release" / "layer_2" / "sae_weights.safetensors").write_bytes(b"damaged")
    assert load_suite(
        "release", hooks=[Node("resid_pre", 1, None, "END"), Node("resid_post", 1)]
    ).hooks == (
        Node("resid_pre", 1),
        Node("resid_pre", 2),
    )
    with pytest.raises(
        SageError, match=r"no SAE at any of 9\.resid_pre@\*; it has 0\.resid_post@\*"
    ):
        load_suite("release", hooks=[Node("resid_pre", 9)])
    with pytest.raises(BadFile, match=r"layer_2.*not a whole safetensors file"):
        load_suite("release")


def test_each_adds_the_saes_of_a_suite_one_by_one(shelf: Path) -> None:
    for layer in (0, 1):
        saelens.save(at(layer), shelf / "release" / f"layer_{layer}")
    saelens.save(at(5), shelf / "alone")
    assert [suite.id for suite in load_suites(["alone", "release", "alone"])] == [
        "alone",
        "release",
    ]
    suites = load_suites(["release", "alone"], each=True)
    assert [suite.id for suite in suites] == [
        "release",
        "release/layer_0",
        "release/layer_1",
        "alone",
    ]
    assert [suite.hooks for suite in suites[1:]] == [
        (Node("resid_pre", 1),),
        (Node("resid_pre", 2),),
        (Node("resid_pre", 6),),
    ]
    assert suites[1].at(Node("resid_pre", 1)) is suites[0].at(Node("resid_pre", 1))


def test_an_sae_of_another_width_than_the_model_is_refused_on_load(shelf: Path) -> None:
    saelens.save(at(3), shelf / "mine")
    with pytest.raises(
        BadFile,
        match=rf"W_dec is \[{WIDTH}, {D}\]; expected \[{WIDTH}, 768\], the width of the model",
    ):
        load_suite("mine", d_model=768)


def test_a_folder_without_residual_saes_says_what_it_has(shelf: Path) -> None:
    (shelf / "empty").mkdir()
    with pytest.raises(BadFile, match="no SAE in it or in the folders below it"):
        plan("empty")
    saelens.save(at(0, "relu", kind="mlp_out"), shelf / "release" / "mlp")
    with pytest.raises(Unsupported, match=r"none of its SAEs can be judged.*0\.mlp_out"):
        plan("release")
    with pytest.raises(BadFile, match=r"\./none: there is no such file or folder"):
        plan("./none")


RELEASES = {
    "gpt2-small-res-jb": (
        "gpt2-small",
        "blocks.8.hook_resid_pre",
        Node("resid_pre", 8),
        24576,
        60.0,
    ),
    "pythia-70m-deduped-res-sm": (
        "pythia-70m-deduped",
        "blocks.3.hook_resid_post",
        Node("resid_post", 3),
        32768,
        68.0,
    ),
    "gemma-scope-2b-pt-res-canonical": (
        "gemma-2-2b",
        "layer_12/width_16k/canonical",
        Node("resid_post", 12),
        16384,
        82.0,
    ),
    "sae_bench_pythia70m_sweep_topk_ctx128_0730": (
        "pythia-70m-deduped",
        "blocks.3.hook_resid_post__trainer_0",
        Node("resid_post", 3),
        4096,
        None,
    ),
    "gpt2-small-resid-mid-v5-32k": (
        "gpt2-small",
        "blocks.5.hook_resid_mid",
        Node("resid_mid", 5),
        32768,
        None,
    ),
    "llama_scope_lxr_8x": ("meta-llama/Llama-3.1-8B", "l9r_8x", Node("resid_post", 9), 32768, 50.0),
}


@pytest.mark.parametrize("release", RELEASES)
def test_a_published_sae_is_listed_with_model_hook_width_and_sparsity(release: str) -> None:
    model, sae_id, hook, width, l0 = RELEASES[release]
    (entry,) = (entry for entry in registry().releases[release] if entry.sae_id == sae_id)
    assert (entry.model, entry.hook, entry.width, entry.l0) == (model, hook, width, l0)
    (row,) = (row for row in list_releases(model) if (row.release, row.sae_id) == (release, sae_id))
    assert row == (
        release,
        sae_id,
        model,
        str(hook).removesuffix("@*"),
        hook.layer,
        width,
        l0,
        entry.fvu,
    )
    (one,) = plan(f"{release}/{sae_id}")
    assert one.id == f"{release}/{sae_id}"
    assert [found.hook for found in one.candidates] == [hook]


def test_releases_split_into_suites_of_one_sae_per_layer() -> None:
    assert [len(one.candidates) for one in plan("gpt2-small-res-jb")] == [13]
    canonical = {one.label: len(one.candidates) for one in plan("gemma-scope-2b-pt-res-canonical")}
    assert canonical["width_16k/canonical"] == canonical["width_65k/canonical"] == 26
    assert [one.label for one in plan("gemma-scope-2b-pt-res-canonical/width_16k")] == [
        "width_16k/canonical"
    ]
    sparsities = [
        found.l0 for found in plan("gemma-scope-2b-pt-res/width_16k/sparsity_1")[0].candidates
    ]
    densities = [
        found.l0 for found in plan("gemma-scope-2b-pt-res/width_16k/sparsity_5")[0].candidates
    ]
    assert len(sparsities) == len(densities) == 26
    assert all(
        low is not None and high is not None and low < high
        for low, high in zip(sparsities, densities, strict=True)
    )
    for release in registry().releases:
        for one in plan(release):
            hooks = [found.hook for found in one.candidates]
            assert len(set(hooks)) == len(hooks), one.id


def test_every_listed_sae_resolves_to_itself() -> None:
    entries = published()
    assert len(entries) > 4000
    for entry in entries[::97]:
        assert [found.name for found in plan(entry.id)[0].candidates] == [entry.sae_id]


def test_releases_are_listed_by_model_under_any_of_its_names() -> None:
    for name in ("gpt2-small", "gpt2", "openai-community/gpt2"):
        assert {entry.model for entry in list_releases(name)} == {"gpt2-small"}
    assert {entry.release for entry in list_releases("google/gemma-2-2b")} >= {
        "gemma-scope-2b-pt-res",
        "gemma-scope-2b-pt-res-canonical",
    }
    with pytest.raises(UnknownName, match="Did you mean 'gpt2-small'"):
        list_releases("gpt3-small")


def test_a_wrong_name_suggests_the_nearest_of_all_ids() -> None:
    for spec, nearest in (
        ("gpt2-small-resjb", "'gpt2-small-res-jb'"),
        ("gpt2-small-resjb/blocks.8.hook_resid_pre", "'gpt2-small-res-jb/blocks.8.hook_resid_pre'"),
        ("gpt2-small-res-jb/blocks.8.resid_pre", "'gpt2-small-res-jb/blocks.8.hook_resid_pre'"),
        (
            "gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonicle",
            "'gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical'",
        ),
        (
            "gemma-scope-2b-pt-res-canonical/width_16",
            "'gemma-scope-2b-pt-res-canonical/width_16k/canonical'",
        ),
    ):
        with pytest.raises(UnknownName, match=f"Did you mean {nearest}"):
            plan(spec)
    with pytest.raises(Unsupported, match="'gpt2-small-mlp-tm' has no SAE of the residual stream"):
        plan("gpt2-small-mlp-tm")


@pytest.mark.parametrize(
    "spec",
    [
        "gpt2-small-res-jb/blocks.8.hook_resid_pre",
        "gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical",
    ],
)
def test_without_a_network_the_error_says_what_was_tried_and_what_works(
    spec: str, cache: Path
) -> None:
    with pytest.raises(SageError) as caught:
        load_suite(spec)
    message = str(caught.value)
    for part in (spec, "https://huggingface.co/", str(cache), "set HF_HOME", "own folder"):
        assert part in message


@pytest.mark.usefixtures("cache")
def test_sae_lens_converts_what_we_do_not_read_and_says_the_same_without_a_network() -> None:
    with pytest.raises(SageError, match="is not in the cache"):
        load_suite("llama_scope_lxr_8x/l9r_8x")


def test_gpt2_small_res_jb_is_centred_and_subtracts_b_dec(cache: Path) -> None:
    made = at(8, "relu", kind="resid_pre")
    folder = cached(cache, "jbloom/GPT2-Small-SAEs-Reformatted") / "blocks.8.hook_resid_pre"
    folder.mkdir(parents=True)
    write_safetensors(
        {**made.architecture.tensors(), "W_dec": made.W_dec, "b_dec": made.b_dec},
        folder / "sae_weights.safetensors",
    )
    old = {
        "hook_point": "blocks.8.hook_resid_pre",
        "hook_point_layer": 8,
        "d_in": D,
        "d_sae": WIDTH,
        "model_name": "gpt2-small",
    }
    (folder / "cfg.json").write_text(
        json.dumps({**old, "activation_fn_str": "relu", "prepend_bos": True})
    )
    found = load_suite("gpt2-small-res-jb/blocks.8.hook_resid_pre").at(Node("resid_pre", 8))
    assert found is not None
    assert found.id == "gpt2-small-res-jb/blocks.8.hook_resid_pre"
    assert found.centred
    assert found.subtract_b_dec
    assert found.reads_bos
    assert found.stated == Stated(l0=60.0, fvu=0.1, model="gpt2-small")
    assert torch.equal(
        found.reconstruct(inputs()),
        replace(made, centred=True, subtract_b_dec=True).reconstruct(inputs()),
    )
    assert load_suite("gpt2-small-res-jb", hooks=[Node("resid_pre", 8)]).hooks == (
        Node("resid_pre", 8),
    )


def test_pythia_residual_saes_are_raw_and_saw_no_bos(cache: Path) -> None:
    folder = cached(cache, "ctigges/pythia-70m-deduped__res-sm_processed")
    saelens.save(at(3, "relu"), folder / "3-res-sm")
    found = load_suite("pythia-70m-deduped-res-sm/blocks.3.hook_resid_post").at(
        Node("resid_post", 3)
    )
    assert found is not None
    assert not found.reads_bos
    assert not found.centred
    assert found.stated.l0 == 68.0


def test_gemma_scope_is_raw_not_on_bos_and_does_not_subtract_b_dec(cache: Path) -> None:
    made = at(12, "jumprelu", reads_bos=False)
    gemma_scope.save(
        made,
        cached(cache, "google/gemma-scope-2b-pt-res") / "layer_12" / "width_16k" / "average_l0_82",
    )
    found = load_suite("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical").at(
        Node("resid_post", 12)
    )
    assert found is not None
    assert not found.reads_bos
    assert not found.subtract_b_dec
    assert found.stated == Stated(l0=82.0, model="gemma-2-2b")
    assert torch.equal(found.reconstruct(inputs()), made.reconstruct(inputs()))


def test_an_override_of_the_registry_reaches_the_sae(cache: Path) -> None:
    folder = cached(cache, "JoshEngels/Mistral-7B-Residual-Stream-SAEs")
    saelens.save(at(8, "relu", kind="resid_pre"), folder / "mistral_7b_layer_8")
    found = load_suite("mistral-7b-res-wg/blocks.8.hook_resid_pre").at(Node("resid_pre", 8))
    assert found is not None
    assert found.normalisation.kind == "constant_norm_rescale"


def test_what_sae_lens_converted_computes_what_it_computes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sae_lens

    made = at(19, "gated")
    assert isinstance(made.architecture, Gated)
    saelens.save(made, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *_, **__: theirs)
    found = load_suite("goodfire-llama-3.1-8b-instruct/layer_19").at(Node("resid_post", 19))
    assert found is not None
    assert torch.equal(found.encode(inputs()), made.encode(inputs()))
    assert found.stated.l0 == 91.0


def test_resolving_names_does_not_import_sae_lens_and_local_files_do_without_it(
    shelf: Path,
) -> None:
    saelens.save(replace(at(3), architecture=encoder("relu")), shelf / "mine")
    code = (
        "import sys; from sage.saes.releases import load_suite, plan; plan('gpt2-small-res-jb'); assert 'sae_lens' not in sys.modules; "
        "import sage.saes.registry as r; r.registry.cache_clear(); r.find_spec = lambda name: None; load_suite('mine')\n"
        "try: plan('gpt2-small-res-jb')\n"
        "except r.Unsupported as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "Local files load without it" in done.stdout


def test_the_saes_that_ship_are_releases_by_the_name_of_their_model() -> None:
    assert [one.id for one in plan("tiny-neox")] == [
        f"tiny-neox/{name}" for name in "gated jumprelu prolu relu topk4 topk8 topk16".split()
    ]
    suite = load_suite("tiny-gpt2/topk4", d_model=128)
    assert (suite.id, len(suite.saes)) == ("tiny-gpt2/topk4", 4)
    assert [sae.id for sae in suite.saes.values()] == [
        f"tiny-gpt2/topk4/{layer}.resid_pre" for layer in range(4)
    ]
    assert len(load_suite("tiny-gpt2/topk4/2.resid_pre").saes) == 1
    with pytest.raises(UnknownName, match="tiny-gpt2/topk4"):
        plan("tiny-gpt2/topk5")


def test_the_saes_that_ship_are_listed_with_their_models() -> None:
    rows = list_releases("tiny-gpt2")
    assert {row.model for row in rows} == {"tiny-gpt2"}
    assert len(rows) == 3 * 4 + 4 + 3 * 2 + 1 + 4 * 4
    assert {row.release for row in rows} == {one.id for one in plan("tiny-gpt2")}
    assert {row.model for row in list_releases()} >= {
        "tiny-neox",
        "tiny-gpt2",
        "tiny-gemma2",
        "gpt2-small",
    }
