"""What a contrast of a task costs: what all SAEs share, the first SAE, the next, and one alone.

The same with nothing shared and nothing skipped is priced too, dictionary by dictionary.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sage.dictionaries.controls import Setting, make_controls
from sage.dictionaries.projected import project
from sage.dictionaries.projection import reached
from sage.discovery.attribution import attribute
from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable
from sage.discovery.patching import patch
from sage.discovery.search import TOP
from sage.discovery.statistic import pool
from sage.models.base import Model
from sage.nodes import Node, Section
from sage.preparation import Prepared, measure_gate
from sage.result import SUPERVISED
from sage.run import Plan
from sage.saes.suite import Suite, on_model
from sage.scores.contest import hold
from sage.scores.data import FittedFeatures, read_contrast, read_shared
from sage.scores.node_set import NodeSet
from sage.scores.suite import NodeSets, score_suite
from sage.store.key import run_keys
from sage.store.mapping import StoredMapping
from sage.store.reading import Remembered
from sage.store.store import Store
from sage.task.metric import find_metric, logit_difference
from sage.task.splits import directions, interleave
from sage.task.tokens import Tokenized
from tests.benchmarks.full_size import circuit_section, hooks_of, random_suite
from tests.benchmarks.watched import Cost, Watched, fully, timed, total, watch

# How many dictionaries of a suite each of these stands for in the price of the literal evaluation.
STANDS_FOR = {"suite": 2, "random": 8, SUPERVISED: 1, "mean only": 1}
SETS = 8


def whole_task(model: Model, prepared: Prepared, plan: Plan, arguments: argparse.Namespace) -> None:
    """(b, c) A contrast with all its controls: what is shared, the first SAE and the next, against
    whole forward passes."""
    splits, contrast = prepared.splits, arguments.contrast
    section = circuit_section(contrast, model.anatomy)
    hooks = hooks_of(section, model.anatomy, count=arguments.hooks, last=arguments.last)
    suites = [_suite(model, hooks, number) for number in range(3)]
    print(
        f"(b) {contrast} at {', '.join(map(str, hooks))}: {len(splits.test[contrast])} pairs of "
        f"test, {len(splits.fit_pairs[contrast])} of fit, {len(splits.fit)} prompts of fit"
    )
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        own, later = watch(model), watch(model)
        discovered = _discovered(own, prepared, contrast)
        _tell(f"gate, attribution, exact patching of {TOP} nodes (not used)", discovered)
        with timed(own) as cost:
            node_sets = _node_sets(own, prepared, plan, section, hooks, store)
        shared = cost()
        _tell("reading and fitting, for all suites", shared)
        first, second = (_scored(node_sets, suite, plan) for suite in suites[:2])
        _tell("first suite", first)
        _tell("next suite, same run", second)
        with timed(later) as cost:
            node_sets = _node_sets(later, prepared, plan, section, hooks, store)
        recalled = cost()
        kept = sum(entry.bytes for entry in store.entries())
        _tell(f"a run that finds all that in the store ({kept / 1e6:.0f} MB)", recalled)
        third = _scored(node_sets, suites[2], plan)
        _tell("next suite, in that run", third)
    whole = shared.plus(first)
    for name, spent in (("same run", second), ("later run", recalled.plus(third))):
        share = spent.processor / whole.processor
        with_discovery = spent.processor / whole.plus(discovered).processor
        print(
            f"    next suite, {name}: {share:.2f} of the first, {with_discovery:.2f} with discovery"
        )
    test = [pair.clean for pair in splits.test[contrast]]
    _against_whole_passes(own, test, total([shared, first, second]))
    if arguments.literal:
        _against_nothing_shared(model, prepared, plan, section, suites[0], whole)


def one_suite(model: Model, prepared: Prepared, plan: Plan, arguments: argparse.Namespace) -> None:
    """(d) The memory that one suite takes, from the first read to the last score: nothing else is
    held."""
    section = circuit_section(arguments.contrast, model.anatomy)
    hooks = hooks_of(section, model.anatomy, count=arguments.hooks, last=arguments.last)
    suite, own = _suite(model, hooks, 0), watch(model)
    with timed(own) as cost:
        node_sets = _node_sets(own, prepared, plan, section, hooks, Store(None))
        score_suite(node_sets, suite, plan.wanted)
    pairs = len(prepared.splits.test[arguments.contrast])
    print(f"(d) {', '.join(map(str, hooks))}, {pairs} test pairs: {told(cost())}")


def _tell(what: str, cost: Cost) -> None:
    print(f"    {what:58} {told(cost)}", flush=True)


def told(cost: Cost) -> str:
    return (
        f"{cost.processor:7.1f} s of the processor, {cost.seconds:7.1f} s, "
        f"{cost.token_layers:8} token-layers"
    )


def _suite(model: Model, hooks: Sequence[Node], number: int) -> Suite:
    suite = random_suite(f"random {number}", hooks, model.anatomy, seed=number)
    return on_model(suite, model.anatomy, model.device)


def _node_sets(
    model: Watched,
    prepared: Prepared,
    plan: Plan,
    section: Section,
    hooks: Sequence[Node],
    store: Store,
) -> NodeSets:
    """What one contrast is scored on, as a run with this store finds or reads it."""
    keys = run_keys(model, *prepared, plan)
    reader = Remembered(model, store, keys.model)

    def remember(fit: object) -> FittedFeatures:
        return store.once("features", keys.task.about(section), fit)  # type: ignore[arg-type]

    shared = read_shared(
        reader, *prepared, [section], hooks=hooks, remember=remember, seed=plan.seed
    )
    data = read_contrast(reader, prepared.splits, section, shared, hooks=hooks)
    return NodeSets(
        model,
        data,
        plan.settings,
        memo=lambda at: StoredMapping(store, "scores", keys.task.about(at, plan.settings)),
    )


def _discovered(own: Watched, prepared: Prepared, contrast: str) -> Cost:
    """The least that gate and discovery cost: with random weights, where every node does a little,
    discovery would patch them all."""
    task, splits = prepared
    pairs, metric = splits.discover[contrast], find_metric(task.metric)
    with timed(own) as cost:
        measure_gate(own, task, splits.fit[:500])
        nodes = nodes_at(reachable(pairs, task), SECTION_KINDS, own.anatomy)
        ranks = attribute(own, nodes, pairs, metric).ranks(pool(directions(pairs, contrast, task)))
        first = sorted(ranks, key=lambda node: (ranks[node], node))[:TOP]
        for chosen in (pairs, interleave(splits.discover_null, most=len(pairs))):
            patch(own, [(), *((node,) for node in first)], chosen, metric)
    spent = cost()
    own.written.clear()
    own.whole.clear()
    own.read_cost.clear()
    return spent


def _scored(node_sets: NodeSets, suite: Suite, plan: Plan) -> Cost:
    with timed(node_sets.model) as cost:
        score_suite(node_sets, suite, plan.wanted)
    return cost()


def _against_whole_passes(own: Watched, test: Sequence[Tokenized], everything: Cost) -> None:
    """The same work but for the forward passes: those of edits whole, and priced as such on a few
    prompts."""
    each = _whole_cost(own, test[:8])
    edits, read, would = total(own.written), total(own.read_cost), sum(own.whole)
    once = own.anatomy.layers * sum(len(prompt.ids) for prompt in test)
    fewer, less = would / edits.token_layers, each * would / edits.processor
    print(f"    edits: {told(edits)}; by whole passes {would} token-layers = {fewer:.1f}x more")
    print(f"    and {each * would:.0f} s = {less:.1f}x more (a token-layer's price of 8 prompts)")
    uncached = everything.processor - edits.processor + each * would
    slower = uncached / everything.processor
    print(f"    two suites: {told(everything)}; with whole passes {uncached:.0f} s = {slower:.1f}x")
    passes, reads = everything.token_layers / once, read.token_layers / once
    print(f"(c) {passes:.1f} forward passes over the test prompts, reading {reads:.1f} of them")


def _against_nothing_shared(
    model: Model, prepared: Prepared, plan: Plan, section: Section, suite: Suite, ours: Cost
) -> None:
    """The first suite again, every dictionary by itself: reads, fits and edits of its own, all by
    whole passes."""
    here = section.restrict(reached(suite, model.anatomy, section.nodes))
    spent = {name: _alone(fully(model), prepared, plan, here, suite, name) for name in STANDS_FOR}
    price = sum(STANDS_FOR[name] * cost.processor for name, cost in spent.items())
    each = ", ".join(f"{name} {cost.processor:.0f}" for name, cost in spent.items())
    count = sum(STANDS_FOR.values())
    print(f"    nothing shared: {each}; all {count} dictionaries {price:.0f} s of the processor")
    print(f"    ours {ours.processor:.0f} s = {price / ours.processor:.1f}x less")


def _alone(
    model: Model, prepared: Prepared, plan: Plan, section: Section, suite: Suite, name: str
) -> Cost:
    """One dictionary on one node set, by whole forward passes from the first read to the last
    edit."""
    with timed(model) as cost:
        shared = read_shared(model, *prepared, [section], hooks=suite.hooks, seed=plan.seed)
        data = read_contrast(model, prepared.splits, section, shared, hooks=suite.hooks)
        node_set = NodeSet(model, data, plan.settings)
        judged = project(suite, model.anatomy, node_set.nodes, data.moments, name="suite")
        setting = Setting(judged, node_set.fit, data.section, plan.seed)
        made = {
            control.name: control.dictionary for control in make_controls(setting, among=[name])
        }
        dictionary = {"suite": judged, SUPERVISED: data.supervised, **made}[name]
        contender = node_set.contender(dictionary, copied=True)
        hold(node_set, [contender], controls=[name], thorough=True)
    return cost()


def _whole_cost(model: Model, prompts: Sequence[Tokenized]) -> float:
    """Processor seconds of a token-layer in whole forward passes, the unembedding at END spread
    over them."""
    other = fully(model)
    other.write({}, prompts, logit_difference)
    with timed(other) as cost:
        other.write_many([{}] * SETS, prompts, logit_difference)
    return cost().processor / cost().token_layers
