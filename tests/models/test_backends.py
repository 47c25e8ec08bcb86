"""Both backends, all three families, against transformers itself with plain hooks
(tests/models/twin.py)."""

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
from sage.nodes import EVERYWHERE, HEAD_KINDS, KINDS, Node, parse_node
from sage.task.metric import logit_difference
from sage.task.tokens import Tokenized
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
    outcome = model.write({}, PROMPTS, logit_difference, logits=True)
    for row, prompt in enumerate(PROMPTS):
        logits = _logits(outcome)[row]
        assert outcome.metric[row].item() == pytest.approx(
            (logits[prompt.answers[0]] - logits[prompt.foils[0]]).item(), abs=1e-6
        )
        assert outcome.choice[row] == logits.argmax()
    assert model.write({}, PROMPTS, logit_difference).logits is None


def test_values_are_those_of_transformers_and_equal_in_both_backends(
    both: tuple[Model, Model], twin: Twin
) -> None:
    nodes = _nodes(both[0], "B") + _nodes(both[0], "*")
    hooked, traced = (model.read(nodes, PROMPTS) for model in both)
    for node in nodes:
        assert torch.allclose(hooked[node], traced[node], atol=1e-5), node
        for row, prompt in enumerate(PROMPTS):
            whole = twin.read(node, prompt)
            padded = hooked[node][row][tuple(slice(size) for size in whole.shape)]
            assert torch.allclose(padded.double(), whole, atol=1e-5), node
            assert hooked[node][row].count_nonzero() == padded.count_nonzero()


def test_what_is_read_has_the_stated_shape(model: Model) -> None:
    longest, shapes = (
        8,
        {
            "embed@*": "d_model",
            "1.resid_pre@B": "d_model",
            "1.1.q@B": "d_head",
            "1.1.z@*": "d_head",
            "1.1.pattern@B": "longest",
        },
    )
    found = model.read([parse_node(text) for text in shapes], PROMPTS)
    for text, last in shapes.items():
        width = longest if last == "longest" else getattr(model.anatomy, last)
        assert found[parse_node(text)].shape == (
            (6, longest, width) if text.endswith("*") else (6, width)
        )
    assert model.read([parse_node("1.1.pattern@*")], PROMPTS)[
        parse_node("1.1.pattern@*")
    ].shape == (6, longest, longest)


def test_writing_back_what_was_read_leaves_the_logits(model: Model) -> None:
    clean = _logits(model.write({}, PROMPTS, logit_difference, logits=True))
    nodes = [
        node
        for position in ("A", "*")
        for node in _nodes(model, position)
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
        node for node in _nodes(model, position) if node.kind not in UNWRITABLE
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
    nodes = [node for node in _nodes(model, "B") if node.kind not in UNWRITABLE]
    sets = [{node: value * 0.5} for node, value in model.read(nodes, PROMPTS).items()]
    sets += [{}, {key: value for chosen in sets[:4] for key, value in chosen.items()}]
    many = model.write_many(sets, PROMPTS, logit_difference)
    for chosen, outcome in zip(sets, many, strict=True):
        alone = model.write(chosen, PROMPTS, logit_difference)
        assert torch.allclose(outcome.metric, alone.metric, atol=1e-5)
        assert outcome.choice.equal(alone.choice)


@pytest.mark.parametrize("position", ["B", "*"])
def test_gradients_equal_finite_differences(model: Model, twin: Twin, position: str) -> None:
    """Central differences of the double-precision twin along a random direction; its norms and
    softmax are float32, hence steps of 5e-3."""
    nodes = _nodes(model, position)
    prompts = [PROMPTS[1], PROMPTS[0]]
    found = model.gradients(nodes, prompts, logit_difference)
    for node in nodes:
        for row, prompt in enumerate(prompts):
            value = twin.read(node, prompt)
            slope = _cut(found[node][row], value).double()
            assert slope.norm() > 0, node
            _assert_slope(twin, node, prompt, value, slope, [])


def test_without_a_layers_outputs_the_gradient_is_that_of_a_model_where_they_are_frozen(
    model: Model, twin: Twin
) -> None:
    frozen = [Node("attn_out", 1), Node("mlp_out", 1)]
    nodes = [
        parse_node(text)
        for text in (
            "embed@B",
            "0.1.z@B",
            "0.mlp_out@B",
            "1.resid_pre@A",
            "1.resid_post@B",
            "2.1.v@A",
            "2.mlp_in@END",
        )
    ]
    found = model.gradients(nodes, PROMPTS[:2], logit_difference, drop=1)
    whole = model.gradients(nodes, PROMPTS[:2], logit_difference)
    for row, prompt in enumerate(PROMPTS[:2]):
        clean = [(node, twin.read(node, prompt)) for node in frozen]
        for node in nodes:
            _assert_slope(
                twin, node, prompt, twin.read(node, prompt), found[node][row].double(), clean
            )
    assert not torch.allclose(found[nodes[0]], whole[nodes[0]], rtol=1e-2)
    assert torch.allclose(found[nodes[-1]], whole[nodes[-1]], atol=1e-6)


def test_nothing_flows_through_the_dropped_layer_itself(model: Model) -> None:
    nodes = [
        parse_node(text)
        for text in ("1.1.z@B", "1.1.q@END", "1.attn_out@B", "1.mlp_in@B", "1.mlp_out@B")
    ]
    found = model.gradients(nodes, PROMPTS, logit_difference, drop=1)
    assert all(value.count_nonzero() == 0 for value in found.values())
    assert set(found) == set(nodes)


def test_a_gradient_at_other_embeddings_is_taken_there(model: Model, twin: Twin) -> None:
    embed = Node("embed", -1)
    other = random_prompts(len(PROMPTS), seed=9)
    start = (model.read([embed], PROMPTS)[embed] + model.read([embed], other)[embed]) / 2
    nodes = [embed, parse_node("1.1.z@B"), parse_node("1.mlp_in@END")]
    found = model.gradients(nodes, PROMPTS, logit_difference, at=start)
    for row, prompt in enumerate(PROMPTS[:2]):
        there = (embed, start[row, : len(prompt.ids)].double())
        _assert_slope(twin, embed, prompt, there[1], _cut(found[embed][row], there[1]).double(), [])
        for node in nodes[1:]:
            value = twin.read(node, prompt, [there])
            _assert_slope(twin, node, prompt, value, found[node][row].double(), [there])


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_batch_size_and_order_change_nothing(model: Model, rows: int) -> None:
    prompts = random_prompts(40, seed=2, lengths=(5, 8, 6, 8))
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(0)).tolist()
    nodes = [parse_node(text) for text in ("1.1.z@B", "1.1.k@*", "2.mlp_in@END", "1.1.pattern@END")]
    small = replace(model, batch_size=rows)
    shuffled = [prompts[row] for row in order]
    values, again = model.read(nodes, prompts), small.read(nodes, shuffled)
    slopes, slopes_again = (
        model.gradients(nodes, prompts, logit_difference),
        small.gradients(nodes, shuffled, logit_difference),
    )
    edits = {node: values[node].roll(1, 0) for node in nodes[:3:2]}
    outcome = model.write(edits, prompts, logit_difference)
    outcome_again = small.write(
        {node: value[order] for node, value in edits.items()}, shuffled, logit_difference
    )
    for node in nodes:
        assert torch.allclose(again[node], values[node][order], atol=1e-5)
        assert torch.allclose(slopes_again[node], slopes[node][order], atol=1e-5)
    assert torch.allclose(outcome_again.metric, outcome.metric[order], atol=1e-5)


