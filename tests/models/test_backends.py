"""Reading and writing in both backends and all three families, as transformers itself does it.

tests/models/twin.py is transformers with plain hooks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sage.errors import SageError, Unsupported
from sage.models.base import Model, Outcome
from sage.models.load import load_model
from sage.nodes import Node, parse_node
from sage.task.metric import logit_difference
from tests.models.nodes import some_nodes, without_padding
from tests.models.twin import Twin
from tests.tiny import FAMILIES, random_prompts, save_random_model

PROMPTS = random_prompts(6)
ONE_LENGTH = random_prompts(4, seed=1, lengths=(7,))
UNWRITABLE = ("pattern", "embed")


def test_logits_are_those_of_transformers(model: Model, twin: Twin) -> None:
    found = _logits(model.write({}, PROMPTS, logit_difference, logits=True))
    for row, prompt in zip(found, PROMPTS, strict=True):
        assert torch.allclose(row.double(), twin.logits(prompt), atol=1e-4)


def test_an_outcome_is_the_metric_and_the_choice_of_its_logits(model: Model) -> None:
    """The choice is the loudest word of all answers and foils, whatever else is louder."""
    words = {word for prompt in PROMPTS for word in (*prompt.answers, *prompt.foils)}
    outcome = model.write({}, PROMPTS, logit_difference, logits=True)
    for row, prompt in enumerate(PROMPTS):
        logits = _logits(outcome)[row]
        assert outcome.metric[row].item() == pytest.approx(
            (logits[prompt.answers[0]] - logits[prompt.foils[0]]).item(), abs=1e-6
        )
        assert outcome.choice[row] == max(words, key=lambda word: logits[word].item())
    assert model.write({}, PROMPTS, logit_difference).logits is None


def test_values_are_those_of_transformers_and_equal_in_both_backends(
    both: tuple[Model, Model], twin: Twin
) -> None:
    nodes = some_nodes(both[0], "B") + some_nodes(both[0], "*")
    hooked, traced = (model.read(nodes, PROMPTS) for model in both)
    for node in nodes:
        assert torch.allclose(hooked[node], traced[node], atol=1e-5), node
        for row, prompt in enumerate(PROMPTS):
            whole = twin.read(node, prompt)
            value = without_padding(hooked[node][row], whole)
            assert torch.allclose(value.double(), whole, atol=1e-5), node
            assert hooked[node][row].count_nonzero() == value.count_nonzero()


def test_what_is_read_has_the_stated_shape(model: Model) -> None:
    longest, d_model, d_head = 8, model.anatomy.d_model, model.anatomy.d_head
    shapes = {
        parse_node("embed@*"): (6, longest, d_model),
        parse_node("1.resid_pre@B"): (6, d_model),
        parse_node("1.1.q@B"): (6, d_head),
        parse_node("1.1.z@*"): (6, longest, d_head),
        parse_node("1.1.pattern@B"): (6, longest),
        parse_node("1.1.pattern@*"): (6, longest, longest),
    }
    values = model.read(list(shapes), PROMPTS)
    assert {node: tuple(value.shape) for node, value in values.items()} == shapes


def test_writing_back_what_was_read_leaves_the_logits(model: Model) -> None:
    clean = _logits(model.write({}, PROMPTS, logit_difference, logits=True))
    nodes = [
        node
        for position in ("A", "*")
        for node in some_nodes(model, position)
        if node.kind not in UNWRITABLE
    ]
    values = model.read(nodes, PROMPTS)
    each = model.write_many(
        [{node: values[node]} for node in nodes], PROMPTS, logit_difference, logits=True
    )
    for node, outcome in zip(nodes, each, strict=True):
        assert torch.allclose(_logits(outcome), clean, atol=1e-5), node
    at_once = _logits(model.write(values, PROMPTS, logit_difference, logits=True))
    assert torch.allclose(at_once, clean, atol=1e-5)


@pytest.mark.parametrize("position", ["B", "*"])
def test_a_write_is_the_same_patch_made_by_hand(model: Model, twin: Twin, position: str) -> None:
    clean = _logits(model.write({}, ONE_LENGTH, logit_difference, logits=True))
    for number, node in enumerate(
        node for node in some_nodes(model, position) if node.kind not in UNWRITABLE
    ):
        value = model.read([node], ONE_LENGTH)[node]
        value = value + torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
        found = _logits(model.write({node: value}, ONE_LENGTH, logit_difference, logits=True))
        assert not torch.allclose(found, clean, atol=1e-3), node
        for row, prompt in enumerate(ONE_LENGTH):
            by_hand = twin.patched([(node, value[row].double())], prompt)
            assert torch.allclose(found[row].double(), by_hand, atol=1e-4), node


def test_edits_of_one_set_hold_all_at_once(model: Model, twin: Twin) -> None:
    """Of one point several heads and positions, of one position two layers, and two streams that
    meet."""
    texts = [
        "0.1.z@A",
        "0.0.z@A",
        "0.0.z@B",
        "0.1.k@A",
        "0.0.q@END",
        "0.attn_out@B",
        "1.resid_pre@B",
        "1.1.v@A",
        "1.mlp_in@END",
        "1.mlp_out@A",
    ]
    nodes = [parse_node(text) for text in texts]
    if not model.anatomy.parallel:
        nodes.append(parse_node("1.resid_mid@END"))
    edits = {node: value + 1 for node, value in model.read(nodes, PROMPTS).items()}
    found = _logits(model.write(edits, PROMPTS, logit_difference, logits=True))
    for row, prompt in enumerate(PROMPTS):
        by_hand = twin.patched(
            [(node, edits[node][row].double()) for node in sorted(edits)], prompt
        )
        assert torch.allclose(found[row].double(), by_hand, atol=1e-4)


def test_what_a_layer_computes_follows_from_what_is_written_below_it(model: Model) -> None:
    """resid_mid is written where its skip connection sees it: setting it sets resid_post up to the
    MLP's answer."""
    if model.anatomy.parallel:
        pytest.skip("a parallel block has no resid_mid")
    target = torch.randn(
        len(PROMPTS), model.anatomy.d_model, generator=torch.Generator().manual_seed(0)
    )
    last = model.anatomy.layers - 1
    through_mid = model.write(
        {Node("resid_mid", last, None, "END"): target}, PROMPTS, logit_difference, logits=True
    )
    through_out = {
        Node("attn_out", last, None, "END"): target,
        Node("resid_pre", last, None, "END"): torch.zeros_like(target),
    }
    assert torch.allclose(
        _logits(through_mid),
        _logits(model.write(through_out, PROMPTS, logit_difference, logits=True)),
        atol=1e-4,
    )


