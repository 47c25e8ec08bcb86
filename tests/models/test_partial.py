"""Computing only what an edit can change: the logits of a whole pass by no more than its cone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sage.models.base import Model
from sage.models.counter import Counter
from sage.models.load import load_model
from sage.models.network import Network
from sage.models.partial.clean import CleanRuns
from sage.nodes import HEAD_KINDS, KINDS, Node, parse_node
from sage.task.metric import Metric, logit_difference, probability_difference
from sage.task.tokens import Tokenized
from tests.tiny import random_prompts

PROMPTS = random_prompts(6)
ONE_LENGTH = random_prompts(4, seed=1, lengths=(7,))
# Every other prompt has several answers and foils.
MIXED = [
    replace(p, answers=(*p.answers, 3), foils=(2, *p.foils)) if number % 2 else p
    for number, p in enumerate(PROMPTS)
]
# Tokens to choose among beside answers and foils; the last is the answer of a prompt.
AMONG = [4, 7, 11, PROMPTS[0].answers[0]]
POSITIONS = ("A", "B", "END", "*")


@pytest.fixture(scope="module")
def model(family: str, folder: Callable[[str], Path]) -> Model:
    """The family's model as it is loaded where nothing else is said."""
    return load_model(str(folder(family)), device="cpu")


def test_every_kind_of_edit_gives_the_logits_of_a_whole_forward_pass(model: Model) -> None:
    """One node at a time: every layer and writable kind, at a first, a middle and the last position
    and at all of them."""
    nodes = [node for position in POSITIONS for node in _nodes(model, position)]
    values = model.read(nodes, PROMPTS)
    _assert_equal_to_a_whole_pass(
        model, [{node: _moved(values[node], number)} for number, node in enumerate(nodes)]
    )


def test_edits_of_many_nodes_give_the_logits_of_a_whole_forward_pass(model: Model) -> None:
    nodes = [node for position in POSITIONS for node in _nodes(model, position)]
    values = model.read(nodes, PROMPTS)
    generator = torch.Generator().manual_seed(0)
    sets = [
        torch.randperm(len(nodes), generator=generator)[: 2 + number % 7].tolist()
        for number in range(60)
    ]
    _assert_equal_to_a_whole_pass(
        model,
        [
            {nodes[place]: _moved(values[nodes[place]], place) for place in chosen}
            for chosen in sets
        ],
    )


@pytest.mark.parametrize("batch_size", [1, 4])
def test_logits_do_not_depend_on_the_batch_size(model: Model, batch_size: int) -> None:
    edits = _some_edits(model)
    small = replace(_fresh(model), batch_size=batch_size)
    for in_parts, at_once in zip(_run(small, edits), _run(model, edits), strict=True):
        assert torch.allclose(in_parts, at_once, atol=1e-5)


@pytest.mark.parametrize("position", ["A", "END", "*"])
def test_what_is_read_is_what_the_backend_reads(model: Model, position: str) -> None:
    heads = range(model.anatomy.heads)
    nodes = [
        *_nodes(model, position),
        Node("embed", -1, None, position),
        *(Node("pattern", 1, head, position) for head in heads),
    ]
    partly, whole = model.read(nodes, PROMPTS), replace(model, partial=None).read(nodes, PROMPTS)
    for node in nodes:
        assert partly[node].shape == whole[node].shape
        assert torch.allclose(partly[node], whole[node], atol=1e-5), node


def test_reading_runs_no_layer_above_the_highest_node(model: Model) -> None:
    counted = replace(model, counter=Counter())
    counted.read([parse_node("1.1.z@END"), parse_node("0.mlp_in@B")], ONE_LENGTH)
    assert (counted.counter.token_layers, counted.read([], ONE_LENGTH)) == (2 * 4 * 7, {})


def test_unchanged_values_written_back_leave_the_clean_logits(model: Model) -> None:
    nodes = _nodes(model, "B")
    values = model.read(nodes, PROMPTS)
    clean, *others = _run(model, [{}, *({node: values[node]} for node in nodes), values])
    assert all(torch.allclose(clean, other, atol=1e-5) for other in others)


def test_two_names_of_one_position_set_the_later_value(model: Model) -> None:
    prompts = [
        replace(prompt, index={**prompt.index, "B again": prompt.index["B"]}) for prompt in PROMPTS
    ]
    value = model.read([parse_node("1.resid_pre@B")], prompts)[parse_node("1.resid_pre@B")]
    twice = {parse_node("1.resid_pre@B"): value + 5, parse_node("1.resid_pre@B again"): value + 1}
    set_twice, set_once = _run(model, [twice, {parse_node("1.resid_pre@B"): value + 1}], prompts)
    assert torch.allclose(set_twice, set_once, atol=1e-6)


