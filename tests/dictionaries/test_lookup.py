"""Lookup tables: k-means against a literal Lloyd, one active entry per token, whose text it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sage.dictionaries.activations import Activations, moments
from sage.dictionaries.controls import Setting, lookup, make_controls
from sage.dictionaries.controls.lookup import NearestCentre, k_means, lookup_table
from sage.dictionaries.controls.setting import generator
from sage.dictionaries.projected import ProjectedSuite, project
from sage.nodes import Node, Section, parse_node
from tests.toy import NODES, D, activations, relu_sae, suite

PRE = Node("resid_pre", 1)
SECTION = Section("IO", dict.fromkeys(NODES, 1.0))


def setting(given: Activations, text: dict[Node, torch.Tensor] | None = None) -> Setting:
    judged = project(suite(given), given.anatomy, given.nodes, moments(given))
    return Setting(judged, given, SECTION, text=text)


def tables(where: Setting) -> dict[str, ProjectedSuite]:
    controls = make_controls(where, among=lookup.NAMES)
    return {c.name: c.dictionary for c in controls if isinstance(c.dictionary, ProjectedSuite)}


def literal_lloyd(tokens: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Means of the nearest, 30 times or until nothing moves; who has none goes to the farthest."""
    centres = start.astype(np.float64)
    for _ in range(lookup.ITERATIONS):
        distances = np.square(tokens[:, None] - centres.astype(np.float32)[None]).sum(-1)
        nearest = distances.argmin(1)
        farthest = list(np.argsort(-distances.min(1), kind="stable"))
        moved = centres.copy()
        for number in range(len(centres)):
            members = tokens[nearest == number].astype(np.float64)
            moved[number] = members.mean(0) if len(members) else tokens[farthest.pop(0)]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


@pytest.mark.parametrize("limit", [2**24, 40])
def test_k_means_is_the_literal_one_from_its_own_random_tokens(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go, and a few tokens at a time."""
    monkeypatch.setattr("sage.dictionaries.controls.lookup.LOOKUP_DISTANCES_AT_ONCE", limit)
    tokens = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(60, generator=generator("here"))
    expected = literal_lloyd(tokens.numpy(), tokens[order[:7]].numpy())
    centres = k_means(tokens, centres=7, stream="here")
    np.testing.assert_allclose(centres, expected, atol=1e-5)
    assert torch.equal(centres, k_means(tokens, centres=7, stream="here"))
    assert not torch.allclose(centres, k_means(tokens, centres=7, stream="there"))


def test_a_centre_without_tokens_goes_to_the_farthest_token() -> None:
    """Twenty tokens at 0 and one each at 10 and 30 on a line: three centres end on them, wherever
    they begin; of those that begin at 0 only the first keeps its tokens."""
    tokens = torch.zeros(22, 1)
    tokens[20], tokens[21] = 10, 30
    for stream in "abcdef":
        centres = k_means(tokens, centres=3, stream=stream)
        assert sorted(centres.flatten().tolist()) == [0, 10, 30]


def test_one_entry_is_active_the_nearest_centres_with_a_code_of_1() -> None:
    centres = torch.randn(6, D, generator=torch.Generator().manual_seed(1))
    tokens = torch.randn(50, D, generator=torch.Generator().manual_seed(2))
    codes = NearestCentre(centres).encode(tokens)
    assert torch.equal(codes.sum(-1), torch.ones(50))
    assert torch.equal(codes.max(-1).values, torch.ones(50))
    assert torch.equal(codes.argmax(-1), torch.cdist(tokens, centres).argmin(-1))


def test_a_table_gives_back_the_nearest_centre() -> None:
    """The mean is taken away before and given back after."""
    mean, centres = torch.full((D,), 3.0), 20 * torch.eye(D)[:4]
    table = lookup_table(relu_sae(PRE), mean, centres)
    noise = torch.randn(40, D, generator=torch.Generator().manual_seed(3))
    tokens = (centres + mean).repeat_interleave(10, 0) + noise
    assert torch.equal(table.active(tokens).sum(-1), torch.ones(40))
    torch.testing.assert_close(table.reconstruct(tokens), (centres + mean).repeat_interleave(10, 0))
    assert not table.reads_bos


def at_one_hook(width: int, text: int) -> Setting:
    """A suite of one SAE of this width, and so many tokens of text."""
    q = parse_node("1.0.q@END")
    given = activations("gpt2", [q], prompts=20)
    judged = project(suite(given, width=width), given.anatomy, [q], moments(given))
    tokens = torch.randn(text, D, generator=torch.Generator().manual_seed(4))
    return Setting(judged, given, Section("IO", {q: 1.0}), text={PRE: tokens})


@pytest.fixture
def sizes_made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The number of tokens and of centres of every table that is made, in place of k-means."""
    sizes: list[tuple[int, int]] = []

    def first_tokens(tokens: torch.Tensor, *, centres: int, stream: str) -> torch.Tensor:
        assert stream
        sizes.append((len(tokens), centres))
        return tokens[:centres]

    monkeypatch.setattr(lookup, "k_means", first_tokens)
    return sizes


def test_there_are_as_many_centres_as_latents_an_eighth_of_the_tokens_or_4096(
    sizes_made: list[tuple[int, int]],
) -> None:
    """Of a text as many tokens are used as that needs."""
    for width, tokens in ((9, 800), (9, 40), (9, 7), (5000, 8 * 4200)):
        lookup.make("text lookup", at_one_hook(width, tokens))
    assert sizes_made == [(72, 9), (40, 5), (7, 1), (8 * 4096, 4096)]


def test_a_table_is_made_once_for_all_suites_of_one_width(
    sizes_made: list[tuple[int, int]],
) -> None:
    where = at_one_hook(9, 800)
    for _ in range(2):
        lookup.make("text lookup", replace(where, judged=replace(where.judged, name="other")))
    assert len(sizes_made) == 1
    lookup.make("text lookup", replace(where, seed=1))
    lookup.make("task lookup", where)
    assert len(sizes_made) == 3


def test_the_task_lookup_is_of_the_fit_tokens_and_the_text_lookup_of_the_text() -> None:
    given = activations("gpt2", prompts=20)
    text = {hook: torch.randn(72, D) for hook in given.streams}
    where = setting(given, text)
    dictionaries = tables(where)
    assert list(dictionaries) == ["text lookup", "task lookup"]
    sources = {"text lookup": text, "task lookup": {h: where.tokens(h) for h in given.streams}}
    for name, dictionary in dictionaries.items():
        for hook, sae in dictionary.suite.saes.items():
            tokens = sources[name][hook]
            mean = tokens.double().mean(0).float()
            assert torch.equal(sae.b_dec, mean)
            stream = f"{name}/0/{hook}/9"
            assert torch.equal(sae.W_dec, k_means(tokens - mean, centres=9, stream=stream))


def test_there_is_no_text_lookup_without_text_at_every_hook() -> None:
    given = activations("gpt2", prompts=20)
    assert list(tables(setting(given))) == ["task lookup"]
    assert list(tables(setting(given, {PRE: torch.randn(100, D)}))) == ["task lookup"]


def test_a_seed_draws_other_centres() -> None:
    given = activations("gpt2", prompts=20)
    where = setting(given)
    first, second = (tables(replace(where, seed=seed))["task lookup"] for seed in (0, 1))
    assert not torch.equal(first.suite.saes[PRE].W_dec, second.suite.saes[PRE].W_dec)
