"""What do blind edits raise when they raise T3, and would another definition of it be raised less?

    python -m tests.benchmarks.gaming                      every rule, gaming and order
    python -m tests.benchmarks.gaming --rule 'three levels' --climbs 8 --only gaming
    python -m tests.benchmarks.gaming --out out/audit      with the SAEs that an audit trained there

An SAE of the audit is edited as its lens of gaming does, kept where T3 by some rule rises. Shown is
what each part of the score gained on draws that the climb never saw, the mean over climbs and draws
with its standard error, beside the noise of a redraw; and how each rule orders the dictionaries of
the quick audit in all three planted worlds. Rules differ in which latents mean something: at which
levels of corrected F1, and on which prompts it is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from sage.audit.gaming import PlantedQuality, hill_climb
from sage.audit.measuring import WorldBench
from sage.audit.metrics import AuditedMetric
from sage.audit.panel import Workshop, frozen_recipes, middling, trained_recipes
from sage.audit.plan import QUICK, SEEDS
from sage.audit.records import Measured
from sage.audit.reseed import noise
from sage.audit.truth import judge_truth, panels
from sage.dictionaries.controls.setting import generator
from sage.dictionaries.dictionary import Dictionary, LabelMoves
from sage.dictionaries.edits import Masks
from sage.scores.activity import corrected
from sage.scores.control import (
    Along,
    EditOutcomes,
    control_statistic,
    make_aim,
    make_edits,
    run_edits,
)
from sage.scores.levels import ANY, BUDGETS, LEVELS
from sage.scores.meaning import TIE, find_meaning
from sage.scores.node_set import NodeSet
from sage.scores.score import at_means
from sage.threads import one_thread
from sage.toy.panel import CONTROLS, PANEL
from sage.toy.planted import NODE, WORLDS, World
from sage.toy.quality import planted_quality
from sage.toy.training import ToySAE

PLAN = replace(QUICK, peers=False)


Judge = Callable[[NodeSet, Dictionary], Float[Tensor, "latent"]]
"""How well each latent means something: its corrected F1 for what the contrast changes."""


class Rule(NamedTuple):
    """A definition of T3: at which levels of which F1 it is taken."""

    name: str
    levels: tuple[float, ...]
    judge: Judge


def as_scored(node_set: NodeSet, dictionary: Dictionary) -> Float[Tensor, "latent"]:
    """On all prompts of fit, for a value or a union of values."""
    return node_set.meaning(node_set.contender(dictionary)).nodes[NODE].best


def on_both_halves(node_set: NodeSet, dictionary: Dictionary) -> Float[Tensor, "latent"]:
    """The lower of two, each on a half of the prompts of fit with labels the other never saw."""
    count = len(node_set.fit)
    halves = (range(0, count, 2), range(1, count, 2))
    best = [
        find_meaning(
            dictionary,
            node_set.fit.select(list(half)),
            node_set.data.supervised,
            attributes=node_set.data.changed,
        )
        .nodes[NODE]
        .best
        for half in halves
    ]
    return torch.minimum(*best)


def of_single_values(node_set: NodeSet, dictionary: Dictionary) -> Float[Tensor, "latent"]:
    """For single values alone: no union of them counts."""
    meaning = node_set.meaning(node_set.contender(dictionary)).nodes[NODE]
    single = meaning.detectors
    f1 = corrected(single.f1, single.positives / len(node_set.fit)).max(-1).values
    best = torch.zeros(meaning.best.numel() * (2 if dictionary.signed else 1))
    best[meaning.latents] = f1
    return best.view(2, -1).max(0).values if dictionary.signed else best


THREE = (0.25, 0.5, 0.75)
NINETEEN = tuple(n / 20 for n in range(1, 20))
RULES = (
    Rule("as scored", LEVELS, as_scored),
    Rule("three levels", THREE, as_scored),
    Rule("nineteen levels", NINETEEN, as_scored),
    Rule("three levels, both halves", THREE, on_both_halves),
    Rule("three levels, single values", THREE, of_single_values),
)


def measured(node_set: NodeSet, dictionary: Dictionary, rules: Sequence[Rule]) -> dict[str, float]:
    """T3 by every rule, and of the first the parts it is made of."""
    contender = node_set.contender(dictionary)
    assert contender.candidates is not None
    f1 = {rule.judge: rule.judge(node_set, dictionary) for rule in rules}
    levels = {rule.judge: {ANY, *LEVELS, *THREE} for rule in rules}
    for rule in rules:
        levels[rule.judge] |= {*rule.levels}
    outcomes = {
        judge: _outcomes(node_set, contender.candidates, f1[judge], sorted(levels[judge]))
        for judge in f1
    }
    values = {
        rule.name: at_means(outcomes[rule.judge].columns("success", rule.levels), control_statistic)
        for rule in rules
    }
    node_set.forget_contenders()
    first = rules[0].judge
    return values | dict(_parts(outcomes[first], f1[first]))


def _outcomes(
    node_set: NodeSet, candidates: LabelMoves, f1: Float[Tensor, "latent"], levels: Sequence[float]
) -> EditOutcomes:
    """The pairs of test edited at every level; levels that let the same latents through share."""
    masks = {level: f1 >= level - TIE for level in levels}
    first = {level: _first_alike(masks, level) for level in levels}
    apart: dict[float, Masks | None] = {
        level: None if level == ANY else {NODE: masks[level]} for level in {*first.values()}
    }
    pairs = node_set.test.pairs
    aim = make_aim(node_set.data.supervised, node_set.needs, unbounded=False)
    edits = make_edits(candidates, pairs.base, pairs.labels, aim, along=[Along(apart)])
    outcomes = run_edits(
        node_set.model,
        {"edited": edits[0]},
        node_set.test,
        node_set.watched("test"),
        node_set.data.shared.answers,
    )["edited"]

    def shared(by_level: Mapping[tuple[float, str], Any]) -> dict[tuple[float, str], Any]:
        return {
            (level, budget): by_level[first[level], budget]
            for level in levels
            for budget in BUDGETS
        }

    return outcomes._replace(
        edits=shared(outcomes.edits),
        behaviour=shared(outcomes.behaviour),
        isolation=shared(outcomes.isolation),
    )


def _first_alike(masks: Mapping[float, Tensor], level: float) -> float:
    return next(other for other in masks if torch.equal(masks[other], masks[level]))


def _parts(outcomes: EditOutcomes, f1: Float[Tensor, "latent"]) -> Iterator[tuple[str, float]]:
    """T2, what its edits leave undone and alone, and how far each level lets latents through."""
    yield "T2", at_means(outcomes.columns("success", (ANY,)), control_statistic)
    left = [outcomes.edits[ANY, budget] for budget in BUDGETS]
    moves = [1 - float(edit.distance.sum() / edit.start.sum()) for edit in left]
    yield "move, any latent", sum(moves) / len(moves)
    alone = [float(outcomes.isolation[level, "2 need"].mean()) for level in (ANY, *THREE)]
    yield "isolation", sum(alone) / len(alone)
    for level in THREE:
        columns = outcomes.columns("success", (level,))
        yield f"control at F1 >= {level}", at_means(columns, control_statistic)
    for level in THREE:
        yield f"latents of F1 >= {level}", float((f1 >= level - TIE).sum())
    yield "sum of F1", float(f1.sum())


def over(node_sets: Sequence[NodeSet], dictionary: Dictionary, rules: Sequence[Rule]) -> pd.Series:
    """The mean over contrasts of T3 by every rule, and of the parts of the first."""
    return pd.DataFrame([measured(one, dictionary, rules) for one in node_sets]).mean()


def gaming(rules: Sequence[Rule], climbs: int, workshop: Workshop) -> pd.DataFrame:
    """One row for every climb and fresh draw: by which rule was climbed, and how much everything
    gained there; the rows of no rule are the SAE as it was, not gains."""
    world = WORLDS[0]
    sae = workshop.sae(world, middling(world, PLAN))
    seen = WorldBench(world, PLAN)
    quality = PlantedQuality(world, seen.attributes)
    fresh = [WorldBench(world, PLAN, seed) for seed in SEEDS]
    everything = (*rules, *(rule for rule in RULES if rule not in rules))
    before = [over(bench.node_sets, sae.dictionary, everything) for bench in fresh]
    rows = [{"climbed": "", "climb": 0, "draw": n, **dict(b)} for n, b in enumerate(before)]
    for rule in rules:
        for climb in range(climbs):
            climbed, kept = hill_climb(
                sae,
                quality,
                lambda tried, rule=rule: float(
                    over(seen.node_sets, tried.dictionary, [rule])[rule.name]
                ),
                edits=PLAN.edits,
                random=generator(f"gaming/{world.name}/interpretable{climb or ''}"),
            )
            better = _quality_gained(quality, sae, climbed)
            for draw, bench in enumerate(fresh):
                after = over(bench.node_sets, climbed.dictionary, everything)
                gained = dict(after - before[draw])
                rows.append(
                    {"climbed": rule.name, "climb": climb, "draw": draw, **gained, **better}
                    | {"edits kept": float(kept)}
                )
    return pd.DataFrame(rows)


def _quality_gained(quality: PlantedQuality, before: ToySAE, after: ToySAE) -> dict[str, float]:
    both = zip(quality.of(after)[:3], quality.of(before)[:3], strict=True)
    names = ("cosine x F1", "cosine", "F1")
    return {f"planted {name}": new - old for name, (new, old) in zip(names, both, strict=True)}


def show_gaming(rows: pd.DataFrame, rules: Sequence[Rule]) -> None:
    """The mean gain of everything by the rule that was climbed, with its standard error over
    climbs, and of T3 by that rule beside the noise of one run."""
    before = rows[rows["climbed"] == ""]
    parts = [name for name in rows.columns if name not in ("climbed", "climb", "draw")]
    print("\nOn fresh draws, before the climb and gained by it (standard error over climbs)")
    shown: dict[str, pd.Series] = {"before": before[parts].mean().map("{:.3f}".format)}
    for rule in rules:
        by_climb = rows[rows["climbed"] == rule.name].groupby("climb")[parts].mean()
        error = by_climb.std() / len(by_climb) ** 0.5
        shown[rule.name] = pd.Series(
            {name: f"{by_climb[name].mean():+.3f} ({error[name]:.3f})" for name in parts}
        )
    print(pd.DataFrame(shown).to_string())
    print("\nGained by the rule that was climbed, beside what one run tells (2.77 reseed sd)")
    for rule in rules:
        gain = rows[rows["climbed"] == rule.name].groupby("climb")[rule.name].mean()
        tells = noise(list(before[rule.name])).tells
        spread = f"from {gain.min():+.3f} to {gain.max():+.3f}"
        print(f"{rule.name:26} {gain.mean():+.3f}, {spread}; one run tells {tells:.3f}")


def ranked(world: World, rules: Sequence[Rule], workshop: Workshop) -> list[Measured]:
    """Every dictionary of the quick audit's lens of truth, with T3 by each rule."""
    sets = WorldBench(world, PLAN).node_sets
    trained = [workshop.sae(world, r).dictionary for r in trained_recipes(world, PLAN)]
    frozen = [workshop.sae(world, r).dictionary for r in frozen_recipes(world, PLAN)]
    built = {entry.on(world): "control" if entry.name in CONTROLS else "built" for entry in PANEL}
    roles = dict.fromkeys(trained, "trained") | dict.fromkeys(frozen, "frozen") | built
    return [
        Measured(
            "truth", world.name, one.name, role,
            dict(over(sets, one, rules)), planted_quality(world, one)._asdict(),
        )
        for one, role in roles.items()
    ]  # fmt: skip


