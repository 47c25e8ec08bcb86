"""Controls by hand: each is the judged SAE but for the one thing that its name says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sage.dictionaries import controls
from sage.dictionaries.activations import Activations, moments, sites
from sage.dictionaries.controls import (
    Control,
    ControlModule,
    Setting,
    control_names,
    load_control,
    make_controls,
    rivals,
)
from sage.dictionaries.controls.axes import principal_axes
from sage.dictionaries.controls.untrained import untrained
from sage.dictionaries.controls.without_latents import identity, mean_only
from sage.dictionaries.dictionary import Dictionary, coded_alike
from sage.dictionaries.edits import copying
from sage.dictionaries.projected import EVERY, ProjectedSuite, explained, mean_l0, project
from sage.dictionaries.projection import project_direction
from sage.errors import UnknownName
from sage.nodes import Node, Section, parse_node
from sage.saes.architectures.topk import TopK
from sage.saes.sae import Normalisation
from sage.saes.suite import assemble
from tests.toy import NODES, D, activations, identity_sae, relu_sae, suite

PRE, Z, Q = Node("resid_pre", 1), parse_node("1.1.z@END"), parse_node("1.0.q@END")
SECTION = Section("IO", {node: 1.0 + index for index, node in enumerate(NODES)})
NAMES = (
    "mean only", "random", "permuted", "untrained", "text lookup", "task lookup", "PCA", "neurons",
    "best-1", "best-4", "best-16", "best-64", "identity",
)  # fmt: skip

# What a newcomer writes: the SAE's own codes on its own directions turned round.
MIRRORED = """
from dataclasses import replace

from sage.dictionaries.controls.setting import EVERY_SCORE

NAMES = ("mirrored",)
RIVAL = EVERY_SCORE


def make(name, setting):
    return replace(setting.judged, name=name, decoder=lambda sae, latents: -sae.W_dec[latents])


def depends(name, setting):
    return None
"""


def project_suite(given: Activations, **changes: object) -> ProjectedSuite:
    return project(suite(given, **changes), given.anatomy, given.nodes, moments(given))


def setting(given: Activations, judged: ProjectedSuite | None = None, *, seed: int = 0) -> Setting:
    return Setting(judged or project_suite(given), given, SECTION, seed)


def dictionaries(where: Setting, *names: str) -> dict[str, Dictionary]:
    """These controls by name; all there are where none is named."""
    return {
        control.name: control.dictionary
        for control in make_controls(where, among=names or control_names())
    }


def control(where: Setting, name: str) -> ProjectedSuite:
    dictionary = dictionaries(where, name)[name]
    assert isinstance(dictionary, ProjectedSuite)
    return dictionary


@pytest.fixture
def mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A control whose one file has been put beside the others."""
    (tmp_path / "mirrored.py").write_text(MIRRORED)
    monkeypatch.setattr(controls, "__path__", [*controls.__path__, str(tmp_path)])
    yield import_module(f"{controls.__name__}.mirrored")
    del sys.modules[f"{controls.__name__}.mirrored"]
    delattr(controls, "mirrored")


def test_a_control_is_added_by_one_file(mirrored: ModuleType) -> None:
    given = activations("gpt2")
    assert load_control("mirrored") is mirrored
    assert control_names() == (*NAMES, "mirrored")
    assert rivals("control", ("mirrored", "best-4", "random")) == ("random", "mirrored")
    judged = project_suite(given)
    turned = control(setting(given, judged), "mirrored")
    assert torch.equal(turned.directions(Z), -judged.directions(Z))


def test_every_file_gives_what_a_control_gives() -> None:
    for name in control_names():
        assert isinstance(load_control(name), ControlModule), name
        assert name in load_control(name).NAMES
    with pytest.raises(UnknownName, match="Did you mean 'random'"):
        load_control("rnadom")


def test_controls_stand_in_their_order_and_only_those_asked_for() -> None:
    given = activations("gpt2", prompts=12)
    assert control_names() == NAMES
    assert [*dictionaries(setting(given))] == [name for name in NAMES if name != "text lookup"]
    assert [*dictionaries(setting(given), "PCA", "random")] == ["random", "PCA"]


