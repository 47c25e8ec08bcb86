"""Loading: names, hub ids and folders; what a user can put right is said without a traceback."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sage.errors import BadFile, SageError, UnknownName, Unsupported
from sage.models.catalog import known_models
from sage.models.load import load_model
from sage.models.weights import weight_files
from sage.task.metric import logit_difference
from sage.task.prompt import Prompt
from tests.families import TABLE
from tests.tiny import FAMILIES, WORDS, edit_config, random_prompts, save_random_model

Folder = Callable[[str], Path]


@pytest.fixture
def broken(folder: Folder, tmp_path: Path) -> Path:
    """A copy of a good model to spoil."""
    return Path(shutil.copytree(folder("gpt2"), tmp_path / "model"))


@pytest.mark.parametrize("backend", ["transformer-lens", "nnsight"])
def test_a_model_says_what_it_is(folder: Folder, backend: str) -> None:
    from importlib.metadata import version

    model = load_model(str(folder("gpt2")), backend=backend, device="cpu")
    assert model.backend == f"{backend} {version(backend)}"
    assert (model.device, model.dtype, model.anatomy.family) == ("cpu", "float32", "gpt2")
    assert re.fullmatch("[0-9a-f]{64}", model.revision)


def revision(folder: Path) -> str:
    return load_model(str(folder), device="cpu").revision


def test_the_revision_is_that_of_the_files_bytes_wherever_they_lie(
    folder: Folder, broken: Path
) -> None:
    assert revision(broken) == revision(folder("gpt2"))
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert {path.name for path in broken.iterdir()} == {*names, "generation_config.json"}
    lines = [
        f"{name} {hashlib.sha256((broken / name).read_bytes()).hexdigest()}\n" for name in names
    ]
    assert revision(broken) == hashlib.sha256("".join(lines).encode()).hexdigest()


def another_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["transformer.ln_f.bias"][0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def another_epsilon(folder: Path) -> None:
    edit_config(folder, layer_norm_epsilon=1e-4)


def another_vocabulary(folder: Path) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    mary, john = vocabulary["Mary"], vocabulary["John"]
    vocabulary |= {"Mary": john, "John": mary}
    path.write_text(json.dumps(content))


def another_special_token(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "<unk>"}))


def further_special_tokens(folder: Path) -> None:
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<bos>"}')


@pytest.mark.parametrize(
    "change",
    [
        another_weight,
        another_epsilon,
        another_vocabulary,
        another_special_token,
        further_special_tokens,
    ],
)
def test_whatever_decides_what_a_model_computes_makes_another_revision(
    broken: Path, change: Callable[[Path], None]
) -> None:
    before = revision(broken)
    change(broken)
    assert revision(broken) != before


def test_what_decides_nothing_leaves_the_revision_as_it_is(broken: Path) -> None:
    before = revision(broken)
    (broken / "generation_config.json").write_text('{"do_sample": true}')
    (broken / "README.md").write_text("about it")
    (broken / "other.safetensors").write_bytes(b"")
    assert revision(broken) == before


def test_the_file_beside_an_index_is_the_one_that_is_loaded(broken: Path) -> None:
    """It is what transformers loads; its revision is that of the same folder without the index."""
    before = revision(broken)
    names = load_file(broken / "model.safetensors")
    other = {name: tensor + 1 for name, tensor in names.items()}
    save_file(other, broken / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    weight_map = dict.fromkeys(names, "model-00001-of-00001.safetensors")
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(broken) == [broken / "model.safetensors"]
    assert revision(broken) == before
    loaded = load_model(str(broken), device="cpu").anatomy.blocks[0].attention_norm.weight
    assert loaded.equal(names["transformer.h.0.ln_1.weight"])
    (broken / "model.safetensors").unlink()
    assert weight_files(broken) == [broken / "model-00001-of-00001.safetensors"]
    assert revision(broken) != before
    loaded = load_model(str(broken), device="cpu").anatomy.blocks[0].attention_norm.weight
    assert loaded.equal(other["transformer.h.0.ln_1.weight"])


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"metadata": {}, "weight_map": {}}, "names no weight files"),
        ({"metadata": {}}, "is damaged"),
        ({"weight_map": {"a": 3}}, "is damaged"),
        ({"weight_map": []}, "is damaged"),
        ([], "is damaged"),
        (None, "is damaged"),
    ],
)
def test_an_index_of_nothing_is_no_model(broken: Path, index: object, says: str) -> None:
    (broken / "model.safetensors").unlink()
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BadFile, match=says):
        load_model(str(broken))


def test_every_shard_makes_another_revision(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    first, second = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    weight_map = {name: first if ".h." in name else second for name in weights}
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))

    def write(**changed: float) -> str:
        for file in (first, second):
            shard = {name: weights[name] for name in weights if weight_map[name] == file}
            shard = {name: tensor + changed.get(file[6:11], 0.0) for name, tensor in shard.items()}
            save_file(shard, broken / file, metadata={"format": "pt"})
        return revision(broken)

    assert len({write(), write(**{"00001": 1e-3}), write(**{"00002": 1e-3})}) == 3
    assert write() == write()


def test_weights_that_lie_elsewhere_are_refused(broken: Path) -> None:
    """What else transformers may load beside or instead of model.safetensors."""
    with pytest.raises(Unsupported, match=r"other\.safetensors.*transformers_weights"):
        load_model(str(edit_config(broken, transformers_weights="other.safetensors")))
    edit_config(broken, transformers_weights=None)
    (broken / "adapter_config.json").write_text("{}")
    with pytest.raises(Unsupported, match=r"adapter.*Merge"):
        load_model(str(broken))


def test_weights_in_several_files_are_read_as_one_model(folder: Folder, broken: Path) -> None:
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(broken)
    (broken / "model.safetensors").unlink()
    hf.save_pretrained(broken, max_shard_size="30KB")
    assert len(list(broken.glob("model-*.safetensors"))) > 1
    prompts = random_prompts(2)
    whole, sharded = (
        load_model(str(path), device="cpu").write({}, prompts, logit_difference)
        for path in (folder("gpt2"), broken)
    )
    assert torch.allclose(whole.metric, sharded.metric, atol=1e-5)
    sorted(broken.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(BadFile, match=r"lacks.*model-00002"):
        load_model(str(broken))


def test_the_names_of_old_checkpoints_are_understood(folder: Folder, tmp_path: Path) -> None:
    """GPT-2 was published without a prefix and with its mask as a buffer, Pythia with another name
    for the unembedding."""
    old = {
        "gpt2": lambda name: name.removeprefix("transformer."),
        "neox": lambda name: name.replace("lm_head", "embed_out"),
    }
    for family, rename in old.items():
        copy = Path(shutil.copytree(folder(family), tmp_path / family))
        weights = {
            rename(name): tensor for name, tensor in load_file(copy / "model.safetensors").items()
        }
        if family == "gpt2":
            weights["h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        prompts = random_prompts(2)
        new, found = (
            load_model(str(path), device="cpu").write({}, prompts, logit_difference)
            for path in (folder(family), copy)
        )
        assert torch.allclose(new.metric, found.metric, atol=1e-5)


def test_gpt2_and_gemma_begin_with_bos_and_neox_does_not(folder: Folder, broken: Path) -> None:
    policy = {family: load_model(str(folder(family)), device="cpu").bos for family in FAMILIES}
    assert policy == {family: entry.facts.bos for family, entry in TABLE.items()}
    assert not load_model(str(edit_config(broken, sage_bos=False)), device="cpu").bos


def test_a_prompt_is_tokenized_under_the_models_own_policy(folder: Folder) -> None:
    prompt = Prompt("Mary gave John", "f", "v", {}, {}, {"S": (10, 14)}, (" Mary",), (" John",))
    ids = [2 + 2 * WORDS.index("Mary"), *(3 + 2 * WORDS.index(word) for word in ("gave", "John"))]
    with_bos, without = (
        load_model(str(folder(family)), device="cpu").tokenize(prompt)
        for family in ("gpt2", "neox")
    )
    assert without.ids == tuple(ids)
    assert with_bos.ids == (0, *ids)
    assert (without.index["S"], with_bos.index["S"]) == (2, 3)


def test_half_precision_models_answer_in_single_precision(folder: Folder) -> None:
    model = load_model(str(folder("gpt2")), device="cpu", dtype="bfloat16")
    outcome = model.write({}, random_prompts(2), logit_difference, logits=True)
    assert outcome.logits is not None
    assert outcome.logits.dtype == outcome.metric.dtype == torch.float32


def test_an_engine_that_disagrees_with_transformers_is_not_used(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sage.models.hooked import HookedEngine

    forward = HookedEngine.forward

    def wrong(self: HookedEngine, ids: torch.Tensor, **rest: object) -> object:
        logits, found = forward(self, ids, **rest)
        return logits + 0.01, found

    monkeypatch.setattr(HookedEngine, "forward", wrong)
    with pytest.raises(SageError, match=r"disagrees with transformers.*0\.01"):
        load_model(str(folder("gpt2")), device="cpu")


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownName,
        match=r"No model is named 'gpt2-smal'. Did you mean 'gpt2-small'.*hub id.*local folder",
    ):
        load_model("gpt2-smal")


def test_a_path_that_is_not_there_is_a_path_not_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no folder"):
        load_model(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match=r"not a folder|no folder"):
        load_model(str(tmp_path / "file"))


@pytest.mark.parametrize("name", ["gemma-2-2b", "somebody/some-model"])
def test_without_network_the_error_says_what_was_tried(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SageError, match=rf"{re.escape(str(tmp_path))}.*path") as caught:
        load_model(name)
    assert {"gemma-2-2b": "google/gemma-2-2b"}.get(name, name) in str(caught.value)


def test_a_string_that_is_no_hub_id_is_said_to_be_none() -> None:
    with pytest.raises(SageError, match="a//b"):
        load_model("a//b")


def test_a_gated_model_says_how_to_get_access(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError

    snapshot_download = huggingface_hub.snapshot_download

    def gated(identifier: str, *, local_files_only: bool = False, **rest: object) -> object:
        if local_files_only:
            return snapshot_download(identifier, local_files_only=True, **rest)
        raise GatedRepoError(
            "401", response=httpx.Response(401, request=httpx.Request("GET", "https://example.org"))
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
    with pytest.raises(SageError, match=r"google/gemma-2-2b is gated.*licence.*hf auth login"):
        load_model("gemma-2-2b")


def test_a_snapshot_in_the_cache_needs_no_network(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    home = tmp_path / "models--openai-community--gpt2"
    shutil.copytree(folder("gpt2"), home / "snapshots" / ("0" * 40))
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = load_model("gpt2-small", device="cpu")
    assert (model.name, model.anatomy.layers) == ("gpt2-small", 3)


def test_an_unsupported_architecture_is_answered_with_the_supported_ones(broken: Path) -> None:
    with pytest.raises(Unsupported, match=r"mamba.*gemma2.*gpt2.*gpt_neox"):
        load_model(str(edit_config(broken, model_type="mamba")))


@pytest.mark.parametrize(
    ("family", "fields", "says"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        (
            "neox",
            {
                "rope_parameters": {
                    "rope_type": "linear",
                    "factor": 2.0,
                    "rope_theta": 1e4,
                    "partial_rotary_factor": 0.5,
                }
            },
            "linear",
        ),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ],
)
def test_a_variant_that_anatomy_does_not_describe_is_refused(
    folder: Folder, tmp_path: Path, family: str, fields: dict, says: str
) -> None:
    changed = edit_config(Path(shutil.copytree(folder(family), tmp_path / "model")), **fields)
    with pytest.raises(Unsupported, match=says):
        load_model(str(changed))


@pytest.mark.parametrize("size", [0, 4, 8, 100, 5000, -1])
def test_truncated_weights_are_refused(broken: Path, size: int) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BadFile, match=r"model\.safetensors"):
        load_model(str(broken))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda header: header.replace(b'"F32"', b'"F99"', 1),
        lambda header: header.replace(b"[24]", b"[25]", 1),
        lambda header: header.replace(b"{", b"[", 1),
        lambda header: header.replace(b'"shape"', b'"shine"', 1),
        lambda header: header.replace(b'"data_offsets":[', b'"data_offsets":["', 1),
        lambda header: b" " * len(header),
        lambda header: b"\xff" * len(header),
        lambda header: b"[]".ljust(len(header)),
        lambda header: b'{"a":3}'.ljust(len(header)),
    ],
)
def test_a_damaged_header_is_refused(broken: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = broken / "model.safetensors"
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:8] + spoil(content[8:end])[: end - 8] + content[end:])
    with pytest.raises(BadFile, match=r"model\.safetensors"):
        load_model(str(broken))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(broken: Path, value: float) -> None:
    weights = load_file(broken / "model.safetensors")
    weights["transformer.h.1.attn.c_attn.bias"][3] = value
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadFile, match=r"transformer\.h\.1\.attn\.c_attn\.bias"):
        load_model(str(broken))


def test_weights_of_another_shape_than_the_configuration_are_refused(broken: Path) -> None:
    with pytest.raises(BadFile, match="model"):
        load_model(str(edit_config(broken, n_embd=36)))


def test_a_missing_weight_is_not_made_up(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    del weights["transformer.h.1.ln_2.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadFile, match=r"transformer\.h\.1\.ln_2\.weight"):
        load_model(str(broken))


def test_a_folder_without_weights_says_what_a_model_folder_has(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    with pytest.raises(BadFile, match=r"no model\.safetensors.*config\.json"):
        load_model(str(broken))
    (broken / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BadFile, match=r"pytorch_model\.bin.*safetensors"):
        load_model(str(broken))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": ["gpt2"]}', "\0"])
def test_a_damaged_configuration_is_refused(broken: Path, content: str) -> None:
    (broken / "config.json").write_text(content)
    with pytest.raises((BadFile, Unsupported), match=r"config\.json"):
        load_model(str(broken))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"config\.json"):
        load_model(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_refused(broken: Path) -> None:
    for path in broken.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(SageError, match=r"tokenizer\.json"):
        load_model(str(broken))


def test_a_damaged_tokenizer_is_refused(broken: Path) -> None:
    (broken / "tokenizer.json").write_text("{")
    with pytest.raises(BadFile, match="tokenizer"):
        load_model(str(broken))


def test_a_tokenizer_with_more_words_than_the_model_is_refused(
    broken: Path, tmp_path: Path
) -> None:
    larger = save_random_model(tmp_path / "larger", "gpt2", texts=["zebra giraffe"])
    shutil.copy(larger / "tokenizer.json", broken / "tokenizer.json")
    with pytest.raises(BadFile, match=r"152.*148|148.*152"):
        load_model(str(broken))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "nnsigt"}, "Did you mean 'nnsight'"),
        ({"dtype": "float23"}, "Did you mean 'float32'"),
        ({"remote": True}, "nnsight"),
        ({"device": "nonsense"}, "nonsense"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_options_that_do_not_exist_are_refused(folder: Folder, options: dict, says: str) -> None:
    with pytest.raises(SageError, match=says):
        load_model(str(folder("gpt2")), **options)


def test_known_models_say_where_they_come_from() -> None:
    found = {known.name: known for known in known_models()}
    assert found["gpt2-small"].source == "openai-community/gpt2"
    assert {"pythia-70m-deduped", "gemma-2-2b", "wired"} <= set(found)


def test_an_embedded_model_is_found_by_its_name(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sage.models import catalog

    shutil.copytree(folder("neox"), tmp_path / "zoo" / "tiny-neox")
    monkeypatch.setattr(catalog, "_ZOO", tmp_path / "zoo")
    assert load_model("tiny-neox", device="cpu").anatomy.family == "neox"
    assert "tiny-neox" in {known.name for known in known_models()}


def test_the_config_on_disk_is_left_alone(folder: Folder) -> None:
    path = folder("gpt2") / "config.json"
    before = json.loads(path.read_text())
    load_model(str(folder("gpt2")), device="cpu")
    assert json.loads(path.read_text()) == before


def test_a_loaded_model_with_its_tokenizer_is_that_model(folder: Folder) -> None:
    """As it is in memory: what its weights are now, not what they were on disk."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sage.models import loaded

    path = folder("gpt2")
    module = AutoModelForCausalLM.from_pretrained(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    prompts = random_prompts(3)
    with torch.no_grad():
        module.transformer.h[0].mlp.c_fc.weight.mul_(2)
    model = loaded.load_model(module, tokenizer, name="mine", device="cpu")
    assert model.name == "mine"
    said = [module(torch.tensor([p.ids])).logits[0, -1] for p in prompts]
    ours = model.write({}, prompts, logit_difference, logits=True).logits
    assert ours is not None
    torch.testing.assert_close(ours, torch.stack(said), atol=1e-4, rtol=1e-4)
    assert loaded.load_model(str(path), device="cpu").revision != model.revision


def test_a_loaded_model_without_a_tokenizer_and_what_is_no_model_are_refused() -> None:
    from types import SimpleNamespace

    from sage.models import loaded

    with pytest.raises(SageError, match="needs its tokenizer"):
        loaded.load_model(SimpleNamespace(save_pretrained=None))
    with pytest.raises(SageError, match="no model of transformers"):
        loaded.load_model(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["~nobody-of-this-name/model", "a" * 5000])
def test_a_name_that_no_file_can_have_is_refused_as_any_other(name: str) -> None:
    with pytest.raises(SageError, match=r"folder"):
        load_model(name)
