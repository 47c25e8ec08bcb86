"""Attribution against slow literal twins: finite differences, and models whose paths are known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from sage.discovery.attribution import (
    EMBED,
    GRAD_DROP,
    INTEGRATED_GRADIENTS,
    METHODS,
    Attribution,
    WantedNodes,
    attribute,
    attribute_all,
)
from sage.discovery.candidates import SECTION_KINDS, nodes_at
from sage.discovery.patching import patch
from sage.discovery.statistic import pool
from sage.errors import Unsupported
from sage.memory import ATTRIBUTION_TOKENS_AT_ONCE
from sage.models.base import Model
from sage.models.steps import HookPoint, differentiate, forward_steps, gradient_steps, run_steps
from sage.nodes import Node, parse_node
from sage.task.metric import logit_difference
from sage.task.tokens import Tokenized, TokenizedPair
from tests import toy
from tests.discovery.conftest import Ready, random_pairs
from tests.models.twin import Twin
from tests.tiny import FAMILIES

# Every kind, where each can matter; Gemma-2 has key-value heads 0 and 1 and a sliding window in
# layer 0.
TWO_LAYERS = (
    "0.1.q@B",
    "1.1.q@END",
    "0.0.k@A",
    "1.1.k@B",
    "0.1.v@B",
    "1.0.z@END",
    "0.2.z@B",
    "0.mlp_in@B",
    "1.mlp_in@END",
)


# The twin: one node, one pair, one small step at a time


def twin_attribution(
    twin: Twin, node: Node, pair: TokenizedPair, *, qk_fix: bool, drop: int | None = None
) -> float:
    """The slope of the metric along a node's change; for q and k along that of the patterns."""
    frozen = [Node(kind, drop) for kind in ("attn_out", "mlp_out")] if drop is not None else []
    held = [(place, twin.read(place, pair.clean)) for place in frozen]
    before, after = twin.read(node, pair.clean), twin.read(node, pair.counterfactual)
    if not (qk_fix and node.kind in ("q", "k")):
        return slope(twin, pair.clean, held, [(node, before, after - before)])
    heads = [head for head in range(twin_heads(twin)) if node.kind == "k" or head == node.head]
    total = 0.0
    for head in heads:
        pattern = Node("pattern", node.layer, head)
        clean = twin.read(pattern, pair.clean)
        total += slope(
            twin,
            pair.clean,
            held,
            [(pattern, clean, twin.read(pattern, pair.clean, [(node, after)]) - clean)],
        )
    return total


def slope(
    twin: Twin,
    prompt: Tokenized,
    held: list[tuple[Node, Tensor]],
    moves: list[tuple[Node, Tensor, Tensor]],
) -> float:
    """Slope of the metric along the moves, with what is `held` kept where it is.

    It is taken from four wide steps, as transformers rounds some parts to float32.
    """

    def metric(step: float) -> float:
        logits = twin.patched(
            [*((node, value + step * change) for node, value, change in moves), *held], prompt
        )
        return float(logit_difference(logits[None], [prompt]))

    near, far = (metric(step) - metric(-step) for step in (0.01, 0.02))
    return (8 * near - far) / 0.12