def test_what_reconstructs_by_construction_is_no_rival_in_approximation() -> None:
    assert rivals("control", NAMES) == rivals("geometry", NAMES) == NAMES[:8]
    assert NAMES[6:8] == ("PCA", "neurons")
    assert rivals("approximation", NAMES) == NAMES[:6]
    assert rivals("control", ("PCA", "best-4")) == ("PCA",)


def test_the_codes_of_bases_alone_are_signed() -> None:
    by_control = dictionaries(setting(activations("gpt2", prompts=12)))
    assert [name for name in by_control if by_control[name].signed] == ["PCA", "neurons"]


def test_every_control_has_its_own_l0() -> None:
    given = activations("gpt2", prompts=12)
    where = setting(given)
    l0 = {
        name: float(np.mean(list(mean_l0(dictionary, given).values())))
        for name, dictionary in dictionaries(where).items()
        if isinstance(dictionary, ProjectedSuite)
    }
    of_suite = np.mean(list(mean_l0(where.judged, given).values()))
    assert (
        l0["random"] == l0["permuted"] == l0["best-16"] == l0["best-64"] == pytest.approx(of_suite)
    )
    assert l0["best-1"] < l0["best-4"] < of_suite
    rounded = np.mean([round(value) for value in mean_l0(where.judged, given).values()])
    assert l0["PCA"] == l0["neurons"] == pytest.approx(rounded)
    assert 0 < l0["untrained"] <= rounded
    assert l0["task lookup"] == 1


def test_identity_and_mean_only_reconstruct_and_have_nothing_to_edit_with() -> None:
    base, target = activations("gpt2", seed=1), activations("gpt2", seed=2)
    moment = moments(base)
    for dictionary in (identity(base.anatomy), mean_only(base.anatomy, moment)):
        edited = copying(dictionary, base, target, variance=moment.variance, ks=(4,))[4]
        reconstructions = dictionary.reconstruct(base)
        for node, value in base.values.items():
            mean = value.mean(0).expand(len(base), -1)
            expected = value if dictionary.name == "identity" else mean
            torch.testing.assert_close(reconstructions[node], expected)
            assert dictionary.codes(base)[node].shape == (len(base), 0)
            assert dictionary.directions(node).shape == (0, value.shape[1])
        if dictionary.name == "mean only":
            assert not edited.picks.any()
            assert all(torch.equal(edited.values[node], base.values[node]) for node in base.nodes)


def test_random_and_permuted_keep_the_codes_and_the_lengths() -> None:
    """So encoder-only scores cannot move. Permuting keeps the set of directions; random ones are
    new at every hook and for every seed."""
    given = activations("gpt2")
    judged = project_suite(given)
    drawn, again, reseeded = (
        dictionaries(setting(given, judged, seed=seed), "random", "permuted") for seed in (0, 0, 1)
    )
    for name in ("random", "permuted"):
        for node, codes in drawn[name].codes(given).items():
            assert torch.equal(codes, judged.codes(given)[node])
            assert not torch.allclose(drawn[name].directions(node), judged.directions(node))
            assert torch.equal(drawn[name].directions(node), again[name].directions(node))
            assert not torch.allclose(drawn[name].directions(node), reseeded[name].directions(node))
    random, permuted = (control(setting(given, judged), name) for name in ("random", "permuted"))
    for hook, sae in judged.suite.saes.items():
        directions, dealt = random.decoder(sae, EVERY), permuted.decoder(sae, EVERY)
        some = torch.tensor([0, 2, 3])
        assert torch.equal(random.decoder(sae, some), directions[some])
        assert torch.equal(permuted.decoder(sae, some), dealt[some])
        torch.testing.assert_close(directions.norm(dim=-1), sae.W_dec.norm(dim=-1))
        lengths = (sae.W_dec @ sae.W_dec.T).abs().diagonal().mean()
        assert (directions @ sae.W_dec.T).abs().mean() < 0.6 * lengths
        assert sorted(map(tuple, dealt.tolist())) == sorted(map(tuple, sae.W_dec.tolist()))
        elsewhere = replace(sae, hook=Node("resid_pre", hook.layer + 7))
        assert not torch.allclose(directions, random.decoder(elsewhere, EVERY))
        assert not torch.allclose(dealt, permuted.decoder(elsewhere, EVERY))