def test_an_edit_at_the_end_costs_one_position_in_the_layers_above(model: Model) -> None:
    layers = model.anatomy.layers
    value = model.read([parse_node("1.1.z@END")], ONE_LENGTH)[parse_node("1.1.z@END")]
    counted = _fresh(model)
    counted.write({}, ONE_LENGTH, logit_difference)
    assert (counted.counter.token_layers, counted.counter.tokens) == (4 * 7 * layers, 4 * 7)
    counted = _fresh(model)
    counted.write_many([{}, {parse_node("1.1.z@END"): value}], ONE_LENGTH, logit_difference)
    assert counted.counter.token_layers == 4 * 7 * layers + 4 * (layers - 1)
    counted.write_many(
        [{parse_node("1.1.z@END"): value + step} for step in (1, 2, 3)],
        ONE_LENGTH,
        logit_difference,
    )
    assert counted.counter.token_layers == 4 * 7 * layers + 4 * 4 * (layers - 1)


def test_an_edit_in_the_middle_costs_the_positions_from_there_on(model: Model) -> None:
    """z at B, position 3 of 7, in layer 1 changes B alone behind layer 1. A last layer needs B's
    key and value and END's query.

    Gemma-2 has a layer with a window of three between: behind it positions 3, 4 and 5 differ, and
    the last layer needs these and END.
    """
    node, layers = parse_node("1.1.z@B"), model.anatomy.layers
    counted = _fresh(model)
    counted.write({node: torch.ones(4, model.anatomy.d_head)}, ONE_LENGTH, logit_difference)
    before = counted.counter.token_layers
    counted.write({node: torch.zeros(4, model.anatomy.d_head)}, ONE_LENGTH, logit_difference)
    each = {3: 1 + 2, 4: 1 + 3 + 4}[layers]
    assert counted.counter.token_layers - before == 4 * each


@pytest.mark.parametrize(
    "metric",
    [logit_difference, probability_difference, lambda logits, _: logits[:, 7] - logits.mean(-1)],
)
def test_a_measurement_is_the_metric_of_the_outcome(model: Model, metric: Metric) -> None:
    """Of one that reads answers and foils only, and of others; prompts may have several answers."""
    several = [
        replace(prompt, answers=(*prompt.answers, 3), foils=(2, *prompt.foils))
        for prompt in PROMPTS
    ]
    edits = _some_edits(model)
    for either in (model, replace(model, partial=None)):
        outcomes = either.write_many(edits, several, metric)
        expected = torch.stack([outcome.metric for outcome in outcomes])
        assert torch.allclose(either.measure(edits, several, metric), expected, atol=1e-5)


@pytest.mark.parametrize("metric", [logit_difference, probability_difference])
def test_an_outcome_without_logits_is_that_of_a_whole_forward_pass(
    model: Model, metric: Metric
) -> None:
    """The metric to 1e-5, and the choice: of the tokens that it is among one whose logit is the
    largest to 1e-6, or the same of two sets."""
    edits, whole = _some_edits(model), replace(model, partial=None)
    outcomes = model.write_many(edits, MIXED, metric, among=AMONG)
    expected = whole.write_many(edits, MIXED, metric, among=AMONG, logits=True)
    offered = torch.tensor(sorted({*AMONG, *_answers_and_foils(MIXED)}))
    for outcome, full in zip(outcomes, expected, strict=True):
        assert outcome.logits is None
        assert full.logits is not None
        assert torch.allclose(outcome.metric, full.metric, atol=1e-5)
        assert outcome.choice[1::2].equal(full.choice[1::2])
        assert set(outcome.choice[1::2].tolist()) <= {-1, -2}
        assert set(outcome.choice[::2].tolist()) <= set(offered.tolist())
        said = full.logits[::2].gather(1, outcome.choice[::2, None])[:, 0]
        assert (said >= full.logits[::2][:, offered].amax(-1) - 1e-6).all()


