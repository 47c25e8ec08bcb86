"""Coverage and decoding worked by hand, and against a twin that loops over latents and prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from linear import MLP, Claimed, Z, activations, claimed
from sage.dictionaries.activations import Activations
from sage.dictionaries.supervised import fit_features
from sage.nodes import Node, Section
from sage.scores.detection import SCORE, Detection, measure, score_detection
from sage.scores.levels import Decisions
from sage.scores.meaning import find_meaning
from sage.stats import resamples
from scores.latents import best_cut, correct, corrected_f1, count, one_node, random_case
from scores.worlds import Facts, Roles, World, in_turn, make_world

ONE_NODE = Section("x", {MLP: 1.0})
BOTH = Section("x", {MLP: 3.0, Z: 1.0})
DECIDED = Decisions("no", "no", "no", "success", 0.0, 1.0, 1.0)


def detection(
    dictionary: Claimed,
    fit: Activations,
    test: Activations,
    *attributes: str,
    section: Section = ONE_NODE,
    seed: int = 0,
) -> Detection:
    supervised = fit_features(fit, attributes=attributes)
    meaning = find_meaning(dictionary, fit, supervised, attributes=attributes)
    return score_detection(dictionary, meaning, test, section=section, seed=seed)


def both(found: Detection) -> tuple[float, float]:
    return found.coverage.value, found.decoding.value


def labels_of(*values: int, each: int) -> list[dict[str, object]]:
    return [{"a": value} for value in values for _ in range(each)]


def test_coverage_and_decoding_by_hand() -> None:
    """Ten prompts of each of three values. Latent 0 is value 0; latent 1 is value 1 and half of
    value 2; latent 2 is always on.

    p = 1/3, F1_on = .5. Value 0: 1. Value 1: TP 10, FP 5: F1 = .8, corrected .6. Value 2: always-on
    is best on fit (.5 > .4): 0. Coverage .5333. Only latent 0 is precise: TP 10, FN 20: decoding 2
    * 10 / (2 * 10 + 20) = .5. Shown are latents that mean something: 0 and 1.
    """
    codes = torch.zeros(30, 3)
    codes[:10, 0], codes[10:25, 1], codes[:, 2] = 1, 2, 3
    given, dictionary = one_node(labels_of(0, 1, 2, each=10), codes)
    found = detection(dictionary, given, given, "a")
    assert both(found) == pytest.approx((1.6 / 3, 0.5))
    assert (found.values, found.coverage.n) == (3, 30)
    assert found.positives == {"a=0": 10, "a=1": 10, "a=2": 10}
    assert found.nodes[MLP].latents.tolist() == [0, 1]
    torch.testing.assert_close(found.nodes[MLP].f1, torch.tensor([[1.0, 0, 0], [0, 0.6, 0]]))


def test_what_is_chosen_on_fit_is_measured_on_test() -> None:
    """On fit latent 0 is value 0; on test latent 1 is, and latent 0 is active on half of its
    prompts: F1 = 2/3, exactly what always-on has.

    Latent 1 is active on 8 prompts of fit, too few to name anything. Decoding: value 0 named on 10
    prompts, value 1 on its 20.
    """
    right = torch.tensor([1.0] * 20 + [0.0] * 20)
    half = torch.tensor([1.0, 0.0] * 10 + [0.0] * 20)
    eight = torch.tensor([1.0] * 8 + [0.0] * 32)
    fit_codes = torch.stack([right, eight, 1 - right], -1)
    test_codes = torch.stack([half, right, 1 - right], -1)
    labels = labels_of(0, 1, each=20) * 2
    given, dictionary = one_node(labels, torch.cat([fit_codes, test_codes]))
    fit, test = given.select(range(40)), given.select(range(40, 80))
    found = detection(dictionary, fit, test, "a")
    assert both(found) == pytest.approx(((0 + 1) / 2, 2 * 30 / (2 * 30 + 10)))


def test_a_value_with_fewer_than_five_test_prompts_is_not_asked_for() -> None:
    """Of 20, 16 and 4 prompts the last is not; with none left there is no coverage."""
    labels = [{"a": value} for value in [0] * 20 + [1] * 16 + [2] * 4]
    codes = torch.zeros(40, 2)
    codes[:20, 0], codes[20:36, 1] = 1, 1
    given, dictionary = one_node(labels, codes)
    found = detection(dictionary, given, given, "a")
    assert found.values == 2
    assert found.coverage.value == pytest.approx(1)
    assert found.nodes[MLP].f1.isnan().tolist() == [[False, False, True]] * 2
    assert found.positives == {"a=0": 20, "a=1": 16, "a=2": 4}
    few = detection(dictionary, given, given.select([0, 1, 20, 21, 36]), "a")
    assert few.values == 0
    assert np.isnan(few.coverage.value)
    assert few.nodes[MLP].f1.isnan().all()


@pytest.mark.parametrize(("latent", "decoding"), [(0, 38 / (38 + 1 + 41)), (1, 0), (2, 0)])
def test_precise_means_95_of_100_on_ten_active_prompts(latent: int, decoding: float) -> None:
    """Latent 0: 19 of 20 right, precise. Latent 1: 18 of 20, not. Latent 2: 9 of 9, too few. Each
    alone names its value."""
    codes = torch.zeros(60, 3)
    codes[1:21, 0], codes[22:42, 1], codes[51:60, 2] = 1, 1, 1
    given, dictionary = one_node(labels_of(0, 1, 2, each=20), codes[:, [latent]])
    assert detection(dictionary, given, given, "a").decoding.value == pytest.approx(decoding)


@pytest.mark.parametrize("latents", [0, 3])
def test_a_dictionary_without_latents_or_with_dead_ones_detects_nothing(latents: int) -> None:
    given, dictionary = one_node(labels_of(0, 1, each=10), torch.zeros(20, latents))
    assert both(detection(dictionary, given, given, "a")) == (0, 0)


def test_a_value_with_which_no_latent_was_active_on_fit_is_detected_nowhere() -> None:
    """On fit the only latent is value 0 and never active with value 1; on test it is value 1. It
    was not chosen for value 1, so its hits there are nobody's."""
    codes = torch.zeros(80, 1)
    codes[:20], codes[60:] = 1, 1
    given, dictionary = one_node(labels_of(0, 1, 0, 1, each=20), codes)
    found = detection(dictionary, given.select(range(40)), given.select(range(40, 80)), "a")
    assert found.coverage.value == 0