def test_only_controls_with_the_suites_own_codes_are_coded_alike() -> None:
    given = activations("gpt2")
    judged = project_suite(given)
    names = ("random", "permuted", "untrained", "task lookup", "PCA", "neurons", "best-1")
    made = dictionaries(setting(given, judged), *names)
    alike = {name: coded_alike(judged, dictionary) for name, dictionary in made.items()}
    assert alike == {name: name in ("random", "permuted") for name in names}
    assert not coded_alike(judged, project_suite(given))


def test_a_control_draws_nothing_that_a_seed_of_a_training_draws() -> None:
    given = activations("gpt2")
    torch.manual_seed(0)
    plain = torch.randn(9, D)
    for name in ("random", "untrained"):
        dictionary = control(setting(given), name)
        sae = dictionary.suite.saes[PRE]
        cosines = torch.cosine_similarity(dictionary.decoder(sae, EVERY), plain)
        assert cosines.abs().max() < 0.95


def test_random_directions_are_seen_through_the_same_weights() -> None:
    given = activations("neox", [Z])
    judged = project_suite(given)
    random = control(setting(given, judged), "random")
    directions = project_direction(given.anatomy, Z, random.decoder(judged.suite.saes[PRE], EVERY))
    codes = judged.codes(given)[Z]
    bias = judged.reconstruct(given)[Z] - codes @ judged.directions(Z)
    expected = bias + codes @ directions
    torch.testing.assert_close(random.reconstruct(given)[Z], expected, atol=2e-5, rtol=1e-5)


def test_untrained_is_the_k_largest_inner_products_with_unit_directions() -> None:
    given = activations("gpt2")
    mean = torch.randn(D, generator=torch.Generator().manual_seed(3))
    sae = untrained(suite(given).saes[PRE], mean, k=3, seed=0)
    torch.testing.assert_close(sae.W_dec.norm(dim=-1), torch.ones(9))
    x = given.streams[PRE][0]
    expected = np.zeros((len(x), 9), dtype=np.float32)
    for token, inner in enumerate((x - mean).numpy() @ sae.W_dec.numpy().T):
        for latent in np.argsort(-inner)[:3]:
            expected[token, latent] = max(inner[latent], 0)
    np.testing.assert_allclose(sae.encode(x), expected, atol=1e-6)
    assert torch.equal(sae.b_dec, mean)
    assert sae.hook == PRE


INPUTS = {
    "plain": {},
    "b_dec subtracted": {"subtract_b_dec": True},
    "scaled": {"normalisation": Normalisation("expected_average_only_in", 0.3)},
    "centred": {"centred": True, "subtract_b_dec": True},
}


@pytest.mark.parametrize("kind", INPUTS)
def test_untrained_is_centred_on_the_fit_tokens_whatever_the_judged_sae_subtracts(
    kind: str,
) -> None:
    """In units of what the encoder reads: the mean input of its encoder is 0, and the mean
    reconstruction without latents is the mean token."""
    given = activations("gpt2", prompts=12)
    where = setting(given, project_suite(given, **INPUTS[kind]))
    dictionary = control(where, "untrained")
    for hook, sae in dictionary.suite.saes.items():
        tokens = where.tokens(hook)
        read = sae.normalise(tokens)
        torch.testing.assert_close(read.x_in.mean(0), torch.zeros(D), atol=1e-5, rtol=0)
        nothing = sae.decode(torch.zeros(len(tokens), 9), given=read)
        torch.testing.assert_close(nothing.mean(0), tokens.mean(0), atol=1e-4, rtol=0)
        assert isinstance(sae.encoder, TopK)
        assert sae.encoder.k == where.sparsity[hook]


