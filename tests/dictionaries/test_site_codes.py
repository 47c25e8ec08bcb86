"""Codes site by site: each token encoded once, parts equal to the whole, the latents asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from linear import MLP, D, activations, claimed
from sage.dictionaries.activations import Activations, moments, sites
from sage.dictionaries.dictionary import RunCodes, SiteCodes, WideDictionary, site_codes
from sage.dictionaries.options import NAMED_OPTIONS, Options
from sage.dictionaries.projected import ProjectedSuite, project
from sage.dictionaries.streams import EncodedStreams
from sage.nodes import Node, parse_node
from sage.saes.sae import SAE
from sage.saes.suite import assemble
from tests.dictionaries.worlds import MLP_SITE, Z_SITE, Q, V
from tests.toy import FAMILIES, relu_sae, suite
from tests.toy import activations as toy

PRE = Node("resid_pre", 1)
WIDTH = 9


def projected(given: Activations, options: Options | None = None) -> ProjectedSuite:
    saes = suite(given, reads_bos=False)
    judged = project(saes, given.anatomy, given.nodes, moments(given))
    return judged if options is None else replace(judged, options=options)


@dataclass(frozen=True, eq=False)
class Counting(SAE):
    """An SAE that says how many tokens it was given."""

    calls: tuple[list[int], ...] = ()

    def encode(self, x: Tensor) -> Tensor:
        self.calls[0].append(len(x))
        return super().encode(x)


def counting(sae: SAE, calls: list[int]) -> SAE:
    fields = {name: getattr(sae, name) for name in SAE.__dataclass_fields__}
    return Counting(**fields, calls=(calls,))


def test_tokens_that_prompts_share_are_encoded_once() -> None:
    """Four prompts, the last two equal to the first two: the tokens up to A of two are encoded, and
    all four have their codes."""
    z = parse_node("1.1.z@A")
    given = toy("gpt2", (z,), prompts=4).select([0, 1, 0, 1])
    calls: list[int] = []
    sae = counting(relu_sae(PRE), calls)
    encoded = EncodedStreams((z,)).of(given, PRE, sae)
    assert calls == [int((given.index("A")[:2] + 1).sum())]
    assert torch.equal(encoded.token[:2], encoded.token[2:])
    for row, last in enumerate(given.index("A").tolist()):
        assert (encoded.token[row, last + 1 :] == -1).all()
        for position in range(last + 1):
            codes = encoded.codes.of(encoded.token[row, position][None])
            expected = relu_sae(PRE).encode(given.streams[PRE][row, position])
            torch.testing.assert_close(codes.dense(1, torch.arange(WIDTH))[0], expected)


def test_a_node_that_reads_one_token_has_that_one_encoded_and_a_passed_token_none() -> None:
    q, v = parse_node("1.0.q@END"), parse_node("1.1.v@A")
    given = toy("gpt2", (q, v), prompts=3)
    at_0 = tuple(replace(p, index={**p.index, "A": 0}) for p in given.prompts)
    given = replace(given, prompts=at_0)
    for sae, first in ((relu_sae(PRE), True), (relu_sae(PRE, reads_bos=False), False)):
        token = EncodedStreams((q, v)).of(given, PRE, sae).token
        expected = torch.zeros_like(token, dtype=torch.bool)
        expected[torch.arange(3), given.index("END")] = True
        expected[:, 0] = first
        assert torch.equal(token >= 0, expected)


def test_streams_are_encoded_once_for_all_dictionaries_of_a_suite_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = toy("gpt2")
    calls: list[int] = []
    saes = assemble("counting", [counting(relu_sae(hook), calls) for hook in given.streams])
    judged = project(saes, given.anatomy, given.nodes, moments(given))
    whole = judged.reconstruct(given)
    turned = replace(judged, name="other", decoder=lambda sae, latents: -sae.W_dec[latents])
    turned.reconstruct(given)
    judged.only({}).codes(given.on(given.nodes[:3]))
    assert len(calls) == len(judged.streams.encoded) == len(given.streams)
    monkeypatch.setattr("sage.dictionaries.streams.CODE_ENTRIES_KEPT", 0)
    bounded = projected(given)
    plain = project(suite(given), given.anatomy, given.nodes, moments(given))
    for node, value in plain.reconstruct(given).items():
        assert torch.equal(value, whole[node])
    bounded.reconstruct(given)
    assert not plain.streams.encoded
    assert not bounded.streams.encoded


def dense(parts: list[SiteCodes], run: int, node: Node, prompts: int) -> tuple[Tensor, Tensor]:
    """The codes and the bias of one node, put together from all parts."""
    codes, bias = torch.zeros(prompts, WIDTH), torch.zeros(0)
    for part in parts:
        if node in part.directions:
            held = part.runs[run]
            if not len(bias):
                bias = torch.zeros(prompts, held.bias[node].shape[1])
            codes[part.rows].index_add_(1, part.latents, held.codes[node])
            bias[part.rows] = held.bias[node]
    return codes, bias


@pytest.mark.parametrize("name", ["", *NAMED_OPTIONS])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_are_the_whole(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs shown together: each has the codes and the bias that it has alone, and with them
    its reconstruction."""
    runs = toy(family, seed=1, prompts=11), toy(family, seed=2, prompts=11, extra=1)
    judged = projected(runs[0], NAMED_OPTIONS.get(name))
    whole = list(site_codes(judged, *runs))
    monkeypatch.setattr("sage.dictionaries.projected.CODES_AT_ONCE", 150)
    parts = list(site_codes(judged, *runs))
    assert len(parts) > len(whole) == len(sites(runs[0].nodes, runs[0].anatomy))
    for number, run in enumerate(runs):
        alone, reconstructions = judged.codes(run), judged.reconstruct(run)
        for node in run.nodes:
            for some in (whole, parts):
                codes, bias = dense(some, number, node, len(run))
                torch.testing.assert_close(codes, alone[node], atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(
                    bias + codes @ judged.directions(node),
                    reconstructions[node],
                    atol=1e-4,
                    rtol=1e-3,
                )


@pytest.mark.parametrize("family", FAMILIES)
def test_exactly_the_latents_asked_for_are_shown(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, active or not, with the bias that all latents leave; of latents that a node
    may not use the codes are 0."""
    given = toy(family, prompts=11)
    judged = projected(given)
    masked = given.nodes[0]
    mask = torch.arange(WIDTH) % 2 == 0
    judged = judged.only({masked: mask})
    asked = {
        site: torch.tensor([[1, 4, 7], [0], [0, 2, 3, 8], [5, 6], []][number % 5], dtype=torch.long)
        for number, site in enumerate(sites(given.nodes, given.anatomy))
    }
    whole, everything = judged.codes(given), list(judged.site_codes(given))
    monkeypatch.setattr("sage.dictionaries.projected.CODES_AT_ONCE", 20)
    shown = list(judged.site_codes(given, latents=asked))
    assert {part.site for part in shown} == set(asked)
    assert not whole[masked][:, ~mask].any()
    for part in shown:
        latents = asked[part.site]
        assert torch.equal(part.latents, latents)
        for node in part.nodes:
            codes = part.runs[0].codes[node]
            torch.testing.assert_close(codes, whole[node][part.rows][:, latents])
            torch.testing.assert_close(part.directions[node], judged.directions(node)[latents])
            _, bias = dense(everything, 0, node, len(given))
            torch.testing.assert_close(part.runs[0].bias[node], bias[part.rows])


def test_latents_are_asked_for_in_ascending_order() -> None:
    given = toy("gpt2")
    asked = dict.fromkeys(sites(given.nodes, given.anatomy), torch.tensor([3, 1]))
    with pytest.raises(AssertionError, match="ascending"):
        list(projected(given).site_codes(given, latents=asked))


def test_without_being_asked_a_projected_suite_shows_what_is_active_in_any_run() -> None:
    runs = toy("gpt2", seed=1, prompts=2), toy("gpt2", seed=2, prompts=2)
    judged = projected(runs[0])
    assert isinstance(judged, WideDictionary)
    for part in site_codes(judged, *runs):
        codes = torch.cat([judged.codes(run)[node] for run in runs for node in part.nodes])
        assert part.latents.tolist() == (codes != 0).any(0).nonzero().flatten().tolist()


def two_runs() -> tuple[Activations, Activations, object]:
    """Claimed codes of four latents at q and v (one site) and at mlp: at q and v the second is
    active in the second run alone and the third never, the last nowhere."""
    generator = torch.Generator().manual_seed(0)
    widths = {MLP: D, Q: 4, V: 4}
    values = {node: torch.randn(6, size, generator=generator) for node, size in widths.items()}
    given = replace(activations([{"a": 0}] * 6, mlp=values[MLP]), values=values)
    codes = {node: torch.rand(6, 4, generator=generator) for node in values}
    for node in values:
        codes[node][:, 3] = 0
        if node != MLP:
            codes[node][:, 2] = 0
    codes[Q][:, 0] = 0
    codes[Q][:3, 1] = codes[V][:3, 1] = 0
    vectors = {node: torch.randn(4, size, generator=generator) for node, size in widths.items()}
    dictionary = claimed(given, codes, vectors)
    return given.select([0, 1, 2]), given.select([3, 4, 5]), dictionary


def test_any_other_dictionary_shows_its_codes_in_one_part_a_site() -> None:
    """A latent that is active at some node of the site, in any run, is shown at all of them."""
    base, target, dictionary = two_runs()
    parts = {part.site: part for part in site_codes(dictionary, base, target)}
    assert {site: part.latents.tolist() for site, part in parts.items()} == {
        MLP_SITE: [0, 1, 2],
        Z_SITE: [0, 1],
    }
    for part in parts.values():
        _assert_shown(part, dictionary, base, target)


def test_any_other_dictionary_shows_exactly_the_latents_asked_for() -> None:
    base, target, dictionary = two_runs()
    asked = {MLP_SITE: torch.tensor([3, 1]), Z_SITE: torch.tensor([0, 2, 3])}
    for part in site_codes(dictionary, base, target, latents=asked):
        assert torch.equal(part.latents, asked[part.site])
        _assert_shown(part, dictionary, base, target)


def _assert_shown(part: SiteCodes, dictionary, *runs: Activations) -> None:
    """Codes of the latents, and a bias that is what all latents leave of the reconstruction."""
    held: RunCodes
    for run, held in zip(runs, part.runs, strict=True):
        for node in part.nodes:
            codes = dictionary.codes(run)[node]
            assert torch.equal(held.codes[node], codes[:, part.latents])
            rest = dictionary.reconstruct(run)[node] - codes @ dictionary.directions(node)
            torch.testing.assert_close(held.bias[node], rest)
            assert torch.equal(part.directions[node], dictionary.directions(node)[part.latents])
