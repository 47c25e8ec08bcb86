"""Nothing is ever out of date: a folder that computes something else finds nothing of the old."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sage.models.base import Model
from sage.models.load import load_model
from sage.preparation import measure_gate, prepare
from sage.result import Gate
from sage.run import Plan
from sage.store.key import run_keys
from sage.store.reading import Remembered
from sage.store.store import Store
from sage.task.catalog import load_task
from tests.tiny import edit_config

PLAN = Plan(pairs=40, discover=40, decide=40, fit=300, detect=0)
ZOO = Path(__file__).parents[2] / "sage" / "zoo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of an embedded model."""
    ignored = shutil.ignore_patterns("saes")
    return Path(shutil.copytree(ZOO / "tiny-neox", tmp_path / "model", ignore=ignored))


def gate_of(folder: Path, store: Store) -> tuple[Gate, bool]:
    """The gate of the model in a folder, and whether it had to be measured."""
    model = load_model(str(folder), device="cpu")
    task, splits = prepare(model, load_task("gendered_pronoun"), PLAN)
    key = run_keys(model, task, splits, PLAN).task
    measured: list[Model] = []

    def measure() -> Gate:
        measured.append(model)
        return measure_gate(model, task, splits.fit[:100])

    return store.once("gate", key, measure), bool(measured)


def another_epsilon(folder: Path) -> None:
    edit_config(folder, layer_norm_eps=5.0)


def another_rotary_base(folder: Path) -> None:
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    edit_config(folder, rope_parameters={**rope, "rope_theta": 3.0})


def another_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["gpt_neox.final_layer_norm.weight"] *= -1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("change", [another_epsilon, another_rotary_base, another_weight])
def test_a_warm_store_has_no_gate_of_a_changed_model(
    folder: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    store = Store(tmp_path / "store")
    gate, measured = gate_of(folder, store)
    assert measured
    assert gate_of(folder, store) == (gate, False)
    change(folder)
    changed, measured = gate_of(folder, store)
    assert measured
    assert changed != gate
    assert changed == gate_of(folder, Store(None))[0]


def test_a_warm_store_has_no_activations_of_a_changed_model(folder: Path, tmp_path: Path) -> None:
    store, task = Store(tmp_path / "store"), load_task("gendered_pronoun")
    streams = []
    for _ in range(2):
        model = load_model(str(folder), device="cpu")
        usable, splits = prepare(model, task, PLAN)
        hook, prompts = model.anatomy.hooks[1], splits.fit[:20]
        key = run_keys(model, usable, splits, PLAN).model
        read = Remembered(model, store, key).read([hook], prompts)[hook]
        assert read.equal(model.read([hook], prompts)[hook])
        streams.append(read)
        another_epsilon(folder)
    assert not streams[0].equal(streams[1])