def planes() -> Activations:
    """Two prompts of BOS and three tokens x = 5 e0 + c0 e0 + c1 e1 with c0 = 4, -4, 4, -4, 0, 0 and
    c1 = 0, 0, 1, -1, 2, -2; the second prompt is followed by padding."""
    stream = torch.zeros(2, 5, D)
    stream[:, 1:4, 0] = 5 + torch.tensor([[4.0, -4.0, 4.0], [-4.0, 0.0, 0.0]])
    stream[:, 1:4, 1] = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 2.0, -2.0]])
    stream[:, 0] = 100
    stream[:, 4] = -50
    given = activations("gpt2", [Q], prompts=2)
    prompts = tuple(replace(prompt, ids=(0, 0, 0, 0), index={"END": 3}) for prompt in given.prompts)
    return replace(given, streams={PRE: stream}, prompts=prompts)


def beside_one_latent(given: Activations) -> Setting:
    """The setting of an SAE with one active latent at Q."""
    sae = identity_sae(PRE, W_dec=torch.zeros(2 * D, D))
    sparse = replace(sae, encoder=untrained(sae, torch.zeros(D), k=1, seed=0).encoder)
    judged = project(assemble("one", [sparse]), given.anatomy, [Q], moments(given))
    return Setting(judged, given, Section("IO", {Q: 1.0}))


def test_tokens_are_those_of_every_prompt_but_bos_and_padding() -> None:
    tokens = beside_one_latent(planes()).tokens(PRE)
    assert tokens[:, :2].tolist() == [[9, 0], [1, 0], [9, 1], [1, -1], [5, 2], [5, -2]]
    without = replace(planes(), bos=False)
    assert len(beside_one_latent(without).tokens(PRE)) == 8


def test_bases_and_untrained_keep_at_least_one_latent() -> None:
    """Beside an SAE that is never active, too."""
    given = activations("gpt2")
    silent = [
        replace(sae, encoder=TopK(torch.zeros(D, 9), torch.zeros(9), torch.ones(9), 1))
        for sae in suite(given).saes.values()
    ]
    judged = project(assemble("silent", silent), given.anatomy, given.nodes, moments(given))
    assert set(mean_l0(judged, given).values()) == {0}
    assert set(setting(given, judged).sparsity.values()) == {1}


