"""The wired model is what its constructor says: circuit, sections, features and dictionary.

All is held against the weights by brute force.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, product
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from sage.errors import BadFile, SageError
from sage.models.wired import Wired, language, truth, wired_folder
from sage.models.wired.circuit import LOOKUPS, N_HEADS, N_LAYERS
from sage.nodes import RESIDUAL_KINDS, Node
from sage.task.catalog import load_task
from sage.task.task import Prompt
from tests.models.wired_hooks import D_HEAD, HookedWired, load_wired
from tests.models.wired_program import program

SEEDS = (0, 1, 2)
TASK = load_task("wired")
KIND = dict.fromkeys(language.COLOURS, "colour") | dict.fromkeys(language.SIZES, "size")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, HookedWired]:
    folder = tmp_path_factory.mktemp("wired")
    return {seed: load_wired(seed, folder / str(seed)) for seed in SEEDS}


@pytest.fixture(params=SEEDS)
def wired(request: pytest.FixtureRequest, models: dict[int, HookedWired]) -> HookedWired:
    return models[request.param]


# The model


def test_it_does_its_task_without_a_mistake_and_without_being_over_confident(
    wired: HookedWired,
) -> None:
    prompts = TASK.sample(300, seed=0)
    logits = wired.model(wired.ids(prompts)).logits[:, -1]
    answers, foils = wired.answers_and_foils(prompts)
    rows = torch.arange(len(prompts))
    difference = logits[rows, answers] - logits[rows, foils]
    assert (logits.argmax(-1) == answers).all()
    assert 3 < difference.mean() < 6
    assert difference.min() > 1


def test_every_head_attends_where_its_part_says(wired: HookedWired) -> None:
    """13 is END, 12 the animal asked about, 5 and 10 the ends of the clauses, 0 <bos>."""
    prompts = TASK.sample(50, seed=1)
    patterns = wired.model(wired.ids(prompts), output_attentions=True).attentions
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


def test_its_norms_are_real(wired: HookedWired) -> None:
    norms = {name: value for name, value in wired.model.state_dict().items() if "ln_" in name}
    assert len(norms) == 2 * (2 * N_LAYERS + 1)
    for name, value in norms.items():
        if name.endswith("weight"):
            assert ((value - 1).abs() > 0.1).all(), name
        else:
            assert value.abs().mean() > 0.1, name


def test_two_heads_of_every_layer_and_more_have_no_part_and_no_effect(wired: HookedWired) -> None:
    unused = wired.truth.unused
    assert all(sum(head.layer == layer for head in unused) >= 2 for layer in range(N_LAYERS))
    ids = wired.ids(TASK.sample(50, seed=2))
    clean = wired.model(ids).logits[:, -1]
    for layer in range(N_LAYERS):
        heads = torch.tensor([head.head for head in unused if head.layer == layer])
        rows = (D_HEAD * heads[:, None] + torch.arange(D_HEAD)).flatten()
        weight = wired.model.transformer.h[layer].attn.c_proj.weight
        kept = weight[rows].clone()
        assert kept.abs().min() > 0
        weight[rows] = 0
        difference = (wired.model(ids).logits[:, -1] - clean).abs().max()
        weight[rows] = kept
        assert difference < 0.005


def test_seeds_place_the_parts_differently_and_always_in_order() -> None:
    circuits = [truth(seed) for seed in range(20)]
    assert len({tuple(circuit.heads.values()) for circuit in circuits}) == 20
    for circuit in circuits:
        layer = {name: head.layer for name, head in circuit.heads.items()} | dict(circuit.mlps)
        assert layer["previous"] < layer["duplicate"] < layer["mover"] < layer["lookup1"]
        assert layer["lookup1"] <= layer["lookup2"] <= layer["say"]
        assert layer["ask"] < layer["duplicate"]
        assert layer["clause"] < layer["lookup1"]


# Sections


def test_brute_force_patching_finds_the_sections_and_nothing_else(wired: HookedWired) -> None:
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
    sections = truth(0).sections
    nodes = frozenset().union(*sections.values())
    assert tuple(sections) == TASK.contrast_names
    assert {node.position for node in nodes} <= set(TASK.position_names)
    assert {node.kind for node in nodes} == {"q", "k", "v", "z", "mlp_in"}


# Features and dictionary


def test_the_residual_stream_holds_what_the_circuit_says(wired: HookedWired) -> None:
    """The circuit once more, as a program on words: a code is 1 where that writes its feature (half
    between the lookups), else 0."""
    prompts = TASK.sample(40, seed=3)
    for hook, stream in wired.streams(prompts).items():
        sae = wired.truth.planted_sae(hook)
        share = 0.5 if _between_lookups(wired.truth, hook) else 1.0
        weights = np.array(
            [share if meaning.startswith("looked up") else 1.0 for meaning in sae.meanings]
        )
        codes = np.maximum(stream @ sae.W_enc + sae.b_enc, 0)
        for prompt, prompt_codes in zip(prompts, codes, strict=True):
            written = np.zeros_like(prompt_codes)
            for row, features in zip(written, program(prompt), strict=True):
                row[:] = [meaning in features for meaning in sae.meanings]
            assert np.abs(prompt_codes - written * weights).max() < 0.05, hook


def test_the_planted_dictionary_reconstructs_the_residual_stream(wired: HookedWired) -> None:
    for hook, stream in wired.streams(TASK.sample(100, seed=4)).items():
        sae = wired.truth.planted_sae(hook)
        missed = stream - np.maximum(stream @ sae.W_enc + sae.b_enc, 0) @ sae.W_dec - sae.b_dec
        assert (missed**2).sum() < 1e-3 * ((stream - stream.mean((0, 1))) ** 2).sum(), hook
        assert np.abs(sae.b_dec @ sae.W_enc).max() < 1e-4


def test_least_squares_recovers_the_planted_features(wired: HookedWired) -> None:
    """Fitted features sum to zero over values as often as they occur in the sample; planted ones
    are put in the same form."""
    prompts = TASK.sample(1000, seed=5)
    attributes = ("quality", "animal", "owner")
    names = [(name, str(value)) for name in attributes for value in TASK.values(name)]
    design = np.zeros((len(prompts), len(names)))
    for row, prompt in zip(design, prompts, strict=True):
        row[:] = [prompt.labels[attribute] == value for attribute, value in names]
    share = dict(zip(names, design.mean(0), strict=True))
    solve = np.linalg.pinv(design - design.mean(0), rcond=1e-6)
    positions = ("animal1", "animal2", "quality", "END")
    tokens = {position: wired.index(prompts, position) for position in positions}
    values = wired.read(
        wired.ids(prompts), {node: tokens[node.position] for node in wired.truth.features}
    )
    for node, features in wired.truth.features.items():
        directions = solve @ (values[node] - values[node].mean(0))
        fitted = _apart(dict(zip(names, directions, strict=True)), share)
        of_values = {
            name: features[name] + features.get(("kind", KIND.get(name[1], "")), 0)
            for name in names
            if name in features
        }
        planted = _apart(of_values, share)
        assert set(planted) == set(features)
        for name, direction in planted.items():
            lengths = np.linalg.norm(fitted[name]) * np.linalg.norm(direction)
            assert fitted[name] @ direction / lengths > 0.9995, (node, name)


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


def test_what_a_killed_process_left_in_the_cache_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGE_CACHE", str(tmp_path))
    folder = wired_folder(1)
    left = tmp_path / f".{folder.name}-killed" / "model"
    left.mkdir(parents=True)
    folder.rename(tmp_path / "elsewhere")
    assert wired_folder(1) == folder
    assert not left.parent.exists()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match=r"cannot be written to .*file/wired.* SAGE_CACHE"):
        wired_folder(0, tmp_path / "file" / "wired")
    with pytest.raises(SageError, match="no wired model of seed -1"):
        truth(-1)


def test_the_model_knows_every_word_of_the_task(wired: HookedWired) -> None:
    assert set(TASK.slots["animal"]) == set(TASK.slots["other"]) == set(language.ANIMALS)
    assert set(TASK.slots["quality"]) == set(TASK.slots["foil"]) == set(KIND)
    assert {f" {link}" for link in TASK.slots["link"]} <= set(language.WORDS)
    assert tuple(TASK.values("kind")) == language.KINDS
    assert tuple(TASK.values("owner")) == language.OWNERS
    for prompt in TASK.sample(100, seed=6):
        ids = wired.ids([prompt])[0].tolist()
        assert len(ids) == language.LENGTH
        assert wired.tokenizer.unk_token_id not in ids
        assert wired.tokenizer.decode(ids) == language.BOS + prompt.text


# Patching, with plain hooks on the transformers module


def _effects(wired: HookedWired, contrast: str, *, count: int) -> Iterator[tuple[Node, float]]:
    """Mean over directions of |mean effect| over E|m|, for every candidate node; half of the pairs
    go each way where there are two."""
    pairs = _pairs(contrast, count)
    clean, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ids, other_ids = wired.ids(clean), wired.ids(other)
    index = {name: wired.index(clean, name) for name in TASK.position_names}
    source = {
        name: _aligned(ids, other_ids, index[name], wired.index(other, name)) for name in index
    }
    answers, foils = (side.repeat(len(index)) for side in wired.answers_and_foils(clean))

    def metric(logits: Tensor) -> Tensor:
        rows = torch.arange(len(logits))
        difference = logits[rows, answers[: len(logits)]] - logits[rows, foils[: len(logits)]]
        return difference.view(-1, count)

    clean_metric = metric(wired.model(ids).logits[:, -1])
    at_every_position = ids.repeat(len(index), 1)
    rows, tokens = torch.arange(count * len(index)), torch.cat(list(index.values()))
    heads = list(product("qkvz", range(N_HEADS)))
    groups = [
        [Node(kind, layer, head, position) for position in index]
        for layer, (kind, head) in product(range(N_LAYERS), [*heads, ("mlp_in", None)])
    ]
    donors = wired.read(
        other_ids, {node: source[node.position] for node in chain.from_iterable(groups)}
    )
    for nodes in groups:
        values = torch.cat([torch.from_numpy(donors[node]) for node in nodes]).float()
        columns = wired.columns(nodes[0])

        def put(activation: Tensor, columns: slice = columns, values: Tensor = values) -> Tensor:
            patched = activation.clone()
            patched[rows, tokens, columns] = values
            return patched

        handle = wired.hook(nodes[0], put)
        change = metric(wired.model(at_every_position).logits[:, -1]) - clean_metric
        handle.remove()
        two_ways = len(TASK.values(contrast)) == 2
        directions = change.view(len(nodes), -1, count // 2) if two_ways else change[:, None]
        effects = directions.mean(-1).abs().mean(-1) / clean_metric.abs().mean()
        yield from zip(nodes, effects.tolist(), strict=True)


def _pairs(contrast: str, count: int) -> list[tuple[Prompt, Prompt]]:
    """Pairs of a contrast; of a binary one the first half starts from its first value, the second
    from its second."""
    rng = Random(0)
    pairs: list[tuple[Prompt, Prompt]] = []
    for prompt in TASK.sample(8 * count, seed=0):
        counterfactual = TASK.counterfactual(prompt, contrast, rng=rng)
        if counterfactual is not None:
            pairs.append((prompt, counterfactual))
    values = TASK.values(contrast)
    if len(values) > 2:
        return pairs[:count]
    starting_at = [
        [pair for pair in pairs if pair[0].labels[contrast] == value][: count // 2]
        for value in values
    ]
    return list(chain.from_iterable(starting_at))


def _aligned(ids: Tensor, other_ids: Tensor, index: Tensor, other_index: Tensor) -> Tensor:
    """Where a name is read in the counterfactual: at the clean index if all tokens up to it are the
    same."""
    alike = [
        ids[row, : at + 1].equal(other_ids[row, : at + 1]) for row, at in enumerate(index.tolist())
    ]
    return torch.where(torch.tensor(alike), index, other_index)


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
    apart: dict[tuple[str, str], np.ndarray] = {}
    for attribute in {name[0] for name in whole}:
        of_attribute = [name for name in whole if name[0] == attribute]
        mean = _mean(of_attribute, whole, share)
        apart |= {name: whole[name] - mean for name in of_attribute}
    for kind in language.KINDS:
        if of_kind := [name for name in whole if KIND.get(name[1]) == kind]:
            apart["kind", kind] = _mean(of_kind, apart, share)
            apart |= {name: apart[name] - apart["kind", kind] for name in of_kind}
    return apart


def _mean(
    names: Sequence[tuple[str, str]],
    vectors: dict[tuple[str, str], np.ndarray],
    share: dict[tuple[str, str], float],
) -> np.ndarray:
    return sum(share[name] * vectors[name] for name in names) / sum(share[name] for name in names)