def twin_heads(twin: Twin) -> int:
    config = twin.hf.config
    return config.n_head if twin.family == "gpt2" else config.num_attention_heads


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("qk_fix", [True, False])
def test_attribution_is_the_slope_along_the_change_and_the_fix_along_that_of_the_pattern(
    family: str, qk_fix: bool, ready: Callable[[str, str], Ready], twin: Callable[[str], Twin]
):
    nodes, pairs = [parse_node(name) for name in TWO_LAYERS], random_pairs(2)
    if not qk_fix:
        nodes = [node for node in nodes if node.kind in ("q", "k")]
    model = ready(family, "transformer-lens").model
    attribution = attribute(model, nodes, pairs, logit_difference, qk_fix=qk_fix)
    expected = [
        [twin_attribution(twin(family), node, pair, qk_fix=qk_fix) for pair in pairs]
        for node in nodes
    ]
    slopes = torch.tensor(expected, dtype=torch.float64)
    assert torch.allclose(attribution.values[0].double(), slopes, atol=1e-4, rtol=1e-3)
    assert (slopes.abs().amax(1) > 1e-3).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_graddrop_is_the_slope_with_one_layers_outputs_held_still(
    family: str, ready: Callable[[str, str], Ready], twin: Callable[[str], Twin]
):
    """E|I| of the method is then the mean over layers of |slope|, times L/(L - 1)."""
    model = ready(family, "transformer-lens").model
    nodes = [parse_node(name) for name in ("0.1.q@B", "0.0.k@A", "0.0.v@B", "1.mlp_in@END")]
    pairs, layers = random_pairs(2), model.anatomy.layers
    attribution = attribute(model, nodes, pairs, logit_difference, method=GRAD_DROP)
    slopes = torch.empty(layers, len(nodes), len(pairs), dtype=torch.float64)
    for layer in range(layers):
        for row, node in enumerate(nodes):
            for column, pair in enumerate(pairs):
                slopes[layer, row, column] = twin_attribution(
                    twin(family), node, pair, qk_fix=True, drop=layer
                )
    assert torch.allclose(attribution.values.double(), slopes, atol=1e-4, rtol=1e-3)
    mean = slopes.abs().mean(2).sum(0) / (layers - 1)
    assert torch.allclose(attribution.mean, mean, atol=1e-4, rtol=1e-3)
    assert (attribution.values[0, 0] == 0).all()


# A linear model


class HandMade:
    """An engine whose forward pass is written out in `run`."""

    def forward(self, ids, *, read=(), write=None):
        values = {}
        with torch.no_grad():
            return self.run(ids, forward_steps(read, write or {}, values)), values

    def gradients(self, ids, points, objective, *, at=None, drop=None):
        values = {}
        steps = gradient_steps(points, values, at=at, drop=drop)
        return differentiate(objective(self.run(ids, steps)).sum(), values)

    def run(self, ids, steps):
        raise NotImplementedError


class LinearEngine(HandMade):
    """No norms; nothing but the pattern of layer 0 bends, and it enters linearly.

    Layer 1 attends evenly. Two query heads share a key.
    """

    name = "linear"

    def __init__(self) -> None:
        self.anatomy = toy.anatomy("gemma2")
        self.anatomy.blocks[1].W_Q.zero_()
        self.anatomy.blocks[1].b_Q.zero_()
        draw = toy.draw(7)
        self.embedding = torch.randn(50, toy.D, generator=draw)
        self.unembedding = torch.randn(toy.D, 50, generator=draw)
        self.mlps = torch.randn(2, toy.D, toy.D, generator=draw) / 4

    def run(self, ids, steps):
        def at(kind, layer, value):
            return run_steps(steps.get(HookPoint(kind, layer), []), value)

        x = at("embed", 0, self.embedding[ids])
        past = torch.ones(ids.shape[1], ids.shape[1]).tril().bool()
        for layer, block in enumerate(self.anatomy.blocks):
            q, k, v = (
                at(kind, layer, torch.einsum("bpD,hdD->bphd", x, W) / 4 + b)
                for kind, W, b in (
                    ("q", block.W_Q, block.b_Q),
                    ("k", block.W_K, block.b_K),
                    ("v", block.W_V, block.b_V),
                )
            )
            k, v = k.repeat_interleave(2, 2), v.repeat_interleave(2, 2)
            logits = torch.einsum("bthd,bshd->bhts", q, k).masked_fill(~past, -torch.inf)
            pattern = at("pattern", layer, logits.softmax(-1))
            z = at("z", layer, torch.einsum("bhts,bshd->bthd", pattern, v))
            x = x + at("attn_out", layer, torch.einsum("bthd,hDd->btD", z, block.W_O) / 4)
            x = x + at("mlp_out", layer, at("mlp_in", layer, x.clone()) @ self.mlps[layer])
        return x[:, -1] @ self.unembedding