@pytest.mark.parametrize("partial", [True, False])
def test_the_choice_is_among_answers_foils_and_the_tokens_named(
    model: Model, partial: bool
) -> None:
    """Of one prompt: its answer or its foil, whatever else is louder; with the loudest token of all
    among them, that."""
    either = model if partial else replace(model, partial=None)
    for prompt in PROMPTS:
        clean = either.write({}, [prompt], logit_difference, logits=True)
        assert clean.logits is not None
        logits, loudest = clean.logits[0], int(clean.logits[0].argmax())
        own = [*prompt.answers, *prompt.foils]
        expected = max(own, key=lambda token: float(logits[token]))
        assert clean.choice.tolist() == [expected]
        for metric in (logit_difference, probability_difference):
            plain = either.write({}, [prompt], metric)
            assert plain.choice.tolist() == [expected]
            named = either.write({}, [prompt], metric, among=[loudest, 5])
            assert named.choice.tolist() == [loudest]


def test_the_choice_is_among_the_answers_of_all_prompts_of_a_call(model: Model) -> None:
    together = model.write({}, PROMPTS, logit_difference, logits=True)
    offered = sorted(_answers_and_foils(PROMPTS))
    assert together.logits is not None
    loudest = together.logits[:, offered].argmax(-1).tolist()
    assert together.choice.tolist() == [offered[place] for place in loudest]
    assert model.write({}, PROMPTS, logit_difference).choice.equal(together.choice)


