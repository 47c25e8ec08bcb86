from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file as write_safetensors

from saes.examples import WIDTH, D, encoder, inputs, sae
from sage.errors import BadFile, SageError, UnknownName, Unsupported
from sage.nodes import Node
from sage.saes import listing
from sage.saes.architectures.gated import Gated
from sage.saes.formats import gemma_scope, saelens, sparsify
from sage.saes.listing import Release, list_all_releases
from sage.saes.registry import published, registry
from sage.saes.releases import (
    embedded_models,
    list_releases,
    load_suite,
    load_suites,
    nulls_of,
    suite_specs,
)
from sage.saes.sae import SAE, Stated
from sage.saes.suite_spec import SuiteSpec


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


def layers_of(spec: SuiteSpec) -> list[int]:
    return sorted(sae.hook.layer for sae in spec.candidates)


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
    assert [sae.id for sae in suite.saes.values()] == ["b", "a"]
    saelens.save(at(2, "relu"), shelf / "c+d")
    assert load_suite("c+d").hooks == (Node("resid_pre", 3),)
    saelens.save(at(4, kind="resid_pre"), shelf / "e")
    with pytest.raises(SageError, match=r"two SAEs at 4\.resid_pre@\*: 'a' .* and 'e'"):
        load_suite("a+e")


def test_a_local_release_splits_by_width_variant_and_sparsity(shelf: Path) -> None:
    for layer, width in product((0, 1, 2), (16, 32)):
        original = at(layer, "jumprelu", width=width, reads_bos=False)
        folder = shelf / "release" / f"layer_{layer}" / f"width_{width}"
        for l0 in (10 + layer, 70 - layer):
            gemma_scope.save(original, folder / f"average_l0_{l0}")
    suites = {suite.id: suite for suite in load_suites(["release"])}
    assert list(suites) == [
        "release/width_16/sparsity_1",
        "release/width_16/sparsity_2",
        "release/width_32/sparsity_1",
        "release/width_32/sparsity_2",
    ]
    sparse = suites["release/width_32/sparsity_1"]
    assert [sae.stated.l0 for sae in sparse.saes.values()] == [10, 11, 12]
    assert {sae.width for sae in sparse.saes.values()} == {32}
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
    (spec,) = suite_specs("release")
    assert spec.id == "release"
    assert [sae.name for sae in spec.candidates] == ["layers.1", "layers.10", "layers.3"]
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
    layers = {spec.label: layers_of(spec) for spec in suite_specs("release")}
    assert layers == {"narrow": [0, 1], "wide/width_12": [2], "wide/width_24": [0, 1]}


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
        suite_specs("empty")
    saelens.save(at(0, "relu", kind="mlp_out"), shelf / "release" / "mlp")
    with pytest.raises(Unsupported, match=r"none of its SAEs can be judged.*0\.mlp_out"):
        suite_specs("release")
    with pytest.raises(BadFile, match=r"\./none: there is no such file or folder"):
        suite_specs("./none")


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
    (spec,) = suite_specs(f"{release}/{sae_id}")
    assert spec.id == f"{release}/{sae_id}"
    assert [sae.hook for sae in spec.candidates] == [hook]


def test_releases_split_into_suites_of_one_sae_per_layer() -> None:
    (res_jb,) = suite_specs("gpt2-small-res-jb")
    assert len(res_jb.candidates) == 13
    scope = "gemma-scope-2b-pt-res-canonical"
    sizes = {spec.label: len(spec.candidates) for spec in suite_specs(scope)}
    assert sizes["width_16k/canonical"] == sizes["width_65k/canonical"] == 26
    (narrow,) = suite_specs(f"{scope}/width_16k")
    assert narrow.label == "width_16k/canonical"
    for release in registry().releases:
        for spec in suite_specs(release):
            hooks = [sae.hook for sae in spec.candidates]
            assert len(set(hooks)) == len(hooks), spec.id


def test_suites_of_one_width_are_ranked_by_sparsity_at_every_layer() -> None:
    (sparsest,) = suite_specs("gemma-scope-2b-pt-res/width_16k/sparsity_1")
    (densest,) = suite_specs("gemma-scope-2b-pt-res/width_16k/sparsity_5")
    assert len(sparsest.candidates) == len(densest.candidates) == 26
    for sparse, dense in zip(sparsest.candidates, densest.candidates, strict=True):
        assert sparse.l0 is not None
        assert dense.l0 is not None
        assert sparse.l0 < dense.l0


