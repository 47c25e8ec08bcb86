"""T4 worked by hand, and its null against a literal twin."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch

from linear import D_HEAD, MLP, Claimed, D, Z, activations, claimed
from sage.dictionaries.activations import Activations, moments
from sage.dictionaries.projected import project, project_direction
from sage.dictionaries.supervised import fit_features
from sage.nodes import Node, Section
from sage.saes.architectures.relu import ReLU
from sage.saes.sae import SAE
from sage.saes.suite import assemble
from sage.scores.geometry import (
    Geometry,
    NodeGeometry,
    Targets,
    cosines,
    beside,
    matched,
    score_geometry,
    targets,
)

EQUAL = Section("x", {MLP: 1.0})


def world(**noise: float) -> Activations:
    """`a` in three values along e0, e1, e2, `b` in two along e4, `c` in two with nothing; 72
    prompts, every combination equally often."""
    labels = [{"a": a, "b": b, "c": c} for a, b, c in product(range(3), range(2), range(2))] * 6
    generator = torch.Generator().manual_seed(0)
    values = torch.stack(
        [torch.eye(D)[int(own["a"])] + 2 * int(own["b"]) * torch.eye(D)[4] for own in labels]
    )
    return activations(
        labels,
        mlp=values + noise.get("noise", 0.0) * torch.randn(values.shape, generator=generator),
    )


def dictionary(
    given: Activations, vectors: torch.Tensor, codes: torch.Tensor | None = None, **fields: object
) -> Claimed:
    codes = torch.ones(len(given), len(vectors)) if codes is None else codes
    return claimed(given, {MLP: codes}, {MLP: vectors}, **fields)


def score(given: Activations, own: Claimed, *attributes: str, **options: float) -> Geometry:
    supervised = fit_features(given, attributes=("a", "b", "c"))
    active = {node: (codes > 0).float().mean(0) for node, codes in own.codes(given).items()}
    wanted = targets(supervised, given, attributes=attributes)
    return score_geometry(own, wanted, active, fit=given, section=EQUAL, **options)


def test_only_attributes_that_carry_a_share_of_the_variance_take_part() -> None:
    """Var = 2/3 of `a` + 1 of `b`; `c` carries noise alone: about 2 (number of features) / 72 of
    .0001."""
    given = world(noise=0.01)
    supervised = fit_features(given, attributes=("a", "b", "c"))
    wanted = targets(supervised, given, attributes=("a", "b", "c"))
    assert wanted[MLP].names == ("a=0", "a=1", "a=2", "b=0", "b=1")
    torch.testing.assert_close(wanted[MLP].share, torch.tensor([1 / 3] * 3 + [0.5] * 2))
    assert targets(supervised, given, attributes=("b",))[MLP].names == ("b=0", "b=1")
    assert targets(supervised, given, attributes=("c",)) == {}


def test_mcc_by_hand() -> None:
    """Features of `b` are -+e4. Latents e4 and (-3 e4 + 4 e5)/5: cosines 1 and .6, MCC .8. With e4
    alone one is unmatched: 1/2."""
    given = world()
    eye = torch.eye(D)
    two = score(given, dictionary(given, torch.stack([3 * eye[4], -3 * eye[4] + 4 * eye[5]])), "b")
    assert two.mcc == pytest.approx(0.8)
    assert two.nodes[MLP].cosines[:, 1].tolist() == pytest.approx([1, -0.6])
    assert two.uniqueness == 1
    assert two.score.value == pytest.approx((0.8 - two.null.value) / (1 - two.null.value))
    assert score(given, dictionary(given, eye[4:5]), "b").mcc == pytest.approx(0.5)


def test_a_free_sign_counts_either_way() -> None:
    given = world()
    vectors = torch.eye(D)[[4, 5]]
    assert score(given, dictionary(given, vectors), "b").mcc == pytest.approx(0.5)
    assert score(given, dictionary(given, vectors, signed=False), "b").mcc == pytest.approx(
        (1 + 0) / 2
    )
    both = torch.stack([torch.eye(D)[4], torch.eye(D)[4] + torch.eye(D)[5]])
    assert score(given, dictionary(given, both, signed=False), "b").mcc == pytest.approx(
        (1 + 0.5**0.5) / 2
    )
    assert score(given, dictionary(given, both), "b").mcc == pytest.approx((1 - 0.5**0.5) / 2)


def test_features_that_share_a_best_latent_are_not_unique() -> None:
    """Features (2, -1, -1)/3, (-1, 2, -1)/3, (-1, -1, 2)/3: -e1 is best for the first and third,
    e6, with cosine 0, for the second."""
    given = world()
    eye = torch.eye(D)
    assert score(
        given, dictionary(given, torch.stack([-eye[1], eye[6]])), "a"
    ).uniqueness == pytest.approx(2 / 3)
    assert score(given, dictionary(given, eye[:3]), "a").uniqueness == 1


def test_latents_that_are_hardly_active_or_zero_take_no_part() -> None:
    """2 of 300 prompts are under 1 %, 3 are not; a feature on 2 of 300 lets latents take part that
    are as rare."""
    labels = [{"b": number % 2, "rare": int(number < 2)} for number in range(300)]
    values = torch.stack(
        [torch.eye(D)[0] * int(own["b"]) + 9 * torch.eye(D)[1] * int(own["rare"]) for own in labels]
    )
    given = activations(labels, mlp=values)
    supervised = fit_features(given, attributes=("b", "rare"))
    codes = torch.zeros(300, 3)
    codes[:2, 0], codes[:3, 1], codes[:, 2] = 1, 1, 1
    own = dictionary(given, torch.stack([torch.eye(D)[0], torch.eye(D)[1], torch.zeros(D)]), codes)
    active = {MLP: (codes > 0).float().mean(0)}
    common, rare = (targets(supervised, given, attributes=(name,)) for name in ("b", "rare"))
    assert score_geometry(own, common, active, fit=given, section=EQUAL).nodes[
        MLP
    ].latents.tolist() == [1]
    assert score_geometry(own, rare, active, fit=given, section=EQUAL).nodes[
        MLP
    ].latents.tolist() == [0, 1]
    assert score_geometry(own, common, active, fit=given, section=EQUAL, min_active=0.0).nodes[
        MLP
    ].latents.tolist() == [0, 1]


def test_supervised_features_match_themselves() -> None:
    given = world(noise=0.1)
    supervised = fit_features(given, attributes=("a", "b", "c"), coupled=False)
    active = {MLP: supervised.codes(given)[MLP].mean(0)}
    wanted = targets(supervised, given, attributes=("a", "b"))
    found = score_geometry(supervised, wanted, active, fit=given, section=EQUAL)
    assert found.mcc == pytest.approx(1)
    assert found.score.value == pytest.approx(1)
    assert found.uniqueness == 1


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


def test_random_directions_score_their_null_and_nothing_more() -> None:
    """As many random residual directions seen through the same weights: T4 is 0 within its own
    spread, at both kinds of node."""
    labels = [{"a": value} for value in range(4)] * 10
    scores = {}
    for node, width in ((MLP, D), (Z, D_HEAD)):
        generator = torch.Generator().manual_seed(2)
        values = torch.randn(4, width, generator=generator)[[int(own["a"]) for own in labels]]
        given = activations(labels, **{"mlp" if node == MLP else "z": values})
        wanted = targets(fit_features(given, attributes=("a",)), given, attributes=("a",))
        draws = []
        for _ in range(40):
            vectors = project_direction(given.anatomy, node, torch.randn(6, D, generator=generator))
            own = claimed(given, {node: torch.ones(40, 6)}, {node: vectors})
            found = score_geometry(
                own, wanted, {node: torch.ones(6)}, fit=given, section=Section("x", {node: 1.0})
            )
            draws.append(found.score.value)
        assert found.null.value > 0.2
        scores[node] = np.mean(draws) / (np.std(draws) / 40**0.5 + found.null.estimate().stderr)
    assert all(abs(value) < 4 for value in scores.values()), scores


def test_the_null_is_the_mean_of_twenty_draws_of_matched_random_directions() -> None:
    given = world()
    found = score(given, dictionary(given, torch.eye(D)), "a", "b")
    assert found.nodes[MLP].null.shape == (20,)
    assert len(set(found.nodes[MLP].null.tolist())) == 20
    assert found.null.value == pytest.approx(found.nodes[MLP].null.mean())
    assert found.null.estimate().stderr == pytest.approx(
        found.nodes[MLP].null.std() / 20**0.5, rel=0.1
    )
    again = score(given, dictionary(given, torch.eye(D)), "a", "b")
    assert np.array_equal(again.nodes[MLP].null, found.nodes[MLP].null)
    assert not np.array_equal(
        score(given, dictionary(given, torch.eye(D)), "a", "b", seed=1).nodes[MLP].null,
        found.nodes[MLP].null,
    )


def test_nodes_are_weighed_by_their_statistic_and_those_without_features_left_out() -> None:
    """MCC 1 at mlp, 1/2 at z, weights 3 and 1: .875. A third attribute lives nowhere."""
    labels = [{"b": number % 2, "c": number // 2 % 2} for number in range(40)]
    sign = torch.tensor([2.0 * int(own["b"]) - 1 for own in labels])[:, None]
    given = activations(labels, mlp=sign * torch.eye(D)[0], z=sign * torch.eye(D_HEAD)[0])
    supervised = fit_features(given, attributes=("b", "c"))
    vectors = {MLP: torch.stack([torch.eye(D)[0], -torch.eye(D)[0]]), Z: torch.eye(D_HEAD)[:1]}
    own = claimed(given, {MLP: torch.ones(40, 2), Z: torch.ones(40, 1)}, vectors)
    section = Section("x", {MLP: 3.0, Z: 1.0})
    active: dict[Node, torch.Tensor] = {MLP: torch.ones(2), Z: torch.ones(1)}
    found = score_geometry(
        own, targets(supervised, given, attributes=("b",)), active, fit=given, section=section
    )
    assert found.mcc == pytest.approx(0.875)
    nulls = {node: one.null.mean() for node, one in found.nodes.items()}
    assert found.null.value == pytest.approx((3 * nulls[MLP] + nulls[Z]) / 4)
    one = {MLP: targets(supervised, given, attributes=("b",))[MLP]}
    assert score_geometry(own, one, active, fit=given, section=section).mcc == pytest.approx(1)


def test_a_dictionary_without_latents_scores_zero() -> None:
    given = world()
    found = score(given, dictionary(given, torch.zeros(0, D)), "a", "b")
    assert (found.mcc, found.null.value, found.score.value, found.uniqueness) == (0, 0, 0, 0)


def test_principal_angles_of_the_leading_features() -> None:
    """`b` alone has one dimension of 8: the matched latent (3, 4)/5 off it by acos .6. All features
    of a and b fill more than a quarter."""
    given = world()
    eye = torch.eye(D)
    found = score(given, dictionary(given, (3 * eye[4] + 4 * eye[5])[None]), "b")
    assert found.nodes[MLP].angles == pytest.approx((np.arccos(0.6),))
    assert found.angle == pytest.approx(np.arccos(0.6))
    assert score(given, dictionary(given, eye), "a", "b").angle is None


def test_cosines_do_not_depend_on_lengths() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = torch.randn(5, 7, generator=generator), torch.randn(3, 7, generator=generator)
    torch.testing.assert_close(cosines(4 * first, second / 9), cosines(first, second))
    torch.testing.assert_close(
        cosines(-first, second, signed=False), cosines(first, second, signed=False)
    )


def test_encoder_rows_and_the_bias_row_are_seen_through_the_node_s_weights() -> None:
    """At z a direction is seen as W_V times it: an encoder row that a feature is made of lies along
    the feature, and so does a bias."""
    given = activations([{"a": number % 2} for number in range(40)], z=torch.zeros(40, D_HEAD))
    weights = given.anatomy.blocks[0].W_V[0]
    residual = torch.randn(3, D, generator=torch.Generator().manual_seed(2))
    encoder = ReLU(residual[:2].T.contiguous(), torch.zeros(2))
    suite = assemble("own", [SAE("own", encoder, residual[1:], residual[2], Node("resid_pre", 0))])
    judged = project(suite, given.anatomy, [Z], moments(given))
    target = Targets(
        ("a=0", "a=1"),
        torch.stack([weights @ residual[1], -(weights @ residual[2])]),
        torch.full((2,), 0.5),
    )
    own = NodeGeometry(
        target.names, torch.tensor([1]), torch.zeros(1, 2), 0.0, np.zeros(20), 0.0, ()
    )
    found = encoder_cosines(judged, Z, own, target)
    assert found.encoder[0, 0].item() == pytest.approx(1)
    assert found.bias[1].item() == pytest.approx(-1)
    assert found.encoder.shape == (1, 2)
