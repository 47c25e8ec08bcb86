"""Reading and remembering: what was read of a model, or set in a mapping, is there for later runs,
to the last bit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node, parse_node
from sage.store.key import Key, digest
from sage.store.mapping import StoredMapping
from sage.store.reading import Remembered
from sage.store.store import Store
from sage.task.tokens import Tokenized
from tests.tiny import random_prompts, save_random_model

NAMED = [parse_node(name) for name in ("1.0.z@END", "0.1.q@A", "1.0.pattern@END")]
STREAMS = [parse_node("1.resid_pre@*"), parse_node("2.resid_pre@*")]
PROMPTS = random_prompts(12)
KEY = Key("a model", digest("a model"))


@dataclass(frozen=True, eq=False)
class Watched(Model):
    """A model that notes which nodes it is asked to read."""

    read_nodes: list[list[Node]] = field(default_factory=list)

    def read(self, nodes: Collection[Node], prompts: Sequence[Tokenized]) -> dict[Node, Tensor]:
        """What the model reads."""
        self.read_nodes.append(list(nodes))
        return super().read(nodes, prompts)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = save_random_model(tmp_path_factory.mktemp("models") / "gpt2", "gpt2")
    return load_model(str(folder), device="cpu")


@pytest.fixture
def watched(model: Model) -> Watched:
    return Watched(**vars(model))


def remembered(watched: Watched, folder: Path) -> Remembered:
    return Remembered(watched, Store(folder), KEY)


def test_it_reads_what_the_model_reads_and_nothing_twice(
    model: Model, watched: Watched, tmp_path: Path
) -> None:
    nodes = [*NAMED, *STREAMS]
    plain = model.read(nodes, PROMPTS)
    cold, warm = (remembered(watched, tmp_path).read(nodes, PROMPTS) for _ in range(2))
    assert watched.read_nodes == [nodes]
    for values in (cold, warm):
        assert values.keys() == plain.keys()
        for node in nodes:
            assert values[node].equal(plain[node])
            assert values[node].stride() == plain[node].stride()


def test_it_stands_for_the_model(watched: Watched, tmp_path: Path) -> None:
    reader = remembered(watched, tmp_path)
    assert reader.anatomy is watched.anatomy
    assert reader.sink is watched.sink


def test_whole_streams_are_kept_each_by_itself(watched: Watched, tmp_path: Path) -> None:
    """A second suite at another stream reads that stream alone."""
    reader = remembered(watched, tmp_path)
    first = reader.read([*NAMED, STREAMS[0]], PROMPTS)
    both = reader.read([STREAMS[1], *NAMED, STREAMS[0]], PROMPTS)
    assert watched.read_nodes == [[*NAMED, STREAMS[0]], [STREAMS[1]]]
    assert all(both[node].equal(first[node]) for node in first)
    assert reader.read([STREAMS[1]], PROMPTS)[STREAMS[1]].equal(both[STREAMS[1]])
    assert len(watched.read_nodes) == 2
    assert len(reader.store.entries(kind="activations")) == 3


def test_what_is_missing_is_read_in_one_go(watched: Watched, tmp_path: Path) -> None:
    reader = remembered(watched, tmp_path)
    reader.read([STREAMS[0]], PROMPTS)
    reader.read([*STREAMS, *NAMED[:2]], PROMPTS)
    assert watched.read_nodes[1:] == [[*NAMED[:2], STREAMS[1]]]


def test_other_prompts_positions_nodes_or_models_are_read_anew(
    watched: Watched, tmp_path: Path
) -> None:
    reader = remembered(watched, tmp_path)
    first = reader.read(NAMED, PROMPTS)
    elsewhere = [replace(prompt, index={**prompt.index, "END": 2}) for prompt in PROMPTS]
    moved = reader.read(NAMED, elsewhere)
    assert not moved[NAMED[0]].equal(first[NAMED[0]])
    reader.read(NAMED, PROMPTS[:-1])
    reader.read(NAMED, [*PROMPTS[1:], PROMPTS[0]])
    reader.read(NAMED[:2], PROMPTS)
    Remembered(watched, reader.store, KEY.about("other")).read(NAMED, PROMPTS)
    assert len(watched.read_nodes) == 6


def test_nothing_asked_is_nothing_read(watched: Watched, tmp_path: Path) -> None:
    assert remembered(watched, tmp_path).read([], PROMPTS) == {}
    assert watched.read_nodes == []


def test_without_a_folder_the_model_is_read_each_time(watched: Watched) -> None:
    reader = Remembered(watched, Store(None), KEY)
    first, second = (reader.read(STREAMS, PROMPTS) for _ in range(2))
    assert len(watched.read_nodes) == 2
    assert all(first[node].equal(second[node]) for node in STREAMS)


def test_a_mapping_keeps_what_is_set_and_finds_what_was_kept(tmp_path: Path) -> None:
    nodes = (parse_node("1.0.z@END"), parse_node("1.1.z@END"))
    memo = StoredMapping[tuple[Node, ...], dict[str, float]](Store(tmp_path), "scores", KEY)
    assert memo.get(nodes) is None
    memo[nodes] = {"T1": 0.5}
    assert memo[nodes] == {"T1": 0.5}
    assert memo[nodes] is memo[nodes]
    later = StoredMapping[tuple[Node, ...], dict[str, float]](Store(tmp_path), "scores", KEY)
    assert (len(later), bool(later)) == (0, True)
    assert nodes in later
    assert len(later) == 1
    assert later[nodes] == {"T1": 0.5}
    assert list(later) == [nodes]
    with pytest.raises(KeyError, match=r"1\.0|Node"):
        later[nodes[:1]]


def test_a_mapping_of_another_kind_or_key_is_another(tmp_path: Path) -> None:
    store = Store(tmp_path)
    StoredMapping[str, int](store, "scores", KEY)["a"] = 1
    for kind, key in (("gate", KEY), ("scores", KEY.about("S"))):
        assert "a" not in StoredMapping[str, int](store, kind, key)


def test_a_mapping_holds_what_a_later_run_will_find(tmp_path: Path) -> None:
    """Not what was set, which may lie otherwise in memory, or be changed afterwards."""
    memo = StoredMapping[str, torch.Tensor](Store(tmp_path), "scores", KEY)
    columns = torch.arange(6.0).reshape(2, 3).T
    memo["columns"] = columns
    columns += 1
    later = StoredMapping[str, torch.Tensor](Store(tmp_path), "scores", KEY)
    for mapping in (memo, later):
        assert mapping["columns"].equal(torch.arange(6.0).reshape(2, 3).T)
        assert mapping["columns"].is_contiguous()


def test_a_mapping_without_a_folder_is_a_dictionary() -> None:
    memo = StoredMapping[str, int](Store(None), "scores", KEY)
    memo["a"] = 1
    assert dict(memo) == {"a": 1}
    with pytest.raises(TypeError, match="is kept"):
        del memo["a"]
