"""Metrics of other benchmarks in fast forms, against literal twins and published packages."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from sage.audit.peers import scr as scr_file
from sage.audit.peers.arrays import LabelledNode, NodeCodes, codes_at, label_node
from sage.audit.peers.linear_probes import balanced, largest, train_probes
from sage.audit.peers.logistic import fit_logistic
from sage.audit.peers.probing import area, probe_auc, probing, rank_latents
from sage.audit.peers.scr import BiasedProbes, TwoWay, biased_probes, scr
from sage.audit.peers.tpp import ClassProbes, ablated_accuracies, class_effects, class_probes, tpp
from sage.dictionaries.native import NativeDictionary
from sage.toy.panel import PANEL, TRUTH
from sage.toy.planted import NODE, World

WORLD = World("small", sizes=(3, 3, 3, 3), d=16, spread=0.2)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dictionary(name: str) -> NativeDictionary:
    return next(entry for entry in PANEL if entry.name == name).on(WORLD)


@pytest.fixture(scope="module")
def given() -> LabelledNode:
    node = label_node(NODE, WORLD.draw(700, 0), WORLD.draw(300, 1), "A1")
    assert node is not None
    return node


@pytest.fixture(scope="module")
def fitted(given: LabelledNode) -> ClassProbes:
    return class_probes(given, seed=0)


def test_values_with_too_few_prompts_are_left_out(given: LabelledNode) -> None:
    assert given.values == (0, 1, 2)
    assert label_node(NODE, given.train, given.test, "A1", fewest=300) is None


def test_logistic_regression_ends_where_a_general_optimiser_does() -> None:
    """The objective in its own words, minimised by Powell's method; a strong penalty leaves no
    column, a weak one all."""
    from scipy.optimize import minimize

    x = torch.randn(2, 60, 2, generator=draw(0)) * torch.tensor([1.0, 3.0])
    y = (x.sum(-1) + torch.randn(2, 60, generator=draw(1)) > 0).float()
    strengths = torch.tensor([[0.02, 1.0, 30.0]] * 2)
    found = fit_logistic(x, y, strengths)

    def objective(weights: np.ndarray, problem: int, strength: float) -> float:
        signs = 2 * y[problem].numpy() - 1
        logits = x[problem].numpy() @ weights[:2] + weights[2]
        return float(np.abs(weights[:2]).sum() + strength * np.logaddexp(0, -signs * logits).sum())

    for problem in range(2):
        for place, strength in enumerate(strengths[problem].tolist()):
            ours = np.append(found.weights[problem, place], found.intercepts[problem, place])
            start = np.zeros(3)
            options = {"xtol": 1e-10, "ftol": 1e-14}
            twin = minimize(objective, start, (problem, strength), "Powell", options=options)
            assert objective(ours, problem, strength) == pytest.approx(twin.fun, rel=1e-6)


def test_a_penalty_that_outweighs_the_slope_leaves_no_column() -> None:
    """At 0 the slope is C |sum x (y - 1/2)| = C here: from C = 1 on the column counts."""
    x = torch.tensor([[[1.0], [0.0], [1.0], [0.0]]])
    y = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    weights = fit_logistic(x, y, torch.tensor([[0.99, 1.1]])).weights
    assert weights[0, 0, 0] == 0
    assert weights[0, 1, 0] > 0


def test_area_counts_pairs_and_halves_ties() -> None:
    """Positives at 3 and 1 against 2 and 1: 1 + 1 + 0 + 1/2 of 4."""
    scores = torch.tensor([3.0, 1.0, 2.0, 1.0])
    positive = torch.tensor([True, True, False, False])
    assert float(area(scores, positive)) == pytest.approx(2.5 / 4)
    assert float(area(scores, torch.ones(4, dtype=torch.bool))) == 0.5


def test_latents_are_ranked_by_the_difference_of_means_in_units_of_their_own_size() -> None:
    """Latent 0: mean size 10, difference 5, half of it; latent 1: size 1, difference 1."""
    codes = torch.tensor([[10.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    positive = torch.tensor([[True, True, False, False]])
    assert rank_latents(codes, positive).tolist() == [[1, 0]]


def test_the_truth_is_read_by_one_latent_and_a_permuted_one_as_well(given: LabelledNode) -> None:
    """A probe sees codes alone: directions may be anything."""
    for name in (TRUTH, "permuted"):
        assert probing(given, codes_at(dictionary(name), given), ks=(1,))[1] == pytest.approx(1)


def test_an_ablated_logit_is_that_of_the_activation_without_the_latents(
    given: LabelledNode, fitted: ClassProbes
) -> None:
    """The literal way: reconstruct without them, add what the whole reconstruction missed."""
    learned = dictionary("rotated 45")
    codes, x = codes_at(learned, given), given.test.values[NODE]
    out = torch.tensor([0, 4])
    zeroed = codes.test.clone()
    zeroed[:, out] = 0
    literal = zeroed @ codes.directions + (x - codes.test @ codes.directions)
    fast = fitted.probes.without(fitted.probes.logits(x), codes.test, codes.directions, out)
    torch.testing.assert_close(fast, fitted.probes.logits(literal), atol=1e-4, rtol=0)


def test_tpp_of_the_truth_is_what_one_latent_takes_from_its_own_probe(
    given: LabelledNode, fitted: ClassProbes
) -> None:
    """Clean probes are right; without its feature a class's probe says no to all its prompts, half
    of its rows, and of the others' rows nothing changes or little: .5 at most."""
    tables = ablated_accuracies(given, codes_at(dictionary(TRUTH), given), fitted)
    assert float(tables[0].min()) > 0.97
    score = tpp(given, codes_at(dictionary(TRUTH), given), fitted)
    assert 0.4 < score[2] <= 0.5
    assert abs(tpp(given, codes_at(dictionary("permuted"), given), fitted)[2]) < 0.3


