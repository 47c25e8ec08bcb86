"""A projected SAE against a literal twin: codes, bias and edits token by token in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from sage.dictionaries.activations import Activations, moments, sites
from sage.dictionaries.candidates import Candidates
from sage.dictionaries.edits import BIAS, Edited, copying
from sage.dictionaries.options import NAMED_OPTIONS, Options, options_named
from sage.dictionaries.projected import (
    ProjectedSuite,
    explained,
    mean_l0,
    project,
)
from sage.dictionaries.projection import attention_output, project_direction, reach, reached
from sage.dictionaries.search import greedy, walk
from sage.errors import SageError, Unsupported
from sage.nodes import Node, Section, parse_node
from sage.saes.sae import SAE, Normalisation
from sage.saes.suite import Suite, assemble
from tests.toy import FAMILIES, HEADS, NODES, D, activations, anatomy, identity_sae, relu_sae, suite

PRE = Node("resid_pre", 1)
SAES = {
    "plain": {},
    "not trained on BOS": {"reads_bos": False},
    "expected average": {
        "normalisation": Normalisation("expected_average_only_in", 0.3),
        "subtract_b_dec": True,
    },
    "constant norm": {"normalisation": Normalisation("constant_norm_rescale"), "reads_bos": False},
    "layer norm": {"normalisation": Normalisation("layer_norm")},
    "centred": {"centred": True, "subtract_b_dec": True, "reads_bos": False},
}


def projected(given: Activations, saes: Suite | None = None, **options: str) -> ProjectedSuite:
    return project(
        saes or suite(given), given.anatomy, given.nodes, moments(given), options=Options(**options)
    )  # type: ignore[arg-type]


@dataclass
class Literal:
    """One node on one prompt: y_hat = bias + sum_i code_i direction_i, each term from its
    definition."""

    codes: np.ndarray
    bias: np.ndarray
    by_source: dict[int, np.ndarray]


def literal(given: Activations, sae: SAE, node: Node, row: int) -> Literal:
    """Float64, one source position after another."""
    model, block = given.anatomy, given.anatomy.blocks[node.layer]
    norm = block.mlp_norm if node.kind == "mlp_in" else block.attention_norm
    g, b = norm.weight.double().numpy(), norm.bias.double().numpy()
    stream = given.streams[model.source(node)][row].double().numpy()
    at = given.prompts[row].index[node.position]
    attention = (
        np.eye(len(stream))[at] if node.kind != "z" else given.patterns[node][row].double().numpy()
    )
    W, offset = weight(given, node)
    codes, bias, by_source = np.zeros(sae.width), offset + W @ b, {}
    for s in range(at + 1):
        x = stream[s]
        centred = x - x.mean() if norm.kind == "layer" else x
        scale = np.sqrt((centred**2).mean() + norm.eps)
        if s == 0 and given.bos != sae.reads_bos:
            rest, f = x, np.zeros(sae.width)
        else:
            normalised = sae.normalise(torch.from_numpy(x).float())
            f = normalised.n.item() * sae.encode(torch.from_numpy(x).float()).double().numpy()
            rest = normalised.n.item() * sae.b_dec.double().numpy() + normalised.mu.double().numpy()
        rest = rest - rest.mean() if norm.kind == "layer" else rest
        codes = codes + attention[s] * f / scale
        bias = bias + attention[s] * W @ (g * rest) / scale
        by_source[at - s] = attention[s] * f / scale
    return Literal(codes, bias, by_source)


def weight(given: Activations, node: Node) -> tuple[np.ndarray, np.ndarray]:
    block = given.anatomy.blocks[node.layer]
    if node.kind == "mlp_in":
        return np.eye(D), np.zeros(D)
    assert node.head is not None
    names = {"q": ("W_Q", "b_Q"), "k": ("W_K", "b_K"), "v": ("W_V", "b_V"), "z": ("W_V", "b_V")}[
        node.kind
    ]
    head = node.head * len(block.W_V) // HEADS if node.kind == "z" else node.head
    return tuple(getattr(block, name)[head].double().numpy() for name in names)  # type: ignore[return-value]


def literal_directions(given: Activations, sae: SAE, node: Node) -> np.ndarray:
    norm = (
        given.anatomy.blocks[node.layer].mlp_norm
        if node.kind == "mlp_in"
        else given.anatomy.blocks[node.layer].attention_norm
    )
    d = sae.W_dec.double().numpy()
    d = d - d.mean(1, keepdims=True) if norm.kind == "layer" else d
    return (d * norm.weight.double().numpy()) @ weight(given, node)[0].T


def test_attention_rows_sum_to_one() -> None:
    """Otherwise the offset of z would not be c, and nothing below would hold."""
    for pattern in activations("gpt2").patterns.values():
        torch.testing.assert_close(pattern.sum(-1), torch.ones(len(pattern)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_identity_dictionary_gives_the_activations_back(family: str) -> None:
    given = activations(family)
    saes = assemble("identity", [identity_sae(hook) for hook in given.streams])
    for node, value in projected(given, saes).reconstruct(given).items():
        torch.testing.assert_close(value, given.values[node], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "kind", "bos"),
    [
        *((family, kind, True) for family in FAMILIES for kind in SAES),
        ("neox", "plain", False),
        ("neox", "not trained on BOS", False),
    ],
)
def test_codes_directions_and_bias_are_the_literal_ones(family: str, kind: str, bos: bool) -> None:
    given = activations(family, bos=bos, prompts=4)
    saes = suite(given, **SAES[kind])
    dictionary = projected(given, saes)
    codes, whole = dictionary.codes(given), dictionary.reconstruct(given)
    bias = dictionary.only(
        {node: torch.zeros(9, dtype=torch.bool) for node in given.nodes}
    ).reconstruct(given)
    for node in given.nodes:
        sae = saes.at(given.anatomy.source(node))
        assert sae is not None
        directions = literal_directions(given, sae, node)
        np.testing.assert_allclose(dictionary.directions(node), directions, atol=1e-5)
        for row in range(len(given)):
            twin = literal(given, sae, node, row)
            np.testing.assert_allclose(codes[node][row], twin.codes, atol=1e-5)
            np.testing.assert_allclose(bias[node][row], twin.bias, atol=1e-5)
            np.testing.assert_allclose(
                whole[node][row], twin.bias + twin.codes @ directions, atol=2e-5
            )


@pytest.mark.parametrize("kind", SAES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_error_is_the_residual_error_seen_through_the_weights(family: str, kind: str) -> None:
    """y - y_hat = W~ (x - x_hat) / s(x), at z summed over sources with the attention row; no error
    where BOS passes through."""
    given = activations(family, prompts=4)
    saes = suite(given, **SAES[kind])
    reconstructions = projected(given, saes).reconstruct(given)
    for node in given.nodes:
        hook = given.anatomy.source(node)
        sae, norm = saes.at(hook), given.anatomy.norm_before(node)
        assert sae is not None
        stream = given.streams[hook]
        missing = (stream - sae.reconstruct(stream)) / norm.scale(stream)
        if not sae.reads_bos:
            missing[:, 0] = 0
        itself = torch.nn.functional.one_hot(given.index(node.position), stream.shape[1]).float()
        attention = given.patterns[node] if node.kind == "z" else itself
        error = project_direction(
            given.anatomy, node, torch.einsum("ps,psd->pd", attention, missing)
        )
        torch.testing.assert_close(
            given.values[node] - reconstructions[node], error, atol=5e-5, rtol=1e-4
        )


def test_position_0_is_exact_where_bos_passes_through() -> None:
    """A z that attends to BOS alone, and a node at BOS itself: all bias, no code."""
    node, at_bos = parse_node("1.1.z@A"), parse_node("1.0.v@A")
    given = activations("gpt2", (node, at_bos), prompts=2)
    pattern = torch.zeros_like(given.patterns[node])
    pattern[:, 0] = 1
    first = tuple(
        replace(prompt, index={"A": 0, "END": len(prompt.ids) - 1}) for prompt in given.prompts
    )
    read = given.anatomy.blocks[1].attention_norm.apply(given.streams[Node("resid_pre", 1)][:, 0])
    values = {
        node: read @ given.anatomy.blocks[1].W_V[1].T + given.anatomy.blocks[1].b_V[1],
        at_bos: read @ given.anatomy.blocks[1].W_V[0].T + given.anatomy.blocks[1].b_V[0],
    }
    given = replace(given, values=values, patterns={node: pattern}, prompts=first)
    passing = projected(given, suite(given, reads_bos=False))
    for passed, value in passing.reconstruct(given).items():
        torch.testing.assert_close(value, values[passed], atol=2e-5, rtol=1e-5)
        assert not passing.codes(given)[passed].any()
    assert projected(given, suite(given)).codes(given)[node].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_all_latents_bias_and_error_are_the_ground_truth_patch(family: str) -> None:
    base, target = activations(family, seed=1), activations(family, seed=2)
    dictionary = projected(base, suite(base, reads_bos=False))
    bias_only = dictionary.only({node: torch.zeros(9, dtype=torch.bool) for node in base.nodes})
    alpha, beta = dictionary.codes(base), dictionary.codes(target)
    before, after = bias_only.reconstruct(base), bias_only.reconstruct(target)
    missed, missing = dictionary.reconstruct(base), dictionary.reconstruct(target)
    for node in base.nodes:
        latents = (beta[node] - alpha[node]) @ dictionary.directions(node)
        error = (target.values[node] - missing[node]) - (base.values[node] - missed[node])
        patched = base.values[node] + latents + (after[node] - before[node]) + error
        torch.testing.assert_close(patched, target.values[node], atol=5e-5, rtol=1e-4)


def copied(dictionary: ProjectedSuite, base: Activations, target: Activations, k: int) -> Edited:
    """At most k latents copied at each site, in units of the dictionary's own moments."""
    variance = dictionary.moments.variance
    choice = dictionary.options.choice
    return copying(dictionary, base, target, variance=variance, ks=(k,), choice=choice)[k]


