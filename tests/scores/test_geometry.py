"""T4 worked by hand, and its null against literal refits."""

from __future__ import annotations

from itertools import permutations, product
from math import sqrt

import numpy as np
import pytest
import torch

from linear import D_HEAD, MLP, Claimed, D, Z, activations, claimed
from sage.dictionaries.activations import Activations, moments
from sage.dictionaries.projected import project
from sage.dictionaries.supervised import fit_features, with_labels_of
from sage.nodes import Node, Section
from sage.saes.architectures.relu import ReLU
from sage.saes.sae import SAE
from sage.saes.suite import assemble
from sage.scores.geometry import (
    SCORE,
    Geometry,
    NodeGeometry,
    chance,
    cosines,
    encoder_cosines,
    geometry,
    matched,
    measure,
    raw_geometry,
    score_geometry,
)
from sage.scores.levels import Decisions
from sage.scores.node_set import Contender
from sage.scores.score import at_means
from sage.scores.targets import SHUFFLES, Targets, _shuffle, attainable_cosines, find_targets
from scores.worlds import Facts, Roles, World, in_turn, make_world

ONE_NODE = Section("x", {MLP: 1.0})
EYE = torch.eye(D)
DECIDED = Decisions(None, None, None, "success", 0.0, 1.0, 1.0)


def world(*, noise: float = 0.0) -> Activations:
    """`a` in three values along e0, e1, e2, `b` in two along e4, `c` in two with nothing; 72
    prompts, every combination equally often."""
    combinations = product(range(3), range(2), range(2))
    labels = [{"a": a, "b": b, "c": c} for a, b, c in combinations] * 6
    generator = torch.Generator().manual_seed(0)
    values = torch.stack([EYE[label["a"]] + 2 * label["b"] * EYE[4] for label in labels])
    values += noise * torch.randn(values.shape, generator=generator)
    return activations(labels, mlp=values)


def dictionary(
    given: Activations, vectors: torch.Tensor, codes: torch.Tensor | None = None, **fields: object
) -> Claimed:
    """These directions, always on unless codes are given."""
    codes = torch.ones(len(given), len(vectors)) if codes is None else codes
    return claimed(given, {MLP: codes}, {MLP: vectors}, **fields)


def targets(given: Activations, *attributes: str, seed: int = 0) -> dict[Node, Targets]:
    supervised = fit_features(given, attributes=("a", "b", "c"), coupled=False)
    return find_targets(supervised, given, attributes=attributes, seed=seed)


def score(given: Activations, own: Claimed, *attributes: str, seed: int = 0) -> Geometry:
    active = {node: (codes != 0).float().mean(0) for node, codes in own.codes(given).items()}
    return score_geometry(own, targets(given, *attributes, seed=seed), active, section=ONE_NODE)


def test_only_attributes_that_carry_a_share_of_the_variance_take_part() -> None:
    """Var = 2/3 of `a` + 1 of `b`; `c` carries noise alone: about 2 (number of features) / 72 of
    .0001."""
    given = world(noise=0.01)
    wanted = targets(given, "a", "b", "c")
    assert wanted[MLP].names == ("a=0", "a=1", "a=2", "b=0", "b=1")
    torch.testing.assert_close(wanted[MLP].share, torch.tensor([1 / 3] * 3 + [0.5] * 2))
    assert targets(given, "b")[MLP].names == ("b=0", "b=1")
    assert targets(given, "c") == {}


@pytest.mark.parametrize(
    ("values", "cosine"), [(2, sqrt(1 / 2)), (3, sqrt(2 / 3)), (6, sqrt(5 / 6))]
)
def test_an_exact_orthonormal_dictionary_attains_less_than_one_and_scores_one(
    values: int, cosine: float
) -> None:
    """Value v lies along e_v. Centred, it is e_v less the mean of all: .707 at 2 values, .913 at
    6."""
    labels = [{"a": number % values} for number in range(60)]
    given = activations(labels, mlp=EYE[[label["a"] for label in labels]])
    supervised = fit_features(given, attributes=("a",))
    attained = attainable_cosines(supervised.fits[MLP].additive)
    assert attained.tolist() == pytest.approx([cosine] * values)
    wanted = find_targets(supervised, given, attributes=("a",), seed=0)
    own = dictionary(given, 3 * EYE[:values])
    exact = score_geometry(own, wanted, {MLP: torch.ones(values)}, section=ONE_NODE)
    assert exact.nodes[MLP].cosines.diagonal().tolist() == pytest.approx([cosine] * values)
    assert exact.mcc == pytest.approx(1)


