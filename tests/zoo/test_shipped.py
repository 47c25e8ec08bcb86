"""What ships: models that do their tasks on held-out prompts, SAEs that are what they state."""

from __future__ import annotations

import json
from itertools import combinations

import pytest
from torch.nn.functional import cosine_similarity

from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.saes.formats import saelens
from sage.saes.sae import SAE
from sage.zoo.gates import held_out_gates
from sage.zoo.recipes import RECIPES, ZOO
from sage.zoo.tokenizer import make_tokenizer
from sage.zoo.train_saes import SNAPSHOTS, sae_recipes, shipped_fidelity, shipped_saes

LAYERS = {"tiny-gpt2-half": 2, "tiny-neox": 2, "tiny-gpt2": 4, "tiny-gemma2": 4}


@pytest.fixture(scope="module", params=list(RECIPES))
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(request.param)


def test_models_grow_in_the_order_of_the_real_ones() -> None:
    sizes = [
        sum(path.stat().st_size for path in (ZOO / name).glob("*.safetensors")) for name in RECIPES
    ]
    assert list(RECIPES) == list(LAYERS)
    assert sizes == sorted(sizes)


def test_every_task_passes_its_gate_on_held_out_combinations(model: Model) -> None:
    gates = held_out_gates(model, "combinations", prompts=60)
    assert {name: gate.accuracy for name, gate in gates.items() if gate.accuracy < 0.95} == {}
    assert all(gate.mean_logit_difference < 8 for gate in gates.values())


def test_a_model_reads_bos_and_the_tokenizer_of_the_corpus(model: Model) -> None:
    assert model.bos
    assert model.tokenizer.get_vocab() == make_tokenizer().get_vocab()
    assert model.anatomy.d_vocab == len(model.tokenizer)


def test_the_saes_of_a_model_are_all_there(model: Model) -> None:
    layers = len(model.anatomy.blocks)
    assert layers == LAYERS[model.name]
    wanted = {(recipe.suite, recipe.hook_folder) for recipe in sae_recipes(model.name, layers)}
    if model.name == "tiny-gpt2":
        for moment in SNAPSHOTS:
            wanted |= {(f"topk8-{moment}", f"{layer}.resid_pre") for layer in range(layers)}
        assert ("topk8-mid", "2.resid_mid") in wanted
        assert ("topk8-seed-3", "0.resid_pre") in wanted
        assert ("topk8-soft-frozen-3", "0.resid_pre") in wanted
    assert {(suite, folder.name) for suite, folder in shipped_saes(model.name)} == wanted


def test_the_smaller_size_of_a_model_has_topk_alone() -> None:
    recipes = sae_recipes("tiny-gpt2-half", LAYERS["tiny-gpt2-half"])
    assert {recipe.architecture for recipe in recipes} == {"topk"}
    assert len(recipes) == 3 * 2


@pytest.mark.parametrize("name", ["tiny-neox", "tiny-gpt2", "tiny-gemma2"])
def test_every_layer_has_topk_and_relu_and_the_middle_ones_have_all_five(name: str) -> None:
    layers = LAYERS[name]
    for layer in range(layers):
        hook = Node("resid_pre", layer)
        recipes = [recipe for recipe in sae_recipes(name, layers) if recipe.hook == hook]
        rest = {"jumprelu", "gated", "prolu"} if layer in (layers // 2 - 1, layers // 2) else set()
        assert {recipe.architecture for recipe in recipes} == {"topk", "relu"} | rest


def test_saes_have_the_sparsity_and_fidelity_that_they_state(model: Model) -> None:
    fidelity = shipped_fidelity(model, texts=300)
    assert fidelity
    for (suite, hook), measured in fidelity.items():
        config = ZOO / model.name / "saes" / suite / hook / saelens.CONFIG
        stated = json.loads(config.read_text())["metadata"]
        assert measured.l0 == pytest.approx(stated["l0"], rel=0.1, abs=0.3), (suite, hook)
        assert measured.fvu == pytest.approx(stated["fvu"], rel=0.2, abs=0.01), (suite, hook)


def test_training_brings_an_sae_from_nothing_to_a_good_description() -> None:
    for layer in range(LAYERS["tiny-gpt2"]):
        suites = [*(f"topk8-{moment}" for moment in SNAPSHOTS), "topk8"]
        unexplained = [
            saelens.load(ZOO / "tiny-gpt2" / "saes" / suite / f"{layer}.resid_pre").stated.fvu
            for suite in suites
        ]
        assert unexplained == sorted(unexplained, key=lambda fvu: -(fvu or 0))


@pytest.mark.parametrize("layer", range(LAYERS["tiny-gpt2"]))
def test_three_seeds_of_a_suite_and_of_its_soft_frozen_nulls_are_three_saes(layer: int) -> None:
    trained = [_tiny_gpt2(suite, layer) for suite in ("topk8", "topk8-seed-2", "topk8-seed-3")]
    nulls = [_tiny_gpt2(f"topk8-soft-frozen-{number}", layer) for number in (1, 2, 3)]
    for group in (trained, nulls):
        for one, other in combinations(group, 2):
            assert cosine_similarity(one.W_dec, other.W_dec).abs().mean() < 0.2
    assert max(sae.stated.fvu or 1 for sae in trained) < min(sae.stated.fvu or 0 for sae in nulls)
    assert all(sae.stated.l0 == pytest.approx(8, abs=0.5) for sae in (*trained, *nulls))


@pytest.mark.parametrize("layer", range(LAYERS["tiny-gpt2"]))
def test_a_soft_frozen_null_points_where_its_suite_began(layer: int) -> None:
    start = _tiny_gpt2("topk8-step0", layer).W_dec
    null, other, trained = (
        cosine_similarity(_tiny_gpt2(suite, layer).W_dec, start)
        for suite in ("topk8-soft-frozen-1", "topk8-soft-frozen-2", "topk8")
    )
    assert 0.8 - 1e-3 < null.min() < 0.8 + 1e-3
    assert other.max() < 0.6
    assert trained.min() < 0.6


def test_models_and_saes_together_are_small() -> None:
    files = [path for path in ZOO.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 28e6
    assert not [path for path in files if path.suffix == ".pt"]


def _tiny_gpt2(suite: str, layer: int) -> SAE:
    return saelens.load(ZOO / "tiny-gpt2" / "saes" / suite / f"{layer}.resid_pre")
