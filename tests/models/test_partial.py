"""Computing only what an edit can change: the logits of the backend's whole forward pass, and no
more work than the edit's cone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sage.models.base import Model
from sage.models.counter import Counter
from sage.models.edits import Cells, places, repeats, scatters
from sage.models.load import load_model
from sage.models.network import Network
from sage.models.partial import Partial
from sage.models.partial.batches import batches
from sage.models.partial.clean import CleanRuns
from sage.models.partial.cone import Level, cone, reach
from sage.models.steps import Point
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
    small = replace(model, batch_size=batch_size, partial=_fresh(model))
    for one, other in zip(_run(small, edits), _run(model, edits), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("position", ["A", "END", "*"])
def test_what_is_read_is_what_the_backend_reads(model: Model, position: str) -> None:
    heads = range(model.anatomy.heads)
    nodes = [
        *_nodes(model, position),
        Node("embed", -1, None, position),
        *(Node("pattern", 1, head, position) for head in heads),
    ]
    found, whole = model.read(nodes, PROMPTS), replace(model, partial=None).read(nodes, PROMPTS)
    for node in nodes:
        assert found[node].shape == whole[node].shape
        assert torch.allclose(found[node], whole[node], atol=1e-5), node


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
    found, once = _run(model, [twice, {parse_node("1.resid_pre@B"): value + 1}], prompts)
    assert torch.allclose(found, once, atol=1e-6)


def test_an_edit_at_the_end_costs_one_position_in_the_layers_above(model: Model) -> None:
    layers = model.anatomy.layers
    value = model.read([parse_node("1.1.z@END")], ONE_LENGTH)[parse_node("1.1.z@END")]
    counted = replace(model, counter=Counter(), partial=_fresh(model))
    counted.write({}, ONE_LENGTH, logit_difference)
    assert (counted.counter.token_layers, counted.counter.tokens) == (4 * 7 * layers, 4 * 7)
    counted = replace(model, counter=Counter(), partial=_fresh(model))
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
    counted = replace(model, counter=Counter(), partial=_fresh(model))
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
    """Of one that reads answers and foils only, and of others; a prompt may have several answers."""
    several = [
        replace(prompt, answers=(*prompt.answers, 3), foils=(2, *prompt.foils))
        for prompt in PROMPTS
    ]
    edits = _some_edits(model)
    for own in (model, replace(model, partial=None)):
        found = own.measure(edits, several, metric)
        expected = torch.stack(
            [outcome.metric for outcome in own.write_many(edits, several, metric)]
        )
        assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("sieved", [False, True])
@pytest.mark.parametrize("metric", [logit_difference, probability_difference])
def test_an_outcome_without_logits_is_that_of_a_whole_forward_pass(
    model: Model, metric: Metric, sieved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metric to 1e-5, and the choice: a word as loud as the loudest to 1e-6, or the same of two
    sets; rounding first, and not."""
    monkeypatch.setattr("sage.models.network.pays", lambda _: sieved)
    partial = Partial(replace(_fresh(model).network))
    edits, whole = _some_edits(model), replace(model, partial=None)
    found = replace(model, partial=partial).write_many(edits, MIXED, metric)
    assert ("_sieve" in vars(partial.network)) == (metric is logit_difference)
    for one, other in zip(found, whole.write_many(edits, MIXED, metric, logits=True), strict=True):
        assert one.logits is None
        assert other.logits is not None
        assert torch.allclose(one.metric, other.metric, atol=1e-5)
        assert one.choice[1::2].equal(other.choice[1::2])
        assert set(one.choice[1::2].tolist()) <= {-1, -2}
        said = other.logits[::2].gather(1, one.choice[::2, None])[:, 0]
        assert (said >= other.logits[::2].amax(-1) - 1e-6).all()