def hand_made(engine: HandMade) -> Model:
    tokenizer = SimpleNamespace(backend_tokenizer=None, bos_token_id=None, unk_token_id=None)
    return Model(engine.name, "", engine.anatomy, tokenizer, False, engine, "cpu", "float32")


@pytest.fixture
def linear() -> Model:
    return hand_made(LinearEngine())


def short_pairs() -> tuple[TokenizedPair, ...]:
    """Pairs in a vocabulary of 50."""

    def small(prompt: Tokenized) -> Tokenized:
        ids, answers, foils = (
            tuple(token % 50 for token in tokens)
            for tokens in (prompt.ids, prompt.answers, prompt.foils)
        )
        return Tokenized(prompt.prompt, ids, prompt.index, answers, foils)

    return tuple(
        TokenizedPair(small(pair.clean), small(pair.counterfactual), pair.contrast)
        for pair in random_pairs(12)
    )


@pytest.mark.parametrize("method", METHODS)
def test_on_a_linear_model_attribution_is_exact_patching(linear: Model, method: str):
    """Queries and keys too: the metric is linear in the pattern.

    GradDrop without the paths of layer 0 is exact in layer 1. The path of integrated gradients
    bends the pattern of layer 0, so what acts through it is not exact.
    """
    nodes, pairs = nodes_at(("A", "B", "END"), SECTION_KINDS, linear.anatomy), short_pairs()
    runs = patch(linear, [(), *((node,) for node in nodes)], pairs, logit_difference)
    exact = runs[1:] - runs[0]
    guess = attribute(linear, nodes, pairs, logit_difference, method=method).values[0].double()
    is_exact = {
        GRAD_DROP: lambda node: node.layer == 1,
        INTEGRATED_GRADIENTS: lambda node: node.layer == 1 or node.kind in ("z", "mlp_in"),
    }.get(method, lambda _: True)
    rows = [row for row, node in enumerate(nodes) if is_exact(node)]
    assert torch.allclose(guess[rows], exact[rows], atol=1e-3)
    assert all(
        exact[nodes.index(parse_node(name))].abs().max() > 0.05
        for name in ("0.0.k@A", "0.3.q@END", "1.1.v@B", "0.mlp_in@B")
    )


def test_without_the_fix_a_query_is_misjudged(linear: Model):
    nodes, pairs = [parse_node("0.3.q@END")], short_pairs()
    runs = patch(linear, [(), nodes], pairs, logit_difference)
    exact = (runs[1] - runs[0]).float()
    plain = attribute(linear, nodes, pairs, logit_difference, qk_fix=False).values[0, 0]
    assert (plain - exact).abs().max() > 0.3 * exact.abs().max()


# Integrated gradients


class CubeEngine(HandMade):
    """The logit of token 1 is the cube of what is embedded at the end: token t is embedded as t."""

    name = "cube"

    def __init__(self) -> None:
        self.anatomy = toy.anatomy("gpt2")

    def run(self, ids, steps):
        embedded = ids[..., None].float().expand(*ids.shape, toy.D).contiguous()
        x = run_steps(steps.get(HookPoint("embed", 0), []), embedded)
        logits = torch.zeros(len(ids), 3)
        logits[:, 1] = x[:, -1, 0] ** 3
        return logits


def number_pair(clean: int, counterfactual: int) -> TokenizedPair:
    """Two prompts that end in these tokens; token 1 is the answer to both."""
    template = random_pairs(1)[0].clean
    first, second = (
        replace(template, ids=(2, last), index={"END": 1}, answers=(1,), foils=(0,))
        for last in (clean, counterfactual)
    )
    return TokenizedPair(first, second, "number")