def test_what_is_attained_depends_on_how_often_each_value_is_seen() -> None:
    """40 prompts of 0, 15 of 1, 5 of 2: p = 2/3, 1/4, 1/12."""
    labels = [{"a": 0}] * 40 + [{"a": 1}] * 15 + [{"a": 2}] * 5
    given = activations(labels, mlp=EYE[[label["a"] for label in labels]])
    supervised = fit_features(given, attributes=("a",))
    p = np.array([40, 15, 5]) / 60
    expected = [(1 - x) / sqrt((1 - x) ** 2 + sum(p**2) - x**2) for x in p]
    attained = attainable_cosines(supervised.fits[MLP].additive)
    assert attained.tolist() == pytest.approx(expected)
    wanted = find_targets(supervised, given, attributes=("a",), seed=0)
    exact = score_geometry(
        dictionary(given, EYE[:3]), wanted, {MLP: torch.ones(3)}, section=ONE_NODE
    )
    assert exact.mcc == pytest.approx(1)


def test_a_fine_value_attains_what_it_does_among_those_of_its_coarse_one() -> None:
    """Two names of one gender and four of the other: .707 and .866 for names, .707 for genders."""
    names = {"Mary": "F", "Jane": "F", "Bob": "M", "Tom": "M", "Ben": "M", "Max": "M"}
    labels = [{"gender": names[name], "name": name} for name in names for _ in range(10)]
    index = {name: number for number, name in enumerate(names)}
    given = activations(labels, mlp=EYE[[index[label["name"]] for label in labels]])
    supervised = fit_features(
        given, attributes=("gender", "name"), within={"name": "gender"}, coupled=False
    )
    features = supervised.fits[MLP].additive
    attained = dict(zip(features.names, attainable_cosines(features).tolist(), strict=True))
    for name, gender in names.items():
        expected = sqrt(1 / 2) if gender == "F" else sqrt(3 / 4)
        assert attained[f"name={gender}/{name}"] == pytest.approx(expected)
    genders = [attained["gender=F"], attained["gender=M"]]
    p = np.array([1 / 3, 2 / 3])
    assert genders == pytest.approx([(1 - x) / sqrt(2 * (1 - x) ** 2) for x in p])


def test_mcc_by_hand() -> None:
    """Features of `b` are -+e4, of which .707 is attainable. Latents e4 and (-3 e4 + 4 e5)/5:
    cosines 1, cut there, and .6/.707."""
    given = world()
    vectors = torch.stack([3 * EYE[4], -3 * EYE[4] + 4 * EYE[5]])
    two = score(given, dictionary(given, vectors), "b")
    assert two.nodes[MLP].cosines[:, 1].tolist() == pytest.approx([1, -0.6])
    assert two.mcc == pytest.approx((1 + 0.6 * sqrt(2)) / 2)
    assert two.uniqueness == 1
    null = two.nodes[MLP].null.mean()
    expected = (two.mcc - null) / (1 - null)
    assert at_means(two.columns, SCORE.raw) == pytest.approx(expected)


def test_a_feature_without_a_latent_or_with_a_negative_cosine_counts_nothing() -> None:
    """With e4 alone b = 1 is matched, b = 0 has none; with e4 twice b = 0 has cosine -1."""
    given = world()
    assert score(given, dictionary(given, EYE[4:5]), "b").mcc == pytest.approx(0.5)
    assert score(given, dictionary(given, EYE[[4, 4]]), "b").mcc == pytest.approx(0.5)


