"""The panel: every dictionary is as good as it was built to be, and the scores say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from sage.dictionaries.activations import Activations
from sage.dictionaries.code_model import fit_codes
from sage.dictionaries.native import NativeDictionary
from sage.dictionaries.supervised import fit_features, with_labels_of
from sage.nodes import Section
from sage.scores.contest import hold
from sage.scores.geometry import SCORE as GEOMETRY
from sage.scores.geometry import score_geometry
from sage.scores.interpretable import SCORE as INTERPRETABLE
from sage.scores.meaning import activity
from sage.scores.node_set import Contender, NodeSet
from sage.scores.targets import find_targets
from sage.toy.panel import CHAINS, CONTROLS, PANEL, TRUTH
from sage.toy.planted import INDEPENDENT, NODE, World
from sage.toy.scoring import Scores, node_sets, score, score_panel
from sage.toy.training import Frozen, ToyRecipe, train

PROMPTS = 1500
# Large tables take long and score what the small one does.
LEFT_OUT = ("lookup 512", "lookup 2048")
# Between chance, which tells equals apart, and an order that is violated.
NOISE = 0.05

Panel = Mapping[str, Scores]


def dictionary(world: World, name: str) -> NativeDictionary:
    return next(entry for entry in PANEL if entry.name == name).on(world)


@pytest.fixture(scope="module")
def two_contrasts() -> list[NodeSet]:
    return node_sets(INDEPENDENT, ("A1", "A4"), prompts=PROMPTS, pairs=100)


@pytest.fixture(scope="module")
def panel(two_contrasts: list[NodeSet]) -> Panel:
    dictionaries = [entry.on(INDEPENDENT) for entry in PANEL if entry.name not in LEFT_OUT]
    return score(two_contrasts, dictionaries)


@pytest.mark.parametrize(
    "name",
    [TRUTH, "merged pairs", "merged quads", "split x2", "split x8", "duplicates x4", "dead"],
)
def test_features_joined_or_divided_still_reconstruct_exactly(name: str) -> None:
    """Where all are equally strong and there is no noise."""
    world = replace(INDEPENDENT, spread=0.0, noise=0.0)
    given = world.draw(100, 5)
    whole = dictionary(world, name).reconstruct(given)[NODE]
    torch.testing.assert_close(whole, given.values[NODE], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "share"), [("split x4", 0.25), ("misses 0.3", 0.7), ("duplicates x2", 1.0)]
)
def test_a_latent_is_active_on_its_share_of_a_value_whatever_the_other_attributes_are(
    name: str, share: float
) -> None:
    """Of value 0 of A1; with each value of A2 it is 1/36 of the prompts, 280 of them."""
    given = INDEPENDENT.draw(10_000, 6)
    first = torch.tensor(given.labels("A1")) == 0
    second = torch.tensor(given.labels("A2"))
    active = dictionary(INDEPENDENT, name).codes(given)[NODE][:, 0] > 0
    assert not active[~first].any()
    for value in range(6):
        expected = pytest.approx(share, abs=0.12)
        assert float(active[first & (second == value)].float().mean()) == expected


def test_the_truth_scores_1_on_every_test(panel: Panel) -> None:
    for name, value in panel[TRUTH].items():
        assert value == pytest.approx(1, abs=0.02), name


@pytest.mark.parametrize("cosine", [0.3, 0.6, 0.9])
def test_values_that_lie_close_do_not_stall_the_search(cosine: float) -> None:
    """From a to b at cosine c: without a alone the distance to b is 1, with b beside a it is 1 too,
    and before it is 2 - 2c: from c = .5 on no single move helps."""
    world = World("two values", sizes=(2,), d=8, cosine=cosine, spread=0.0, noise=0.01)
    exact = dictionary(world, TRUTH)
    scores = score_panel(world, [exact], ["A1"], prompts=200, pairs=40)[TRUTH]
    assert scores["control"] == pytest.approx(1, abs=0.02)
    assert scores["interpretable"] == pytest.approx(1, abs=0.02)
    assert scores["move"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    "name", ["merged pairs", "merged quads", "lookup 128", "PCA", "random", "permuted", "untrained"]
)
def test_without_an_atomic_latent_in_its_place_there_is_no_interpretable_control(
    panel: Panel, name: str
) -> None:
    assert panel[name]["interpretable"] < 0.05


def test_a_split_feature_controls_half_and_one_in_four_nothing(panel: Panel) -> None:
    """Corrected F1 of one of two parts is (2/3 - 2/7)/(1 - 2/7) = .53, of four (.4 - 2/7)/(5/7) =
    .16: five levels of nine let halves through, but for those that chance puts below .5, and one
    lets quarters. With 2 latents two halves move, which is a tie, with 4 and 8 the new value wins:
    5/9 (1/2 + 1 + 1)/3 = .46."""
    assert 0.4 < panel["split x2"]["interpretable"] < 0.5
    assert panel["split x4"]["interpretable"] < 0.15


def test_copies_cost_budget_alone(panel: Panel) -> None:
    """Of 2 copies budgets move 2, 4 and 4: a tie, 1, 1. Of 4 copies 2, 4 and 8: 0, a tie, 1."""
    assert panel["duplicates x2"]["interpretable"] == pytest.approx(5 / 6, abs=NOISE)
    assert panel["duplicates x4"]["interpretable"] == pytest.approx(1 / 2, abs=NOISE)


def test_dead_latents_cost_nothing(panel: Panel) -> None:
    assert panel["dead"] == panel[TRUTH]


@pytest.mark.parametrize("chain", CHAINS)
def test_no_link_of_a_chain_stands_above_the_one_before(panel: Panel, chain: str) -> None:
    scores = [panel[name]["interpretable"] for name in CHAINS[chain]]
    assert all(after <= before + NOISE for before, after in pairwise(scores))
    assert chain == "dead" or scores[0] - scores[-1] >= 0.2


def test_every_control_stands_below_what_is_near_the_truth(panel: Panel) -> None:
    near = [TRUTH, "rotated 15", "rotated 30", "rotated 45", "split x2", "dropped 0.25"]
    near += ["dropped 0.5", "misses 0.1", "misses 0.3", "duplicates x2", "duplicates x4"]
    least = min(panel[name]["interpretable"] for name in near)
    assert max(panel[name]["interpretable"] for name in set(CONTROLS) - set(LEFT_OUT)) < least


def test_four_times_too_dense_controls_as_well_but_not_by_what_means_something(
    two_contrasts: list[NodeSet],
) -> None:
    """Topk at the true L0 and at four times as much: T2 does not see what T3 sees."""
    trained = [train(INDEPENDENT, ToyRecipe(k=k, steps=800)) for k in (8, 32)]
    sparse, dense = score(two_contrasts, trained).values()
    assert sparse["control"] == pytest.approx(1, abs=NOISE)
    assert sparse["interpretable"] > 0.9
    assert dense["interpretable"] < sparse["interpretable"] - 0.3
    assert dense["control"] > 0.8


@pytest.mark.parametrize("frozen", ["decoder", "encoder", "soft decoder"])
def test_what_is_frozen_stays_where_it_was(frozen: Frozen) -> None:
    """A soft-frozen row stays within arccos .8 of where it began, and some come as far."""
    start, end = (
        train(INDEPENDENT, ToyRecipe(k=8, frozen=frozen, steps=steps)) for steps in (0, 150)
    )
    cosine = (start.directions(NODE) * end.directions(NODE)).sum(-1)
    if frozen == "soft decoder":
        assert float(cosine.min()) == pytest.approx(0.8, abs=1e-4)
    else:
        assert bool((cosine > 1 - 1e-6).all()) == (frozen == "decoder")


def test_shuffled_labels_leave_no_interpretable_control(two_contrasts: list[NodeSet]) -> None:
    """The truth, with aims, code regressions and meanings from other prompts' labels."""
    exact = dictionary(INDEPENDENT, TRUTH)
    fit = shuffled(two_contrasts[0].fit, seed=0)
    features = fit_features(fit, attributes=INDEPENDENT.attributes, coupled=False)
    contender = Contender("shuffled", exact, fit_codes(exact, fit, features), features, fit)
    for node_set in two_contrasts:
        contest = hold(node_set, [contender], controls=(), thorough=True)
        evidence = contest.evidence(INTERPRETABLE, contender.name)
        assert INTERPRETABLE.unclipped(evidence) == pytest.approx(0, abs=0.02)


def test_shuffled_labels_leave_no_geometry() -> None:
    """T4 before it is clipped, against the features of all attributes, in the mean over orders:
    one order leaves a standard deviation of .014."""
    world, exact = INDEPENDENT, dictionary(INDEPENDENT, TRUTH)
    given = world.draw(PROMPTS, 0)
    section = Section("all", {NODE: 1.0})
    sought = find_targets(
        fit_features(given, attributes=world.attributes, coupled=False),
        given,
        attributes=world.attributes,
        seed=0,
    )
    left: list[float] = []
    for seed in range(6):
        fit = shuffled(given, seed=seed)
        features = fit_features(fit, attributes=world.attributes, coupled=False)
        targets = find_targets(features, fit, attributes=world.attributes, among=sought, seed=0)
        geometry = score_geometry(exact, targets, activity(exact, fit), section=section)
        left.append(GEOMETRY.unclipped(geometry.columns))
    assert np.mean(left) == pytest.approx(0, abs=0.02)


def shuffled(given: Activations, *, seed: int) -> Activations:
    generator = torch.Generator().manual_seed(seed)
    return with_labels_of(given, torch.randperm(len(given), generator=generator).tolist())
