"""Controls by hand: each is the judged SAE but for the one thing that its name says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sage.dictionaries.activations import Activations, moments, sites
from sage.dictionaries.controls import (
    best,
    controls,
    identity,
    mean_only,
    neurons,
    principal_axes,
    shuffle_labels,
    untrained,
)
from sage.dictionaries.projected import ProjectedSuite, project, project_direction
from sage.nodes import Node, Section, parse_node
from sage.saes.architectures.topk import TopK
from sage.saes.suite import assemble
from tests.toy import NODES, D, activations, identity_sae, relu_sae, suite

PRE, Z, Q = Node("resid_pre", 1), parse_node("1.1.z@END"), parse_node("1.0.q@END")
SECTION = Section("IO", {node: 1.0 + index for index, node in enumerate(NODES)})


def judged(given: Activations) -> ProjectedSuite:
    return project(suite(given), given.anatomy, given.nodes, moments(given))


def made(given: Activations, *, seed: int = 0) -> dict[str, ProjectedSuite]:
    found = controls(judged(given), given, section=SECTION, seed=seed).dictionaries
    return {control.name: control for control in found if isinstance(control, ProjectedSuite)}


def with_stream(given: Activations, stream: torch.Tensor) -> Activations:
    return replace(given, streams={PRE: stream})


def test_every_control_is_there_with_its_own_l0() -> None:
    given = activations("gpt2", prompts=12)
    found = controls(judged(given), given, section=SECTION)
    names = [control.name for control in found.dictionaries]
    assert names == [
        "identity",
        "mean only",
        "random",
        "permuted",
        "untrained",
        "PCA",
        "neurons",
        "best-1",
        "best-4",
        "best-16",
        "best-64",
    ]
    assert list(found.l0) == names[2:]
    own = np.mean(list(judged(given).l0(given).values()))
    assert (
        found.l0["random"]
        == found.l0["permuted"]
        == found.l0["best-16"]
        == found.l0["best-64"]
        == pytest.approx(own)
    )
    assert found.l0["best-1"] < found.l0["best-4"] < own
    rounded = np.mean([round(value) for value in judged(given).l0(given).values()])
    assert found.l0["PCA"] == found.l0["neurons"] == pytest.approx(rounded)
    assert 0 < found.l0["untrained"] <= rounded
    assert [control.name for control in found.dictionaries if not control.signed] == [
        "PCA",
        "neurons",
    ]


def test_identity_and_mean_only_reconstruct_and_have_nothing_to_edit_with() -> None:
    base, target = activations("gpt2", seed=1), activations("gpt2", seed=2)
    for control in (identity(base.anatomy), mean_only(base.anatomy, moments(base))):
        edited = control.edit(base, target, ks=(0, 4))[4]
        assert edited.picks.eq(0).all()
        for node in base.nodes:
            expected = (
                base.values[node]
                if control.name == "identity"
                else base.values[node].mean(0).expand(len(base), -1)
            )
            torch.testing.assert_close(control.only({}).reconstruct(base)[node], expected)
            assert torch.equal(edited.values[node], base.values[node])
            assert control.codes(base)[node].shape == (len(base), 0)
            assert control.directions(node).shape == (0, base.values[node].shape[1])


def test_random_and_permuted_keep_the_codes_and_the_lengths() -> None:
    """So encoder-only scores cannot move. Permuting keeps the set of directions; random ones are
    new at every hook and for every seed."""
    given = activations("gpt2")
    own, found, again, reseeded = judged(given), made(given), made(given), made(given, seed=1)
    for name in ("random", "permuted"):
        for node, codes in found[name].codes(given).items():
            assert torch.equal(codes, own.codes(given)[node])
            assert not torch.allclose(found[name].directions(node), own.directions(node))
    for hook, sae in own.suite.saes.items():
        drawn = found["random"].decoder(sae)
        torch.testing.assert_close(drawn.norm(dim=-1), sae.W_dec.norm(dim=-1))
        assert (drawn @ sae.W_dec.T).abs().mean() < 0.6 * (
            sae.W_dec @ sae.W_dec.T
        ).abs().diagonal().mean()
        dealt = found["permuted"].decoder(sae)
        assert sorted(map(tuple, dealt.tolist())) == sorted(map(tuple, sae.W_dec.tolist()))
        torch.manual_seed(0)
        plain = torch.randn(sae.W_dec.shape)
        assert torch.cosine_similarity(drawn, plain).abs().max() < 0.95
        elsewhere = replace(sae, hook=Node("resid_pre", hook.layer + 7))
        assert torch.equal(drawn, again["random"].decoder(sae))
        assert not torch.allclose(drawn, reseeded["random"].decoder(sae))
        assert not torch.allclose(drawn, found["random"].decoder(elsewhere))


def test_random_directions_are_seen_through_the_same_weights() -> None:
    given = activations("neox", [Z])
    own, random = judged(given), made_one(given, "random")
    directions = project_direction(given.anatomy, Z, random.decoder(own.suite.saes[PRE]))
    bias = own.reconstruct(given)[Z] - own.codes(given)[Z] @ own.directions(Z)
    torch.testing.assert_close(
        random.reconstruct(given)[Z], bias + own.codes(given)[Z] @ directions, atol=2e-5, rtol=1e-5
    )


def made_one(given: Activations, name: str) -> ProjectedSuite:
    return made(given)[name]


def test_untrained_is_the_k_largest_inner_products_with_unit_directions() -> None:
    given = activations("gpt2")
    sae = untrained(suite(given).saes[PRE], k=3, seed=0)
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(9))
    x = given.streams[PRE][0]
    expected = np.zeros((len(x), 9), dtype=np.float32)
    for token, inner in enumerate(x.numpy() @ sae.W_dec.numpy().T):
        for latent in np.argsort(-inner)[:3]:
            expected[token, latent] = max(inner[latent], 0)
    np.testing.assert_allclose(sae.encode(x), expected, atol=1e-6)
    assert not sae.b_dec.any()
    assert sae.hook == PRE


def planes() -> Activations:
    """Two prompts of BOS and three tokens x = 5 e0 + c0 e0 + c1 e1 with c0 = 4, -4, 4, -4, 0, 0 and
    c1 = 0, 0, 1, -1, 2, -2."""
    stream = torch.zeros(2, 4, D)
    stream[:, 1:, 0] = 5 + torch.tensor([[4.0, -4.0, 4.0], [-4.0, 0.0, 0.0]])
    stream[:, 1:, 1] = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 2.0, -2.0]])
    stream[:, 0] = 100
    given = activations("gpt2", [Q], prompts=2)
    prompts = tuple(replace(prompt, ids=(0, 0, 0, 0), index={"END": 3}) for prompt in given.prompts)
    return replace(with_stream(given, stream), prompts=prompts)


def test_pca_by_hand() -> None:
    """Mean 5 e0; the leading axis is that of the second moments about it; axes are orthonormal in
    all dimensions."""
    given = planes()
    mean, axes = principal_axes(given, PRE)
    torch.testing.assert_close(mean, 5 * torch.eye(D)[0])
    torch.testing.assert_close(
        axes[0].abs(), torch.tensor(_first_axis()).float(), atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(axes @ axes.T, torch.eye(D), atol=1e-5, rtol=1e-5)


def _first_axis() -> list[float]:
    """The leading eigenvector of [[64, 8], [8, 10]]: sum of c0^2 = 64, of c0 c1 = 4 + 4, of c1^2 =
    10."""
    _, vectors = np.linalg.eigh(np.array([[64.0, 8.0], [8.0, 10.0]]))
    return [*np.abs(vectors[:, 1]), *[0.0] * (D - 2)]


def test_neurons_keep_the_largest_coordinates_about_the_mean_each_sign_a_latent() -> None:
    """k = 1. Tokens less the mean: (4, 1), (-4, -1), (0, 2), (0, -2): kept +e0, -e0, +e1, -e1."""
    given = planes()
    assert torch.equal(neurons(given, PRE).axes, torch.eye(D))
    dictionary = made_neurons(given)
    sae = dictionary.suite.saes[PRE]
    codes = sae.encode(given.streams[PRE][[0, 1, 1, 1], [3, 1, 2, 3]])
    assert [(row.nonzero().flatten().tolist(), row.max().item()) for row in codes] == [
        ([0], 4),
        ([D], 4),
        ([1], 2),
        ([D + 1], 2),
    ]
    torch.testing.assert_close(
        sae.reconstruct(given.streams[PRE][0, 3]), 5 * torch.eye(D)[0] + 4 * torch.eye(D)[0]
    )
    assert dictionary.directions(Q).shape == (2 * D, 5)
    torch.testing.assert_close(dictionary.directions(Q)[:D], -dictionary.directions(Q)[D:])


def made_neurons(given: Activations) -> ProjectedSuite:
    """Neurons beside an SAE with one active latent."""
    one = identity_sae(PRE, W_dec=torch.zeros(2 * D, D))
    sparse = replace(one, encoder=untrained(one, k=1, seed=0).encoder)
    own = project(assemble("one", [sparse]), given.anatomy, [Q], moments(given))
    found = controls(own, given, section=Section("IO", {Q: 1.0}))
    return next(
        control
        for control in found.dictionaries
        if control.name == "neurons" and isinstance(control, ProjectedSuite)
    )


def test_bases_leave_bos_out_of_the_fit_and_pass_it_through() -> None:
    """The token of 100s at position 0 would otherwise be the first axis."""
    given = planes()
    assert not made_neurons(given).suite.saes[PRE].reads_bos
    shifted = with_stream(given, given.streams[PRE].clone())
    shifted.streams[PRE][:, 0] = -7
    assert torch.equal(principal_axes(shifted, PRE).axes, principal_axes(given, PRE).axes)
    without = replace(given, bos=False)
    assert not torch.allclose(principal_axes(without, PRE).mean, principal_axes(given, PRE).mean)


def test_what_a_latent_explains_alone_is_the_variance_that_it_takes_away() -> None:
    given = activations("neox", prompts=30)
    dictionary = judged(given)
    explained = dictionary.explained(given)
    for node in given.nodes:
        y, alpha, u = (
            given.values[node].double(),
            dictionary.codes(given)[node].double(),
            dictionary.directions(node).double(),
        )
        centred = y - y.mean(0)
        for latent in range(9):
            left = centred - (alpha[:, latent] - alpha[:, latent].mean())[:, None] * u[latent]
            assert explained[node][latent].item() == pytest.approx(
                1 - (left.square().sum() / centred.square().sum()).item(), abs=1e-4
            )


def test_best_m_keeps_at_each_site_what_explains_most_weighted_by_the_statistic() -> None:
    given = activations("gpt2", prompts=30)
    own = judged(given)
    explained = own.explained(given)
    for m, chosen in zip((1, 4), best(own, given, section=SECTION, sizes=(1, 4)), strict=True):
        for nodes in sites(given.nodes, given.anatomy).values():
            gain = sum(SECTION.statistic[node] * explained[node].numpy() for node in nodes)
            expected = np.zeros(9, dtype=bool)
            expected[np.argsort(-gain)[:m]] = True
            for node in nodes:
                kept = torch.from_numpy(expected)
                assert torch.equal(chosen.codes(given)[node], own.codes(given)[node] * kept)


def test_controls_that_know_nothing_of_a_suite_but_its_width_and_sparsity_are_the_same_for_all_such_suites() -> (
    None
):
    given = activations("gpt2")
    one, other = (topk_suite(given, k=3, seed=seed) for seed in (0, 1))
    sparser, wider = topk_suite(given, k=2, seed=1), topk_suite(given, k=3, seed=1, width=11)
    found, same, *different = (by_name(own, given) for own in (one, other, sparser, wider))
    for name in ("untrained", "PCA", "neurons"):
        assert found[name].content == same[name].content
        assert found[name].content is not None
        for node, values in found[name].reconstruct(given).items():
            assert values.equal(same[name].reconstruct(given)[node])
        assert found[name].content != different[0][name].content
    assert found["untrained"].content != different[1]["untrained"].content
    assert found["PCA"].content == different[1]["PCA"].content
    for name in ("random", "permuted", "best-1"):
        assert found[name].content is None
    l0: dict[str, float] = {}
    first = controls(one, given, section=SECTION, known=l0).l0
    assert l0 == {found[name].content: first[name] for name in ("untrained", "PCA", "neurons")}
    l0[found["PCA"].content] = -1.0
    assert controls(other, given, section=SECTION, known=l0).l0["PCA"] == -1
    assert found["PCA"].only({Q: torch.ones(2 * D, dtype=torch.bool)}).content is None


def topk_suite(given: Activations, *, k: int, seed: int, width: int = 9) -> ProjectedSuite:
    saes = [relu_sae(hook, width=width, seed=seed) for hook in suite(given).saes]
    always_on, plain = torch.full((width,), 50.0), torch.ones(width)
    made = [
        replace(sae, encoder=TopK(sae.encoder.W_enc, always_on, plain, k)) for sae in saes
    ]
    return project(assemble("topk", made), given.anatomy, given.nodes, moments(given))


def by_name(own: ProjectedSuite, given: Activations) -> dict[str, ProjectedSuite]:
    return {
        control.name: control
        for control in controls(own, given, section=SECTION).dictionaries
        if isinstance(control, ProjectedSuite)
    }


def test_shuffled_labels_are_the_same_labels_on_other_prompts() -> None:
    given = activations("gpt2", prompts=60)
    shuffled = shuffle_labels(given, seed=0)
    assert shuffled.values is given.values

    def labels(one: Activations) -> list[tuple[object, object]]:
        return list(zip(one.labels("colour"), one.labels("place"), strict=True))

    assert sorted(map(str, labels(shuffled))) == sorted(map(str, labels(given)))
    agree = np.mean([new == old for new, old in zip(labels(shuffled), labels(given), strict=True)])
    assert agree < 0.4
    assert [prompt.ids for prompt in shuffled.prompts] == [prompt.ids for prompt in given.prompts]