def test_of_signed_codes_a_direction_counts_either_way() -> None:
    """e4 and e5: b = 1 and b = 0 can both have e4, and one of them does."""
    given = world()
    both = torch.stack([EYE[4], EYE[4] + 2 * EYE[5]])
    assert score(given, dictionary(given, both), "b").mcc == pytest.approx(0.5)
    signed = score(given, dictionary(given, both, signed=True), "b")
    assert signed.mcc == pytest.approx((1 + sqrt(1 / 5) * sqrt(2)) / 2)
    assert (signed.nodes[MLP].cosines >= 0).all()


def test_features_that_share_a_best_latent_are_not_unique() -> None:
    """Features (2, -1, -1)/3, (-1, 2, -1)/3, (-1, -1, 2)/3: -e1 is best for the first and third,
    e6, with cosine 0, for the second."""
    given = world()
    shared = score(given, dictionary(given, torch.stack([-EYE[1], EYE[6]])), "a")
    assert shared.uniqueness == pytest.approx(2 / 3)
    assert score(given, dictionary(given, EYE[:3]), "a").uniqueness == 1


def test_latents_that_are_hardly_active_or_zero_take_no_part() -> None:
    """2 of 300 prompts are under 1 %, 3 are not; a feature on 2 of 300 lets latents take part that
    are as rare."""
    labels = [{"b": number % 2, "rare": int(number < 2)} for number in range(300)]
    values = torch.stack([EYE[0] * label["b"] + 9 * EYE[1] * label["rare"] for label in labels])
    given = activations(labels, mlp=values)
    supervised = fit_features(given, attributes=("b", "rare"))
    codes = torch.zeros(300, 3)
    codes[:2, 0], codes[:3, 1], codes[:, 2] = 1, 1, 1
    own = dictionary(given, torch.stack([EYE[0], EYE[1], torch.zeros(D)]), codes)
    active = {MLP: (codes > 0).float().mean(0)}
    for attribute, taking_part in (("b", [1]), ("rare", [0, 1])):
        wanted = find_targets(supervised, given, attributes=(attribute,), seed=0)
        found = score_geometry(own, wanted, active, section=ONE_NODE)
        assert found.nodes[MLP].latents.tolist() == taking_part


def test_the_matching_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        cosine = torch.rand(6, 4, generator=generator) * 2 - 1
        best = max(
            sum(cosine[row, column].item() for column, row in enumerate(rows))
            for rows in permutations(range(6), 4)
        )
        assert matched(cosine) == pytest.approx(best / 4, abs=1e-6)
        few = cosine[:2]
        best = max(
            few[0, first].item() + few[1, second].item()
            for first, second in permutations(range(4), 2)
        )
        assert matched(few) == pytest.approx(best / 4, abs=1e-6)


def test_the_null_is_of_features_refitted_to_shuffled_labels() -> None:
    """A literal twin: the activations dealt out in the shuffle's order, the labels kept, and
    everything fitted anew; nested attributes too."""
    people = {"Mary": "F", "Jane": "F", "Bob": "M", "Tom": "M"}
    labels = [
        {"gender": people[name], "name": name, "b": b} for name, b in product(people, (0, 1))
    ] * 6
    values = torch.randn(48, D, generator=torch.Generator().manual_seed(0))
    values += torch.stack(
        [EYE[list(people).index(label["name"])] + EYE[6] * label["b"] for label in labels]
    )
    names, within = ("gender", "name", "b"), {"name": "gender"}
    given = activations(labels, mlp=values)
    supervised = fit_features(given, attributes=names, within=within, nuisance=("template",))
    wanted = find_targets(supervised, given, attributes=names, seed=3)[MLP]
    assert wanted.shuffled.shape[0] == SHUFFLES == 20
    kept = [supervised.fits[MLP].additive.names.index(name) for name in wanted.names]
    for number in (0, 7, 19):
        order = _shuffle(48, 3, number)
        dealt = activations(labels, mlp=values[order])
        again = fit_features(dealt, attributes=names, within=within, coupled=False)
        literal = again.fits[MLP].additive.features[kept]
        torch.testing.assert_close(wanted.shuffled[number], literal, atol=1e-5, rtol=1e-5)
    own = dictionary(given, torch.randn(9, D, generator=torch.Generator().manual_seed(1)))
    found = score_geometry(own, {MLP: wanted}, {MLP: torch.ones(9)}, section=ONE_NODE)
    cosine = cosines(own.vectors[MLP], wanted.shuffled[7]) / wanted.attainable
    assert found.nodes[MLP].null[7] == pytest.approx(matched(cosine.clamp(0, 1)), abs=1e-6)