class LiteralEdit:
    """Candidates built from the literal terms, all of them, then one greedy choice per site."""

    def __init__(
        self, base: Activations, target: Activations, saes: Suite, *, k: int, apart: bool = False
    ) -> None:
        self.values = dict(base.values)
        self.picks = torch.zeros(len(base), dtype=torch.long)
        variance = moments(base).variance
        for (hook, _), nodes in sites(base.nodes, base.anatomy).items():
            sae = saes.at(hook)
            assert sae is not None
            candidates = literal_candidates(base, target, sae, nodes, apart=apart)
            missing = {node: target.values[node] - base.values[node] for node in nodes}
            path = walk(candidates, missing, variance, rule=greedy, most=k)
            length = torch.full((len(base),), k)
            chosen = path.first(length, candidates.count + 1)
            self.picks += chosen.sum(1)
            for node in nodes:
                self.values[node] = base.values[node] + candidates.moved(node, chosen)


def literal_candidates(
    base: Activations,
    target: Activations,
    sae: SAE,
    nodes: tuple[Node, ...],
    *,
    apart: bool,
) -> Candidates:
    """Every latent of an SAE (at every distance back, if apart) and the bias, from run to run."""
    steps: dict[Node, torch.Tensor] = {}
    directions: dict[Node, torch.Tensor] = {}
    shift: dict[Node, torch.Tensor] = {}
    for node in nodes:
        before, after = (
            [literal(run, sae, node, row) for row in range(len(run))] for run in (base, target)
        )
        pairs = list(zip(before, after, strict=True))
        moved = [spread(new, apart) - spread(old, apart) for old, new in pairs]
        steps[node] = torch.tensor(np.array(moved)).float()
        shift[node] = torch.tensor(np.array([new.bias - old.bias for old, new in pairs])).float()
        vectors = torch.tensor(literal_directions(base, sae, node)).float()
        directions[node] = vectors.repeat_interleave(9 if apart else 1, 0)
    return Candidates(steps, directions, shift)


