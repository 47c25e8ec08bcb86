"""Families beyond the first three, each at every seam against transformers itself.

What holds of one family by the same code is tested on the first three; here is what a family's own
file says: where its modules are, its norms, its rotary positions, its windows, its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sage.dictionaries.activations import moments, read
from sage.dictionaries.projected import project
from sage.discovery.attribution import attribute
from sage.models.anatomy import Rotary, Stretch
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import HEAD_KINDS, Node, parse_node
from sage.saes.suite import assemble
from sage.task.metric import logit_difference
from tests.discovery.conftest import random_pairs
from tests.families import EVERY, MORE, facts_of
from tests.models.twin import Twin, load_twin
from tests.tiny import random_prompts, save_random_model
from tests.toy import identity_sae

PROMPTS = random_prompts(3, lengths=(5, 8))
KINDS = ("resid_pre", "q", "k", "v", "z", "attn_out", "resid_mid", "mlp_in", "mlp_out")


class Ready(NamedTuple):
    """A family's random model: by TransformerLens and in part, by nnsight, by transformers."""

    hooked: Model
    traced: Model
    twin: Twin


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ready]:
    def make(family: str) -> Ready:
        folder = save_random_model(tmp_path_factory.mktemp(family), family)
        hooked = load_model(str(folder), device="cpu")
        traced = load_model(str(folder), backend="nnsight", device="cpu", partial=False)
        return Ready(hooked, traced, load_twin(family, folder))

    return cache(make)


def nodes(position: str) -> list[Node]:
    """A node of every kind of the first layer, and of what the second does with it."""
    first = [Node(kind, 0, 1 if kind in HEAD_KINDS else None, position) for kind in KINDS]
    return [*first, parse_node(f"1.1.q@{position}"), parse_node(f"1.0.k@{position}")]


@pytest.mark.parametrize("family", MORE)
def test_a_family_is_what_its_configuration_says(
    family: str, ready: Callable[[str], Ready]
) -> None:
    assert facts_of(ready(family).hooked) == EVERY[family].facts


@pytest.mark.parametrize("family", MORE)
def test_values_are_those_of_transformers_in_both_backends_and_in_part(
    family: str, ready: Callable[[str], Ready]
) -> None:
    """q and k as projected, before any norm."""
    hooked, traced, twin = ready(family)
    wanted = [*nodes("B"), parse_node("1.1.pattern@B"), parse_node("1.resid_post@*")]
    by_engine = [
        model.read(wanted, PROMPTS) for model in (hooked, replace(hooked, partial=None), traced)
    ]
    for node in wanted:
        for row, prompt in enumerate(PROMPTS):
            expected = twin.read(node, prompt)
            for values in by_engine:
                value = values[node][row][tuple(slice(size) for size in expected.shape)]
                assert torch.allclose(value.double(), expected, atol=2e-5), node


@pytest.mark.parametrize("family", MORE)
def test_edits_are_the_same_patches_made_by_hand(
    family: str, ready: Callable[[str], Ready]
) -> None:
    hooked, traced, twin = ready(family)
    wanted = nodes("A")
    values = hooked.read(wanted, PROMPTS)
    edits = [{node: _moved(values[node], place)} for place, node in enumerate(wanted)]
    partly, wholly = (
        model.write_many(edits, PROMPTS, logit_difference, logits=True)
        for model in (hooked, replace(hooked, partial=None))
    )
    together = {node: value for edit in edits[1::3] for node, value in edit.items()}
    (all_traced,) = traced.write_many([together], PROMPTS, logit_difference, logits=True)
    for row, prompt in enumerate(PROMPTS):
        for edit, *outcomes in zip(edits, partly, wholly, strict=True):
            by_hand = twin.patched([(node, value[row]) for node, value in edit.items()], prompt)
            for outcome in outcomes:
                assert outcome.logits is not None
                assert torch.allclose(outcome.logits[row].double(), by_hand, atol=1e-4), edit
        by_hand = twin.patched([(node, together[node][row]) for node in sorted(together)], prompt)
        assert all_traced.logits is not None
        assert torch.allclose(all_traced.logits[row].double(), by_hand, atol=1e-4)


