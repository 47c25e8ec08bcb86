"""What people reported of tools that read SAEs, models and pairs: each gives the right value, or an
error that says what is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file as read_arrays
from safetensors.torch import save_file as write_arrays
from torch import Tensor

import sage
from saes.examples import WIDTH, D, inputs, sae
from sage.errors import BadFile, BadTask, SageError, SageWarning, UnknownName
from sage.models.base import Model
from sage.nodes import Node
from sage.preparation import measure_gate, prepare
from sage.saes.architectures.relu import ReLU
from sage.saes.architectures.topk import TopK
from sage.saes.formats import dictionary_learning, load_file, saelens, sparsify
from sage.saes.releases import suite_specs
from sage.saes.residual_tokens import text_prompts
from sage.saes.sae import SAE, Stated
from sage.saes.suite import assemble, fitted

FLAT = {
    "d_in": D,
    "d_sae": WIDTH,
    "hook_point": "blocks.2.hook_resid_pre",
    "model_name": "gpt2-small",
    "prepend_bos": False,
}


def written(folder: Path, config: dict[str, Any], **more: Tensor) -> Path:
    """A folder of a ReLU's weights, other arrays beside them, and a flat configuration."""
    original = sae("relu")
    arrays = {**original.encoder.tensors(), "W_dec": original.W_dec, "b_dec": original.b_dec}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays({**arrays, **more}, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return folder


def by_hand(x: Tensor, keep: Callable[[np.ndarray], np.ndarray], scale: float = 1.0) -> np.ndarray:
    """The reconstruction of the weights that `written` writes, with numpy: p = (x - b_dec) W_enc +
    b_enc, `keep` what is left of it, x_hat = scale * f W_dec + b_dec."""
    original = sae("relu")
    W_enc, b_enc = (array.double().numpy() for array in original.encoder.tensors().values())
    W_dec, b_dec = original.W_dec.double().numpy(), original.b_dec.double().numpy()
    p = (x.double().numpy() - b_dec) @ W_enc + b_enc
    return scale * np.maximum(keep(p), 0) @ W_dec + b_dec


def largest(k: int) -> Callable[[np.ndarray], np.ndarray]:
    """p where it is one of the k largest of its row, else 0."""

    def keep(p: np.ndarray) -> np.ndarray:
        return np.where(p >= np.sort(p, axis=1)[:, [-k]], p, 0)

    return keep


def same(loaded: SAE, expected: np.ndarray) -> bool:
    return bool(np.allclose(loaded.reconstruct(inputs()).numpy(), expected, atol=1e-4))


def everything(p: np.ndarray) -> np.ndarray:
    return p


# Centring that RMS norms do not allow


def test_an_sae_of_a_model_with_rms_norms_reads_its_activations_as_they_are() -> None:
    anatomy = sage.load_model("tiny-gemma2", device="cpu").anatomy
    (suite,) = sage.load_suites(["tiny-gemma2/topk8/2.resid_pre"])
    plain = suite.saes[Node("resid_pre", 2)]
    asking = assemble("asks for centring", [replace(plain, centred=True)])
    with pytest.warns(SageWarning, match="RMS norms do not allow"):
        read = fitted(asking, anatomy).saes[Node("resid_pre", 2)]
    x = torch.randn(30, plain.d_model, generator=torch.Generator().manual_seed(0)) + 3
    assert torch.equal(read.reconstruct(x), plain.reconstruct(x))


def test_an_sae_of_a_model_with_layer_norms_stays_centred(tiny_gpt2: Model) -> None:
    (suite,) = sage.load_suites(["tiny-gpt2/topk4/2.resid_pre"])
    centred = assemble("c", [replace(suite.saes[Node("resid_pre", 2)], centred=True)])
    assert fitted(centred, tiny_gpt2.anatomy).saes[Node("resid_pre", 2)].centred


# k without an architecture that keeps k latents


@pytest.mark.parametrize("k", [{"k": 3}, {"activation_fn_kwargs": {"k": 3}}, {"k": 3.0}])
def test_a_stated_k_without_an_architecture_is_a_topk(tmp_path: Path, k: dict[str, Any]) -> None:
    loaded = load_file(written(tmp_path / "sae", {**FLAT, **k}))
    assert isinstance(loaded.encoder, TopK)
    assert same(loaded, by_hand(inputs(), largest(3)))


@pytest.mark.parametrize(
    "says",
    [
        {"activation_fn": "relu", "activation_fn_kwargs": {"k": 3}},
        {"activation_fn_str": "relu", "k": 3},
        {"architecture": "standard", "k": 3},
        {"activation_fn": "topk", "k": 3, "activation_fn_kwargs": {"k": 4}},
    ],
)
def test_a_k_that_contradicts_the_rest_is_refused(tmp_path: Path, says: dict[str, Any]) -> None:
    with pytest.raises(BadFile, match=r"k is (stated beside .*relu|3 at the top and 4 inside)"):
        load_file(written(tmp_path / "sae", {**FLAT, **says}))


def test_a_k_beside_a_class_that_keeps_no_k_is_refused(tmp_path: Path) -> None:
    original = sae("relu", subtract_b_dec=True, reads_bos=False, stated=Stated(model="gpt2"))
    dictionary_learning.save(original, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["trainer"]["k"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadFile, match=r"trainer\.k is stated beside AutoEncoder"):
        load_file(tmp_path)


# The scale of fine-tuning


@pytest.mark.parametrize("name", ["finetuning_scaling_factor", "scaling_factor"])
@pytest.mark.parametrize(("scale", "flag"), [(1.0, False), (1.0, True), (1.2, True), (1.2, None)])
def test_a_fine_tuned_scale_multiplies_the_codes(
    tmp_path: Path, name: str, scale: float, flag: bool | None
) -> None:
    config = {**FLAT, "finetuning_scaling_factor": flag}
    loaded = load_file(written(tmp_path / "sae", config, **{name: torch.full((WIDTH,), scale)}))
    assert isinstance(loaded.encoder, ReLU)
    assert same(loaded, by_hand(inputs(), everything, scale=scale))


def test_a_fine_tuned_scale_that_contradicts_its_flag_is_refused(tmp_path: Path) -> None:
    scale = torch.full((WIDTH,), 1.2)
    config = {**FLAT, "finetuning_scaling_factor": False}
    for name in ("finetuning_scaling_factor", "scaling_factor"):
        with pytest.raises(BadFile, match=rf"{name} is not 1 in {WIDTH} of {WIDTH} values"):
            load_file(written(tmp_path / "sae", config, **{name: scale}))
    with pytest.raises(BadFile, match="finetuning_scaling_factor is missing"):
        load_file(written(tmp_path / "none", {**FLAT, "finetuning_scaling_factor": True}))


# Whole numbers as floats, null and NaN


@pytest.mark.parametrize(
    ("says", "k"),
    [
        ({"architecture": "topk", "k": 4.0}, 4),
        ({"d_sae": float(WIDTH), "d_in": float(D)}, None),
        ({"d_sae": None, "expansion_factor": WIDTH / D}, None),
        ({"l0": float("nan"), "fvu": float("nan")}, None),
        ({"l0": float("inf")}, None),
    ],
)
def test_numbers_as_sweeps_and_loggers_write_them(
    tmp_path: Path, says: dict[str, Any], k: int | None
) -> None:
    loaded = load_file(written(tmp_path / "sae", {**FLAT, **says}))
    assert same(loaded, by_hand(inputs(), everything if k is None else largest(k)))
    assert loaded.stated == Stated(model="gpt2-small")


@pytest.mark.parametrize(
    "says",
    [
        {"architecture": "topk", "k": 4.5},
        {"architecture": "topk", "k": float("nan")},
        {"architecture": "topk", "k": True},
        {"d_sae": None, "expansion_factor": 1.5001},
        {"d_sae": None},
        {"l0": 10**400, "d_in": 10**400},
        {"l0": "four"},
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path: Path, says: dict[str, Any]) -> None:
    with pytest.raises(BadFile, match=r"cfg\.json"):
        load_file(written(tmp_path / "sae", {**FLAT, **says}))


def test_other_formats_take_whole_numbers_as_floats_too(tmp_path: Path) -> None:
    topk = sae("topk", subtract_b_dec=True, reads_bos=False, stated=Stated(l0=3.0, model="gpt2"))
    expected = topk.reconstruct(inputs())
    sparsify.save(topk, tmp_path / "layers.3")
    dictionary_learning.save(topk, tmp_path / "ae")
    for folder, name in ((tmp_path / "layers.3", "cfg.json"), (tmp_path / "ae", "config.json")):
        text = (folder / name).read_text().replace('"k": 3', '"k": 3.0')
        (folder / name).write_text(text.replace(f": {WIDTH}", f": {WIDTH}.0"))
        assert torch.allclose(load_file(folder).reconstruct(inputs()), expected, atol=1e-5)
    arrays = torch.load(tmp_path / "ae" / "ae.pt", weights_only=True)
    torch.save({**arrays, "k": arrays["k"].float()}, tmp_path / "ae" / "ae.pt")
    assert torch.allclose(load_file(tmp_path / "ae").reconstruct(inputs()), expected, atol=1e-5)


# Tokenizers that were saved while padding, or cutting, was on


def test_what_a_tokenizer_was_saved_with_changes_no_prompt(
    gpt2_folder: Path, tiny_gpt2: Model, tmp_path: Path
) -> None:
    """As transformers itself: padding and truncation are set anew at every call."""
    file = gpt2_folder / "tokenizer.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["padding"] = {
        "strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<bos>",
    }  # fmt: skip
    settings["truncation"] = {
        "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    file.write_text(json.dumps(settings), encoding="utf-8")
    model = sage.load_model(str(gpt2_folder), device="cpu")
    prompts = sage.load_task("gendered_pronoun").sample(5, seed=0)
    assert [model.tokenize(p).ids for p in prompts] == [tiny_gpt2.tokenize(p).ids for p in prompts]
    text = tmp_path / "text.txt"
    text.write_text("When Mary and John went to the park, Mary gave a book to John\n")
    assert [len(window.ids) for window in text_prompts(model, text)] == [16]


# Models with few positions, and in half precision


def test_a_prompt_longer_than_the_model_is_said_and_text_is_cut_to_fit(
    gpt2_folder: Path, tmp_path: Path
) -> None:
    weights = read_arrays(gpt2_folder / "model.safetensors")
    weights["transformer.wpe.weight"] = weights["transformer.wpe.weight"][:7].clone()
    write_arrays(weights, gpt2_folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((gpt2_folder / "config.json").read_text())
    (gpt2_folder / "config.json").write_text(json.dumps({**config, "n_positions": 7}))
    model = sage.load_model(str(gpt2_folder), device="cpu")
    with pytest.raises(BadTask, match=r"has \d+ tokens, and .* has 7 positions"):
        prepare(model, sage.load_task("ioi"), sage.make_plan("quick"))
    text = tmp_path / "text.txt"
    text.write_text("When Mary and John went to the park, Mary gave a book to John\n")
    windows = text_prompts(model, text)
    assert [len(window.ids) for window in windows] == [7, 7, 4]  # BOS opens each: 15 tokens by 6
    assert model.read([Node("resid_pre", 1)], windows)[Node("resid_pre", 1)].shape[:2] == (3, 7)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("float16", r"overflows in float16, whose largest number is 6.55e\+04"),
        ("bfloat16", "in bfloat16 is not what it is in float32"),
    ],
)
def test_a_model_that_half_precision_cannot_hold_is_said_to_be_one(
    gpt2_folder: Path, dtype: str, says: str
) -> None:
    """A number on every dimension of the later positions, which layer norms remove in float32."""
    weights = {n: a.float() for n, a in read_arrays(gpt2_folder / "model.safetensors").items()}
    weights["transformer.wpe.weight"][9:] += 70000.0
    write_arrays(weights, gpt2_folder / "model.safetensors", metadata={"format": "pt"})
    task = sage.load_task("gendered_pronoun")
    model = sage.load_model(str(gpt2_folder), device="cpu", dtype=dtype)
    prompts = [model.tokenize(prompt) for prompt in task.sample(20, seed=0)]
    with pytest.raises(SageError, match=says):
        measure_gate(model, task, prompts)


def test_half_precision_is_taken_where_it_holds_the_model(tiny_gpt2: Model) -> None:
    task = sage.load_task("gendered_pronoun")
    half = sage.load_model("tiny-gpt2", device="cpu", dtype="bfloat16")
    prompts = [half.tokenize(prompt) for prompt in task.sample(100, seed=0)]
    accuracy = measure_gate(tiny_gpt2, task, prompts).accuracy
    assert measure_gate(half, task, prompts).accuracy == pytest.approx(accuracy, abs=0.02)


# Files of pairs


PEOPLE = (("John", "Mary"), ("Bob", "Alice"), ("Tom", "Sarah"), ("Jack", "Emma"))
PLACES = ("park", "school", "store", "station", "library", "museum", "office")
KINDS = ("good", "kind", "happy", "brave", "calm")


def pair(text: str, other: str, right: str, wrong: str) -> dict[str, str]:
    return {
        "clean_prefix": text,
        "patch_prefix": other,
        "clean_answer": right,
        "patch_answer": wrong,
        "case": right.strip(),
    }


def write_lines(file: Path, rows: list[dict[str, str]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    file.write_text("".join(lines), encoding="utf-8", newline="\n")
    return file


@pytest.mark.parametrize("note", ["a\u2028b", "a\u0085b"])
def test_only_a_line_feed_ends_a_line_of_pairs(tmp_path: Path, tiny_gpt2: Model, note: str) -> None:
    text = "At the {} everyone knew {} was {}, because".format
    rows = [
        pair(text(place, one, kind), text(place, other, kind), right, wrong) | {"note": note}
        for (he, she), place, kind in product(PEOPLE, PLACES, KINDS)
        for one, other, right, wrong in ((he, she, " he", " she"), (she, he, " she", " he"))
    ]
    task = sage.load_task(str(write_lines(tmp_path / "pairs.jsonl", rows)))
    assert task.size == len(rows) == 280
    splits = prepare(tiny_gpt2, task, sage.make_plan("quick")).splits
    assert measure_gate(tiny_gpt2, task, splits.fit).accuracy == 1.0


def linked_rows(texts: list[str], count: int) -> list[dict[str, str]]:
    """Prompts of which each is patched with another one, as random pairing gives."""
    rng = random.Random(0)
    names = [
        (name, answer)
        for pair in PEOPLE
        for name, answer in zip(pair, (" he", " she"), strict=True)
    ]
    prompts = [
        (text.format(name=name, place=place, kind=kind), answer)
        for text, (name, answer), place, kind in product(texts, names, PLACES, KINDS)
    ]
    prompts = rng.sample(prompts, min(count, len(prompts)))
    rows: list[dict[str, str]] = []
    for text, answer in prompts:
        other, wrong = rng.choice([prompt for prompt in prompts if prompt[1] != answer])
        rows.append(pair(text, other, answer, wrong))
    return rows


ONE_TEXT = ["At the {place} everyone knew {name} was {kind}, because"]
TWO_TEXTS = [*ONE_TEXT, "They waited at the {place} for the {kind} {name} until"]


@pytest.mark.parametrize(("texts", "count"), [(ONE_TEXT, 280), (TWO_TEXTS, 300)])
def test_pairs_that_hang_together_are_split_whatever_their_file_is_called(
    tmp_path: Path, tiny_gpt2: Model, texts: list[str], count: int
) -> None:
    rows = linked_rows(texts, count)
    found: list[Any] = []
    for name in ("a", "another"):
        task = sage.load_task(str(write_lines(tmp_path / f"{name}.jsonl", rows)))
        splits = prepare(tiny_gpt2, task, sage.make_plan("quick")).splits
        sides = {
            split: {side.prompt.text for p in pairs for side in (p.clean, p.counterfactual)}
            for split, pairs in (
                ("discover", splits.discover["case"]),
                ("fit", splits.fit_pairs["case"]),
                ("test", splits.test["case"]),
            )
        }
        sides["fit"] |= {prompt.prompt.text for prompt in splits.fit}
        assert not sides["test"] & sides["fit"] | sides["test"] & sides["discover"]
        found.append(({split: sorted(texts) for split, texts in sides.items()}, splits.counts))
    assert found[0] == found[1]
    assert found[0][1]["test"] >= 30


def test_too_few_pairs_that_are_linked_are_said_to_be_linked(
    tmp_path: Path, tiny_gpt2: Model
) -> None:
    """One prompt is what all others are patched with: it is in one split alone."""
    rows = linked_rows(ONE_TEXT, 120)
    women = [row for row in rows if row["clean_answer"] == " she"]
    men = [row for row in rows if row["clean_answer"] == " he"]
    for row, others in [*((row, men) for row in women), *((row, women) for row in men)]:
        row["patch_prefix"] = others[0]["clean_prefix"]
    task = sage.load_task(str(write_lines(tmp_path / "linked.jsonl", rows)))
    with pytest.raises(BadTask, match=r"\d+ more prompts are linked to prompts of other splits"):
        prepare(tiny_gpt2, task, sage.make_plan("quick"))


# Ids of the hub


@pytest.mark.parametrize(
    ("spec", "suite"),
    [
        (
            "jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre",
            "gpt2-small-res-jb/blocks.8.hook_resid_pre",
        ),
        ("jbloom/GPT2-Small-SAEs-Reformatted", "gpt2-small-res-jb"),
        (
            "google/gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82",
            "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82",
        ),
    ],
)
def test_a_repository_of_the_hub_is_the_release_that_it_holds(spec: str, suite: str) -> None:
    assert [found.id for found in suite_specs(spec)] == [suite]


def test_a_repository_of_no_release_is_said_how_to_fetch() -> None:
    spec = "EleutherAI/sae-pythia-70m-deduped-32k/layers.3"
    with pytest.raises(UnknownName, match=r"hf download EleutherAI/sae-pythia-70m-deduped-32k"):
        suite_specs(spec)


def test_what_looks_like_a_release_is_not_taken_for_a_repository() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'gpt2-small-res-jb/blocks\.8"):
        suite_specs("gpt2-small-res-jbb/blocks.8.hook_resid_pre")


def test_a_sae_saved_by_us_says_nothing_that_it_would_refuse(tmp_path: Path) -> None:
    for name in ("relu", "topk", "jumprelu"):
        saelens.save(sae(name), tmp_path / name)
        assert load_file(tmp_path / name).encoder.name == name