def test_prompts_of_other_lengths_in_the_batch_change_nothing(model: Model) -> None:
    nodes = _nodes(model, "END")
    together, alone = (
        model.read(nodes, PROMPTS),
        [model.read(nodes, [prompt]) for prompt in PROMPTS],
    )
    for node in nodes:
        for row, single in enumerate(alone):
            assert torch.allclose(
                _cut(together[node][row], single[node][0]), single[node][0], atol=1e-5
            )


def test_a_batch_that_does_not_fit_is_halved(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    forward = type(model.engine).forward

    def scarce(self: object, ids: Tensor, **rest: object) -> object:
        tried.append(len(ids))
        if len(ids) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, ids, **rest)

    node = parse_node("1.resid_post@END")
    prompts = random_prompts(8, lengths=(6,))
    expected = model.read([node], prompts)[node]
    monkeypatch.setattr(type(model.engine), "forward", scarce)
    assert torch.allclose(model.read([node], prompts)[node], expected, atol=1e-5)
    assert tried == [8, 4, 2, 2, 2, 2]


def test_an_error_that_is_not_about_memory_is_not_swallowed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, ids: Tensor, **rest: object) -> object:  # noqa: ARG001
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(model.engine), "forward", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        model.read([parse_node("1.resid_post@END")], PROMPTS)


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


def _nodes(model: Model, position: str) -> list[Node]:
    """A node of every kind the model has, of its second head: in its first layer, and in its last,
    where END alone reaches the logits."""
    kinds = [
        kind
        for kind in KINDS
        if kind != "embed" and not (kind == "resid_mid" and model.anatomy.parallel)
    ]
    places = (
        (0, position),
        (model.anatomy.layers - 1, position if position == EVERYWHERE else "END"),
    )
    found = [
        Node(kind, layer, 1 if kind in HEAD_KINDS else None, where)
        for layer, where in places
        for kind in kinds
    ]
    return [Node("embed", -1, None, position), *found]


def _logits(outcome: Outcome) -> Tensor:
    assert outcome.logits is not None
    return outcome.logits


def _cut(padded: Tensor, like: Tensor) -> Tensor:
    """What is left without the padding."""
    return padded[tuple(slice(size) for size in like.shape)]


def _assert_slope(
    twin: Twin,
    node: Node,
    prompt: Tokenized,
    value: Tensor,
    slope: Tensor,
    patches: list[tuple[Node, Tensor]],
) -> None:
    """The metric's central difference along a random direction is the direction's product with the
    gradient."""
    direction = torch.randn(
        value.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    ends = [
        twin.patched([*patches, (node, value + step * direction)], prompt) for step in (5e-3, -5e-3)
    ]
    above, below = ((logits[prompt.answers[0]] - logits[prompt.foils[0]]).item() for logits in ends)
    expected, tolerance = (
        (above - below) / 1e-2,
        2e-3 * (slope.norm() * direction.norm()).item() + 2e-4,
    )
    assert (slope * direction).sum().item() == pytest.approx(expected, abs=tolerance), node
