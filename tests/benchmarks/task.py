"""What a contrast of a task costs: what all SAEs share, the first SAE, the next, and the same with
nothing shared and nothing skipped."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from sage.dictionaries.activations import Dictionary
from sage.dictionaries.controls import BEST, controls
from sage.dictionaries.projected import project, reached
from sage.discovery.attribution import attribute
from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable
from sage.discovery.patching import patch
from sage.discovery.search import TOP
from sage.discovery.statistic import pool
from sage.evaluation import measure_gate
from sage.models.base import Model
from sage.nodes import Section
from sage.result import SUPERVISED
from sage.saes.suite import Suite
from sage.scores.control import largest_k
from sage.scores.data import Settings
from sage.scores.node_set import IDENTITY, MEAN_ONLY, NodeSet, NodeSets
from sage.scores.reading import Recalls, gather
from sage.scores.suite import score_suite
from sage.scores.summary import FLOORS
from sage.store.cache import Cache, cache_entries
from sage.store.recall import Recall
from sage.task.metric import find_metric, logit_difference
from sage.task.splits import Splits, directions, interleave
from sage.task.task import Task
from sage.task.tokens import Tokenized
from tests.benchmarks.full_size import circuit_section, hooks_of, random_suite
from tests.benchmarks.watched import Cost, Watched, fully, timed, total, watch

# How many of the dictionaries of a suite each of these stands for in the price of the literal
# evaluation: `random` for those that are measured on `fit` too, the suite for those that are not.
STANDS_FOR = {"suite": 3 + len(BEST), "random": 3, SUPERVISED: 1, MEAN_ONLY: 1, IDENTITY: 1}
SETS = 8


def whole_task(model: Model, task: Task, splits: Splits, arguments: argparse.Namespace) -> None:
    """(b, c) A contrast with all its controls: what is shared, the first SAE and the next, against
    whole forward passes."""
    contrast = arguments.contrast
    section = circuit_section(contrast, model.anatomy)
    hooks = hooks_of(section, model.anatomy, count=arguments.hooks, last=arguments.last)
    settings = Settings(find_metric(task.metric), largest_k(model.anatomy.d_model))
    suites = [
        _on(random_suite(f"random {number}", hooks, model.anatomy, seed=number), model.device)
        for number in range(3)
    ]
    with TemporaryDirectory() as folder:
        recalls = _recalls(Path(folder), model)
        own = watch(model)
        found = _discovered(own, task, splits, contrast)
        with timed(own) as cost:
            node_sets = NodeSets(
                own,
                gather(own, task, splits, section, hooks=hooks, recalls=recalls),
                settings,
                recalls.task,
            )
        shared = cost()
        first, second = (_scored(node_sets, suite) for suite in suites[:2])
        later = watch(model)
        with timed(later) as cost:
            node_sets = NodeSets(
                later,
                gather(later, task, splits, section, hooks=hooks, recalls=recalls),
                settings,
                recalls.task,
            )
        recalled = cost()
        third = _scored(node_sets, suites[2])
        kept = sum(entry.bytes for entry in cache_entries(Path(folder)))
    sizes = {
        split: len(pairs[contrast])
        for split, pairs in (("test", splits.test), ("fit", splits.fit_pairs))
    }
    print(
        f"(b) {contrast} at {', '.join(map(str, hooks))}: {sizes['test']} pairs of test, {sizes['fit']} of fit, {len(splits.fit)} of fit"
    )
    for name, spent in (
        (f"gate, attribution, exact patching of {TOP} nodes (not used)", found),
        ("reading and fitting, for all suites", shared),
        ("first suite", first),
        ("next suite, same run", second),
        (f"a run that finds all that in the cache ({kept / 1e6:.0f} MB)", recalled),
        ("next suite, in that run", third),
    ):
        print(f"    {name:58} {told(spent)}")
    base, marginal = shared.plus(first), recalled.plus(third)
    for name, spent in (("same run", second), ("later run", marginal)):
        with_discovery = spent.processor / base.plus(found).processor
        print(
            f"    next suite, {name}: {spent.processor / base.processor:.2f} of the first, {with_discovery:.2f} with gate and patching; "
            f"token-layers {spent.token_layers / base.token_layers:.2f}, {spent.token_layers / base.plus(found).token_layers:.2f}"
        )
    _against_whole_passes(
        own, [pair.clean for pair in splits.test[contrast]], total([shared, first, second])
    )
    if arguments.literal:
        _against_nothing_shared(model, task, splits, section, suites[0], settings, base)


def one_suite(model: Model, task: Task, splits: Splits, arguments: argparse.Namespace) -> None:
    """(d) The memory that one suite takes, from the first read to the last score: nothing else is
    held."""
    section = circuit_section(arguments.contrast, model.anatomy)
    hooks = hooks_of(section, model.anatomy, count=arguments.hooks, last=arguments.last)
    suite = _on(random_suite("random", hooks, model.anatomy), model.device)
    settings = Settings(find_metric(task.metric), largest_k(model.anatomy.d_model))
    own = watch(model)
    with timed(own) as cost:
        score_suite(NodeSets(own, gather(own, task, splits, section, hooks=hooks), settings), suite)
    print(
        f"(d) {', '.join(map(str, hooks))}, {len(splits.test[arguments.contrast])} test pairs, {len(splits.fit)} of fit: {told(cost())}"
    )


def told(cost: Cost) -> str:
    return f"{cost.processor:7.1f} s of the processor, {cost.seconds:7.1f} s, {cost.token_layers:8} token-layers"


def _discovered(own: Watched, task: Task, splits: Splits, contrast: str) -> Cost:
    """The least that gate and discovery cost: with random weights, where every node does a little,
    discovery would patch them all."""
    pairs, metric = splits.discover[contrast], find_metric(task.metric)
    with timed(own) as cost:
        measure_gate(own, task, splits.fit[:500])
        ranking = attribute(
            own, nodes_at(reachable(pairs, task), SECTION_KINDS, own.anatomy), pairs, metric
        )
        ranks = ranking.ranks(pool(directions(pairs, contrast, task)))
        first = sorted(ranks, key=lambda node: (ranks[node], node))[:TOP]
        for chosen in (pairs, interleave(splits.discover_null, most=len(pairs))):
            patch(own, [(), *((node,) for node in first)], chosen, metric)
    spent = cost()
    own.written.clear()
    own.whole.clear()
    own.read_cost.clear()
    return spent


def _scored(node_sets: NodeSets, suite: Suite) -> Cost:
    with timed(node_sets.model) as cost:
        score_suite(node_sets, suite)
    return cost()


def _against_whole_passes(own: Watched, test: Sequence[Tokenized], everything: Cost) -> None:
    """The same work but for the forward passes: those of edits whole, and priced as such on a few
    prompts."""
    each = _whole_cost(own, test[:8])
    edits, read, would = total(own.written), total(own.read_cost), sum(own.whole)
    once = own.anatomy.layers * sum(len(prompt.ids) for prompt in test)
    print(
        f"    edits: {told(edits)}; by whole passes {would} token-layers = {would / edits.token_layers:.1f}x more"
    )
    print(
        f"    and {each * would:.0f} s = {each * would / edits.processor:.1f}x more (a token-layer's price measured on 8 prompts)"
    )
    uncached = everything.processor - edits.processor + each * would
    print(
        f"    two suites: {told(everything)}; with whole passes {uncached:.0f} s = {uncached / everything.processor:.1f}x more"
    )
    print(
        f"(c) {everything.token_layers / once:.1f} forward passes over the test prompts, reading {read.token_layers / once:.1f} of them"
    )


def _against_nothing_shared(
    model: Model,
    task: Task,
    splits: Splits,
    section: Section,
    suite: Suite,
    settings: Settings,
    ours: Cost,
) -> None:
    """The first suite again, every dictionary by itself: reads, fits and edits of its own, one
    budget at a time, all by whole passes.

    What whole passes cost does not depend on the nodes they edit: the price at the union is taken
    for every group as well.
    """
    here = section.restrict(reached(suite, model.anatomy, section.nodes))
    sets = 1 + (len(here.groups) if len(here.groups) > 1 else 0)
    spent = {
        name: _alone(fully(model), task, splits, here, suite, settings, name) for name in STANDS_FOR
    }
    price = sum(STANDS_FOR[name] * cost.processor for name, cost in spent.items())
    each = ", ".join(f"{name} {cost.processor:.0f}" for name, cost in spent.items())
    print(
        f"    nothing shared: {each}; all {sum(STANDS_FOR.values())} dictionaries {price:.0f} s of the processor, at {sets} node sets"
    )
    print(
        f"    the first suite with nothing shared {sets * price:.0f} s, ours {ours.processor:.0f} s = {sets * price / ours.processor:.1f}x"
    )


def _alone(
    model: Model,
    task: Task,
    splits: Splits,
    section: Section,
    suite: Suite,
    settings: Settings,
    name: str,
) -> Cost:
    """One dictionary on one node set, by whole forward passes from the first read to the last edit."""
    with timed(model) as cost:
        data = gather(model, task, splits, section, hooks=suite.hooks)
        node_set = NodeSet(model, data, settings)
        judged = project(suite, model.anatomy, section.nodes, data.moments)
        own = {"suite": judged, SUPERVISED: data.supervised, **_controls(judged, node_set, name)}[
            name
        ]
        sides = [(node_set.fit, node_set.small_ks)] if name in (SUPERVISED, *FLOORS["T1"]) else []
        for side, ks in (*sides, (node_set.test, settings.ks)):
            node_set.approximate({name: own}, side=side)
            for k in ks if name != IDENTITY else ():
                node_set.control(
                    {name: own},
                    side=side,
                    ks=(k,),
                    watched=node_set.watched if side is node_set.test else None,
                )
        if name != IDENTITY:
            node_set.compare(own, node_set.interpret(own))
    return cost()


def _controls(judged: Dictionary, node_set: NodeSet, name: str) -> Mapping[str, Dictionary]:
    made = controls(
        judged, node_set.data.fit, section=node_set.data.section, among=(name,)
    ).dictionaries
    return {found.name: found for found in made}


def _whole_cost(model: Model, prompts: Sequence[Tokenized]) -> float:
    """Processor seconds of a token-layer in whole forward passes, the unembedding at END spread
    over them."""
    other = fully(model)
    other.write({}, prompts, logit_difference)
    with timed(other) as cost:
        other.write_many([{}] * SETS, prompts, logit_difference)
    return cost().processor / cost().token_layers


def _recalls(folder: Path, model: Model) -> Recalls:
    return Recalls(
        *(Recall(Cache(folder), name, (name,), model.device) for name in ("model", "task"))
    )


def _on(suite: Suite, device: str) -> Suite:
    return replace(suite, saes={hook: sae.to(device) for hook, sae in suite.saes.items()})
