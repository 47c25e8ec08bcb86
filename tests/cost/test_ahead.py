"""Looking ahead at the wired model: what is found, what is to be done, and what is known of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sage.cells import Cell, cell_in
from sage.cost.ahead import discovery_estimate, look_ahead
from sage.cost.machine import KIND, Prices, prices_of
from sage.cost.sizes import known_shape, sizes_of
from sage.discovery import Discovery
from sage.discovery.candidates import SECTION_KINDS, nodes_at
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import parse_node
from sage.preparation import prepare
from sage.progress import Stage, Watcher, watching
from sage.recollection import shipped
from sage.run import make_plan
from sage.saes.releases import load_suites
from sage.saes.suite import Suite
from sage.store.store import Store
from sage.task.catalog import load_task, task_names
from sage.zoo.recipes import RECIPES
from wired_runs import PLAN, planted, wired_model, wired_task

PRICES = Prices(token_layer=1e-6, layer_call=1e-4, step=1e-3, number=1e-9, flop=1e-11)


class Finds(Watcher):
    """Keeps what discovery found."""

    discovery: Discovery

    def learned(self, stage: Stage, fact: object) -> None:
        del stage
        assert isinstance(fact, Discovery)
        self.discovery = fact


@pytest.fixture(scope="module")
def model() -> Model:
    return wired_model()


@pytest.fixture(scope="module")
def suites(model: Model) -> list[Suite]:
    return [planted(model, "first"), planted(model, "second", hooks=2)]


@pytest.fixture(scope="module")
def cell(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    return cell_in(tmp_path_factory.mktemp("out"), model, wired_task("kind"), PLAN)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def found(cell: Cell, suites: list[Suite], store: Store) -> Discovery:
    """What discovery found when the first suite was scored."""
    finds = Finds()
    with watching(finds):
        cell.score(suites[:1], store=store)
    return finds.discovery


def test_nothing_is_known_before_the_first_run(
    model: Model, suites: list[Suite], tmp_path: Path
) -> None:
    cell = cell_in(tmp_path, model, wired_task("kind"), PLAN)
    ahead = look_ahead(cell, suites, PRICES)
    assert (ahead.kept, ahead.found) == ([], ())
    assert [suite.id for suite in ahead.suites] == ["first", "second"]
    assert ahead.estimate.low < ahead.estimate.seconds < ahead.estimate.high
    assert not list(tmp_path.iterdir())


def test_a_suite_that_stands_in_the_folder_is_found_and_takes_nothing(
    cell: Cell, suites: list[Suite], found: Discovery
) -> None:
    del found
    ahead = look_ahead(cell, suites[:1], PRICES)
    assert (ahead.found, ahead.suites, ahead.estimate.seconds) == (("first",), (), 0)
    again = look_ahead(cell, suites[:1], PRICES, again=True)
    assert [suite.id for suite in again.suites] == ["first"]


def test_what_the_store_keeps_takes_nothing_and_says_where_contrasts_live(
    cell: Cell, suites: list[Suite], found: Discovery, store: Store
) -> None:
    ahead = look_ahead(cell, suites, PRICES, store=store)
    assert ahead.kept == ["gate", "discovery", "features"]
    assert {path[0] for path in ahead.estimate.stages} == {"prompts", "scores", "result"}
    assert ahead.estimate.low == ahead.estimate.high == ahead.estimate.seconds
    assert ahead.after(found) == ahead.estimate


def test_another_seed_is_estimated_by_where_contrasts_lived_before(
    model: Model, suites: list[Suite], found: Discovery, store: Store, tmp_path: Path
) -> None:
    """Discovery has to look again, and its contrasts may live elsewhere: a range, no guess."""
    plan = replace(PLAN, seed=PLAN.seed + 1)
    cell = cell_in(tmp_path, model, wired_task("kind"), plan)
    ahead = look_ahead(cell, suites, PRICES, store=store)
    assert "discovery" not in ahead.kept
    assert ahead.work is not None
    assert ahead.work.shapes is not None
    assert ahead.work.shapes["kind"].whole.nodes == len(found.sections["kind"].nodes)
    of = ahead.estimate
    unsure = sum(
        taken
        for path, taken in of.stages.items()
        if path[0] in ("features", "scores") or path[-1] == "validation"
    )
    assert 0 < unsure < of.seconds
    assert of.low == pytest.approx(of.seconds - unsure / 2)
    assert of.high == pytest.approx(of.seconds + unsure)
    assert ahead.after(found).low == ahead.after(found).high


def test_sections_of_other_contrasts_say_nothing_of_these(
    model: Model, suites: list[Suite], found: Discovery, store: Store, tmp_path: Path
) -> None:
    del found
    cell = cell_in(tmp_path, model, wired_task("kind", "quality"), PLAN)
    ahead = look_ahead(cell, suites, PRICES, store=store)
    assert ahead.work is not None
    assert ahead.work.shapes is None


def test_of_the_models_that_ship_it_is_known_from_the_start(tmp_path: Path) -> None:
    """On every model: contrasts of tasks that ship, and nodes that the model has."""
    task = load_task("induction")
    tiny = load_model("tiny-neox", device="cpu")
    cell = cell_in(tmp_path, tiny, task, make_plan("quick"))
    ahead = look_ahead(cell, load_suites(["tiny-neox/topk8"]), PRICES)
    assert ahead.work is not None
    assert ahead.work.shapes is not None
    expected = {name: len(nodes) for name, nodes in shipped()["tiny-neox"]["induction"].items()}
    assert {name: of.whole.nodes for name, of in ahead.work.shapes.items()} == expected
    assert {*shipped()} == {*RECIPES}
    for name, tasks in shipped().items():
        assert {*tasks} < {*task_names()}
        nodes = {parse_node(node) for of in tasks.values() for some in of.values() for node in some}
        assert len(nodes) > 50
        anatomy = load_model(name, device="cpu").anatomy
        for of, sections in tasks.items():
            contrasts = load_task(of).contrasts
            assert {*sections} == {c if isinstance(c, str) else c.name for c in contrasts}
        positions = {node.position for node in nodes}
        assert nodes <= {*nodes_at(positions, SECTION_KINDS, anatomy)}


def test_the_estimate_after_discovery_counts_the_nodes_that_each_suite_reaches(
    cell: Cell, suites: list[Suite], found: Discovery
) -> None:
    ahead = look_ahead(cell, suites, PRICES, again=True)
    after = ahead.after(found)
    assert after.low == after.high
    shapes = ahead.knowing(found).shapes
    assert shapes is not None
    whole, part = shapes["kind"].reached
    assert shapes["kind"].whole == whole
    assert whole.nodes == len(found.sections["kind"].nodes)
    assert part.nodes < whole.nodes


def test_screening_looks_into_no_folder(cell: Cell, suites: list[Suite], found: Discovery) -> None:
    del found
    ahead = look_ahead(cell, suites[:1], PRICES, screens=True)
    assert [suite.id for suite in ahead.suites] == ["first"]
    assert ("screen", "kind, first") in ahead.estimate.stages


def test_discovery_alone_counts_the_contrasts_asked_for(model: Model) -> None:
    prepared = prepare(model, wired_task("kind", "quality"), PLAN)
    both = discovery_estimate(model.anatomy, prepared, PLAN, PRICES)
    one = discovery_estimate(model.anatomy, prepared, PLAN, PRICES, among=["kind"])
    assert {path[1] for path in both.stages} == {"attribution", "kind", "quality"}
    assert {path[1] for path in one.stages} == {"attribution", "kind"}


def test_sizes_are_those_of_the_splits(model: Model) -> None:
    prepared = prepare(model, wired_task("kind"), PLAN)
    sizes = sizes_of(model.anatomy, prepared, PLAN)
    assert (sizes.contrasts["kind"].test, sizes.contrasts["kind"].decide) == (30, 20)
    assert sizes.prompts.fit == len(prepared.splits.fit)
    assert sizes.model.layers == model.anatomy.layers


def test_a_shape_counts_sites_once_and_tokens_up_to_a_z(model: Model) -> None:
    """z reads all tokens up to its own, q its own alone; both read one stream."""
    pairs = prepare(model, wired_task("kind"), PLAN).splits.discover["kind"]
    nodes = [parse_node(name) for name in ("1.0.z@END", "1.0.q@END", "1.1.q@END")]
    shape = known_shape(nodes, model.anatomy, pairs)
    tokens = sum(len(pair.clean.ids) for pair in pairs) / len(pairs)
    assert (shape.nodes, shape.sites) == (3, 1)
    assert shape.encoded == pytest.approx(tokens)
    layers = model.anatomy.layers
    assert shape.cone == pytest.approx((layers - 1) / layers / tokens)


def test_a_machine_is_measured_once_and_its_prices_kept(model: Model, tmp_path: Path) -> None:
    store = Store(tmp_path)
    prices = prices_of(model, store)
    assert all(price > 0 for price in prices)
    assert prices_of(model, store) == prices
    (entry,) = store.entries()
    assert entry.kind == KIND
    store.clear(kind=KIND)
    assert store.entries() == []