def spread(terms: Literal, apart: bool) -> np.ndarray:
    """Codes by latent, or by latent and distance back from the destination."""
    if not apart:
        return terms.codes
    empty = np.zeros_like(terms.codes)
    return np.stack([terms.by_source.get(back, empty) for back in range(9)], 1).flatten()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_is_the_greedy_choice_among_the_literal_candidates(family: str) -> None:
    """One choice for all nodes of a site, each moved by its own codes; the bias is a candidate too.
    The target is a token longer."""
    base, target = (
        activations(family, seed=1, prompts=5),
        activations(family, seed=2, prompts=5, extra=1),
    )
    saes = suite(base, reads_bos=False)
    dictionary = projected(base, saes)
    variance = dictionary.moments.variance
    edits = copying(dictionary, base, target, variance=variance, ks=(0, 1, 3, 8))
    assert all(torch.equal(edits[0].values[node], base.values[node]) for node in base.nodes)
    for k in (1, 3, 8):
        twin = LiteralEdit(base, target, saes, k=k)
        assert torch.equal(edits[k].picks, twin.picks)
        for node in base.nodes:
            torch.testing.assert_close(
                edits[k].values[node], twin.values[node], atol=5e-5, rtol=1e-4
            )


def test_an_edit_names_its_latents_the_bias_among_them() -> None:
    """The latents named, moved all the way from their codes in the base to those in the target, are
    the edit; the bias moves by what is not latents."""
    base, target = (activations("neox", seed=seed) for seed in (1, 2))
    dictionary = projected(base, suite(base, reads_bos=False))
    edited = copied(dictionary, base, target, 6)
    before, after = (dictionary.codes(run) for run in (base, target))
    none = dictionary.only({node: torch.zeros(9, dtype=torch.bool) for node in base.nodes})
    shift = {n: none.reconstruct(target)[n] - none.reconstruct(base)[n] for n in base.nodes}
    biased = 0
    for site, nodes in sites(base.nodes, base.anatomy).items():
        for row, latents in enumerate(edited.latents[site].tolist()):
            biased += BIAS in latents
            chosen = [latent for latent in latents if latent >= 0]
            for node in nodes:
                step = after[node][row, chosen] - before[node][row, chosen]
                expected = base.values[node][row] + step @ dictionary.directions(node)[chosen]
                if BIAS in latents:
                    expected = expected + shift[node][row]
                torch.testing.assert_close(edited.values[node][row], expected, atol=5e-5, rtol=1e-4)
    assert biased