def test_only_the_logits_an_outcome_needs_are_computed(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of six prompts choose between sets and are given no argmax; the words are those of
    answers and foils, as long as these are all that is read."""
    computed: list[tuple[str, int, int]] = []
    unembed, loudest = Network.unembed, Network.loudest

    def watched_unembed(self: Network, x: Tensor, words: Tensor | None = None) -> Tensor:
        found = unembed(self, x, words)
        computed.append(("words", *found.shape))
        return found

    def watched_loudest(self: Network, x: Tensor) -> Tensor:
        computed.append(("loudest", len(x), model.anatomy.d_vocab))
        return loudest(self, x)

    monkeypatch.setattr(Network, "unembed", watched_unembed)
    monkeypatch.setattr(Network, "loudest", watched_loudest)
    edits, vocabulary = (
        [{}, {parse_node("1.1.z@END"): torch.zeros(len(MIXED), model.anatomy.d_head)}],
        model.anatomy.d_vocab,
    )

    def cells(kind: str, width: int) -> int:
        return sum(count for own, count, size in computed if (own, size) == (kind, width))

    def few(prompts: list[Tokenized]) -> int:
        return len({token for prompt in prompts for token in (*prompt.answers, *prompt.foils)})

    model.write_many(edits, MIXED, logit_difference)
    assert (
        cells("words", few(MIXED)),
        cells("loudest", vocabulary),
        cells("words", vocabulary),
    ) == (12, 6, 0)
    computed.clear()
    sets = [{node: value[1::2] for node, value in own.items()} for own in edits]
    model.write_many(sets, MIXED[1::2], logit_difference)
    assert (
        cells("words", few(MIXED[1::2])),
        cells("loudest", vocabulary),
        cells("words", vocabulary),
    ) == (6, 0, 0)
    for metric, logits in ((probability_difference, False), (logit_difference, True)):
        computed.clear()
        model.write_many(edits, MIXED, metric, logits=logits)
        assert (cells("loudest", vocabulary), cells("words", vocabulary)) == (0, 12)
    computed.clear()
    model.measure(edits, MIXED, logit_difference)
    assert (cells("words", few(MIXED)), cells("loudest", vocabulary)) == (12, 0)


def test_sets_that_repeat_the_one_before_are_run_once(model: Model) -> None:
    node = parse_node("1.1.z@END")
    value = torch.zeros(4, model.anatomy.d_head)
    partly = torch.cat([value[:3], value[3:] + 1])
    counted = replace(model, counter=Counter(), partial=_fresh(model))
    counted.write({node: value - 1}, ONE_LENGTH, logit_difference)
    before = counted.counter.token_layers
    same = counted.write_many(
        [{node: value}, {node: value.clone()}, {node: partly}, {node: partly}],
        ONE_LENGTH,
        logit_difference,
    )
    assert counted.counter.token_layers - before == 5 * (model.anatomy.layers - 1)
    assert same[0].metric.equal(same[1].metric)
    assert same[2].metric[:3].equal(same[0].metric[:3])
    assert same[2].metric[3] != same[0].metric[3]
    assert repeats([{node: value}, {node: value.clone()}, {node: partly}, {}], 4).tolist() == [
        [0] * 4,
        [0] * 4,
        [0, 0, 0, 2],
        [3] * 4,
    ]


def test_without_room_for_clean_runs_the_same_is_computed_with_more_work(model: Model) -> None:
    edits, nothing = _some_edits(model), Partial(_fresh(model).network, CleanRuns(0))
    short = replace(model, counter=Counter(), partial=nothing)
    for one, other in zip(_run(short, edits), _run(model, edits), strict=True):
        assert one.equal(other)
    assert not nothing.clean.runs


def test_what_a_call_says_does_not_depend_on_the_calls_before_it(model: Model) -> None:
    """To the last bit: a run that is killed and goes on ends with the same bytes."""
    edits = _some_edits(model)
    fresh, used = (replace(model, partial=_fresh(model)) for _ in range(2))
    used.write({}, [PROMPTS[2], PROMPTS[5]], logit_difference)
    used.write({}, list(reversed(PROMPTS)), logit_difference)
    assert all(
        one.equal(other) for one, other in zip(_run(fresh, edits), _run(used, edits), strict=True)
    )


def test_clean_runs_are_forgotten_oldest_first_and_never_within_a_call(model: Model) -> None:
    partial = _fresh(model)
    one = partial.run_clean(torch.tensor([PROMPTS[0].ids]))
    held = CleanRuns(2 * one.bytes)
    for name in (1, 2):
        held.get(((name,),), 0, lambda: one)
    held.begin()
    held.get(((1,),), 0, lambda: one)
    held.get(((3,),), 0, lambda: one)
    assert list(held.runs) == [((1,),), ((3,),)]
    held.get(((4,),), 0, lambda: one)
    assert list(held.runs) == [((1,),), ((3,),)]


def test_a_clean_run_is_kept_from_the_lowest_edit_up_and_serves_all_above_it(model: Model) -> None:
    partial, ids, key = _fresh(model), torch.tensor([PROMPTS[0].ids]), ((0,),)
    top = model.anatomy.layers - 1
    whole, upper = partial.run_clean(ids), partial.run_clean(ids, first=top)
    assert (len(whole.streams), len(upper.streams)) == (top + 1, 1)
    assert all(one.equal(other) for one, other in zip(upper.at(top), whole.at(top), strict=True))
    held = CleanRuns(2 * whole.bytes)
    assert held.get(key, top, lambda: upper) is upper
    assert held.get(key, 0, lambda: whole) is whole
    assert held.get(key, top, lambda: upper) is whole


def test_a_cone_by_hand() -> None:
    """Four layers, five positions; the window of layer 2 is two positions."""
    windows = (None, None, 2, None)
    assert reach(windows, 5) == [0, 0, 0, 0, 4]
    assert reach((None, 2, 2), 5) == [0, 2, 3, 4]
    found = cone({Point("v", 1): frozenset({1}), Point("z", 3): frozenset({4})}, windows, 5)
    assert found.levels == (
        Level(1, (), (1, 2, 3, 4)),
        Level(2, (1, 2, 3, 4), (1, 2, 3, 4)),
        Level(3, (1, 2, 3, 4), (4,)),
    )
    found = cone({Point("mlp_out", 1): frozenset({1})}, windows, 5)
    assert found.levels == (Level(1, (), (1,)), Level(2, (1,), (1, 2)), Level(3, (1, 2), (4,)))
    assert cone({Point("resid_post", 3): frozenset({2, 4})}, windows, 5) == ((), True)
    assert cone({Point("resid_post", 3): frozenset({2})}, windows, 5) == ((), False)
    assert cone({}, windows, 5) == ((), False)


@pytest.mark.parametrize("windows", [(None, None, None), (2, 3, None), (3, None, 2), (2, 2, 2)])
def test_a_cone_is_what_a_search_through_the_graph_of_dependencies_finds(
    windows: tuple[int | None, ...],
) -> None:
    """Of every edit of one or two points: each stream position that both depends on an edit and is
    felt by END's logits."""
    length, kinds = 4, ("resid_pre", "k", "v", "q", "z", "mlp_in", "resid_mid", "resid_post")
    single = [
        (Point(kind, layer), position)
        for kind in kinds
        for layer in range(3)
        for position in range(length)
    ]
    for chosen in [*((edit,) for edit in single), *list(combinations(single, 2))[::17]]:
        touched: dict[Point, frozenset[int]] = {}
        for point, position in chosen:
            touched[point] = touched.get(point, frozenset()) | {position}
        levels = cone(touched, windows, length).levels
        behind = {(level.layer + 1, position) for level in levels for position in level.after}
        assert behind == _searched(touched, windows, length), touched


def test_runs_with_like_cones_share_a_batch(model: Model) -> None:
    edits = [
        {parse_node("0.resid_pre@A"): torch.zeros(4, 1)},
        {parse_node("1.1.z@END"): torch.zeros(4, 1)},
        {parse_node("1.mlp_in@END"): torch.zeros(4, 1)},
    ]
    where, chosen = places(edits, ONE_LENGTH), {number: torch.arange(4) for number in range(3)}

    def found(overhead: float) -> list[tuple[int, int, list[tuple[int, int]]]]:
        made = batches(edits, where, chosen, length=7, anatomy=model.anatomy, overhead=overhead)
        return [
            (
                len(cells),
                positions,
                list(zip(cells.numbers.tolist(), cells.rows.tolist(), strict=True)),
            )
            for cells, positions in made
        ]

    first, second = found(0.0)
    assert first == (4, 6, [(0, row) for row in range(4)])
    assert second == (8, 1, [(number, row) for row in range(4) for number in (1, 2)])
    assert found(1e9) == [(12, 6, first[2] + second[2])]


def test_a_scatter_names_every_value_by_its_run_position_and_head() -> None:
    edits = [
        {parse_node("1.1.z@B"): torch.arange(8.0).reshape(4, 2)},
        {parse_node("1.0.z@END"): -torch.ones(4, 2)},
    ]
    cells = Cells(torch.tensor([1, 0, 0]), torch.tensor([2, 3, 1]))
    found = scatters(edits, cells, places(edits, ONE_LENGTH), length=7)[Point("z", 1)]
    whole = found(torch.zeros(3, 7, 2, 2))
    expected = torch.zeros(3, 7, 2, 2)
    expected[0, 6, 0], expected[1, 3, 1], expected[2, 3, 1] = (
        torch.tensor([-1.0, -1.0]),
        torch.tensor([6.0, 7.0]),
        torch.tensor([2.0, 3.0]),
    )
    assert whole.equal(expected)
    assert found.held((3, 5))(torch.zeros(3, 2, 2, 2)).equal(expected[:, [3, 5]])


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
    for one, other in zip(_run(partly, edits), _run(wholly, edits), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def _searched(
    touched: dict[Point, frozenset[int]], windows: tuple[int | None, ...], length: int
) -> set[tuple[int, int]]:
    """(layer, position) of streams ahead of a layer, and behind the last, on a path from an edit to
    END, by search."""
    layers = len(windows)

    def feeds(layer: int, position: int) -> list[tuple[int, int]]:
        window = windows[layer]
        return [
            (layer + 1, t)
            for t in range(position, length)
            if window is None or t - position < window
        ]

    def reaches_end(layer: int, position: int) -> bool:
        if layer == layers:
            return position == length - 1
        return any(reaches_end(*nxt) for nxt in feeds(layer, position))

    changed: set[tuple[int, int]] = set()
    computed: set[tuple[int, int]] = set()
    for layer in range(layers):
        here = {position for at, position in changed if at == layer} | {
            *touched.get(Point("resid_pre", layer), ())
        }
        here |= {*touched.get(Point("resid_post", layer - 1), ())}
        here = {position for position in here if reaches_end(layer, position)}
        mixed = here | {p for kind in ("k", "v") for p in touched.get(Point(kind, layer), ())}
        own = {
            p
            for kind in ("q", "z", "mlp_in", "resid_mid")
            for p in touched.get(Point(kind, layer), ())
        }
        behind = {nxt for position in mixed for nxt in feeds(layer, position)} if mixed else set()
        behind -= {
            (layer + 1, p)
            for p in mixed - here - own
            if not any((layer + 1, p) in feeds(layer, q) for q in mixed)
        }
        behind |= {(layer + 1, p) for p in own | here}
        kept = {state for state in behind if reaches_end(*state)}
        changed |= kept
        computed |= kept
    return computed


def _assert_equal_to_a_whole_pass(model: Model, edits: list[dict[Node, Tensor]]) -> None:
    for chosen, found, whole in zip(
        edits, _run(model, edits), _run(replace(model, partial=None), edits), strict=True
    ):
        assert torch.allclose(found, whole, atol=1e-5), list(map(str, chosen))


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


def _fresh(model: Model) -> Partial:
    """The model's own forward pass, knowing no clean run."""
    assert model.partial is not None
    return Partial(model.partial.network)


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
