"""Anatomy against the model: what it says of weights, norms and attention gives what is read."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sage.errors import SageError
from sage.models.anatomy import Norm, Rotary
from sage.models.base import Model
from sage.nodes import Node, parse_node
from tests.families import TABLE, facts_of
from tests.tiny import random_prompts

PROMPTS = random_prompts(3, lengths=(8,))


def test_projections_of_the_normed_residual_are_q_k_and_v(model: Model) -> None:
    anatomy = model.anatomy
    for layer in range(anatomy.layers):
        for kind in "qkv":
            for head in range(anatomy.heads_of(kind)):
                node = Node(kind, layer, head)
                x = _read(model, anatomy.source(node))
                weight, bias = anatomy.projection(kind, layer, head)
                assert torch.allclose(
                    anatomy.norm_before(node).apply(x) @ weight.T + bias,
                    _read(model, node),
                    atol=1e-5,
                )


def test_the_normed_residual_is_what_the_mlp_reads(model: Model) -> None:
    for layer in range(model.anatomy.layers):
        node = Node("mlp_in", layer)
        x = _read(model, model.anatomy.source(node))
        assert torch.allclose(
            model.anatomy.norm_before(node).apply(x), _read(model, node), atol=1e-5
        )


def test_a_norm_at_its_own_scale_is_the_norm_and_is_affine_at_a_frozen_one(model: Model) -> None:
    norm, (x, y) = model.anatomy.blocks[0].attention_norm, torch.randn(2, 5, model.anatomy.d_model)
    assert torch.allclose(norm.apply(x, scale=norm.scale(x)), norm.apply(x), atol=1e-6)
    scale = torch.ones(5, 1)
    sum_of_both = norm.apply(x, scale=scale) + norm.apply(y, scale=scale) - norm.bias
    assert torch.allclose(norm.apply(x + y, scale=scale), sum_of_both, atol=1e-5)


def test_a_layer_norm_by_hand() -> None:
    """x = (1, 3), mean 2, variance 1: s = sqrt(1 + 3) = 2, so w (x - 2)/2 + b."""
    norm = Norm("layer", torch.tensor([2.0, 4.0]), torch.tensor([10.0, 20.0]), 3.0)
    assert norm.apply(torch.tensor([1.0, 3.0])).tolist() == [9.0, 22.0]


def test_an_rms_norm_by_hand() -> None:
    """x = (1, 7) is not centred: mean square 25, s = sqrt(25 + 0) = 5."""
    norm = Norm("rms", torch.ones(2), torch.zeros(2), 0.0)
    assert norm.apply(torch.tensor([1.0, 7.0])).tolist() == pytest.approx([0.2, 1.4])


def test_a_rotation_by_hand() -> None:
    """Of four dimensions the first two turn, by one radian for each position; two stay."""
    rotary, x = Rotary(2, 10000.0), torch.tensor([1.0, 0.0, 5.0, 6.0])
    assert rotary.rotate(x, torch.tensor(0)).tolist() == [1.0, 0.0, 5.0, 6.0]
    cos, sin = torch.tensor(1.0).cos().item(), torch.tensor(1.0).sin().item()
    assert rotary.rotate(x, torch.tensor(1)).tolist() == pytest.approx([cos, sin, 5.0, 6.0])


def test_attention_logits_masked_and_normalised_are_the_pattern(model: Model) -> None:
    """Scale, partial rotary, soft cap and sliding window, from q and k as they are read (before
    rotary)."""
    anatomy, count = model.anatomy, 8
    query, key = torch.arange(count)[:, None], torch.arange(count)[None, :]
    for layer in range(anatomy.layers):
        visible = anatomy.visible(layer, query, key)
        for head in range(anatomy.heads):
            q = _read(model, Node("q", layer, head))
            k = _read(model, Node("k", layer, anatomy.kv_head(head)))
            pairs = (len(q), count, count, anatomy.d_head)
            logits = anatomy.attention_logits(
                layer, q[:, :, None].expand(pairs), k[:, None].expand(pairs), query, key
            )
            pattern = logits.masked_fill(~visible, -torch.inf).softmax(-1)
            assert torch.allclose(pattern, _read(model, Node("pattern", layer, head)), atol=1e-5)


def test_a_sliding_window_hides_what_is_far(model: Model) -> None:
    hidden = [
        bool((_read(model, Node("pattern", layer, 0))[:, 7, 0] == 0).all())
        for layer in range(model.anatomy.layers)
    ]
    assert hidden == [block.window is not None for block in model.anatomy.blocks]
    assert any(hidden) == (model.anatomy.family == "gemma2")


def test_a_heads_output_is_its_pattern_over_the_values(model: Model) -> None:
    anatomy = model.anatomy
    for layer in range(anatomy.layers):
        for head in range(anatomy.heads):
            pattern = _read(model, Node("pattern", layer, head))
            v = _read(model, Node("v", layer, anatomy.kv_head(head)))
            assert torch.allclose(pattern @ v, _read(model, Node("z", layer, head)), atol=1e-5)


def test_what_attention_adds_is_the_sum_of_its_heads(model: Model) -> None:
    anatomy = model.anatomy
    for layer in range(anatomy.layers):
        heads = [
            _read(model, Node("z", layer, head)) @ anatomy.output(layer, head).T
            for head in range(anatomy.heads)
        ]
        added = sum(heads, start=anatomy.output_bias(layer))
        post = anatomy.blocks[layer].attention_post
        expected = added if post is None else post.apply(added)
        assert torch.allclose(expected, _read(model, Node("attn_out", layer)), atol=1e-5)


def test_the_residual_stream_is_the_sum_of_what_is_added(model: Model) -> None:
    for layer in range(model.anatomy.layers):
        pre, attention, mlp, post = (
            _read(model, Node(kind, layer))
            for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        assert torch.allclose(pre + attention + mlp, post, atol=1e-5)
        if not model.anatomy.parallel:
            assert torch.allclose(
                pre + attention, _read(model, Node("resid_mid", layer)), atol=1e-5
            )
    assert _read(model, Node("embed", -1)).equal(_read(model, Node("resid_pre", 0)))


def test_the_families_are_told_apart(both: tuple[Model, Model]) -> None:
    for model in both:
        assert facts_of(model) == TABLE[model.anatomy.family].facts


def test_weights_are_views_of_the_loaded_parameters(family: str, folder: object) -> None:
    """Gemma-2-2B is 10 GB in float32: nothing as large as a weight matrix may be copied."""
    from transformers import AutoModelForCausalLM

    from sage.models.families import families

    path: Path = folder(family)  # type: ignore[operator]
    hf = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    anatomy = families()[hf.config.model_type].anatomy(hf)
    stored = {parameter.untyped_storage().data_ptr() for parameter in hf.parameters()}
    for block in anatomy.blocks:
        for weight in (block.W_Q, block.W_K, block.W_V, block.W_O):
            assert weight.untyped_storage().data_ptr() in stored


def test_grouped_queries_share_a_key_value_head(both: tuple[Model, Model]) -> None:
    anatomy = both[0].anatomy
    for head in range(anatomy.heads):
        assert anatomy.kv_head(head) == head // anatomy.group
    query_heads = chain.from_iterable(map(anatomy.query_heads, range(anatomy.kv_heads)))
    assert list(query_heads) == list(range(anatomy.heads))


@pytest.mark.parametrize("text", ["1.resid_pre@END", "1.resid_post@END", "embed@END"])
def test_the_residual_stream_itself_has_no_source(both: tuple[Model, Model], text: str) -> None:
    with pytest.raises(SageError, match="mlp_in"):
        both[0].anatomy.source(parse_node(text))


def _read(model: Model, node: Node) -> Tensor:
    return model.read([node], PROMPTS)[node]