def test_integrated_gradients_are_taken_at_the_midpoints_of_five_equal_steps():
    """From 0 to 1 the slope 3x^2 is .03, .27, .75, 1.47 and 2.43 at .1, .3, .5, .7 and .9.

    Left points would give .72, right points 1.32, trapezoids 1.02. The way back has the same
    midpoints; a way twice as long is 8 times as high.
    """
    model, pairs = (
        hand_made(CubeEngine()),
        [number_pair(0, 1), number_pair(1, 0), number_pair(0, 2)],
    )
    integrated = attribute(model, [EMBED], pairs, logit_difference, method=INTEGRATED_GRADIENTS)
    assert integrated.values[0, 0].tolist() == pytest.approx([0.99, -0.99, 8 * 0.99])


def test_attribution_patching_takes_the_slope_at_the_clean_prompt_alone():
    """Along the same ways: 0 at 0, and 3 at 1 times a change of -1."""
    model, pairs = (
        hand_made(CubeEngine()),
        [number_pair(0, 1), number_pair(1, 0), number_pair(0, 2)],
    )
    plain = attribute(model, [EMBED], pairs, logit_difference)
    assert plain.values[0, 0].tolist() == pytest.approx([0, -3, 0])


@pytest.mark.parametrize("contrast", ["quality", "kind"])
def test_integrated_gradients_at_the_embeddings_add_up_to_the_change_of_the_metric(
    contrast: str, wired: Callable[[int, str], Ready]
):
    model, _, splits = wired(0, "transformer-lens")
    pairs = splits.discover[contrast]
    integrated = attribute(model, [EMBED], pairs, logit_difference, method=INTEGRATED_GRADIENTS)
    ends = model.write({}, [pair.counterfactual for pair in pairs], clean_metric(pairs)).metric
    change = ends - model.write({}, [pair.clean for pair in pairs], logit_difference).metric
    assert (integrated.values[0, 0] - change).abs().max() <= 0.05 * change.abs().mean()


def clean_metric(pairs):
    """The clean prompts' answers and foils, whatever prompt is run."""
    clean = {pair.counterfactual.ids: pair.clean for pair in pairs}
    return lambda logits, prompts: logit_difference(logits, [clean[p.ids] for p in prompts])


# Batches


@pytest.mark.parametrize(
    ("lengths", "sizes"), [((6,), [170, 170, 60]), ((6, 12), [170, 85, 85, 60])]
)
def test_activations_are_held_for_a_bounded_number_of_tokens(
    lengths: tuple[int, ...],
    sizes: list[int],
    ready: Callable[[str, str], Ready],
    monkeypatch: pytest.MonkeyPatch,
):
    """Of 6 tokens 170 pairs fit into 1,024, of 12 tokens 85; short pairs come first.

    Where lengths are mixed, 170 of 200 short pairs are followed by 30 short and 55 long ones.
    """
    model, read_sizes = ready("gpt2", "nnsight").model, list[int]()
    read = Model.read

    def watched(self: Model, nodes: Collection[Node], prompts: Sequence[Tokenized]):
        longest = max(len(prompt.ids) for prompt in prompts)
        assert len(prompts) * longest <= ATTRIBUTION_TOKENS_AT_ONCE
        read_sizes.append(len(prompts))
        return read(self, nodes, prompts)

    monkeypatch.setattr(Model, "read", watched)
    pairs = random_pairs(400, lengths=lengths)
    attribute(model, [parse_node("0.0.z@END")], pairs, logit_difference)
    assert read_sizes[::2] == read_sizes[1::2] == sizes


