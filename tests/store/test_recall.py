"""Recall: what one run finds out that depends on no SAE, the next one takes from the cache, to the
last bit."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sage.dictionaries.activations import read
from sage.dictionaries.design import Column
from sage.errors import BadFile
from sage.evaluation import Plan, evaluate, prepare
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import parse_node
from sage.result import Result
from sage.saes.planted import planted_suite
from sage.saes.suite import Suite
from sage.stats import Sampled
from sage.store.cache import Cache, cache_entries
from sage.store.checkpoints import Part, read_part, write_part
from sage.store.pack import pack, unpack
from sage.store.recall import NOTHING, Recall
from sage.task.catalog import load_task

NODES = [parse_node(name) for name in ("1.0.q@END", "1.0.z@END", "2.0.k@END")]
HOOKS = [parse_node("1.resid_pre@*"), parse_node("2.resid_pre@*")]


@pytest.fixture(scope="module")
def wired() -> Model:
    return load_model("wired", device="cpu")


def test_what_is_packed_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = torch.arange(6.0).reshape(2, 3)
    value = {
        parse_node("1.0.z@END"): [Sampled(0.5, np.array([0.25, np.nan]), 7), None],
        3: (shared, Column("IO", ("gender", "IO"), (("f", "Mary"), (1732, "x")), coupled=True)),
        "again": {"same": shared.T.T, "flag": True, "empty": (), "infinite": float("inf")},
    }
    write_part(tmp_path / "part", pack(value))
    found = unpack(read_part(tmp_path / "part"))
    assert list(found) == list(value)
    (sampled, nothing), (tensor, column) = found[parse_node("1.0.z@END")], found[3]
    assert (sampled.value, sampled.n, nothing) == (0.5, 7, None)
    assert np.array_equal(sampled.draws, [0.25, np.nan], equal_nan=True)
    assert tensor.equal(shared)
    assert column == value[3][1]
    assert type(column.keys) is tuple
    assert {**found["again"], "same": None} == {**value["again"], "same": None}


def test_a_tensor_that_occurs_twice_is_written_once() -> None:
    shared = torch.ones(3)
    part = pack([shared, {"other": shared}])
    assert len(part.arrays) == 1
    first, second = unpack(part)
    assert first is second["other"]


def test_only_the_project_s_own_data_types_are_packed_and_nothing_else_is_made() -> None:
    foreign = namedtuple("Foreign", "a")

    @dataclass
    class Local:
        a: int

    for value in (foreign(1), Local(1), {1, 2}, lambda: 1, np.int64(3)):
        with pytest.raises(TypeError, match="is not one of sage's data types"):
            pack([value])
    for path in (
        "os:system",
        "subprocess:Popen",
        "sage.store.cache:user_cache",
        "sage.store.cache:os",
        "sage.errors:SageError",
        "sage.stats:Nothing",
    ):
        with pytest.raises(BadFile, match="not one of sage's data types"):
            unpack(Part({"of": path, "fields": ["true"]}, {}))


def test_without_a_cache_nothing_is_found_and_nothing_kept() -> None:
    NOTHING.keep("features", 1, value=[2])
    assert NOTHING.find("features", 1) is None
    assert NOTHING.once("features", 1, make=lambda: 3) == 3


def test_a_value_is_found_under_all_that_it_depends_on(tmp_path: Path) -> None:
    recall = Recall(Cache(tmp_path), "a task", ("a model",))
    recall.about("IO").keep("scores", "these nodes", value=1.5)
    assert Recall(Cache(tmp_path), "a task", ("a model", "IO")).find("scores", "these nodes") == 1.5
    assert recall.find("scores", "these nodes") is None
    assert recall.about("IO").find("features", "these nodes") is None
    recall.about("IO").keep("scores", "these nodes", value=2.5)
    assert recall.about("IO").find("scores", "these nodes") == 2.5
    assert len(cache_entries(tmp_path)) == 1


def test_activations_are_read_once_stream_by_stream(wired: Model, tmp_path: Path) -> None:
    """A second suite at another stream reads that stream alone; other prompts, or another index of
    a position, are read anew."""
    prompts = prepare(wired, load_task("wired"), test=40).splits.fit[:30]
    recall = Recall(Cache(tmp_path), "wired")
    first = read(wired, NODES, prompts, hooks=HOOKS[:1], recall=recall)
    tokens = wired.counter.tokens
    again = read(wired, NODES, prompts, hooks=HOOKS[:1], recall=recall)
    assert wired.counter.tokens == tokens
    assert all(again.values[node].equal(first.values[node]) for node in NODES)
    assert again.streams[HOOKS[0]].equal(first.streams[HOOKS[0]])
    assert again.patterns.keys() == first.patterns.keys()
    with_both, plain = (
        read(wired, NODES, prompts, hooks=HOOKS, recall=recall),
        read(wired, NODES, prompts, hooks=HOOKS),
    )
    assert all(with_both.streams[hook].equal(plain.streams[hook]) for hook in HOOKS)
    assert all(with_both.values[node].equal(plain.values[node]) for node in NODES)
    tokens = wired.counter.tokens
    elsewhere = [
        replace(prompt, index={**prompt.index, "END": prompt.index["END"] - 1})
        for prompt in prompts
    ]
    moved = read(wired, NODES, elsewhere, hooks=HOOKS[:1], recall=recall)
    assert wired.counter.tokens > tokens
    assert not moved.values[NODES[0]].equal(first.values[NODES[0]])


def test_the_next_suite_costs_what_is_its_own_and_scores_as_it_would_alone(
    wired: Model, tmp_path: Path
) -> None:
    task, plan = (
        load_task("wired"),
        Plan(prompts=40, discover=40, tried=40, fit=300, controls=("random", "PCA")),
    )
    first, second = (
        _named(planted_suite(wired.anatomy.hooks[: 2 + both]), f"suite {both}") for both in range(2)
    )
    folders = {name: tmp_path / name for name in ("cache", "other")}
    alone = _run(
        wired, evaluate(wired, task, [second], plan=plan, cache=Cache(folders["other"])).result
    )
    cold = _run(
        wired, evaluate(wired, task, [first], plan=plan, cache=Cache(folders["cache"])).result
    )
    warm = _run(
        wired, evaluate(wired, task, [second], plan=plan, cache=Cache(folders["cache"])).result
    )
    again = _run(
        wired, evaluate(wired, task, [second], plan=plan, cache=Cache(folders["cache"])).result
    )
    assert warm.rows == again.rows == alone.rows
    assert warm.features == alone.features
    assert (warm.gate, warm.sections) == (cold.gate, cold.sections)
    assert {entry.kind for entry in cache_entries(folders["cache"])} == {
        "gate",
        "discovery",
        "activations",
        "features",
        "scores",
    }
    spent = {
        name: {stage.stage: stage.forwards for stage in found.run.stages}
        for name, found in (("warm", again), ("alone", alone))
    }
    assert {spent["warm"][stage] for stage in ("gate", "discovery", "features")} == {0}
    assert 0 < spent["warm"]["scores"] < 0.7 * spent["alone"]["scores"]


def _named(suite: Suite, name: str) -> Suite:
    return Suite(name, suite.saes)


def _run(model: Model, result: Result) -> Result:
    """The result, the model having forgotten its clean runs."""
    if model.partial is not None:
        model.partial.clean.runs.clear()
    return result