def test_of_signed_codes_either_sign_detects() -> None:
    """One latent, negative on value 0 and positive on value 1: it is shown once for each sign."""
    codes = torch.tensor([[-1.0]] * 10 + [[2.0]] * 10 + [[0.0]] * 10)
    given, dictionary = one_node(labels_of(0, 1, 2, each=10), codes, signed=True)
    found = detection(dictionary, given, given, "a")
    assert found.coverage.value == pytest.approx(2 / 3)
    assert found.nodes[MLP].latents.tolist() == [0, 0]
    assert found.nodes[MLP].f1[:, :2].tolist() == [[0, 1], [1, 0]]


class Literal(NamedTuple):
    coverage: float
    decoding: float


def literal(fit: Activations, test: Activations, dictionary: Claimed, node: Node) -> Literal:
    """Coverage and decoding at one node, value after value and latent after latent."""
    codes, tested = (dictionary.codes(given)[node].double().numpy().T for given in (fit, test))
    coverage: list[float] = []
    outcomes = np.zeros(3)
    for name in ("a", "b"):
        labels, told = (np.array(given.labels(name)) for given in (fit, test))
        for value in sorted(set(labels)):
            holds, truth = labels == value, told == value
            cuts = [halfway(own, holds, thresholded=node == Z) for own in codes]
            best = max(range(len(codes)), key=lambda latent: cuts[latent][1])
            hit, active, positive = count(tested[best] > cuts[best][0], truth)
            if positive >= 5:
                coverage.append(corrected_f1(hit, active, positive, len(truth)))
            named = np.zeros(len(truth), dtype=bool)
            for own, seen, (cut, _) in zip(codes, tested, cuts, strict=True):
                hit, active, _ = count(own > cut, holds)
                if active >= 10 and hit / active >= 0.95:
                    named |= seen > cut
            hit, active, positive = count(named, truth)
            outcomes += (hit, active - hit, positive - hit)
    hit, false, missed = outcomes
    return Literal(float(np.mean(coverage)), 2 * hit / (2 * hit + false + missed))


