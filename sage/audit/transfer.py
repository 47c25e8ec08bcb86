"""Transfer: what was fitted on some combinations of values, scored on combinations never met.

Method, section 7. Features, code regressions and masks are fitted on 70 % of the pairs of values of
the contrast's attribute and another one, and scored where the other prompt's pair is none of them;
beside it the same with everything fitted on all pairs. A metric that only knows what it has met
loses by it, and loses more than the supervised features do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from sage.audit.cell import Cell
from sage.audit.measuring import WorldBench
from sage.audit.plan import AuditPlan
from sage.audit.records import Measured, defined
from sage.dictionaries.activations import Activations
from sage.dictionaries.controls.setting import generator
from sage.dictionaries.dictionary import Dictionary
from sage.dictionaries.supervised import SUPERVISED
from sage.scores.data import PairRuns
from sage.scores.node_set import NodeSet, Settings
from sage.toy.planted import World
from sage.toy.scoring import DECIDE, FIT, TEST, Drawn, contrast_data, fit_world, one_score

METRICS = ("interpretable", "control")
# Beyond the supervised features' own loss: what an SAE may lose before it fails.
SLACK = 0.05
MET = 0.7
# So many more are drawn as are left when only some pairs of values are kept.
MORE = 4
EVERY, SOME = "every pair of values", "70 % of the pairs of values"


def transferred(
    world: World, dictionaries: Sequence[Dictionary], plan: AuditPlan
) -> list[Measured]:
    """T2 and T3 of every dictionary and of the supervised features, fitted on every pair of values
    and on some of them, on the same test pairs."""
    contrasts = WorldBench(world, plan).contrasts
    records: list[Measured] = []
    for role in (EVERY, SOME):
        sets = [_node_set(world, contrast, plan, role) for contrast in contrasts]
        for dictionary in (*dictionaries, None):
            name = SUPERVISED if dictionary is None else dictionary.name
            scores = {
                metric: sum(
                    one_score([at], dictionary or at.data.supervised, metric) for at in sets
                )
                / len(sets)
                for metric in METRICS
            }
            records.append(Measured("transfer", world.name, name, role, defined(scores)))
    return records


def judge_transfer(records: Sequence[Measured], metric: str) -> list[Cell]:
    """Passed where no SAE loses more than the supervised features do."""
    cells: list[Cell] = []
    moved = [r for r in records if r.lens == "transfer" and metric in r.scores]
    for world in dict.fromkeys(record.where for record in moved):
        scores = {(r.dictionary, r.role): r.score(metric) for r in moved if r.where == world}
        names = dict.fromkeys(name for name, _ in scores)
        losses = {name: scores[name, EVERY] - scores[name, SOME] for name in names}
        own = losses.pop(SUPERVISED)
        worst = max(losses, key=lambda name: losses[name])
        passed = losses[worst] <= max(own, 0.0) + SLACK
        cells.append(
            Cell(
                metric, "transfer", world, passed,
                said=f"loses {losses[worst]:.3f} ({worst}), supervised {own:.3f}",
                figures={"loss": losses[worst], "supervised": own},
                failed=() if passed else (f"loses {losses[worst]:.2f} on pairs never met",),
            )
        )  # fmt: skip
    return cells


def _node_set(world: World, contrast: str, plan: AuditPlan, role: str) -> NodeSet:
    """A contrast tested on pairs of values that were not met, fitted with or without them."""
    names = (_column(world, contrast), _partner(world, contrast))
    met = _met(world, names)
    every = world.draw(MORE * plan.prompts, FIT)
    some = _rows(every, met[_at(every, names)])
    fit = _rows(every, torch.arange(len(every)) < plan.prompts)
    if role == SOME:
        fit = _rows(some, torch.arange(len(some)) < plan.prompts)
    decide, test = (world.pairs(contrast, MORE * plan.pairs, use) for use in (DECIDE, TEST))
    known = met[_at(decide.base, names)] & met[_at(decide.target, names)]
    unmet = ~met[_at(test.target, names)]
    drawn = Drawn(
        fit,
        fit_world(world, fit),
        _pairs(decide, known, plan.pairs),
        _pairs(test, unmet, plan.pairs),
    )
    data = contrast_data(world, contrast, drawn)
    model = world.model(*drawn.decide, *drawn.test)
    return NodeSet(model, data, Settings(copying=(), unbounded=False))


def _column(world: World, contrast: str) -> str:
    """The attribute with features that a contrast changes: of a coarse one the fine one."""
    fine = {coarse: fine for fine, coarse in world.within.items()}
    return fine.get(contrast, contrast)


def _partner(world: World, contrast: str) -> str:
    """The attribute that goes with it: of A1 A2, of A2 A1, of A3 A4, ..."""
    names = list(world.blocks)
    return names[names.index(_column(world, contrast)) ^ 1]


def _met(world: World, names: tuple[str, str]) -> Bool[Tensor, "value value"]:
    """Which pairs of values are met: a share of each row, drawn at random."""
    sizes = [len(world.blocks[name]) for name in names]
    random = torch.rand(*sizes, generator=generator(f"pairs met/{world.name}/{names}"))
    return random.argsort(dim=-1).argsort(dim=-1) < round(MET * sizes[1])


def _at(given: Activations, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    first, second = (torch.tensor(given.labels(name)) for name in names)
    return first, second


def _rows(given: Activations, kept: Bool[Tensor, "prompt"]) -> Activations:
    return given.select(kept.nonzero().flatten().tolist())


def _pairs(given: PairRuns, kept: Bool[Tensor, "pair"], count: int) -> PairRuns:
    """The first of the pairs kept."""
    rows = kept.nonzero().flatten().tolist()[:count]
    return PairRuns(given.base.select(rows), given.target.select(rows))