def test_writing_many_sets_is_writing_each(model: Model) -> None:
    nodes = [node for node in some_nodes(model, "B") if node.kind not in UNWRITABLE]
    sets = [{node: value * 0.5} for node, value in model.read(nodes, PROMPTS).items()]
    sets += [{}, sets[0] | sets[1] | sets[2] | sets[3]]
    many = model.write_many(sets, PROMPTS, logit_difference)
    for edit_set, outcome in zip(sets, many, strict=True):
        alone = model.write(edit_set, PROMPTS, logit_difference)
        assert torch.allclose(outcome.metric, alone.metric, atol=1e-5)
        assert outcome.choice.equal(alone.choice)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("9.mlp_in@END", "layers 0 to"),
        ("1.9.q@END", "heads 0 to"),
        ("1.9.k@END", "heads 0 to"),
        ("1.mlp_in@S2", "no position 'S2'.*A, B, END"),
    ],
)
def test_a_node_the_model_or_the_prompt_does_not_have_is_refused(
    model: Model, node: str, says: str
) -> None:
    with pytest.raises(SageError, match=says):
        model.read([parse_node(node)], PROMPTS)
    with pytest.raises(SageError, match=says):
        model.gradients([parse_node(node)], PROMPTS, logit_difference)
    with pytest.raises(SageError, match=says):
        model.write(
            {parse_node(node): torch.zeros(len(PROMPTS), model.anatomy.d_model)},
            PROMPTS,
            logit_difference,
        )


def test_a_parallel_block_has_no_resid_mid(model: Model) -> None:
    node = parse_node("1.resid_mid@END")
    if not model.anatomy.parallel:
        assert model.read([node], PROMPTS)[node].shape == (len(PROMPTS), model.anatomy.d_model)
        return
    with pytest.raises(Unsupported, match="parallel"):
        model.read([node], PROMPTS)


def test_a_sequential_neox_has_one(tmp_path: Path) -> None:
    folder = str(save_random_model(tmp_path, "neox", use_parallel_residual=False))
    hooked, traced = (
        load_model(folder, backend=backend, device="cpu", partial=False)
        for backend in ("transformer-lens", "nnsight")
    )
    pre, attention, mid = (
        Node(kind, 1, None, "B") for kind in ("resid_pre", "attn_out", "resid_mid")
    )
    values = hooked.read([pre, attention, mid], PROMPTS)
    assert torch.allclose(values[pre] + values[attention], values[mid], atol=1e-5)
    assert torch.allclose(traced.read([mid], PROMPTS)[mid], values[mid], atol=1e-5)
    moved = {mid: values[mid] + 1}
    assert torch.allclose(
        *(model.write(moved, PROMPTS, logit_difference).metric for model in (hooked, traced)),
        atol=1e-5,
    )


def test_values_that_do_not_fit_are_refused(model: Model) -> None:
    with pytest.raises(SageError, match="5 values for 6 prompts"):
        model.write(
            {parse_node("1.mlp_in@END"): torch.zeros(5, model.anatomy.d_model)},
            PROMPTS,
            logit_difference,
        )
    with pytest.raises(SageError, match="wide"):
        model.write({parse_node("1.mlp_in@END"): torch.zeros(6, 3)}, PROMPTS, logit_difference)
    with pytest.raises(Unsupported, match="cannot be written"):
        model.write({parse_node("1.1.pattern@END"): torch.zeros(6, 8)}, PROMPTS, logit_difference)
    with pytest.raises(SageError, match="no prompts"):
        model.read([parse_node("1.mlp_in@END")], [])


def test_the_work_done_is_counted(model: Model) -> None:
    fresh = replace(model, counter=type(model.counter)(), partial=None)
    tokens = sum(len(prompt.ids) for prompt in PROMPTS)
    fresh.read([parse_node("1.mlp_in@END")], PROMPTS)
    assert fresh.counter.tokens == tokens
    fresh.write_many([{}, {}], PROMPTS, logit_difference)
    assert fresh.counter.tokens == 3 * tokens
    assert fresh.counter.token_layers == 3 * tokens * model.anatomy.layers


def test_a_remote_run_sends_all_it_needs(folder: Callable[[str], Path]) -> None:
    """Rehearsed here: everything is packed, sage itself with it, and unpacked where no sage is
    installed."""
    command = [
        sys.executable,
        "-m",
        "tests.models.rehearsal",
        *(str(folder(family)) for family in FAMILIES),
    ]
    run = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 1e-5


def _logits(outcome: Outcome) -> Tensor:
    assert outcome.logits is not None
    return outcome.logits