def halfway(codes: np.ndarray, holds: np.ndarray, *, thresholded: bool) -> tuple[float, float]:
    """The best cut, halfway to the next code above it, and its F1."""
    cut, f1 = best_cut(codes, holds, thresholded=thresholded)
    above = codes[codes > cut]
    return ((cut + above.min()) / 2 if thresholded and len(above) else cut), f1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coverage_and_decoding_are_those_of_the_literal_twin(seed: int) -> None:
    given, dictionary = random_case(seed)
    fit, test = given.select(range(120)), given.select(range(120, 200))
    found = detection(dictionary, fit, test, "a", "b", section=BOTH)
    twins = {node: literal(fit, test, dictionary, node) for node in (MLP, Z)}
    for node, twin in twins.items():
        own = found.nodes[node]
        assert (own.coverage.value, own.decoding.value) == pytest.approx(twin, abs=1e-6)
    for place, value in enumerate(both(found)):
        assert value == pytest.approx((3 * twins[MLP][place] + twins[Z][place]) / 4, abs=1e-6)
    assert min(twin.coverage for twin in twins.values()) > 0.3
    assert max(twin.decoding for twin in twins.values()) < 0.99


def test_the_draws_are_those_of_scoring_each_resample() -> None:
    """Scores of a resample in which every prompt comes as often as drawn, computed anew from its
    prompts."""
    given, dictionary = random_case(3)
    given = given.on([MLP])
    fit, test = given.select(range(120)), given.select(range(120, 200))
    found = detection(dictionary, fit, test, "a", seed=4)
    weights = resamples(len(test), seed=4, clusters=[p.prompt.text for p in test.prompts])
    for draw in (0, 17, 999):
        rows = [row for row, times in enumerate(weights[draw]) for _ in range(int(times))]
        again = detection(dictionary, fit, test.select(rows), "a")
        drawn = found.coverage.draws[draw], found.decoding.draws[draw]
        assert drawn == pytest.approx(both(again), abs=1e-6)


def test_shuffled_labels_are_not_detected() -> None:
    """Perfect latents, and labels dealt out anew: nothing is left but what the best of six latents
    finds in noise."""
    generator = torch.Generator().manual_seed(0)
    value = torch.randint(6, (900,), generator=generator)
    dealt = value[torch.randperm(900, generator=generator)]
    labels = [
        {"a": true, "dealt": other}
        for true, other in zip(value.tolist(), dealt.tolist(), strict=True)
    ]
    given, dictionary = one_node(labels, torch.nn.functional.one_hot(value))
    fit, test = given.select(range(600)), given.select(range(600, 900))
    assert both(detection(dictionary, fit, test, "a")) == (1, 1)
    assert max(both(detection(dictionary, fit, test, "dealt"))) < 0.05


def spare_world() -> tuple[World, Claimed]:
    """Prompts of fit and of the test pairs have codes that say nothing; those to detect on have
    value 1's latent where the value is 1."""
    labels = [{"a": n % 2} for n in range(72)]
    every = activations(labels, mlp=torch.randn(72, 8, generator=torch.Generator().manual_seed(0)))
    roles = Roles(fit=range(24), decide=in_turn(0, 24), test=in_turn(24, 48), detect=range(48, 72))
    world = make_world(every, roles, Facts(attributes=("a",), changed=("a",)), read={})
    codes = torch.tensor([[float(label["a"])] for label in labels])
    codes[24:48] = 0
    return world, claimed(every, {MLP: codes}, {MLP: torch.ones(1, 8)})


def test_it_is_measured_on_prompts_beyond_those_of_the_pairs_and_on_test_alone() -> None:
    world, dictionary = spare_world()
    node_set = world.node_set()
    contender = node_set.contender(dictionary, detected=True)
    found = measure(node_set, [contender], split="test")["claimed"]
    assert found.coverage.n == 24
    assert found.decoding.value == pytest.approx(2 * 12 / (2 * 12 + 12))
    assert measure(node_set, [contender], split="decide") == {}
    assert measure(node_set, [replace(contender, detected=False)], split="test") == {}
    nothing_left = replace(world.data, shared=replace(world.data.shared, detect=None))
    bare = world._replace(data=nothing_left).node_set()
    assert measure(bare, [contender], split="test") == {}


def test_it_is_defined_whatever_was_decided_and_decoding_stands_beside_it() -> None:
    given, dictionary = random_case(0)
    found = detection(dictionary, given, given, "a", "b", section=BOTH)
    assert SCORE.why_undefined(DECIDED) is None
    assert SCORE.columns(found, DECIDED) is found.coverage
    (row,) = SCORE.details(found, DECIDED)
    assert (row.metric, row.at, row.evidence) == ("decoding", "7 values", found.decoding)


def test_correction_is_that_of_the_twin() -> None:
    assert correct(0.8, 1 / 3) == pytest.approx(corrected_f1(10, 15, 10, 30))