def test_pca_by_hand() -> None:
    """Mean 5 e0; the leading axis is that of [[64, 8], [8, 10]], the second moments about it; axes
    are orthonormal in all dimensions."""
    where = beside_one_latent(planes())
    axes = principal_axes(where.tokens(PRE))
    _, vectors = np.linalg.eigh(np.array([[64.0, 8.0], [8.0, 10.0]]))
    leading = torch.tensor([*np.abs(vectors[:, 1]), *[0.0] * (D - 2)]).float()
    torch.testing.assert_close(axes[0].abs(), leading, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(axes @ axes.T, torch.eye(D), atol=1e-5, rtol=1e-5)
    sae = control(where, "PCA").suite.saes[PRE]
    torch.testing.assert_close(sae.b_dec, 5 * torch.eye(D)[0])
    torch.testing.assert_close(sae.W_dec, axes)


def test_neurons_keep_the_largest_coordinates_about_the_mean_with_their_signs() -> None:
    """k = 1. Tokens less the mean: (4, 1), (-4, -1), (0, 2), (0, -2): kept 4 e0, -4 e0, 2 e1 and
    -2 e1. One latent per axis, whose code is scaled and not clipped at the node."""
    given = planes()
    dictionary = control(beside_one_latent(given), "neurons")
    sae = dictionary.suite.saes[PRE]
    codes = sae.encode(given.streams[PRE][[0, 1, 1, 1], [3, 1, 2, 3]])
    expected = torch.zeros(4, D)
    expected[[0, 1, 2, 3], [0, 0, 1, 1]] = torch.tensor([4.0, -4.0, 2.0, -2.0])
    torch.testing.assert_close(codes, expected)
    torch.testing.assert_close(
        sae.reconstruct(given.streams[PRE][0, 3]), 5 * torch.eye(D)[0] + 4 * torch.eye(D)[0]
    )
    scale = given.anatomy.blocks[1].attention_norm.scale(given.streams[PRE][1, 3])
    assert dictionary.codes(given)[Q][1, 1].item() == pytest.approx(-2 / scale.item(), rel=1e-5)
    assert dictionary.directions(Q).shape == (D, 5)


@pytest.mark.parametrize("name", ["PCA", "neurons"])
def test_a_basis_keeps_the_k_largest_coordinates_of_each_token(name: str) -> None:
    """With as many as dimensions it reconstructs everything."""
    given = activations("gpt2", prompts=12)
    where = setting(given)
    dictionary = control(where, name)
    for hook, k in where.sparsity.items():
        sae, tokens = dictionary.suite.saes[hook], where.tokens(hook)
        coordinates = (tokens - tokens.mean(0)) @ sae.W_dec.T
        largest = coordinates.abs().argsort(dim=-1, descending=True)[:, :k]
        kept = coordinates.gather(-1, largest)
        expected = torch.zeros_like(coordinates).scatter(-1, largest, kept)
        torch.testing.assert_close(sae.encode(tokens), expected, atol=1e-5, rtol=1e-4)
    wide = setting(given, project_suite(given, width=100))
    assert min(wide.sparsity.values()) > D
    reconstructions = control(wide, name).reconstruct(given)
    for node, value in given.values.items():
        torch.testing.assert_close(reconstructions[node], value, atol=1e-4, rtol=1e-3)


def test_bases_leave_bos_out_of_the_fit_and_pass_it_through() -> None:
    """The token of 100s at position 0 would otherwise be the first axis."""
    where = beside_one_latent(planes())
    assert not control(where, "neurons").suite.saes[PRE].reads_bos
    without = beside_one_latent(replace(planes(), bos=False))
    assert not torch.allclose(
        control(without, "PCA").suite.saes[PRE].b_dec, control(where, "PCA").suite.saes[PRE].b_dec
    )


def test_best_m_keeps_at_each_site_what_explains_most_weighted_by_the_statistic() -> None:
    given = activations("gpt2", prompts=30)
    judged = project_suite(given)
    shares = explained(judged, given)
    for m in (1, 4, 16):
        chosen = control(setting(given, judged), f"best-{m}")
        for nodes in sites(given.nodes, given.anatomy).values():
            gain = sum(SECTION.statistic[node] * shares[node].numpy() for node in nodes)
            kept = np.zeros(9, dtype=bool)
            kept[np.argsort(-gain)[:m]] = True
            for node in nodes:
                expected = judged.codes(given)[node] * torch.from_numpy(kept)
                assert torch.equal(chosen.codes(given)[node], expected)


def topk_suite(given: Activations, *, k: int, seed: int, width: int = 9) -> ProjectedSuite:
    """Random TopK SAEs whose latents are all positive, so that k of them are active."""
    saes = [relu_sae(hook, width=width, seed=seed) for hook in suite(given).saes]
    positive, plain = torch.full((width,), 50.0), torch.ones(width)
    sparse = [replace(sae, encoder=TopK(sae.encoder.W_enc, positive, plain, k)) for sae in saes]
    return project(assemble("topk", sparse), given.anatomy, given.nodes, moments(given))


def by_name(judged: ProjectedSuite, given: Activations) -> dict[str, Control]:
    entries = make_controls(setting(given, judged), among=control_names())
    return {entry.name: entry for entry in entries}


def test_what_knows_nothing_of_a_suite_but_width_and_sparsity_is_shared_by_such_suites() -> None:
    given = activations("gpt2", prompts=12)
    first, second = (by_name(topk_suite(given, k=3, seed=seed), given) for seed in (0, 1))
    sparser = by_name(topk_suite(given, k=2, seed=1), given)
    wider = by_name(topk_suite(given, k=3, seed=1, width=7), given)
    for name in ("mean only", "untrained", "task lookup", "PCA", "neurons"):
        assert first[name].content == second[name].content
        assert first[name].content is not None
        again = second[name].dictionary.reconstruct(given)
        for node, value in first[name].dictionary.reconstruct(given).items():
            assert torch.equal(value, again[node])
    for name in ("untrained", "PCA", "neurons"):
        assert first[name].content != sparser[name].content
    for name in ("untrained", "task lookup"):
        assert first[name].content != wider[name].content
    assert first["PCA"].content == wider["PCA"].content
    for name in ("random", "permuted", "best-1"):
        assert first[name].content is None