def test_every_listed_sae_resolves_to_itself() -> None:
    entries = published()
    assert len(entries) > 4000
    for entry in entries[::97]:
        assert [sae.name for sae in suite_specs(entry.id)[0].candidates] == [entry.sae_id]


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
            suite_specs(spec)
    with pytest.raises(Unsupported, match="'gpt2-small-mlp-tm' has no SAE of the residual stream"):
        suite_specs("gpt2-small-mlp-tm")


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
    original = at(8, "relu", kind="resid_pre")
    folder = cached(cache, "jbloom/GPT2-Small-SAEs-Reformatted") / "blocks.8.hook_resid_pre"
    folder.mkdir(parents=True)
    write_safetensors(
        {**original.encoder.tensors(), "W_dec": original.W_dec, "b_dec": original.b_dec},
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
    loaded = load_suite("gpt2-small-res-jb/blocks.8.hook_resid_pre").at(Node("resid_pre", 8))
    assert loaded is not None
    assert loaded.id == "gpt2-small-res-jb/blocks.8.hook_resid_pre"
    assert loaded.centred
    assert loaded.subtract_b_dec
    assert loaded.reads_bos
    page = "https://www.neuronpedia.org/gpt2-small/8-res-jb"
    assert loaded.stated == Stated(l0=60.0, fvu=0.1, model="gpt2-small", page=page)
    assert torch.equal(
        loaded.reconstruct(inputs()),
        replace(original, centred=True, subtract_b_dec=True).reconstruct(inputs()),
    )
    assert load_suite("gpt2-small-res-jb", hooks=[Node("resid_pre", 8)]).hooks == (
        Node("resid_pre", 8),
    )


def test_pythia_residual_saes_are_raw_and_saw_no_bos(cache: Path) -> None:
    folder = cached(cache, "ctigges/pythia-70m-deduped__res-sm_processed")
    saelens.save(at(3, "relu"), folder / "3-res-sm")
    loaded = load_suite("pythia-70m-deduped-res-sm/blocks.3.hook_resid_post").at(
        Node("resid_post", 3)
    )
    assert loaded is not None
    assert not loaded.reads_bos
    assert not loaded.centred
    assert loaded.stated.l0 == 68.0


def test_gemma_scope_is_raw_not_on_bos_and_does_not_subtract_b_dec(cache: Path) -> None:
    original = at(12, "jumprelu", reads_bos=False)
    gemma_scope.save(
        original,
        cached(cache, "google/gemma-scope-2b-pt-res") / "layer_12" / "width_16k" / "average_l0_82",
    )
    loaded = load_suite("gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical").at(
        Node("resid_post", 12)
    )
    assert loaded is not None
    assert not loaded.reads_bos
    assert not loaded.subtract_b_dec
    page = "https://www.neuronpedia.org/gemma-2-2b/12-gemmascope-res-16k"
    assert loaded.stated == Stated(l0=82.0, model="gemma-2-2b", page=page)
    assert torch.equal(loaded.reconstruct(inputs()), original.reconstruct(inputs()))


def test_an_override_of_the_registry_reaches_the_sae(cache: Path) -> None:
    folder = cached(cache, "JoshEngels/Mistral-7B-Residual-Stream-SAEs")
    saelens.save(at(8, "relu", kind="resid_pre"), folder / "mistral_7b_layer_8")
    loaded = load_suite("mistral-7b-res-wg/blocks.8.hook_resid_pre").at(Node("resid_pre", 8))
    assert loaded is not None
    assert loaded.normalisation.kind == "constant_norm_rescale"


def test_what_sae_lens_converted_computes_what_it_computes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sae_lens

    original = at(19, "gated")
    assert isinstance(original.encoder, Gated)
    saelens.save(original, tmp_path)
    theirs = sae_lens.SAE.load_from_disk(tmp_path)
    monkeypatch.setattr(sae_lens.SAE, "from_pretrained", lambda *_, **__: theirs)
    loaded = load_suite("goodfire-llama-3.1-8b-instruct/layer_19").at(Node("resid_post", 19))
    assert loaded is not None
    assert torch.equal(loaded.encode(inputs()), original.encode(inputs()))
    assert loaded.stated.l0 == 91.0


def test_resolving_names_does_not_import_sae_lens_and_local_files_do_without_it(
    shelf: Path,
) -> None:
    saelens.save(replace(at(3), encoder=encoder("relu")), shelf / "mine")
    code = """
import sys
import sage.saes.registry as registry
from sage.saes.releases import load_suite, suite_specs

suite_specs("gpt2-small-res-jb")
assert "sae_lens" not in sys.modules
for kept in (registry.registry, registry.release_facts, registry._content):
    kept.cache_clear()
registry.find_spec = lambda name: None
load_suite("mine")
try:
    suite_specs("gpt2-small-res-jb")
except registry.Unsupported as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "Local files load without it" in done.stdout


def test_the_saes_that_ship_are_releases_by_the_name_of_their_model() -> None:
    assert [spec.id for spec in suite_specs("tiny-neox")] == [
        f"tiny-neox/{name}" for name in "gated jumprelu prolu relu topk4 topk8 topk16".split()
    ]
    suite = load_suite("tiny-gpt2/topk4", d_model=128)
    assert (suite.id, len(suite.saes)) == ("tiny-gpt2/topk4", 4)
    assert [sae.id for sae in suite.saes.values()] == [
        f"tiny-gpt2/topk4/{layer}.resid_pre" for layer in range(4)
    ]
    assert len(load_suite("tiny-gpt2/topk4/2.resid_pre").saes) == 1
    with pytest.raises(UnknownName, match="tiny-gpt2/topk4"):
        suite_specs("tiny-gpt2/topk5")


def test_the_nulls_of_a_suite_are_found_by_its_name() -> None:
    nulls = [f"tiny-gpt2/topk8-soft-frozen-{number}" for number in (1, 2, 3)]
    assert nulls_of("tiny-gpt2/topk8") == nulls_of("tiny-gpt2/topk8-seed-3") == nulls
    assert nulls_of("tiny-gpt2/topk8/1.resid_pre") == [f"{null}/1.resid_pre" for null in nulls]
    for null in nulls:
        assert load_suite(null).hooks == load_suite("tiny-gpt2/topk8").hooks
        assert load_suite(f"{null}/1.resid_pre").id == f"{null}/1.resid_pre"


@pytest.mark.parametrize(
    "suite",
    [
        "tiny-gpt2",
        "tiny-gpt2/topk4",
        "tiny-gpt2/topk8-late",
        "tiny-gpt2/topk8-soft-frozen-1",
        "tiny-gpt2/topk8/2.resid_mid",
        "tiny-neox/topk8",
        "gpt2-small-res-jb",
        "/somewhere/topk8",
    ],
)
def test_most_suites_have_no_nulls(suite: str) -> None:
    assert nulls_of(suite) == []


def test_the_saes_that_ship_are_listed_with_their_models() -> None:
    rows = list_releases("tiny-gpt2")
    assert {row.model for row in rows} == {"tiny-gpt2"}
    assert len(rows) == 3 * 4 + 4 + 3 * 2 + 1 + 4 * 4 + 5 * 4
    assert {row.release for row in rows} == {spec.id for spec in suite_specs("tiny-gpt2")}
    assert {row.model for row in list_releases()} >= {
        "tiny-neox",
        "tiny-gpt2",
        "tiny-gemma2",
        "gpt2-small",
    }


@pytest.mark.parametrize(
    ("release", "why_not"),
    [
        ("gpt2-small-res-jb", ""),
        ("tiny-gpt2/topk8", ""),
        ("gemma-scope-2b-pt-att", "site: not the residual stream"),
        ("gpt2-small-hook-z-kk", "format: connor_rob_hook_z"),
        ("gemma-2b-res-jb", "model: gemma"),
    ],
)
def test_a_release_says_whether_it_can_be_scored_or_why_not(
    release: str, why_not: str, listed: dict[str, Release]
) -> None:
    assert listed[release].why_not == why_not
    assert listed[release].scorable == (not why_not)


def test_a_release_says_where_its_saes_read_and_how_many_there_are(
    listed: dict[str, Release],
) -> None:
    jb = listed["gpt2-small-res-jb"]
    assert (jb.saes, jb.hooks, jb.width) == (13, "resid_pre 0-11, resid_post 11", "24k")
    assert listed["tiny-gpt2/topk8"].hooks == "resid_pre 0-3"


def test_every_release_of_the_registry_is_listed_once(listed: dict[str, Release]) -> None:
    releases, others = registry()
    embedded = {row.release for name in embedded_models() for row in list_releases(name)}
    assert set(listed) == {*releases, *others, *embedded}


def test_the_list_is_kept_and_read_back_the_same(
    listed: dict[str, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_published", lambda: pytest.fail("derived again"))
    assert {entry.release: entry for entry in list_all_releases()} == listed
    assert {entry.model for entry in list_all_releases("openai-community/gpt2")} == {"gpt2-small"}
    with pytest.raises(UnknownName, match="model with released SAEs"):
        list_all_releases("gpt3-small")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Release]]:
    """Every release by its name, kept in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield {entry.release: entry for entry in list_all_releases()}