def show_order(rules: Sequence[Rule], workshop: Workshop) -> None:
    """What the lens of truth says of T3 by each rule, world by world; noise is taken to be the
    least that the lens knows."""
    for world in WORLDS:
        records = ranked(world, rules, workshop)
        print(f"\nTruth, {world.name}")
        for rule in rules:
            metric = AuditedMetric(rule.name, 0, rule.name)
            [panel] = panels(records, metric, {}, {world.name: world.true_l0})
            cell = judge_truth(panel)
            failed = "; ".join(cell.failed) or "passed"
            print(f"{rule.name:26} {cell.said}: {failed}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [rule.name for rule in RULES]
    parser.add_argument("--rule", action="append", choices=names, help="These alone.")
    parser.add_argument("--climbs", type=int, default=4)
    parser.add_argument("--only", choices=("gaming", "order"))
    parser.add_argument("--out", type=Path, default=Path("out/gaming"))
    arguments = parser.parse_args()
    rules = [rule for rule in RULES if rule.name in (arguments.rule or names)]
    workshop = Workshop(arguments.out / "saes")
    one_thread()
    if arguments.only != "order":
        show_gaming(gaming(rules, arguments.climbs, workshop), rules)
    if arguments.only != "gaming":
        show_order(rules, workshop)


if __name__ == "__main__":
    main()
