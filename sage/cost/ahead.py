"""Looking ahead: what a cell is about to do, what of it is kept already, and how long it will take.

Nothing is run but the tokenizer, and, once for a machine and model, the calibration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sage.cells import Cell
from sage.cost.estimate import SHARED, CellWork, CostEstimate, estimate, price, units
from sage.cost.machine import Prices
from sage.cost.sizes import SectionShapes, known_shape, sizes_of, suite_size
from sage.discovery import Discovery
from sage.models.anatomy import Anatomy
from sage.nodes import Node
from sage.preparation import Prepared, prepare
from sage.progress import StagePath
from sage.recollection import recall
from sage.run import Plan, Run, begin
from sage.saes.suite import Suite
from sage.stopwatch import Stopwatch
from sage.store.key import run_keys
from sage.store.store import Store


@dataclass(frozen=True, eq=False)
class Ahead:
    """What a cell is about to do: suites that stand in its folder, those to score, what is kept of
    earlier runs, and how long the rest will take."""

    cell: Cell
    prepared: Prepared | None
    suites: tuple[Suite, ...]
    found: tuple[str, ...]
    work: CellWork | None
    estimate: CostEstimate
    prices: Prices

    @property
    def kept(self) -> list[str]:
        """The stages that an earlier run has done, by name."""
        paths = self.work.kept if self.work else ()
        return [path[0] for path in paths if path != SHARED and len(path) == 1]

    def knowing(self, discovery: Discovery) -> CellWork:
        """The work, now that it is known where contrasts live."""
        assert self.work is not None
        assert self.prepared is not None
        shapes = _shapes(_nodes(discovery), self.cell, self.suites, self.prepared)
        return replace(self.work, shapes=shapes, recalled=False)

    def after(self, discovery: Discovery) -> CostEstimate:
        """The estimate of all of it, now that it is known where contrasts live."""
        return estimate(self.knowing(discovery), self.prices)


def look_ahead(
    cell: Cell,
    suites: Sequence[Suite],
    prices: Prices,
    *,
    text_tokens: int = 0,
    store: Store | None = None,
    again: bool = False,
    screens: bool = False,
) -> Ahead:
    """What scoring suites into a cell will do; with `screens`, what screening them will.

    `text_tokens` are those of ordinary text that are read.

    Raises as `prepare` does, and as `Cell.standing`.
    """
    found, rest = ((), tuple(suites)) if screens else cell.standing(suites, again=again)[1:]
    if not rest:
        return Ahead(cell, None, (), found, None, CostEstimate({}, 0.0, 0.0), prices)
    prepared = prepare(cell.model, cell.task, cell.plan)
    keys = run_keys(cell.model, *prepared, cell.plan)
    folder = None if screens else cell.unfinished
    run = begin(keys, cell.plan, watch=Stopwatch(lambda: 0.0), store=store, folder=folder)
    kept, discovery = _kept(run)
    nodes = _recalled(run, cell, prepared) if discovery is None else _nodes(discovery)
    work = CellWork(
        sizes_of(cell.model.anatomy, prepared, cell.plan),
        [suite_size(suite, cell.model.anatomy) for suite in rest],
        [suite.id for suite in rest],
        text_tokens=text_tokens,
        screens=screens,
        kept=kept,
        shapes=None if nodes is None else _shapes(nodes, cell, rest, prepared),
        recalled=discovery is None and nodes is not None,
    )
    work = replace(work, kept=(*kept, *_finished(run, work)))
    return Ahead(cell, prepared, rest, found, work, estimate(work, prices), prices)


def discovery_estimate(
    anatomy: Anatomy, prepared: Prepared, plan: Plan, prices: Prices, *, among: Sequence[str] = ()
) -> CostEstimate:
    """How long discovery alone will take, of some contrasts or of all; nothing of unknown ones."""
    sizes = sizes_of(anatomy, prepared, plan)
    wanted = {name: size for name, size in sizes.contrasts.items() if not among or name in among}
    counted = units(CellWork(replace(sizes, contrasts=wanted), [], []))
    stages = {
        path: price(terms, prices) for path, terms in counted.items() if path[0] == "discovery"
    }
    seconds = sum(stages.values(), 0.0)
    return CostEstimate(stages, seconds, seconds)


def _kept(run: Run) -> tuple[tuple[StagePath, ...], Discovery | None]:
    """The stages that an earlier run has kept, and its discovery if that is among them."""
    kept: list[StagePath] = []
    if run.task_has("gate"):
        kept.append(("gate",))
    if not run.task_has("discovery"):
        return tuple(kept), None
    discovery = Discovery.from_dict(run.task_once("discovery", dict[str, object]))
    kept.append(("discovery",))
    sections = discovery.sections.values()
    nodes = sorted({str(node) for section in sections for node in section.nodes})
    if run.task_has("features", nodes):
        kept.append(("features",))
    if any(entry.of == run.keys.task.of for entry in run.store.entries() if entry.kind == "scores"):
        kept.append(SHARED)
    return tuple(kept), discovery


def _finished(run: Run, work: CellWork) -> list[StagePath]:
    """The suites that an interrupted run of this cell has scored already: as many as there are
    parts of it, in the order in which they are scored."""
    count = sum(entry.kind == "scores" for entry in run.parts.entries())
    paths = [("scores", f"{name}, {of}") for name in work.sizes.contrasts for of in work.names]
    return paths[:count]


Nodes = Mapping[str, tuple[Node, ...]]
"""Where each contrast lives."""


def _nodes(discovery: Discovery) -> Nodes:
    return {name: section.nodes for name, section in discovery.sections.items()}


def _recalled(run: Run, cell: Cell, prepared: Prepared) -> Nodes | None:
    """Where each contrast lived when it was last looked for; None where that is not known of all,
    or the task has other positions by now."""
    found = recall(run, cell.model, cell.task)
    splits = prepared.splits.discover
    if found is None or not splits.keys() <= found.keys():
        return None
    for name, pairs in splits.items():
        positions = {node.position for node in found[name]}
        if not all(positions <= pair.clean.index.keys() for pair in pairs):
            return None
    return {name: found[name] for name in splits}


def _shapes(
    found: Nodes, cell: Cell, suites: Sequence[Suite], prepared: Prepared
) -> Mapping[str, SectionShapes]:
    """The shape of every section, and of what each suite reaches of it."""
    anatomy, pairs = cell.model.anatomy, prepared.splits.discover
    return {
        name: SectionShapes(
            known_shape(nodes, anatomy, pairs[name]),
            tuple(
                known_shape(nodes, anatomy, pairs[name], hooks=_hooks(suite, cell))
                for suite in suites
            ),
        )
        for name, nodes in found.items()
    }


def _hooks(suite: Suite, cell: Cell) -> Collection[Node]:
    """The residual streams that sections read and the suite has an SAE at."""
    return {hook for hook in cell.model.anatomy.hooks if suite.at(hook) is not None}