def test_sources_apart_make_a_candidate_of_each_latent_at_each_source() -> None:
    base, target = (
        activations("gpt2", seed=1, prompts=4),
        activations("gpt2", seed=2, prompts=4, extra=1),
    )
    saes = suite(base)
    dictionary = projected(base, saes, sources="apart")
    edited = copied(dictionary, base, target, 3)
    twin = LiteralEdit(base, target, saes, k=3, apart=True)
    assert torch.equal(edited.picks, twin.picks)
    for node in base.nodes:
        torch.testing.assert_close(edited.values[node], twin.values[node], atol=5e-5, rtol=1e-4)
    together = projected(base, saes)
    for node, codes in dictionary.codes(base).items():
        torch.testing.assert_close(codes, together.codes(base)[node])


def test_per_node_choice_is_the_edit_of_each_node_alone() -> None:
    base, target = activations("neox", seed=1), activations("neox", seed=2)
    edits = copied(projected(base, choice="per node"), base, target, 2)
    alone = {
        node: copied(projected(base), base.on([node]), target.on([node]), 2) for node in base.nodes
    }
    assert torch.equal(edits.picks, torch.stack([edited.picks for edited in alone.values()]).sum(0))
    for node, edited in alone.items():
        torch.testing.assert_close(edits.values[node], edited.values[node])