@pytest.mark.parametrize("method", [*METHODS])
def test_contrasts_that_share_their_prompts_are_attributed_as_if_each_were_alone(
    method: str, ready: Callable[[str, str], Ready]
):
    """The second contrast has other pairs on some of the prompts, one of them twice, and a prompt
    of its own."""
    model, first = ready("gpt2", "nnsight").model, random_pairs(5)
    swapped = [
        replace(pair, counterfactual=replace(pair.counterfactual, ids=pair.clean.ids[:1] + ids))
        for pair, ids in ((pair, pair.counterfactual.ids[:0:-1]) for pair in first)
    ]
    second = (swapped[3], swapped[1], swapped[3], random_pairs(9, seed=1)[8])
    wanted = [
        WantedNodes(tuple(map(parse_node, ("0.0.k@A", "1.1.q@END", "0.0.z@B"))), first),
        WantedNodes(tuple(map(parse_node, ("1.0.v@B", "1.1.q@END", "0.1.k@B"))), second),
    ]
    together = attribute_all(model, wanted, logit_difference, method=method)
    for each, shared in zip(wanted, together, strict=True):
        alone = attribute(model, *each, logit_difference, method=method)
        assert shared.nodes == alone.nodes == each.nodes
        assert shared.weight == alone.weight
        assert torch.allclose(shared.values, alone.values, atol=1e-5)


def test_the_prompts_that_contrasts_share_are_differentiated_once(
    ready: Callable[[str, str], Ready], monkeypatch: pytest.MonkeyPatch
):
    """Three contrasts on the same five prompts: these are read and differentiated once, and the
    counterfactual ones read once for each contrast."""
    model, pairs, read_sizes, gradient_sizes = (
        ready("gpt2", "nnsight").model,
        random_pairs(5, lengths=[6]),
        list[int](),
        list[int](),
    )
    read, gradients = Model.read, Model.gradients

    def watched_read(self: Model, nodes: Collection[Node], prompts: Sequence[Tokenized]):
        read_sizes.append(len(prompts))
        return read(self, nodes, prompts)

    def watched_gradients(
        self: Model,
        nodes: Collection[Node],
        prompts: Sequence[Tokenized],
        *rest: object,
        **how: object,
    ):
        gradient_sizes.append(len(prompts))
        return gradients(self, nodes, prompts, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "read", watched_read)
    monkeypatch.setattr(Model, "gradients", watched_gradients)
    attribute_all(model, [WantedNodes((parse_node("0.0.z@END"),), pairs)] * 3, logit_difference)
    assert (read_sizes, gradient_sizes) == ([5] * 4, [5])


# Ranking


def test_results_do_not_depend_on_the_order_of_the_pairs(ready: Callable[[str, str], Ready]):
    model = ready("neox", "transformer-lens").model
    nodes = [parse_node(name) for name in ("0.1.q@B", "1.1.k@B", "1.0.z@END")]
    pairs = random_pairs(9)
    forwards = attribute(model, nodes, pairs, logit_difference).values
    backwards = attribute(model, nodes, pairs[::-1], logit_difference).values
    assert torch.allclose(forwards, backwards.flip(2), atol=1e-5)


def test_a_node_has_its_better_place_in_the_two_rankings():
    """By E|I| the first node leads, by the statistic the second; the third is last in both."""
    nodes = tuple(parse_node(name) for name in ("0.0.z@END", "0.1.z@END", "0.2.z@END"))
    values = torch.tensor([[[3.0, -3.0] * 10, [1.0, 1.0] * 10, [0.0, 0.0] * 10]])
    ranks = Attribution(nodes, values).ranks(pool(["one"] * 20))
    assert ranks == dict(zip(nodes, (0, 0, 2), strict=True))


def test_graddrop_needs_two_layers(linear: Model):
    blocks = linear.anatomy.blocks[:1]
    one_layer = replace(linear, anatomy=replace(linear.anatomy, blocks=blocks))
    with pytest.raises(Unsupported, match="two layers"):
        attribute(
            one_layer, [parse_node("0.0.z@END")], short_pairs(), logit_difference, method=GRAD_DROP
        )
