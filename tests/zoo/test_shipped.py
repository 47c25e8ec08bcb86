"""What ships: the models do their tasks on what their corpus held out, the SAEs are what they
state, and all is small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.saes.formats import saelens
from sage.zoo.gates import gates
from sage.zoo.tokenizer import make_tokenizer
from sage.zoo.train_models import RECIPES, ZOO
from sage.zoo.train_saes import SNAPSHOTS, fidelity, plans, shipped

LAYERS = {"tiny-neox": 2, "tiny-gpt2": 4, "tiny-gemma2": 4}


@pytest.fixture(scope="module", params=list(RECIPES))
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(request.param)


def test_models_grow_in_the_order_of_the_real_ones() -> None:
    sizes = [
        sum(path.stat().st_size for path in (ZOO / name).glob("*.safetensors")) for name in RECIPES
    ]
    assert list(RECIPES) == ["tiny-neox", "tiny-gpt2", "tiny-gemma2"]
    assert sizes == sorted(sizes)


def test_every_task_passes_its_gate_on_held_out_combinations(model: Model) -> None:
    found = gates(model, "combinations", prompts=60)
    assert {name: gate.accuracy for name, gate in found.items() if gate.accuracy < 0.95} == {}
    assert all(gate.mean_logit_difference < 8 for gate in found.values())


def test_a_model_reads_bos_and_the_tokenizer_of_the_corpus(model: Model) -> None:
    assert model.bos
    assert model.tokenizer.get_vocab() == make_tokenizer().get_vocab()
    assert model.anatomy.d_vocab == len(model.tokenizer)


def test_the_saes_of_a_model_are_all_there(model: Model) -> None:
    layers = len(model.anatomy.blocks)
    assert layers == LAYERS[model.name]
    wanted = {
        (plan.suite, f"{plan.hook.layer}.{plan.hook.kind}") for plan in plans(model.name, layers)
    }
    if model.name == "tiny-gpt2":
        wanted |= {
            (f"topk8-{when}", f"{layer}.resid_pre") for when in SNAPSHOTS for layer in range(layers)
        }
        assert ("topk8-mid", "2.resid_mid") in wanted
    assert {(suite, folder.name) for suite, folder in shipped(model.name)} == wanted


def test_every_layer_has_topk_and_relu_and_the_middle_ones_have_all_five() -> None:
    for name, layers in LAYERS.items():
        for layer in range(layers):
            there = {
                plan.architecture
                for plan in plans(name, layers)
                if plan.hook == Node("resid_pre", layer)
            }
            middle = layer in (layers // 2 - 1, layers // 2)
            assert there == (
                {"topk", "relu", "jumprelu", "gated", "prolu"} if middle else {"topk", "relu"}
            )


def test_saes_have_the_sparsity_and_fidelity_that_they_state(model: Model) -> None:
    found = fidelity(model, texts=300)
    assert found
    for (suite, hook), measured in found.items():
        stated = json.loads(
            (ZOO / model.name / "saes" / suite / hook / saelens.CONFIG).read_text()
        )["metadata"]
        assert measured.l0 == pytest.approx(stated["l0"], rel=0.1, abs=0.3), (suite, hook)
        assert measured.fvu == pytest.approx(stated["fvu"], rel=0.2, abs=0.01), (suite, hook)


def test_training_brings_an_sae_from_nothing_to_a_good_description() -> None:
    for layer in range(LAYERS["tiny-gpt2"]):
        suites = [*(f"topk8-{when}" for when in SNAPSHOTS), "topk8"]
        unexplained = [
            saelens.load(ZOO / "tiny-gpt2" / "saes" / suite / f"{layer}.resid_pre").stated.fvu
            for suite in suites
        ]
        assert unexplained == sorted(unexplained, key=lambda fvu: -(fvu or 0))


def test_models_and_saes_together_are_small() -> None:
    weights = [
        path for path in ZOO.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(path.stat().st_size for path in weights) < 25e6
    assert not list(Path(ZOO).rglob("*.pt"))