def test_only_the_logits_an_outcome_needs_are_computed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of answers, foils and the tokens named, as long as these are all that is read."""
    computed: list[tuple[int, int]] = []
    unembed = Network.unembed

    def watched(self: Network, x: Tensor, token_ids: Tensor | None = None) -> Tensor:
        logits = unembed(self, x, token_ids)
        computed.append(tuple(logits.shape))
        return logits

    def runs() -> dict[int, int]:
        """The number of tokens -> how many runs had the logits of so many."""
        counts: dict[int, int] = {}
        for count, tokens in computed:
            counts[tokens] = counts.get(tokens, 0) + count
        computed.clear()
        return counts

    monkeypatch.setattr(Network, "unembed", watched)
    edits = [{}, {parse_node("1.1.z@END"): torch.zeros(len(MIXED), model.anatomy.d_head)}]
    vocabulary = model.anatomy.d_vocab
    few, named = len(_answers_and_foils(MIXED)), len({*AMONG, *_answers_and_foils(MIXED)})
    assert few < named < vocabulary
    model.write_many(edits, MIXED, logit_difference)
    assert runs() == {few: 12}
    model.write_many(edits, MIXED, logit_difference, among=AMONG)
    assert runs() == {named: 12}
    model.write_many(edits, MIXED, probability_difference)
    assert runs() == {vocabulary: 12}
    model.write_many(edits, MIXED, logit_difference, logits=True)
    assert runs() == {vocabulary: 12}
    model.measure(edits, MIXED, logit_difference)
    assert runs() == {few: 12}


def test_sets_that_repeat_an_earlier_one_are_run_once(model: Model) -> None:
    """Prompt by prompt, and however many sets lie between: of 5 sets on 4 prompts 5 runs are made.
    Sets of other nodes say nothing of one another."""
    node = parse_node("1.1.z@END")
    value = torch.zeros(4, model.anatomy.d_head)
    partly = torch.cat([value[:3], value[3:] + 1])
    counted = _fresh(model)
    counted.write({node: value - 1}, ONE_LENGTH, logit_difference)
    before = counted.counter.token_layers
    first, partly_repeated, again, repeated, partly_again = counted.write_many(
        [{node: value}, {node: partly}, {node: partly}, {node: value.clone()}, {node: partly}],
        ONE_LENGTH,
        logit_difference,
    )
    assert counted.counter.token_layers - before == 5 * (model.anatomy.layers - 1)
    assert first.metric.equal(repeated.metric)
    assert partly_repeated.metric[:3].equal(first.metric[:3])
    assert partly_repeated.metric[3] != first.metric[3]
    for later in (again, partly_again):
        assert later.metric.equal(partly_repeated.metric)
        assert later.choice.equal(partly_repeated.choice)


def test_without_room_for_clean_runs_the_same_is_computed_with_more_work(model: Model) -> None:
    edits = _some_edits(model)
    forgetful = replace(_fresh(model), clean_runs=CleanRuns(0))
    for without, expected in zip(_run(forgetful, edits), _run(model, edits), strict=True):
        assert without.equal(expected)
    assert not forgetful.clean_runs.runs


def test_what_a_call_says_does_not_depend_on_the_calls_before_it(model: Model) -> None:
    """To the last bit: a run that is killed and goes on ends with the same bytes."""
    edits = _some_edits(model)
    fresh, used = _fresh(model), _fresh(model)
    used.write({}, [PROMPTS[2], PROMPTS[5]], logit_difference)
    used.write({}, list(reversed(PROMPTS)), logit_difference)
    for first, later in zip(_run(fresh, edits), _run(used, edits), strict=True):
        assert first.equal(later)


def test_clean_runs_are_forgotten_oldest_first_and_never_within_a_call(model: Model) -> None:
    assert model.partial is not None
    clean = model.partial.run_clean(torch.tensor([PROMPTS[0].ids]))
    kept = CleanRuns(2 * clean.bytes)
    for name in (1, 2):
        kept.get(((name,),), 0, lambda: clean)
    kept.start_call()
    kept.get(((1,),), 0, lambda: clean)
    kept.get(((3,),), 0, lambda: clean)
    assert list(kept.runs) == [((1,),), ((3,),)]
    kept.get(((4,),), 0, lambda: clean)
    assert list(kept.runs) == [((1,),), ((3,),)]


def test_a_clean_run_is_kept_from_the_lowest_edit_up_and_serves_all_above_it(model: Model) -> None:
    assert model.partial is not None
    ids, key = torch.tensor([PROMPTS[0].ids]), ((0,),)
    top = model.anatomy.layers - 1
    whole, upper = model.partial.run_clean(ids), model.partial.run_clean(ids, first=top)
    assert (len(whole.streams), len(upper.streams)) == (top + 1, 1)
    for of_upper, of_whole in zip(upper.at(top), whole.at(top), strict=True):
        assert of_upper.equal(of_whole)
    kept = CleanRuns(2 * whole.bytes)
    assert kept.get(key, top, lambda: upper) is upper
    assert kept.get(key, 0, lambda: whole) is whole
    assert kept.get(key, top, lambda: upper) is whole


@pytest.mark.parametrize("backend", ["transformer-lens", "nnsight"])
def test_both_backends_compute_in_part_unless_asked_not_to(
    folder: Callable[[str], Path], backend: str
) -> None:
    wholly, partly = (
        load_model(str(folder("gpt2")), backend=backend, device="cpu", partial=partial)
        for partial in (False, True)
    )
    assert wholly.partial is None
    assert partly.partial is not None
    edits = _some_edits(partly)
    for in_part, in_full in zip(_run(partly, edits), _run(wholly, edits), strict=True):
        assert torch.allclose(in_part, in_full, atol=1e-5)


def _answers_and_foils(prompts: list[Tokenized]) -> set[int]:
    return {token for prompt in prompts for token in (*prompt.answers, *prompt.foils)}


def _assert_equal_to_a_whole_pass(model: Model, edits: list[dict[Node, Tensor]]) -> None:
    partly, wholly = _run(model, edits), _run(replace(model, partial=None), edits)
    for edit_set, in_part, in_full in zip(edits, partly, wholly, strict=True):
        assert torch.allclose(in_part, in_full, atol=1e-5), list(map(str, edit_set))


def _run(
    model: Model, edits: list[dict[Node, Tensor]], prompts: list[Tokenized] = PROMPTS
) -> list[Tensor]:
    outcomes = model.write_many(edits, prompts, logit_difference, logits=True)
    return [outcome.logits for outcome in outcomes if outcome.logits is not None]


def _some_edits(model: Model) -> list[dict[Node, Tensor]]:
    nodes = [node for position in ("B", "END") for node in _nodes(model, position)][::3]
    values = model.read(nodes, PROMPTS)
    return [
        {},
        *({node: _moved(values[node], number)} for number, node in enumerate(nodes)),
        {node: values[node] + 1 for node in nodes},
    ]


def _fresh(model: Model) -> Model:
    """The same model, counting from zero and knowing no clean run."""
    return replace(model, counter=Counter(), clean_runs=CleanRuns())


def _moved(value: Tensor, seed: int) -> Tensor:
    return value + torch.randn(value.shape, generator=torch.Generator().manual_seed(seed))


def _nodes(model: Model, position: str) -> list[Node]:
    """A node of every writable kind in every layer, of its last head."""
    unwritable = {"embed", "pattern"} | ({"resid_mid"} if model.anatomy.parallel else set())
    kinds = [kind for kind in KINDS if kind not in unwritable]
    heads = {
        kind: model.anatomy.heads_of(kind) - 1 if kind in HEAD_KINDS else None for kind in kinds
    }
    return [
        Node(kind, layer, heads[kind], position)
        for layer in range(model.anatomy.layers)
        for kind in kinds
    ]