def test_another_seed_shuffles_otherwise_and_the_same_one_alike() -> None:
    given = world(noise=0.3)
    own = dictionary(given, EYE)
    first, again, other = (
        score(given, own, "a", "b", seed=seed).nodes[MLP].null for seed in (0, 0, 1)
    )
    assert len(set(first.tolist())) == 20
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_zero_is_the_null_and_what_falls_short_of_it_is_nothing() -> None:
    assert geometry(np.array([[0.4, 0.4], [1.0, 0.4], [0.7, 0.4]])) == pytest.approx([0, 1, 0.5])
    assert raw_geometry(np.array([[0.1, 0.4]])) == pytest.approx([-0.5])
    assert geometry(np.array([[0.1, 0.4]])) == [0]


def test_above_a_null_of_one_there_is_nothing() -> None:
    """Up to rounding, which would else be all."""
    almost = 1 - 2e-16
    means = np.array([[1.0, 1.0], [almost, 1.0], [1.0, almost]])
    assert raw_geometry(means).tolist() == [0, 0, 0]


def noisy_world() -> World:
    """Three values of `a` and two of `b`, and noise in all directions."""
    labels = [{"a": n % 3, "b": n // 3 % 2} for n in range(360)]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(360, D, generator=generator)
    values += torch.stack([2 * EYE[label["a"]] + 2 * EYE[4 + label["b"]] for label in labels])
    roles = Roles(fit=range(300), decide=in_turn(0, 40), test=in_turn(300, 340))
    facts = Facts(attributes=("a", "b"), changed=("a",))
    return make_world(activations(labels, mlp=values), roles, facts, read={})


def test_told_the_labels_of_other_prompts_nothing_is_found() -> None:
    """Over several deals the mean of what is left is 0 within .05; with the true ones T4 is near
    1."""
    made = noisy_world()
    node_set = made.node_set()
    own = claimed(made.every, {MLP: made.every.values[MLP].relu()}, {MLP: EYE})
    told = node_set.contender(own)
    true = measure(node_set, [told], split="test")["claimed"]
    assert at_means(true.columns, SCORE.raw) > 0.9
    left: list[float] = []
    for seed in range(8):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed)).tolist()
        fit = with_labels_of(node_set.fit, order)
        features = fit_features(fit, attributes=("a", "b"), coupled=False)
        contender = Contender("dealt", own, told.candidates, features, fit)
        part = measure(node_set, [contender], split="test")["dealt"]
        assert part.nodes[MLP].features == true.nodes[MLP].features
        left.append(at_means(part.columns, SCORE.raw))
    assert abs(np.mean(left)) < 0.15


def test_supervised_features_match_themselves_however_rare_and_coupled_nodes_too() -> None:
    made = noisy_world()
    node_set = made.node_set()
    supervised = node_set.contender(node_set.data.supervised)
    part = measure(node_set, [supervised], split="decide")["supervised"]
    assert part.mcc == pytest.approx(1)
    assert part.uniqueness == 1