def test_rows_are_balanced_and_drawn_once() -> None:
    classes = torch.tensor([0] * 5 + [1] * 3 + [2] * 8)
    rows = balanced(classes, 3, random=draw(0))
    assert rows.prompts.shape == (3, 6)
    for number, prompts in enumerate(rows.prompts):
        assert torch.equal(classes[prompts] == number, rows.positive)
        assert len(set(prompts.tolist())) == 6


def test_probes_keep_the_epoch_with_the_least_loss_on_train() -> None:
    """More epochs never end with a larger loss on train than fewer."""
    x = torch.randn(60, 4, generator=draw(2))
    rows = balanced((x[:, 0] > 0).long(), 2, random=draw(3))

    def loss(epochs: int) -> float:
        probes = train_probes(x, rows, random=draw(4), epochs=epochs)
        logits = torch.einsum("prd,pd->pr", x[rows.prompts], probes.weights)
        logits = logits + probes.intercepts[:, None]
        target = rows.positive.float().expand_as(logits)
        return float(torch.nn.functional.binary_cross_entropy_with_logits(logits, target))

    losses = [loss(epochs) for epochs in (1, 3, 9)]
    assert losses == sorted(losses, reverse=True)


def two_ways() -> list[TwoWay]:
    ways: list[TwoWay] = []
    for seed in (0, 1):
        run = WORLD.draw(1200, seed, independent=True)
        labels = [torch.tensor(run.labels(name)) for name in ("A1", "A2")]
        rows = ((labels[0] < 2) & (labels[1] < 2)).nonzero().flatten()
        kept = run.select(rows.tolist())
        ways.append(TwoWay(kept, NODE, labels[0][rows] == 1, labels[1][rows] == 1))
    return ways


@pytest.fixture(scope="module")
def biased() -> BiasedProbes:
    return biased_probes(*two_ways(), seed=0)


def codes_of(name: str, biased: BiasedProbes) -> NodeCodes:
    learned = dictionary(name)
    train, test = (learned.codes(way.given)[NODE] for way in (biased.train, biased.test))
    return NodeCodes(train, test, learned.directions(NODE))


