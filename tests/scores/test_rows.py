"""Rows: every number of every dictionary once, with its interval, best control and gain."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from linear import D_HEAD, MLP, D, Z, activations, claimed
from sage.result import Row
from sage.result_file import names
from sage.scores.data import PairRuns
from sage.scores.node_set import NodeSet
from sage.scores.rows import BY_BASE, NodeSetScores, collect, score_arrays, score_rows
from sage.scores.score import headlines, scores
from sage.stats import combine
from scores.contests import contenders, held
from scores.worlds import Facts, Pairs, Roles, World, in_turn, make_world, pairs, split_world


def collected(
    world: World, *, thorough: bool = True, copying: tuple[int, ...] = (2,)
) -> NodeSetScores:
    node_set = world.node_set(copying=copying)
    contest = held(node_set, contenders(world), thorough=thorough)
    return collect(node_set, contest, id="a", suite="suite")


@pytest.fixture(scope="module")
def scored() -> NodeSetScores:
    return collected(split_world(b=0.15))


@pytest.fixture(scope="module")
def rows(scored: NodeSetScores) -> list[Row]:
    return list(score_rows(scored))


def headline(rows: list[Row], dictionary: str, metric: str) -> Row:
    """The first row of that score that is no detail."""
    return next(
        row for row in rows if (row.dictionary, row.metric) == (dictionary, metric) and row.headline
    )


def test_rows_say_everything_once_and_fit_into_json(rows: list[Row]) -> None:
    keys = [(r.dictionary, r.metric, r.at, r.form, r.budget, r.k) for r in rows]
    assert len(set(keys)) == len(keys)
    json.dumps([asdict(row) for row in rows], allow_nan=False)
    for row in rows:
        assert (row.value is None) == row.status.startswith("undefined: "), row
        assert row.section == row.contrast == "a"
        assert (row.suite, row.sites, row.need, row.seed) == ("suite", 1, 2, 0)


def test_every_score_of_a_suite_has_a_row_with_its_version(rows: list[Row]) -> None:
    for score in scores().values():
        if score.measurement != "detection":
            row = headline(rows, "suite", score.name)
            assert row.version == score.version
            assert row.form == ("success" if score.has_form else None)


def test_scores_and_their_details_have_n_error_and_interval(rows: list[Row]) -> None:
    """Pairs, or for geometry shuffles."""
    for row in rows:
        if row.dictionary == "suite" and row.value is not None:
            assert row.stderr is not None
            assert row.low - 1e-9 <= row.value <= row.high + 1e-9
            by_shuffles = row.metric in ("geometry", "MCC", "MCC null")
            single = row.metric in ("uniqueness", "principal angle")
            assert row.n == (20 if by_shuffles else 1 if single else 6)


def test_a_gain_is_what_is_scored_above_the_control_that_is_best_on_fit(rows: list[Row]) -> None:
    """`random` is the best on fit, and 0 on test."""
    suite = headline(rows, "suite", "control")
    assert suite.best_control is not None
    assert (suite.best_control.name, suite.best_control.value) == ("random", 0)
    assert (suite.value, suite.gain) == (1, 1)
    other = headline(rows, "permuted", "control")
    assert other.gain == other.value == pytest.approx(2 / 3)
    own = headline(rows, "random", "control")
    assert (own.gain, own.gain_low, own.gain_high) == (0, 0, 0)


def test_gains_are_paired_draw_by_draw() -> None:
    """Of two dictionaries that agree on nearly every prompt the difference is known far better than
    either."""
    generator = np.random.default_rng(0)
    made = split_world(count=120)
    moved = made.every.values[MLP].clone()
    moved[:, :4] += torch.from_numpy(generator.normal(0, 0.35, (180, 1))).float()
    labels = [dict(prompt.prompt.labels) for prompt in made.every.prompts]
    roles = Roles(fit=range(120), decide=in_turn(0, 120), test=in_turn(120, 180))
    world = make_world(
        activations(labels, flips="a", mlp=moved),
        roles,
        Facts(attributes=("a",), changed=("a",)),
        read={"mlp": [0.5] * 4 + [0.0] * 4},
    )
    node_set = world.node_set(copying=())
    among = [entry for entry in contenders(world) if entry.name in ("suite", "permuted")]
    found = collect(node_set, held(node_set, among), id="a", suite="suite")
    row = headline(list(score_rows(found)), "suite", "control")
    own, control = (found.sampled["control"][name] for name in ("suite", "permuted"))
    expected = combine(lambda a, b: a - b, own, control).estimate()
    assert (row.gain, row.gain_low, row.gain_high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    unpaired = np.hypot(own.estimate().stderr, control.estimate().stderr)
    assert 0 < expected.stderr < 0.9 * unpaired


def test_what_a_plan_does_not_measure_is_undefined_and_says_so() -> None:
    quick = list(score_rows(collected(split_world(), thorough=False)))
    row = headline(quick, "permuted", "interpretable")
    assert (row.value, row.status) == (None, "undefined: not measured by this plan")
    assert headline(quick, "permuted", "control").value is not None


def undefined_world() -> World:
    """Activations that the metric does not read."""
    made = split_world()
    roles = Roles(fit=range(24), decide=in_turn(0, 24), test=in_turn(24, 36))
    facts = Facts(attributes=("a",), changed=("a",))
    return make_world(made.every, roles, facts, read={"mlp": [0.0] * 8})


def test_a_score_that_is_undefined_is_so_for_all_alike_with_its_raw_value_and_the_reason() -> None:
    found = collected(undefined_world())
    undefined = list(score_rows(found))
    for score in ("control", "interpretable", "move", "copying", "approximation"):
        for row in undefined:
            if row.metric == score:
                assert row.value is None
                assert "moves the metric" in row.status
    assert headline(undefined, "suite", "move").raw == pytest.approx(1)
    assert "shuffled labels come to a T4 of 0" in headline(undefined, "suite", "geometry").status
    assert [found.sampled[name] for name in ("control", "move")] == [{}, {}]
    assert headline(undefined, "suite", "sufficient metric").value == 0


def test_what_all_dictionaries_share_stands_once(rows: list[Row]) -> None:
    shared = {row.metric: row for row in rows if row.dictionary == "*"}
    values = {name: row.value for name, row in shared.items()}
    assert values == pytest.approx(
        {
            "clean metric": 1.2,
            "mean-ablated metric": 0.2,
            "patched metric": -0.8,
            "unchanged": 0,
            "supervised on fit": 1,
        },
        abs=1e-6,
    )
    assert shared["supervised on fit"].n == 12
    assert shared["clean metric"].n == 6


def linked(together: int) -> NodeSetScores:
    """So many of six pairs go to the same prompt."""
    made = split_world()
    test: Pairs = [(24 + 2 * n, 25 if n < together else 25 + 2 * n) for n in range(6)]
    world = made._replace(data=replace(made.data, test=pairs(made.every, test)))
    return collected(world, copying=())


def test_a_row_says_when_only_pairs_of_one_base_text_were_resampled_together() -> None:
    """Of six pairs any component holds over a tenth."""
    told = list(score_rows(linked(2)))
    assert headline(told, "suite", "control").clusters == BY_BASE
    assert headline(told, "suite", "geometry").clusters is None
    many = split_world(count=48)
    plain = list(score_rows(collected(many, copying=())))
    assert headline(plain, "suite", "control").clusters is None


def test_arrays_have_columns_per_pair_their_clusters_and_named_matrices(
    scored: NodeSetScores,
) -> None:
    arrays = score_arrays(scored)
    assert arrays["a|suite|suite|control"].shape == (6, 4)
    assert arrays["a|suite|suite|interpretable"].shape == (6, 28)
    assert arrays["a|suite|permuted|approximation"].shape == (6, 4)
    assert arrays["a|suite|*|clusters"].shape == (6,)
    pairs = scored.node_set.data.test
    texts = [
        (p.prompt.text, q.prompt.text)
        for p, q in zip(pairs.base.prompts, pairs.target.prompts, strict=True)
    ]
    digest = hashlib.sha256(json.dumps(texts).encode()).digest()
    assert arrays["a|suite|*|prompts"].tobytes() == digest
    for name in ("suite", "supervised"):
        start = f"a|suite|{name}"
        assert arrays[f"{start}|cosine|{MLP}"].shape[1] == 2
        assert names(arrays[f"{start}|cosine names|{MLP}"]) == ["a=0", "a=1"]
        assert len(arrays[f"{start}|cosine latents|{MLP}"]) == len(arrays[f"{start}|cosine|{MLP}"])
    assert not any("permuted|cosine" in name for name in arrays)


def test_detection_has_its_matrix_too() -> None:
    made = split_world(count=48)
    detect = made.every.select(range(48, 72))
    data = replace(made.data, shared=replace(made.data.shared, detect=detect))
    data = replace(data, test=pairs(made.every, in_turn(48, 60)))
    found = collected(made._replace(data=data), copying=())
    arrays = score_arrays(found)
    assert names(arrays[f"a|suite|suite|f1 names|{MLP}"]) == ["a=0", "a=1"]
    np.testing.assert_allclose(arrays[f"a|suite|suite|f1|{MLP}"], [[1, 0]] * 2)
    assert arrays[f"a|suite|suite|f1 latents|{MLP}"].tolist() == [0, 1]
    row = headline(list(score_rows(found)), "suite", "coverage")
    assert (row.value, row.n, row.clusters) == (0.5, 24, None)


# The same whole contrast on two nodes, in another order, batch or basis.


def two_nodes(
    *,
    batch_size: int | None = None,
    turn: torch.Tensor | None = None,
    order: list[int] | None = None,
) -> list[Row]:
    """`a` in both nodes with noise; a suite that nearly knows the features, and the supervised
    ones. `turn` is another basis of what a head carries, `order` another of the test pairs."""
    turn = torch.eye(D_HEAD) if turn is None else turn
    generator = torch.Generator().manual_seed(0)
    labels = [{"a": n % 2, "b": n // 2 % 3} for n in range(180)]
    mlp = 0.6 * torch.randn(180, D, generator=generator)
    z = 0.6 * torch.randn(180, D_HEAD, generator=generator)
    for values in (mlp, z):
        values[:, 0] += torch.tensor([1 - 2.2 * label["a"] for label in labels])
        values[:, 1] += torch.tensor([0.5 * label["b"] for label in labels])
    every = activations(labels, flips="a", mlp=mlp, z=z @ turn)
    block = every.anatomy.blocks[0]
    turned = replace(block, W_V=turn.T @ block.W_V)
    every = replace(every, anatomy=replace(every.anatomy, blocks=[turned]))
    roles = Roles(fit=range(120), decide=in_turn(0, 120), test=in_turn(120, 180))
    facts = Facts(attributes=("a", "b"), changed=("a",))
    read = {"mlp": [1.0, 0.1] + [0.0] * 6, "z": turn[0].tolist()}
    world = make_world(
        every, roles, facts, read=read, statistic={MLP: 3.0, Z: 1.0}, batch_size=batch_size
    )
    data = world.data
    if order is not None:
        data = replace(data, test=PairRuns(*(run.select(order) for run in data.test)))
    node_set = NodeSet(world.model, data, world.node_set(copying=(2,)).settings)
    zero = torch.tensor([[float(label["a"] == value) for value in (0, 1)] for label in labels])
    codes = (zero + 0.1 * torch.randn(180, 2, generator=generator)).relu()
    along = torch.tensor([[1.0], [-1.2]])
    vectors = {MLP: along * torch.eye(D)[0], Z: along * torch.eye(D_HEAD)[0] @ turn}
    suite = claimed(every, {MLP: codes, Z: codes}, vectors, name="suite")
    among = [
        node_set.contender(suite, copied=True, detected=True),
        node_set.contender(node_set.data.supervised, copied=True),
    ]
    contest = held(node_set, among)
    return list(score_rows(collect(node_set, contest, id="a", suite="suite")))


@pytest.fixture(scope="module")
def whole() -> list[Row]:
    return two_nodes()


def assert_same(first: list[Row], second: list[Row]) -> None:
    numbers = ("value", "raw", "stderr", "low", "high", "picks")
    for one, other in zip(map(asdict, first), map(asdict, second), strict=True):
        left, right = ([row.pop(name) for name in numbers] for row in (one, other))
        assert left == pytest.approx(right, abs=1e-5), one
        assert one == other


def test_the_scores_of_two_nodes_are_neither_all_nor_nothing(whole: list[Row]) -> None:
    """T4 is no number where two values lie in a few dimensions; its raw value is."""
    values = {score.name: headline(whole, "suite", score.name) for score in headlines()}
    assert values["geometry"].raw is not None
    numbers = [row.value for name, row in values.items() if name != "geometry"]
    assert all(value is not None and value > 0.2 for value in numbers)
    assert headline(whole, "suite", "move").value < 0.99


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_no_number(whole: list[Row], batch_size: int) -> None:
    assert_same(whole, two_nodes(batch_size=batch_size))


def test_the_order_of_pairs_changes_no_number(whole: list[Row]) -> None:
    """Values and intervals alike: a pair's share in a resample follows its texts."""
    order = np.random.default_rng(0).permutation(30).tolist()
    assert_same(whole, two_nodes(order=order))


def test_another_basis_of_what_a_head_carries_changes_no_number(whole: list[Row]) -> None:
    noise = torch.randn(D_HEAD, D_HEAD, generator=torch.Generator().manual_seed(9))
    assert_same(whole, two_nodes(turn=torch.linalg.qr(noise).Q))


def test_how_many_edits_are_written_at_once_changes_no_number(
    whole: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sage.scores.runs.WRITTEN_NUMBERS_AT_ONCE", 1)
    assert whole == two_nodes()