@pytest.mark.parametrize("family", FAMILIES)
def test_recomputed_scale_is_the_sublayer_on_the_reconstructed_stream(family: str) -> None:
    """y_R = W LN(x_hat) + b_W with LN's own scale of x_hat, source by source at z: the whole norm
    applied to x_hat."""
    given = activations(family)
    saes = suite(given)
    reconstructions = projected(given, saes, scale="recomputed").reconstruct(given)
    for node in given.nodes:
        hook = given.anatomy.source(node)
        sae = saes.at(hook)
        assert sae is not None
        W, b = (torch.from_numpy(array).float() for array in weight(given, node))
        y = given.anatomy.norm_before(node).apply(sae.reconstruct(given.streams[hook])) @ W.T + b
        itself = torch.nn.functional.one_hot(given.index(node.position), y.shape[1]).float()
        expected = torch.einsum(
            "ps,psd->pd", given.patterns[node] if node.kind == "z" else itself, y
        )
        torch.testing.assert_close(reconstructions[node], expected, atol=5e-5, rtol=1e-4)


def test_oracle_codes_are_the_nearest_non_negative_ones_of_the_active_latents() -> None:
    given = activations("gpt2")
    saes = suite(given)
    dictionary = projected(given, saes, codes="oracle")
    codes = dictionary.codes(given)
    for node in given.nodes:
        sae = saes.at(given.anatomy.source(node))
        assert sae is not None
        directions = literal_directions(given, sae, node)
        for row in range(3):
            twin = literal(given, sae, node, row)
            active = twin.codes != 0
            expected = np.zeros_like(twin.codes)
            expected[active] = nnls(
                directions[active].T, given.values[node][row].double().numpy() - twin.bias
            )[0]
            np.testing.assert_allclose(codes[node][row], expected, atol=1e-3)
    better, plain = dictionary.reconstruct(given), projected(given, saes).reconstruct(given)
    for node, value in given.values.items():
        assert (
            (better[node] - value).norm(dim=-1) <= (plain[node] - value).norm(dim=-1) + 1e-4
        ).all()


def test_options_go_by_name() -> None:
    assert options_named(["oracle", "per-node"]) == {
        "oracle": Options(codes="oracle"),
        "per-node": Options(choice="per node"),
    }
    assert all(option != Options() for option in NAMED_OPTIONS.values())
    with pytest.raises(SageError, match="Did you mean 'oracle'"):
        options_named(["orcale"])
    with pytest.raises(Unsupported, match="one of these options"):
        Options(sources="apart", codes="oracle")


@pytest.mark.parametrize("family", FAMILIES)
def test_attn_out_is_the_heads_output_with_the_post_norms_clean_scale(family: str) -> None:
    """With the identity dictionary it is attn_out; with another its error is W_O (z - z_hat),
    through the post-norm at the clean scale."""
    nodes = [Node("z", 1, head, "END") for head in range(HEADS)]
    given = activations(family, nodes)
    block = given.anatomy.blocks[1]
    raw = (
        torch.stack(
            [given.values[node] @ block.W_O[head].T for head, node in enumerate(nodes)]
        ).sum(0)
        + block.b_O
    )
    exact = raw if block.attention_post is None else block.attention_post.apply(raw)
    identity = projected(
        given, assemble("identity", [identity_sae(hook) for hook in given.streams])
    )
    torch.testing.assert_close(
        attention_output(identity, given, layer=1, position="END"), exact, atol=1e-4, rtol=1e-4
    )
    other = projected(given)
    z = other.reconstruct(given)
    error = torch.stack(
        [(given.values[node] - z[node]) @ block.W_O[head].T for head, node in enumerate(nodes)]
    ).sum(0)
    if block.attention_post is not None:
        error = block.attention_post.weight * error / block.attention_post.scale(raw)
    torch.testing.assert_close(
        exact - attention_output(other, given, layer=1, position="END"), error, atol=1e-4, rtol=1e-4
    )
    with pytest.raises(SageError, match="z of all its heads"):
        attention_output(other, given.on(nodes[1:]), layer=1, position="END")


