"""The wired model is what its constructor says: circuit, sections, features and dictionary, held
against the weights by brute force."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from sage.errors import BadFile, SageError
from sage.models.wired import Wired, language, truth, wired_folder
from sage.models.wired.circuit import LOOKUPS, N_HEADS, N_LAYERS
from sage.models.wired.geometry import D_MODEL
from sage.nodes import RESIDUAL_KINDS, Node
from sage.task.catalog import load_task
from sage.task.task import Prompt
from tests.models.wired_program import program

SEEDS = (0, 1, 2)
D_HEAD = D_MODEL // N_HEADS
TASK = load_task("wired")
KIND = dict.fromkeys(language.COLOURS, "colour") | dict.fromkeys(language.SIZES, "size")


class Loaded(NamedTuple):
    """A wired model as plain transformers sees it, with what should be true of it."""

    model: Any
    tokenizer: Any
    truth: Wired


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Loaded]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = {}
    for seed in SEEDS:
        folder = wired_folder(seed, tmp_path_factory.mktemp("wired") / str(seed))
        model = AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        )
        loaded[seed] = Loaded(
            model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(folder), truth(seed)
        )
    return loaded


@pytest.fixture(params=SEEDS)
def wired(request: pytest.FixtureRequest, models: dict[int, Loaded]) -> Loaded:
    return models[request.param]


# The model


def test_it_does_its_task_without_a_mistake_and_without_being_over_confident(wired: Loaded) -> None:
    prompts = TASK.sample(300, seed=0)
    logits = wired.model(_ids(wired, prompts)).logits[:, -1]
    answers, foils = _answers(wired, prompts)
    rows = torch.arange(len(prompts))
    difference = logits[rows, answers] - logits[rows, foils]
    assert (logits.argmax(-1) == answers).all()
    assert 3 < difference.mean() < 6
    assert difference.min() > 1


def test_every_head_attends_where_its_part_says(wired: Loaded) -> None:
    """13 is END, 12 the animal asked about, 5 and 10 the ends of the clauses, 0 <bos>."""
    prompts = TASK.sample(50, seed=1)
    patterns = wired.model(_ids(wired, prompts), output_attentions=True).attentions
    second = torch.tensor([prompt.family == "asked second" for prompt in prompts])
    rows = torch.arange(len(prompts))
    expected = {
        "previous": [(t, t - 1) for t in range(1, 14)],
        "clause": [*((t, t - 4) for t in range(4, 14)), (2, 0)],
        "duplicate": [(12, torch.where(second, 7, 2)), (2, 2), (7, 7), (13, 0), (5, 0)],
        "mover": [(13, 12)],
        "lookup1": [(13, torch.where(second, 10, 5))],
        "lookup2": [(13, torch.where(second, 10, 5))],
    }
    for part, pairs in expected.items():
        layer, head = wired.truth.heads[part]
        for query, key in pairs:
            assert (patterns[layer][rows, head, query, key] > 0.85).all(), (part, query, key)


def test_its_norms_are_real(wired: Loaded) -> None:
    norms = {name: value for name, value in wired.model.state_dict().items() if "ln_" in name}
    assert len(norms) == 2 * (2 * N_LAYERS + 1)
    for name, value in norms.items():
        assert (
            ((value - 1).abs() > 0.1).all() if name.endswith("weight") else value.abs().mean() > 0.1
        ), name


def test_two_heads_of_every_layer_and_more_have_no_part_and_no_effect(wired: Loaded) -> None:
    unused = wired.truth.unused
    assert all(sum(head.layer == layer for head in unused) >= 2 for layer in range(N_LAYERS))
    ids = _ids(wired, TASK.sample(50, seed=2))
    clean = wired.model(ids).logits[:, -1]
    for layer in range(N_LAYERS):
        columns = [
            range(D_HEAD * head, D_HEAD * (head + 1)) for where, head in unused if where == layer
        ]
        weight = wired.model.transformer.h[layer].attn.c_proj.weight
        kept = weight[[row for rows in columns for row in rows]].clone()
        assert kept.abs().min() > 0
        weight[[row for rows in columns for row in rows]] = 0
        difference = (wired.model(ids).logits[:, -1] - clean).abs().max()
        weight[[row for rows in columns for row in rows]] = kept
        assert difference < 0.005


def test_seeds_place_the_parts_differently_and_always_in_order() -> None:
    placements = [truth(seed) for seed in range(20)]
    assert len({tuple(found.heads.values()) for found in placements}) == 20
    for found in placements:
        layer = {name: head.layer for name, head in found.heads.items()} | dict(found.mlps)
        assert (
            layer["previous"]
            < layer["duplicate"]
            < layer["mover"]
            < layer["lookup1"]
            <= layer["lookup2"]
            <= layer["say"]
        )
        assert layer["ask"] < layer["duplicate"]
        assert layer["clause"] < layer["lookup1"]


# Sections


def test_brute_force_patching_finds_the_sections_and_nothing_else(wired: Loaded) -> None:
    """Every q k v z mlp_in at every named position, one by one: nodes of a section move m by over 5
    %, all others by under .5 %."""
    for contrast in TASK.contrast_names:
        section = wired.truth.sections[contrast]
        effects = dict(_effects(wired, contrast, count=4))
        assert section <= set(effects)
        weak = {str(node): effects[node] for node in section if effects[node] < 0.05}
        stray = {
            str(node): effect
            for node, effect in effects.items()
            if effect > 0.005 and node not in section
        }
        assert (contrast, weak, stray) == (contrast, {}, {})


def test_sections_are_those_of_the_task() -> None:
    found = truth(0).sections
    assert tuple(found) == TASK.contrast_names
    assert {node.position for nodes in found.values() for node in nodes} <= set(TASK.position_names)
    assert {node.kind for nodes in found.values() for node in nodes} == {
        "q",
        "k",
        "v",
        "z",
        "mlp_in",
    }


# Features and dictionary


def test_the_residual_stream_holds_what_the_circuit_says(wired: Loaded) -> None:
    """The circuit once more, as a program on words: a code is 1 where that writes its feature (half
    between the lookups), else 0."""
    prompts = TASK.sample(40, seed=3)
    for hook, stream in _streams(wired, prompts).items():
        sae, looked_up = (
            wired.truth.planted_sae(hook),
            0.5 if _between_lookups(wired.truth, hook) else 1.0,
        )
        codes = np.maximum(stream @ sae.W_enc + sae.b_enc, 0)
        for prompt, found in zip(prompts, codes, strict=True):
            written = np.array(
                [[float(meaning in here) for meaning in sae.meanings] for here in program(prompt)]
            )
            expected = written * [
                looked_up if meaning.startswith("looked up") else 1.0 for meaning in sae.meanings
            ]
            assert np.abs(found - expected).max() < 0.05, hook


def test_the_planted_dictionary_reconstructs_the_residual_stream(wired: Loaded) -> None:
    for hook, stream in _streams(wired, TASK.sample(100, seed=4)).items():
        sae = wired.truth.planted_sae(hook)
        missed = stream - np.maximum(stream @ sae.W_enc + sae.b_enc, 0) @ sae.W_dec - sae.b_dec
        assert (missed**2).sum() < 1e-3 * ((stream - stream.mean((0, 1))) ** 2).sum(), hook
        assert np.abs(sae.b_dec @ sae.W_enc).max() < 1e-4


def test_least_squares_recovers_the_planted_features(wired: Loaded) -> None:
    """Fitted features sum to zero over values as often as they occur in the sample; planted ones
    are put in the same form."""
    prompts = TASK.sample(1000, seed=5)
    names = [
        (attribute, str(value))
        for attribute in ("quality", "animal", "owner")
        for value in TASK.values(attribute)
    ]
    design = np.array(
        [
            [float(prompt.labels[attribute] == value) for attribute, value in names]
            for prompt in prompts
        ]
    )
    share, solve = (
        dict(zip(names, design.mean(0), strict=True)),
        np.linalg.pinv(design - design.mean(0), rcond=1e-6),
    )
    tokens = {
        name: _index(wired, prompts, name) for name in ("animal1", "animal2", "quality", "END")
    }
    values = _read(
        wired, _ids(wired, prompts), {node: tokens[node.position] for node in wired.truth.features}
    )
    for node, features in wired.truth.features.items():
        found = _apart(
            dict(zip(names, solve @ (values[node] - values[node].mean(0)), strict=True)), share
        )
        planted = _apart(
            {
                name: features[name] + features.get(("kind", KIND.get(name[1], "")), 0)
                for name in names
                if name in features
            },
            share,
        )
        assert set(planted) == set(features)
        for name, direction in planted.items():
            cosine = (
                found[name] @ direction / np.linalg.norm(found[name]) / np.linalg.norm(direction)
            )
            assert cosine > 0.9995, (node, name)


def test_the_sae_of_no_hook_is_an_error() -> None:
    with pytest.raises(SageError, match=r"no residual stream at 6\.resid_pre"):
        truth(0).planted_sae(Node("resid_pre", N_LAYERS))
    with pytest.raises(SageError, match=r"no residual stream at 2\.attn_out"):
        truth(0).planted_sae(Node("attn_out", 2))


# Folder, task and language


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        wired_folder(seed, tmp_path / name) for seed, name in ((3, "a"), (3, "b"), (4, "c"))
    )
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in first.iterdir()} == files
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in files)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_cache_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path / "cache"))
    folder = wired_folder(1)
    mark = json.loads((folder / "config.json").read_text()) | {"mark": True}
    (folder / "config.json").write_text(json.dumps(mark))
    assert wired_folder(1) == folder
    assert json.loads((folder / "config.json").read_text()) == mark
    assert wired_folder(1, folder) == folder
    assert "mark" not in json.loads((folder / "config.json").read_text())


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match=r"cannot be written to .*file/wired.* SAGE_CACHE"):
        wired_folder(0, tmp_path / "file" / "wired")
    with pytest.raises(SageError, match="no wired model of seed -1"):
        truth(-1)


def test_the_model_knows_every_word_of_the_task(wired: Loaded) -> None:
    assert set(TASK.slots["animal"]) == set(TASK.slots["other"]) == set(language.ANIMALS)
    assert set(TASK.slots["quality"]) == set(TASK.slots["foil"]) == set(KIND)
    assert {f" {link}" for link in TASK.slots["link"]} <= set(language.WORDS)
    assert tuple(TASK.values("kind")) == language.KINDS
    assert tuple(TASK.values("owner")) == language.OWNERS
    for prompt in TASK.sample(100, seed=6):
        ids = _ids(wired, [prompt])[0].tolist()
        assert len(ids) == language.LENGTH
        assert wired.tokenizer.unk_token_id not in ids
        assert wired.tokenizer.decode(ids) == language.BOS + prompt.text


# Reading and patching, with plain hooks on the transformers module


def _ids(wired: Loaded, prompts: Sequence[Prompt]) -> Tensor:
    found = wired.tokenizer([prompt.text for prompt in prompts])["input_ids"]
    return torch.tensor([[wired.tokenizer.bos_token_id, *ids] for ids in found])


def _index(wired: Loaded, prompts: Sequence[Prompt], position: str) -> Tensor:
    """The token that ends where the position's characters end, after <bos>."""
    if position == "END":
        return torch.full((len(prompts),), language.LENGTH - 1)
    ends = [prompt.spans[position][1] for prompt in prompts]
    offsets = wired.tokenizer([prompt.text for prompt in prompts], return_offsets_mapping=True)[
        "offset_mapping"
    ]
    return torch.tensor(
        [
            1 + [stop for _, stop in pieces].index(end)
            for pieces, end in zip(offsets, ends, strict=True)
        ]
    )


