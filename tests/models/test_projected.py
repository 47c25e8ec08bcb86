"""Projection on models that really run, every family in both backends: what must be exact is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise, product

import torch
from einops import einsum
from torch import Tensor

from sage.dictionaries.activations import Activations, moments, read
from sage.dictionaries.edits import Edited, copying
from sage.dictionaries.projected import ProjectedSuite, project
from sage.dictionaries.projection import attention_output, project_direction
from sage.models.base import Model
from sage.nodes import Node
from sage.saes.suite import Suite, assemble
from sage.task.metric import logit_difference
from tests.tiny import random_prompts
from tests.toy import identity_sae, relu_sae

PROMPTS = random_prompts(9)
POSITIONS = ("B", "END")


def nodes(model: Model) -> list[Node]:
    """Every head of the last layer, and the MLPs of all layers."""
    last = model.anatomy.layers - 1
    heads: list[Node] = []
    for kind, position in product("qkvz", POSITIONS):
        for head in range(model.anatomy.heads_of(kind)):
            heads.append(Node(kind, last, head, position))
    return [*heads, *(Node("mlp_in", layer, None, "END") for layer in range(last + 1))]


def suite(
    model: Model, given: Activations, *, identity: bool = False, reads_bos: bool = True
) -> Suite:
    d = model.anatomy.d_model
    saes = [
        identity_sae(hook, d=d)
        if identity
        else relu_sae(hook, width=3 * d, d=d, reads_bos=reads_bos)
        for hook in given.streams
    ]
    return assemble("suite", saes)


def projected(saes: Suite, given: Activations) -> ProjectedSuite:
    return project(saes, given.anatomy, given.nodes, moments(given))


def test_the_identity_dictionary_gives_every_activation_back(model: Model) -> None:
    given = read(model, nodes(model), PROMPTS)
    reconstructions = projected(suite(model, given, identity=True), given).reconstruct(given)
    for node, value in reconstructions.items():
        torch.testing.assert_close(value, given.values[node], atol=3e-5, rtol=1e-4)


def test_attention_rows_sum_to_one(model: Model) -> None:
    for pattern in read(model, nodes(model), PROMPTS).patterns.values():
        torch.testing.assert_close(pattern.sum(-1), torch.ones(len(PROMPTS)))


def test_the_error_is_the_residual_error_through_the_weights(model: Model) -> None:
    """y - y_hat = W~ (x - x_hat)/s(x), sources mixed by the attention row at z; position 0, which
    passes through, is exact."""
    given = read(model, nodes(model), PROMPTS)
    saes = suite(model, given, reads_bos=not model.bos)
    reconstructions = projected(saes, given).reconstruct(given)
    for node in given.nodes:
        hook = given.anatomy.source(node)
        sae, stream = saes.at(hook), given.streams[hook]
        assert sae is not None
        missing = (stream - sae.reconstruct(stream)) / given.anatomy.norm_before(node).scale(stream)
        missing[:, 0] = 0
        here = torch.nn.functional.one_hot(given.index(node.position), stream.shape[1]).float()
        weights = given.patterns[node] if node.kind == "z" else here
        mixed = einsum(weights, missing, "prompt source, prompt source d -> prompt d")
        torch.testing.assert_close(
            given.values[node] - reconstructions[node],
            project_direction(given.anatomy, node, mixed),
            atol=1e-4,
            rtol=1e-3,
        )


def test_attn_out_is_made_of_z(model: Model) -> None:
    last = model.anatomy.layers - 1
    heads = [Node("z", last, head, "END") for head in range(model.anatomy.heads)]
    given = read(model, heads, PROMPTS)
    attn_out = Node("attn_out", last, None, "END")
    rebuilt = attention_output(
        projected(suite(model, given, identity=True), given), given, layer=last, position="END"
    )
    torch.testing.assert_close(
        rebuilt, model.read([attn_out], PROMPTS)[attn_out], atol=1e-4, rtol=1e-3
    )


def test_exact_reconstructions_written_back_give_the_clean_logits(model: Model) -> None:
    given = read(model, nodes(model), PROMPTS)
    clean = model.write({}, PROMPTS, logit_difference, logits=True)
    identity = projected(suite(model, given, identity=True), given).reconstruct(given)
    for values in (given.values, identity):
        written = model.write(values, PROMPTS, logit_difference, logits=True)
        torch.testing.assert_close(written.logits, clean.logits, atol=2e-4, rtol=1e-3)


def test_the_whole_edit_and_the_error_are_the_ground_truth_patch(model: Model) -> None:
    """base + all latents + bias + change of error = target, and so in the model's outcome."""
    base, target = (read(model, nodes(model), random_prompts(6, seed)) for seed in (1, 2))
    dictionary = projected(suite(model, base, reads_bos=not model.bos), base)
    empty = {node: torch.zeros(3 * model.anatomy.d_model, dtype=torch.bool) for node in base.nodes}
    alpha, beta = dictionary.codes(base), dictionary.codes(target)
    before, after = (dictionary.only(empty).reconstruct(run) for run in (base, target))
    old, new = dictionary.reconstruct(base), dictionary.reconstruct(target)
    values = {
        node: base.values[node]
        + (beta[node] - alpha[node]) @ dictionary.directions(node)
        + (after[node] - before[node])
        + (target.values[node] - new[node] - base.values[node] + old[node])
        for node in base.nodes
    }
    for node, value in values.items():
        torch.testing.assert_close(value, target.values[node], atol=1e-4, rtol=1e-3)
    patched, truth = (
        model.write(chosen, base.prompts, logit_difference).metric
        for chosen in (values, target.values)
    )
    torch.testing.assert_close(patched, truth, atol=1e-3, rtol=1e-3)


def test_an_edit_moves_towards_the_counterfactual_with_every_pick(model: Model) -> None:
    base, target = (read(model, nodes(model), random_prompts(6, seed)) for seed in (1, 2))
    dictionary = projected(suite(model, base), base)
    variance = dictionary.moments.variance
    edits = copying(dictionary, base, target, variance=variance, ks=(0, 1, 2, 4, 8, 16, 32))
    for fewer, more in pairwise(edits.values()):
        before, after = (_distance(edited, target, variance) for edited in (fewer, more))
        moved = more.picks > fewer.picks
        assert (after[moved] < before[moved]).all()
        assert torch.equal(after[~moved], before[~moved])
    first, last = (_distance(edits[k], target, variance).mean() for k in (0, 32))
    assert last < 0.7 * first


def _distance(edited: Edited, target: Activations, variance: Mapping[Node, float]) -> Tensor:
    """Squared distance from the target in units of each node's variance."""
    distance = torch.zeros(len(target))
    for node, value in edited.values.items():
        distance += (value - target.values[node]).square().sum(-1) / variance[node]
    return distance