def test_a_change_of_basis_of_the_values_leaves_z_as_it_was() -> None:
    """W_V -> R W_V, W_O -> W_O R': what a z edit writes into the stream, and which latents it
    picks, do not change."""
    nodes = [node for node in NODES if node.kind == "z"]
    base, target = activations("gpt2", nodes, seed=1), activations("gpt2", nodes, seed=2)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))[0]

    def turned(given: Activations) -> Activations:
        blocks = [
            replace(block, W_V=turn @ block.W_V, b_V=block.b_V @ turn.T, W_O=block.W_O @ turn.T)
            for block in given.anatomy.blocks
        ]
        return replace(
            given,
            anatomy=replace(given.anatomy, blocks=blocks),
            values={node: value @ turn.T for node, value in given.values.items()},
        )

    plain = copied(projected(base), base, target, 4)
    other = copied(projected(turned(base)), turned(base), turned(target), 4)
    assert torch.equal(plain.picks, other.picks)
    for site, latents in plain.latents.items():
        assert torch.equal(latents, other.latents[site])
    for node in nodes:
        torch.testing.assert_close(
            other.values[node], plain.values[node] @ turn.T, atol=5e-5, rtol=1e-4
        )


def test_results_do_not_depend_on_which_prompts_stand_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base, target = (
        activations("gemma2", seed=1, prompts=11),
        activations("gemma2", seed=2, prompts=11),
    )
    whole = copied(projected(base), base, target, 4)
    order = [7, 2, 9, 0, 1, 10, 3, 4, 8, 5, 6]
    shuffled = copied(projected(base), base.select(order), target.select(order), 4)
    monkeypatch.setattr("sage.dictionaries.projected.CODES_AT_ONCE", 150)
    pieces = copied(projected(base), base, target, 4)
    assert torch.equal(whole.picks, pieces.picks)
    assert torch.equal(whole.picks[order], shuffled.picks)
    for node in base.nodes:
        torch.testing.assert_close(whole.values[node], pieces.values[node], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            whole.values[node][order], shuffled.values[node], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("scale", ["frozen", "recomputed"])
def test_only_leaves_out_latents_at_the_nodes_it_names(scale: str) -> None:
    """The recomputed scale is that of x_hat with all latents all the same."""
    base, target = activations("gpt2", seed=1), activations("gpt2", seed=2)
    dictionary = projected(base, scale=scale)
    node, other = parse_node("1.1.z@END"), parse_node("1.2.z@END")
    mask = torch.zeros(9, dtype=torch.bool)
    mask[[2, 5]] = True
    narrowed = dictionary.only({node: mask})
    codes = narrowed.codes(base)
    assert codes[node][:, ~mask].eq(0).all()
    assert torch.equal(codes[node][:, mask], dictionary.codes(base)[node][:, mask])
    assert torch.equal(codes[other], dictionary.codes(base)[other])
    expected = dictionary.only({node: ~mask}).reconstruct(base)[node] + codes[
        node
    ] @ dictionary.directions(node)
    torch.testing.assert_close(expected, dictionary.reconstruct(base)[node], atol=2e-5, rtol=1e-5)
    assert not narrowed.only({node: ~mask}).codes(base)[node].any()
    empty = {node: torch.zeros(9, dtype=torch.bool) for node in base.nodes}
    unused = dictionary.only(empty)
    for node, value in unused.reconstruct(base).items():
        latents = dictionary.codes(base)[node] @ dictionary.directions(node)
        whole = dictionary.reconstruct(base)[node]
        torch.testing.assert_close(value + latents, whole, atol=2e-5, rtol=1e-5)
    nothing = copied(unused, base, target, 9)
    for latents in nothing.latents.values():
        assert set(latents.flatten().tolist()) <= {BIAS, -1}


def test_tokens_are_encoded_once_and_only_where_they_are_read() -> None:
    calls: list[int] = []

    @dataclass(frozen=True, eq=False)
    class Counting(SAE):
        def encode(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            return super().encode(x)

    node, early = parse_node("1.1.z@A"), parse_node("1.0.q@A")
    given = activations("gpt2", (node, early), prompts=4)
    plain = relu_sae(Node("resid_pre", 1))
    counting = Counting(**{name: getattr(plain, name) for name in plain.__dataclass_fields__})
    dictionary = projected(given, assemble("counting", [counting]))
    dictionary.reconstruct(given)
    copied(dictionary, given.on([early]), given.on([early]), 1)
    dictionary.only({}).codes(given)
    assert calls == [int((given.index("A") + 1).sum())]


def test_l0_counts_the_active_latents_of_the_tokens_that_are_read_but_bos() -> None:
    """Those up to A for z, those at A alone without it; only latents in use."""
    node, early = parse_node("1.1.z@A"), parse_node("1.0.q@A")
    given = activations("gpt2", (node, early), prompts=4)
    sae = relu_sae(PRE)
    stream = given.streams[PRE]
    active = [sae.active(stream[row, 1 : at + 1]) for row, at in enumerate(given.index("A"))]
    everything = torch.cat(active).float()
    dictionary = projected(given, assemble("plain", [sae]))
    assert mean_l0(dictionary, given) == {PRE: pytest.approx(everything.sum(1).mean().item())}
    some = torch.arange(9) < 4
    narrowed = dictionary.only(dict.fromkeys((node, early), some))
    expected = everything[:, :4].sum(1).mean().item()
    assert mean_l0(narrowed, given) == {PRE: pytest.approx(expected)}
    partly = dictionary.only({node: some})
    assert mean_l0(partly, given) == {PRE: pytest.approx(everything.sum(1).mean().item())}
    at_a = projected(given.on([early]), assemble("plain", [sae]))
    last = torch.stack([rows[-1] for rows in active]).float().sum(1).mean().item()
    assert mean_l0(at_a, given.on([early])) == {PRE: pytest.approx(last)}


def test_what_a_latent_explains_alone_is_the_variance_that_it_takes_away() -> None:
    given = activations("neox", prompts=30)
    dictionary = projected(given)
    shares = explained(dictionary, given)
    for node in given.nodes:
        y, alpha, u = (
            values.double()
            for values in (
                given.values[node],
                dictionary.codes(given)[node],
                dictionary.directions(node),
            )
        )
        centred = y - y.mean(0)
        for latent in range(9):
            left = centred - (alpha[:, latent] - alpha[:, latent].mean())[:, None] * u[latent]
            expected = 1 - (left.square().sum() / centred.square().sum()).item()
            assert shares[node][latent].item() == pytest.approx(expected, abs=1e-4)


def test_reach_is_the_share_of_the_statistic_at_nodes_with_an_sae() -> None:
    model = anatomy("gpt2")
    short = assemble("one", [relu_sae(Node("resid_post", 0))])
    section = Section(
        "IO",
        {parse_node("1.0.q@END"): 3.0, parse_node("1.mlp_in@END"): 1.0, parse_node("0.1.z@A"): 4.0},
    )
    assert reached(short, model, section.nodes) == (parse_node("1.0.q@END"),)
    assert reach(short, model, section) == 3 / 8
    assert reach(short, model, Section("none", {})) == 0
    assert reached(short, anatomy("neox"), section.nodes) == (
        parse_node("1.0.q@END"),
        parse_node("1.mlp_in@END"),
    )


def test_what_is_not_reached_cannot_be_projected_onto() -> None:
    given = activations("gpt2")
    short = assemble("one", [relu_sae(Node("resid_pre", 1))])
    with pytest.raises(
        SageError,
        match=r"'one' has SAEs at 1.resid_pre@\*.*does not reach 0.3.z@END and 2 more nodes",
    ):
        projected(given, short)
    q, z = parse_node("1.0.q@END"), parse_node("1.1.z@END")
    dictionary = project(short, given.anatomy, [q], moments(given))
    with pytest.raises(SageError, match=r"1\.1\.z@END is not among them"):
        dictionary.reconstruct(given.on([q, z]))
    with pytest.raises(SageError, match="width of the model"):
        project(
            assemble("wide", [identity_sae(Node("resid_pre", 1), d=13)]),
            given.anatomy,
            [q],
            moments(given),
        )