def _answers(wired: Loaded, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
    convert = wired.tokenizer.convert_tokens_to_ids
    return torch.tensor([convert(p.answers[0]) for p in prompts]), torch.tensor(
        [convert(p.foils[0]) for p in prompts]
    )


def _place(wired: Loaded, node: Node) -> tuple[Any, bool, slice]:
    """The module at whose input (True) or output a node stands, and its columns there."""
    block = wired.model.transformer.h[node.layer]
    if node.head is None:
        return block.ln_2, False, slice(0, D_MODEL)
    start = D_HEAD * node.head + (D_MODEL * "qkv".index(node.kind) if node.kind != "z" else 0)
    return (
        (block.attn.c_proj if node.kind == "z" else block.attn.c_attn),
        node.kind == "z",
        slice(start, start + D_HEAD),
    )


def _hook(wired: Loaded, node: Node, act: Any) -> Any:
    """Call act(activation) at a node's module; what it returns, if anything, takes the activation's
    place."""
    module, before, _ = _place(wired, node)
    if before:
        return module.register_forward_pre_hook(
            lambda _, args: None if (new := act(args[0])) is None else (new,)
        )
    return module.register_forward_hook(lambda _, __, out: act(out))


def _read(wired: Loaded, ids: Tensor, at: dict[Node, Tensor]) -> dict[Node, np.ndarray]:
    """Values at nodes, each at its own token of every prompt."""
    found: dict[Node, np.ndarray] = {}

    def keep(node: Node, value: Tensor) -> None:
        found[node] = (
            value[torch.arange(len(ids)), at[node], _place(wired, node)[2]].double().numpy()
        )

    handles = [_hook(wired, node, lambda value, node=node: keep(node, value)) for node in at]
    wired.model(ids)
    for handle in handles:
        handle.remove()
    return found


def _effects(wired: Loaded, contrast: str, *, count: int) -> Iterator[tuple[Node, float]]:
    """Mean over directions of |mean effect| over E|m|, for every candidate node; half of the pairs
    go each way where there are two."""
    pairs = _pairs(contrast, count)
    clean, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ids, other_ids = _ids(wired, clean), _ids(wired, other)
    index = {name: _index(wired, clean, name) for name in TASK.position_names}
    source = {
        name: _aligned(ids, other_ids, index[name], _index(wired, other, name)) for name in index
    }
    answers, foils = (side.repeat(len(index)) for side in _answers(wired, clean))

    def metric(logits: Tensor) -> Tensor:
        rows = torch.arange(len(logits))
        return (logits[rows, answers[: len(logits)]] - logits[rows, foils[: len(logits)]]).view(
            -1, count
        )

    start = metric(wired.model(ids).logits[:, -1])
    many, rows, tokens = (
        ids.repeat(len(index), 1),
        torch.arange(count * len(index)),
        torch.cat(list(index.values())),
    )
    kinds = [(kind, head) for kind in "qkvz" for head in range(N_HEADS)] + [("mlp_in", None)]
    for layer in range(N_LAYERS):
        nodes = [[Node(kind, layer, head, name) for name in index] for kind, head in kinds]
        donors = _read(
            wired, other_ids, {node: source[node.position] for group in nodes for node in group}
        )
        for group in nodes:
            values = torch.cat([torch.from_numpy(donors[node]) for node in group]).float()
            columns = _place(wired, group[0])[2]

            def put(
                activation: Tensor, columns: slice = columns, values: Tensor = values
            ) -> Tensor:
                patched = activation.clone()
                patched[rows, tokens, columns] = values
                return patched

            handle = _hook(wired, group[0], put)
            change = metric(wired.model(many).logits[:, -1]) - start
            handle.remove()
            halves = (
                change.view(len(group), -1, count // 2)
                if len(TASK.values(contrast)) == 2
                else change[:, None]
            )
            yield from zip(
                group, (halves.mean(-1).abs().mean(-1) / start.abs().mean()).tolist(), strict=True
            )


def _pairs(contrast: str, count: int) -> list[tuple[Prompt, Prompt]]:
    """Pairs of a contrast; of a binary one the first half starts from its first value, the second
    from its second."""
    rng = Random(0)
    found = [
        (prompt, TASK.counterfactual(prompt, contrast, rng=rng))
        for prompt in TASK.sample(8 * count, seed=0)
    ]
    pairs = [(prompt, other) for prompt, other in found if other is not None]
    values = TASK.values(contrast)
    if len(values) > 2:
        return pairs[:count]
    return [
        pair
        for value in values
        for pair in [pair for pair in pairs if pair[0].labels[contrast] == value][: count // 2]
    ]


def _aligned(ids: Tensor, other: Tensor, here: Tensor, there: Tensor) -> Tensor:
    """Where a name is read in the counterfactual: at the clean index if all tokens up to it are the
    same."""
    same = torch.stack(
        [(ids[row, : at + 1] == other[row, : at + 1]).all() for row, at in enumerate(here.tolist())]
    )
    return torch.where(same, here, there)


def _streams(wired: Loaded, prompts: Sequence[Prompt]) -> dict[Node, np.ndarray]:
    """Every residual stream, [prompt, position, d_model]."""
    found: dict[Node, np.ndarray] = {}

    def keep(kind: str, layer: int, stream: Tensor) -> None:
        found[Node(kind, layer)] = stream.numpy()

    handles = []
    for layer, block in enumerate(wired.model.transformer.h):
        for kind, module in (("resid_pre", block.ln_1), ("resid_mid", block.ln_2)):
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, kind=kind, layer=layer: keep(kind, layer, args[0])
                )
            )
    final = wired.model.transformer.ln_f
    handles.append(
        final.register_forward_pre_hook(lambda _, args: keep("resid_post", N_LAYERS - 1, args[0]))
    )
    wired.model(_ids(wired, prompts))
    for handle in handles:
        handle.remove()
    return found


# What should be there


def _between_lookups(wired: Wired, hook: Node) -> bool:
    """Whether one of the two lookup heads has written at a hook and the other has not."""
    first, last = (wired.heads[name].layer for name in LOOKUPS)
    site = 2 * hook.layer + RESIDUAL_KINDS.index(hook.kind)
    return 2 * first + 1 <= site < 2 * last + 1


def _apart(
    whole: dict[tuple[str, str], np.ndarray], share: dict[tuple[str, str], float]
) -> dict[tuple[str, str], np.ndarray]:
    """Features by (attribute, value): each attribute's with mean zero over prompts, the kind's
    taken out of the quality's."""
    found = {}
    for attribute in {name[0] for name in whole}:
        mine = [name for name in whole if name[0] == attribute]
        found |= {name: whole[name] - _mean(mine, whole, share) for name in mine}
    for kind in language.KINDS:
        if inside := [name for name in whole if KIND.get(name[1]) == kind]:
            found["kind", kind] = _mean(inside, found, share)
            found |= {name: found[name] - found["kind", kind] for name in inside}
    return found


def _mean(
    names: Sequence[tuple[str, str]],
    vectors: dict[tuple[str, str], np.ndarray],
    share: dict[tuple[str, str], float],
) -> np.ndarray:
    return sum(share[name] * vectors[name] for name in names) / sum(share[name] for name in names)
