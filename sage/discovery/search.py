"""Finding the sections of a task, contrast by contrast: rank, confirm, validate.

Section 2 of the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.attribution import (
    ATTRIBUTION_PATCHING,
    EXACT,
    INTEGRATED_GRADIENTS,
    METHODS,
    Attribution,
    attribute,
)
from sage.discovery.candidates import SECTION_KINDS, nodes_at, reachable, shown_kinds
from sage.discovery.confirm import Confirmed, confirm
from sage.discovery.discovery import Cost, Discovery, Finding, NodeEffect
from sage.discovery.pairs import ContrastPairs, IrrelevantPairs, irrelevant_pairs
from sage.discovery.patching import patch
from sage.discovery.statistic import passes, pool, standard_error, statistic
from sage.discovery.validation import validate
from sage.errors import BadTask, unknown
from sage.models.base import Model
from sage.nodes import Node
from sage.progress import Progress, Stage, silent
from sage.task.metric import find_metric
from sage.task.splits import Splits, directions
from sage.task.task import Task
from sage.task.tokens import TokenizedPair

TAU = 0.02
TAUS = (0.005, 0.01, 0.02, 0.05, 0.1)
TINY, TOP_TINY, TOP = 1000, 40, 100


@dataclass(frozen=True)
class DiscoverySettings:
    """How candidates are ranked, confirmed and shown.

    `method` ranks: attribution patching, integrated gradients, graddrop, or `exact`, which patches
    every candidate (and still attributes, to be compared). `tau` is the smallest statistic of a
    section's node as a share of E|m(p)|. `top` nodes of either ranking are patched first, by
    default 40 where there are fewer than 1,000 candidates and 100 elsewhere. `show` adds nodes of
    kinds that are never in a section (resid_pre, resid_mid, resid_post, attn_out, mlp_out).
    """

    method: str = ATTRIBUTION_PATCHING
    qk_fix: bool = True
    tau: float = TAU
    top: int | None = None
    show: tuple[str, ...] = ()
    seed: int = 0

    def first(self, candidates: int) -> int:
        """How many nodes of each ranking are patched first."""
        if self.method == EXACT:
            return candidates
        return self.top or (TOP_TINY if candidates < TINY else TOP)


def discover(
    model: Model,
    task: Task,
    splits: Splits,
    *,
    contrasts: Sequence[str] | None = None,
    settings: DiscoverySettings | None = None,
    progress: Progress = silent,
) -> Discovery:
    """The nodes where each contrast lives; `contrasts` are all of the task's by default.

    They are found on the pairs of `splits.discover` and held against the irrelevant ones of
    `splits.discover_null`. Raises UnknownName, BadTask and Unsupported.
    """
    settings = settings or DiscoverySettings()
    names = task.contrast_names if contrasts is None else tuple(contrasts)
    for name in names:
        if name not in splits.discover:
            raise unknown(f"contrast of task {task.name}", name, splits.discover)
    if settings.method not in METHODS:
        raise unknown("method of discovery", settings.method, METHODS)
    settings = replace(settings, show=shown_kinds(settings.show, model.anatomy))
    most = max((len(splits.discover[name]) for name in names), default=0)
    irrelevant = irrelevant_pairs(splits.discover_null, find_metric(task.metric), most=most)
    findings = {
        name: _find(model, task, name, splits.discover[name], irrelevant, settings, progress)
        for name in names
    }
    return Discovery(
        task=task.name,
        model=model.name,
        positions=task.position_names,
        method=settings.method,
        qk_fix=settings.qk_fix,
        tau=settings.tau,
        seed=settings.seed,
        findings=findings,
    )


def _find(
    model: Model,
    task: Task,
    contrast: str,
    drawn: Sequence[TokenizedPair],
    irrelevant: IrrelevantPairs,
    settings: DiscoverySettings,
    progress: Progress,
) -> Finding:
    """One contrast, from its pairs to its section."""
    started, tokens_before, seed = perf_counter(), model.counter.tokens, settings.seed
    attributing, patching, validating = (
        Stage(f"{contrast}: {name}", progress) for name in ("attribution", "patching", "validation")
    )
    contrast_pairs = _contrast_pairs(model, task, contrast, drawn, settings)
    classes = contrast_pairs.classes
    positions = reachable(contrast_pairs.pairs, task)

    with attributing.under_way():
        ranking = _attribute(model, contrast_pairs, positions, SECTION_KINDS, settings)
        shown = _attribute(model, contrast_pairs, positions, settings.show, settings)
    with patching.under_way():
        ranks, top = ranking.ranks(classes), settings.first(len(ranking.nodes))
        confirmed = confirm(model, contrast_pairs, ranks, irrelevant, top=top, seed=seed)
    with validating.under_way():
        attributed = ranking.statistic_by_node(classes)
        validation = validate(model, contrast_pairs, confirmed, attributed, seed=seed)
    with patching.under_way():
        shown_effects = _shown_effects(model, contrast_pairs, shown)

    return Finding(
        contrast=contrast,
        n=len(contrast_pairs.pairs),
        dropped=len(drawn) - len(contrast_pairs.pairs),
        directions=len(classes.unique()),
        positions=positions,
        baseline=contrast_pairs.baseline,
        null=confirmed.level,
        null_n=confirmed.null_n,
        evidence=_node_effects(
            ranking, classes, confirmed.nodes, confirmed.effects, confirmed.kept.tolist()
        ),
        shown=shown_effects,
        sizes=_sizes(contrast_pairs, confirmed),
        validation=validation,
        cost=_cost(contrast_pairs, perf_counter() - started, model.counter.tokens - tokens_before),
    )


def _contrast_pairs(
    model: Model,
    task: Task,
    contrast: str,
    drawn: Sequence[TokenizedPair],
    settings: DiscoverySettings,
) -> ContrastPairs:
    """The pairs drawn that the method can take, with their directions and the clean metric.

    Integrated gradients need both prompts of a pair to be equally long. BadTask where no pair is.
    """
    pairs = tuple(
        pair
        for pair in drawn
        if settings.method != INTEGRATED_GRADIENTS
        or len(pair.clean.ids) == len(pair.counterfactual.ids)
    )
    if not pairs:
        remedy = " Use attribution patching: its pairs may differ in length." if drawn else ""
        raise BadTask(
            f"Task {task.name}: {settings.method} can use none of the {len(drawn)} pairs drawn for "
            f"contrast '{contrast}'.{remedy}"
        )
    metric = find_metric(task.metric)
    return ContrastPairs(
        contrast,
        pairs,
        classes=pool(directions(pairs, contrast, task)),
        metric=metric,
        clean=patch(model, [()], pairs, metric)[0],
        tau=settings.tau,
    )


def _attribute(
    model: Model,
    contrast_pairs: ContrastPairs,
    positions: Sequence[str],
    kinds: Sequence[str],
    settings: DiscoverySettings,
) -> Attribution:
    return attribute(
        model,
        nodes_at(positions, kinds, model.anatomy),
        contrast_pairs.pairs,
        contrast_pairs.metric,
        method=settings.method,
        qk_fix=settings.qk_fix,
    )


def _shown_effects(
    model: Model, contrast_pairs: ContrastPairs, shown: Attribution
) -> tuple[NodeEffect, ...]:
    """Nodes that are only shown: all of them are patched and none is kept."""
    effects = contrast_pairs.effects(model, [(node,) for node in shown.nodes])
    never_kept = [False] * len(shown.nodes)
    return _node_effects(shown, contrast_pairs.classes, shown.nodes, effects, never_kept)


def _node_effects(
    ranking: Attribution,
    classes: Int[Tensor, "pair"],
    patched: Sequence[Node],
    effects: Float[Tensor, "patched pair"],
    kept: Sequence[bool],
) -> tuple[NodeEffect, ...]:
    """What is known of every node ranked, largest first.

    Nodes patched come first, by their statistic, then the others by that of their attribution.
    """
    by_node = {
        node: NodeEffect(node, mean, guess)
        for (node, guess), mean in zip(
            ranking.statistic_by_node(classes).items(), ranking.mean.tolist(), strict=True
        )
    }
    exact = zip(
        patched,
        effects.mean(1).tolist(),
        statistic(effects, classes).tolist(),
        standard_error(effects, classes).tolist(),
        kept,
        strict=True,
    )
    for node, effect, value, stderr, is_kept in exact:
        by_node[node] = replace(
            by_node[node], effect=effect, statistic=value, stderr=stderr, kept=is_kept
        )

    def place(effect: NodeEffect) -> tuple[bool, float, Node]:
        return effect.statistic is None, -effect.best, effect.node

    return tuple(sorted(by_node.values(), key=place))


def _sizes(contrast_pairs: ContrastPairs, confirmed: Confirmed) -> dict[float, int]:
    """How large the section would be at other thresholds, among the nodes patched."""
    values = statistic(confirmed.effects, contrast_pairs.classes)
    baseline, null = contrast_pairs.baseline, confirmed.level
    return {tau: int(passes(values, baseline=baseline, tau=tau, null=null).sum()) for tau in TAUS}


def _cost(contrast_pairs: ContrastPairs, seconds: float, tokens: float) -> Cost:
    return Cost(seconds, tokens / sum(len(pair.clean.ids) for pair in contrast_pairs.pairs))
