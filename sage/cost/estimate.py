"""An estimate of a cell: seconds of the processor for every stage, and how sure they are.

Before discovery it is not known where a contrast lives: the estimate then is a range. What is kept
of earlier runs costs nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sage.cost import work
from sage.cost.machine import Prices
from sage.cost.sizes import SECTION_NODES, SectionShapes, Sizes, SuiteSize, guessed_shapes
from sage.cost.work import Units
from sage.errors import BadFile
from sage.progress import StagePath

# What suites share is kept, so that the first one finds it too.
SHARED: StagePath = ("shared",)
# How many nodes a section may have, of those that it has with another plan or seed: with seeds 0 to
# 3 ioi lives at 79, 39, 49 and 78 nodes of tiny-gpt2, and what hangs on sections takes as much.
RECALLED = (0.5, 2.0)
TABLE = Path(__file__).with_name("coefficients.toml")


@dataclass(frozen=True)
class CellWork:
    """What is to be done on one task and model: its sizes, the suites to score, the tokens of
    ordinary text that are read, and which stages are `kept` of earlier runs.

    `shapes` has the shapes of every contrast's section, those of this run or, if they are
    `recalled`, of one with another plan or seed; None where none is known.
    """

    sizes: Sizes
    suites: Sequence[SuiteSize]
    names: Sequence[str]
    text_tokens: int = 0
    screens: bool = False
    kept: Collection[StagePath] = ()
    shapes: Mapping[str, SectionShapes] | None = None
    recalled: bool = False


@dataclass(frozen=True)
class CostEstimate:
    """Seconds of the processor by stage, and the least and the most that they may come to."""

    stages: Mapping[StagePath, float]
    low: float
    high: float

    @property
    def seconds(self) -> float:
        """All stages together."""
        return sum(self.stages.values(), 0.0)


def estimate(cell: CellWork, prices: Prices) -> CostEstimate:
    """What a cell will take on a machine with these prices."""
    middle = _stages(cell, prices, SECTION_NODES[1])
    if cell.shapes is not None:
        seconds = sum(middle.values(), 0.0)
        unsure = sum(taken for path, taken in middle.items() if cell.recalled and _hangs_on(path))
        low, high = (seconds + (factor - 1) * unsure for factor in RECALLED)
        return CostEstimate(middle, low, high)
    low, high = (
        sum(_stages(cell, prices, nodes).values(), 0.0)
        for nodes in (SECTION_NODES[0], SECTION_NODES[2])
    )
    return CostEstimate(middle, low, high)


def units(cell: CellWork, nodes: float = SECTION_NODES[1]) -> dict[StagePath, Units]:
    """How many of each term every stage does; of sections that are not known, as many as of
    sections with so many nodes times a power of the candidates."""
    sizes, contrasts = cell.sizes, cell.sizes.contrasts
    shapes = cell.shapes or {
        name: guessed_shapes(sizes, name, cell.suites, nodes=nodes) for name in contrasts
    }
    whole = {name: of.whole for name, of in shapes.items()}
    stages: dict[StagePath, Units] = {("prompts",): work.prompts_work(sizes)}
    stages["discovery", "attribution"] = work.attribution_work(sizes, list(contrasts))
    for name in contrasts:
        start = ("discovery", name)
        stages[*start, "patching"] = work.patching_work(sizes, name)
        stages[*start, "validation"] = work.validation_work(sizes, name, whole[name])
    stages["features",] = work.features_work(sizes, whole)
    last = "screen" if cell.screens else "scores"
    for name in contrasts:
        stages[last, f"{name}: pairs"] = work.pairs_work(sizes, name, whole[name])
    stages |= _screen_units(cell, shapes) if cell.screens else _score_units(cell, shapes)
    return {path: of for path, of in stages.items() if not _is_kept(path, cell.kept)}


def _score_units(cell: CellWork, shapes: Mapping[str, SectionShapes]) -> dict[StagePath, Units]:
    sizes = cell.sizes
    stages: dict[StagePath, Units] = {
        ("gate",): work.gate_work(sizes),
        ("scores", "text"): work.text_work(sizes, tokens=cell.text_tokens),
        ("result",): work.result_work(sizes, cell.suites),
    }
    for name, of in shapes.items():
        for place, suite in enumerate(cell.suites):
            first = place == 0 and SHARED not in cell.kept
            counted = work.suite_work(sizes, name, of.reached[place], suite, first=first)
            stages["scores", f"{name}, {cell.names[place]}"] = counted
    return stages


def _screen_units(cell: CellWork, shapes: Mapping[str, SectionShapes]) -> dict[StagePath, Units]:
    return {
        ("screen", f"{name}, {cell.names[place]}"): work.screen_work(
            cell.sizes, name, of.reached[place], suite
        )
        for name, of in shapes.items()
        for place, suite in enumerate(cell.suites)
    }


def price(terms: Units, prices: Prices) -> float:
    """Seconds of the processor."""
    table = coefficients()
    seconds = [
        count * table[term][1] * getattr(prices, table[term][0]) for term, count in terms.items()
    ]
    return sum(seconds, 0.0)


@lru_cache(maxsize=1)
def coefficients() -> dict[str, tuple[str, float]]:
    """Of every term the unit that it is priced in, and how many of it one takes."""
    read = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    table: dict[str, tuple[str, float]] = {}
    for unit, terms in read.items():
        if unit not in Prices._fields:
            raise BadFile(f"{TABLE}: no machine has a price for '{unit}'.")
        table |= {term: (unit, float(count)) for term, count in terms.items()}
    return table


def _stages(cell: CellWork, prices: Prices, share: float) -> dict[StagePath, float]:
    return {path: price(terms, prices) for path, terms in units(cell, share).items()}


def _hangs_on(path: StagePath) -> bool:
    """Whether a stage takes as long as sections have nodes; of the scores only reading text, a
    small part, does not."""
    return path[0] in ("features", "scores", "screen") or path[-1] == "validation"


def _is_kept(path: StagePath, kept: Collection[StagePath]) -> bool:
    return any(path[: len(start)] == start for start in kept)