def coupled_world() -> World:
    """Every pair of values of `a` and `b` has a direction of its own."""
    labels = [{"a": n % 2, "b": n // 2 % 3} for n in range(90)]
    generator = torch.Generator().manual_seed(0)
    values = 0.1 * torch.randn(90, D, generator=generator)
    values += torch.stack([EYE[label["a"] + 2 * label["b"]] for label in labels])
    roles = Roles(fit=range(60), decide=in_turn(0, 40), test=in_turn(60, 90))
    facts = Facts(attributes=("a", "b"), changed=("a",))
    return make_world(activations(labels, mlp=values), roles, facts, read={})


def test_where_features_are_coupled_they_are_held_against_those_that_are_not() -> None:
    made = coupled_world()
    node_set = made.node_set()
    assert made.data.supervised.fits[MLP].coupled is not None
    supervised = node_set.contender(node_set.data.supervised)
    part = measure(node_set, [supervised], split="test")["supervised"]
    assert part.nodes[MLP].features == ("a=0", "a=1")
    assert part.nodes[MLP].cosines.shape == (6, 2)


def test_what_has_no_latents_is_not_measured_and_dead_latents_score_nothing() -> None:
    made = noisy_world()
    node_set = made.node_set()
    nothing = Contender(
        "nothing", node_set.data.supervised, None, node_set.data.supervised, node_set.fit
    )
    assert measure(node_set, [nothing], split="test") == {}
    given = world()
    found = score(given, dictionary(given, torch.zeros(0, D)), "a", "b")
    assert (found.mcc, found.nodes[MLP].null.max(), found.uniqueness) == (0, 0, 0)
    assert at_means(found.columns, SCORE.statistic) == 0


def test_nodes_are_weighed_by_their_statistic_and_those_without_features_left_out() -> None:
    """MCC 1 at mlp, 1/2 at z, weights 3 and 1: .875."""
    labels = [{"b": number % 2, "c": number // 2 % 2} for number in range(40)]
    sign = torch.tensor([2.0 * label["b"] - 1 for label in labels])[:, None]
    given = activations(labels, mlp=sign * EYE[0], z=sign * torch.eye(D_HEAD)[0])
    supervised = fit_features(given, attributes=("b", "c"))
    vectors = {MLP: torch.stack([EYE[0], -EYE[0]]), Z: torch.eye(D_HEAD)[:1]}
    own = claimed(given, {MLP: torch.ones(40, 2), Z: torch.ones(40, 1)}, vectors)
    section = Section("x", {MLP: 3.0, Z: 1.0})
    active: dict[Node, torch.Tensor] = {MLP: torch.ones(2), Z: torch.ones(1)}
    wanted = find_targets(supervised, given, attributes=("b",), seed=0)
    found = score_geometry(own, wanted, active, section=section)
    assert found.mcc == pytest.approx(0.875)
    nulls = {node: own.null.mean() for node, own in found.nodes.items()}
    assert found.columns.values[:, 1].mean() == pytest.approx((3 * nulls[MLP] + nulls[Z]) / 4)
    alone = score_geometry(own, {MLP: wanted[MLP]}, active, section=section)
    assert alone.mcc == pytest.approx(1)


def test_chance_is_one_where_a_node_holds_one_direction_and_less_where_it_holds_more() -> None:
    noise = torch.randn(60, D, generator=torch.Generator().manual_seed(0))
    labels = [{"a": number % 2} for number in range(60)]
    for directions, low, high in ((1, 0.999, 1.001), (D, 0.0, 0.9)):
        values = noise + torch.tensor([label["a"] for label in labels])[:, None] * EYE[0]
        given = activations(labels, mlp=values * (torch.arange(D) < directions))
        supervised = fit_features(given, attributes=("a",))
        wanted = find_targets(supervised, given, attributes=("a",), seed=0)
        assert low <= chance(wanted, ONE_NODE).mean <= high


def test_the_spread_of_chance_is_that_of_shuffles_in_units_of_the_score() -> None:
    """A literal twin: the T4 of every shuffle's refit by the mean of all as its zero."""
    given = world()
    supervised = fit_features(given, attributes=("a",))
    wanted = find_targets(supervised, given, attributes=("a",), seed=0)
    (target,) = wanted.values()
    shuffled = [
        matched((cosines(target.directions, one) / target.attainable).clamp(0, 1))
        for one in target.shuffled
    ]
    zero = sum(shuffled) / len(shuffled)
    scores = [(value - zero) / (1 - zero) for value in shuffled]
    expected = (sum(score**2 for score in scores) / (len(scores) - 1)) ** 0.5
    found = chance(wanted, ONE_NODE)
    assert (found.mean, found.spread) == pytest.approx((zero, expected), rel=1e-6)


@pytest.mark.parametrize("angle", [np.arccos(0.6), 1e-3, 1e-6])
def test_principal_angles_are_exact_however_small(angle: float) -> None:
    """`b` alone has one dimension of 8; the matched latent is off it by the angle. From a cosine in
    float32 the smallest would be 0."""
    given = world()
    vector = np.cos(angle) * EYE[4] + np.sin(angle) * EYE[5]
    found = score(given, dictionary(given, vector[None].float()), "b")
    assert found.nodes[MLP].angles == pytest.approx((angle,), rel=1e-4)
    assert found.angle == pytest.approx(angle, rel=1e-4)


def test_what_rounding_leaves_of_opposite_latents_is_no_direction_of_an_angle() -> None:
    """Two attributes of two values, each along one axis. The first two latents are opposite but for
    1e-7 along a third axis; with the next two the four span what the features span: angles 0, 0."""
    labels = [{"a": n % 2, "b": n // 2 % 2, "c": n // 4 % 2} for n in range(40)]
    values = torch.stack([(2 * r["a"] - 1) * EYE[4] + (2 * r["b"] - 1) * EYE[5] for r in labels])
    given = activations(labels, mlp=values)
    vectors = torch.stack([1e-7 * EYE[7] - EYE[4], EYE[4], -EYE[5], EYE[5]])
    found = score(given, dictionary(given, vectors), "a", "b")
    assert found.mcc == pytest.approx(1)
    assert found.nodes[MLP].angles == pytest.approx((0, 0), abs=1e-6)


def test_features_that_fill_the_space_have_no_angles() -> None:
    given = world()
    found = score(given, dictionary(given, EYE), "a", "b")
    assert found.angle is None
    names = [row.metric for row in SCORE.details(found, DECIDED)]
    assert names == ["MCC", "MCC null", "uniqueness"]


def test_cosines_do_not_depend_on_lengths() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn(5, 7, generator=generator), torch.randn(3, 7, generator=generator)
    torch.testing.assert_close(cosines(4 * first, second / 9), cosines(first, second))
    torch.testing.assert_close(cosines(-first, second), -cosines(first, second))
    signed = cosines(first, second, signed=True)
    torch.testing.assert_close(cosines(-first, second, signed=True), signed)
    torch.testing.assert_close(signed, cosines(first, second).abs())


def test_encoder_rows_and_the_bias_row_are_seen_through_the_node_s_weights() -> None:
    """At z a direction is seen as W_V times it: an encoder row that a feature is made of lies along
    the feature, and so does a bias."""
    given = activations([{"a": number % 2} for number in range(40)], z=torch.zeros(40, D_HEAD))
    weights = given.anatomy.blocks[0].W_V[0]
    residual = torch.randn(3, D, generator=torch.Generator().manual_seed(2))
    encoder = ReLU(residual[:2].T.contiguous(), torch.zeros(2))
    suite = assemble("own", [SAE("own", encoder, residual[1:], residual[2], Node("resid_pre", 0))])
    judged = project(suite, given.anatomy, [Z], moments(given))
    directions = torch.stack([weights @ residual[1], -(weights @ residual[2])])
    half = torch.full((2,), 0.5)
    target = Targets(("a=0", "a=1"), directions, half, half, directions[None])
    node = NodeGeometry(
        target.names, torch.tensor([1]), torch.zeros(1, 2), 0.0, np.zeros(20), 0.0, ()
    )
    found = encoder_cosines(judged, Z, node, target)
    assert found.encoder[0, 0].item() == pytest.approx(1)
    assert found.bias[1].item() == pytest.approx(-1)
    assert found.encoder.shape == (1, 2)