@pytest.mark.parametrize("family", MORE)
def test_the_qk_fix_is_exact_in_the_pattern_that_a_patch_makes(
    family: str, ready: Callable[[str], Ready]
) -> None:
    """The change of all patterns that read the patched node, as transformers makes it, times the
    metric's slope along them, by small steps."""
    hooked, _, twin = ready(family)
    (pair,) = random_pairs(1, lengths=(6,))
    wanted = [parse_node("1.1.q@END"), parse_node("1.0.k@END"), parse_node("0.0.k@B")]
    found = attribute(hooked, wanted, [pair], logit_difference).values[0, :, 0]
    expected = []
    for node in wanted:
        after = twin.read(node, pair.counterfactual)
        heads = [1] if node.kind == "q" else hooked.anatomy.query_heads(node.head or 0)
        slopes = []
        for head in heads:
            pattern = Node("pattern", node.layer, head)
            clean = twin.read(pattern, pair.clean)
            change = twin.read(pattern, pair.clean, [(node, after)]) - clean
            near, far = (_metric_change(twin, pair.clean, pattern, clean, change, step)
                         for step in (0.01, 0.02))  # fmt: skip
            slopes.append((8 * near - far) / 0.12)
        expected.append(sum(slopes))
    assert found.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert min(map(abs, expected)) > 1e-4


@pytest.mark.parametrize("family", MORE)
def test_the_projection_of_whole_streams_gives_every_activation_back(
    family: str, ready: Callable[[str], Ready]
) -> None:
    model = ready(family).hooked
    wanted = [parse_node(f"1.1.{kind}@END") for kind in "qkvz"] + [parse_node("1.mlp_in@B")]
    given = read(model, wanted, PROMPTS)
    saes = [identity_sae(hook, d=model.anatomy.d_model) for hook in given.streams]
    whole = project(assemble("identity", saes), given.anatomy, given.nodes, moments(given))
    for node, value in whole.reconstruct(given).items():
        torch.testing.assert_close(value, given.values[node], atol=3e-5, rtol=1e-4)


def test_positions_divided_by_two_turn_half_as_far() -> None:
    slow, x = Rotary(4, 100.0, factor=2.0), torch.tensor([1.0, 2.0, 3.0, 4.0])
    turned = Rotary(4, 100.0).rotate(x, torch.tensor(3))
    assert slow.rotate(x, torch.tensor(6)).tolist() == pytest.approx(turned.tolist())


def test_stretched_wavelengths_by_hand() -> None:
    """In 2 pi positions a frequency f turns f times: 8 is more than 4, kept; 1/2 is fewer than 1,
    divided by 4; 2.5 lies half way between 1 and 4: half kept, half divided."""
    stretch = Stretch(factor=4.0, fewest=1.0, most=4.0, context=1)
    frequencies = torch.tensor([8.0, 0.5, 2.5]) * 2 * torch.pi
    slowed = stretch.slow(frequencies) / (2 * torch.pi)
    assert slowed.tolist() == pytest.approx([8.0, 0.125, 2.5 * (0.5 + 0.5 / 4)])


def test_whether_prompts_begin_with_bos_is_the_models_own_matter(tmp_path: Path) -> None:
    """Its configuration decides, else the tokenizer's habit, else the family's custom; the caller
    may say otherwise."""
    from tests.tiny import edit_config

    folder = save_random_model(tmp_path / "llama", "llama")
    assert not load_model(str(folder), device="cpu").bos
    assert load_model(str(folder), device="cpu", bos=True).bos
    _add_bos(folder)
    assert load_model(str(folder), device="cpu").bos
    assert not load_model(str(edit_config(folder, sage_bos=False)), device="cpu").bos


def _add_bos(folder: Path) -> None:
    """Have the tokenizer itself put BOS first."""
    from tokenizers import Tokenizer, processors

    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    tokenizer.save(path)


def _metric_change(twin: Twin, prompt, pattern: Node, clean: Tensor, change: Tensor, step: float):
    up, down = (
        float(
            logit_difference(
                twin.patched([(pattern, clean + sign * step * change)], prompt)[None], [prompt]
            )
        )
        for sign in (1, -1)
    )
    return up - down


def _moved(value: Tensor, seed: int) -> Tensor:
    return value + torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))