def test_the_truth_takes_out_a_spurious_attribute_and_a_permuted_one_does_not(
    biased: BiasedProbes,
) -> None:
    """Two latents are the values of the spurious attribute: the probe is left with the other."""
    assert scr(biased, codes_of(TRUTH, biased))[2] > 0.9
    assert scr(biased, codes_of("permuted", biased))[2] < 0.5


def test_without_room_there_is_nothing_to_remove(
    biased: BiasedProbes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scr_file, "LEAST_ROOM", 1.1)
    assert set(scr(biased, codes_of(TRUTH, biased)).values()) == {0.0}


def stub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that a package imports and that these comparisons do not need."""
    if name not in sys.modules:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


@pytest.fixture
def published() -> ModuleType:
    """SAEBench's own TPP and SCR."""
    for name in ("sae_bench", "sklearn", "tabulate"):
        pytest.importorskip(name)
    from importlib import import_module

    return import_module("sae_bench.evals.scr_and_tpp.main")


class _SAE:
    """A dictionary as the published package wants one."""

    def __init__(self, learned: NativeDictionary) -> None:
        self.W_dec = torch.nn.Parameter(learned.directions(NODE), requires_grad=False)
        self.encoder, self.bias = learned.encoders[NODE], learned.biases.get(NODE, torch.zeros(()))

    def encode(self, x: Tensor) -> Tensor:
        """Codes of [prompt, 1, d]."""
        return self.encoder(x[:, 0])[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        return codes @ self.W_dec + self.bias


@pytest.mark.filterwarnings("ignore")
def test_tpp_is_what_the_published_package_says_on_the_same_rows_and_probes(
    published: ModuleType, given: LabelledNode, fitted: ClassProbes
) -> None:
    """Its own effects, selection, ablation and probe, on our balanced rows of every class."""
    learned = dictionary("rotated 45")
    sae, codes = _SAE(learned), codes_at(learned, given)
    effects = class_effects(codes, fitted)
    ours = ablated_accuracies(given, codes, fitted)[5]
    x = given.test.values[NODE]
    for number in range(len(given.values)):
        chosen = published.select_top_n_features(effects[number], 5, "class")
        assert torch.equal(chosen.nonzero().flatten(), largest(effects[number], 5).sort().values)
        ablated = published.ablated_precomputed_activations(x[:, None], sae, chosen, 64)
        for probe in range(len(given.values)):
            net = published.probe_training.Probe(WORLD.d, torch.float32)
            net.net.weight.data = fitted.probes.weights[probe][None]
            net.net.bias.data = fitted.probes.intercepts[probe][None]
            rows = fitted.test.prompts[probe]
            accuracy = published.probe_training.test_probe_gpu(
                ablated[rows], fitted.test.positive.int(), 500, net
            )
            assert float(ours[number, probe]) == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_probing_is_what_the_published_package_says_on_the_same_codes(
    given: LabelledNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ranking, its search of C and its fit by `saga`, which stops at 1,000 steps: areas agree
    to .02, the ranking exactly."""
    pytest.importorskip("sae_probes")
    pytest.importorskip("sklearn")
    stub("xgboost", monkeypatch)
    from sae_probes.run_sae_evals import get_sorted_indices, mean_act_normalization
    from sae_probes.utils_training import find_best_reg

    codes = codes_at(dictionary("merged pairs"), given)
    train, test = given.is_value("train"), given.is_value("test")
    order = rank_latents(codes.train, train)
    chosen = order[:, :2]
    ours = probe_auc(codes.train, train, codes.test, test, chosen)
    for value in range(len(given.values)):
        theirs = get_sorted_indices(codes.train, train[value].int(), mean_act_normalization)
        assert theirs[:2].tolist() == chosen[value].tolist()
        found = find_best_reg(
            codes.train[:, chosen[value]].numpy(), train[value].int().numpy(),
            codes.test[:, chosen[value]].numpy(), test[value].int().numpy(),
            penalty="l1", seed=0,
        )  # fmt: skip
        assert float(ours[value]) == pytest.approx(found.metrics.test_auc, abs=0.02)
