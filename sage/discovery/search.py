"""Finding the sections of a task, contrast by contrast: rank, confirm, validate.

Section 2 of the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TypedDict

from jaxtyping import Float, Int
from torch import Tensor

from sage.discovery.attribution import ATTRIBUTION_PATCHING, EXACT, METHODS, Attribution
from sage.discovery.candidates import SECTION_KINDS, shown_kinds
from sage.discovery.confirm import ERROR, Confirmed, confirm
from sage.discovery.discovery import Discovery, Finding, NodeEffect
from sage.discovery.pairs import ContrastPairs, PatchedPairs
from sage.discovery.ranking import How, RankedContrast, rank
from sage.discovery.statistic import passes, pool, standard_error, statistic
from sage.discovery.validation import validate
from sage.errors import unknown
from sage.models.base import Model
from sage.nodes import Node
from sage.progress import expect, stage
from sage.task.splits import Splits, directions, interleave
from sage.task.task import Task

TAU = 0.02
TAUS = (0.005, 0.01, 0.02, 0.05, 0.1)
TINY, TOP_TINY, TOP = 1000, 40, 100
# How the work on one contrast is shared out, where nobody has an estimate of it.
SHARES = {"attribution": 1, "patching": 6, "validation": 3}


@dataclass(frozen=True)
class DiscoverySettings:
    """How candidates are ranked, confirmed and shown.

    `method` ranks: attribution patching, integrated gradients, graddrop, or `exact`, which patches
    every candidate (and still attributes, to be compared). `tau` is the smallest statistic of a
    section's node as a share of E|m(p)|. `top` nodes of either ranking are patched first, by
    default 40 where there are fewer than 1,000 candidates and 100 elsewhere. `show` adds nodes of
    kinds that are never in a section (resid_pre, resid_mid, resid_post, attn_out, mlp_out).
    `error` is the chance that patching nodes on no more pairs than needed changes the section or
    the null of a contrast; with 0, and with `exact`, all are patched on all pairs.
    """

    method: str = ATTRIBUTION_PATCHING
    qk_fix: bool = True
    tau: float = TAU
    top: int | None = None
    show: tuple[str, ...] = ()
    seed: int = 0
    error: float = ERROR

    @property
    def risk(self) -> float:
        """The chance of an error that is taken."""
        return 0.0 if self.method == EXACT else self.error

    def first(self, candidates: int) -> int:
        """How many nodes of each ranking are patched first."""
        if self.method == EXACT:
            return candidates
        return self.top or (TOP_TINY if candidates < TINY else TOP)


class _Chance(TypedDict):
    """The seed, and the chance of an error that is taken."""

    seed: int
    error: float


def discover(
    model: Model,
    task: Task,
    splits: Splits,
    *,
    contrasts: Sequence[str] | None = None,
    settings: DiscoverySettings | None = None,
) -> Discovery:
    """The nodes where each contrast lives; `contrasts` are all of the task's by default.

    They are found on the pairs of `splits.discover` and held against the irrelevant ones of
    `splits.discover_null`. Raises UnknownName, BadTask and Unsupported.
    """
    settings = _possible(settings or DiscoverySettings(), model)
    names = task.contrast_names if contrasts is None else tuple(contrasts)
    for name in names:
        if name not in splits.discover:
            raise unknown(f"contrast of task {task.name}", name, splits.discover)
    drawn = {name: splits.discover[name] for name in names}
    null = interleave(splits.discover_null, most=max(map(len, drawn.values()), default=0))
    expect(len(names) * sum(SHARES.values()))
    with stage("attribution", work=len(names) * SHARES["attribution"]):
        how = How(settings.method, settings.qk_fix, settings.show)
        ranked = rank(model, task, drawn, null, how)
    findings: dict[str, Finding] = {}
    for ranking in ranked.rankings:
        with stage(ranking.contrast, work=SHARES["patching"] + SHARES["validation"]):
            found = _find(model, task, ranking, ranked.irrelevant, settings)
            findings[ranking.contrast] = found
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


def _possible(settings: DiscoverySettings, model: Model) -> DiscoverySettings:
    """The settings, with kinds to show by the model's names for them; UnknownName for others."""
    if settings.method not in METHODS:
        raise unknown("method of discovery", settings.method, METHODS)
    return replace(settings, show=shown_kinds(settings.show, model.anatomy))


def _find(
    model: Model,
    task: Task,
    found: RankedContrast,
    irrelevant: PatchedPairs,
    settings: DiscoverySettings,
) -> Finding:
    """The section of a contrast that is ranked, and what it is held against."""
    started, tokens_before = perf_counter(), model.counter.tokens
    expect(SHARES["patching"] + SHARES["validation"])
    ranking = found.attribution.of_kinds(SECTION_KINDS)
    patched = PatchedPairs(model, found.pairs, irrelevant.metric, ranking.by_node)

    contrast_pairs = _contrast_pairs(task, found.contrast, patched, settings)
    classes, chance = contrast_pairs.classes, _Chance(seed=settings.seed, error=settings.risk)

    with stage("patching", work=SHARES["patching"]):
        ranks, top = ranking.ranks(classes), settings.first(len(ranking.nodes))
        confirmed = confirm(contrast_pairs, patched, ranks, irrelevant, top=top, **chance)
    with stage("validation", work=SHARES["validation"]):
        attributed = ranking.statistic_by_node(classes)
        validation = validate(contrast_pairs, patched, confirmed, attributed, **chance)
    with stage("shown nodes", work=0):
        shown = _shown_effects(patched, classes, found.attribution.of_kinds(settings.show))
    kept = confirmed.kept.tolist()

    return Finding(
        contrast=found.contrast,
        n=len(found.pairs),
        dropped=found.dropped,
        directions=len(classes.unique()),
        positions=found.positions,
        baseline=contrast_pairs.baseline,
        null=confirmed.level,
        null_n=confirmed.null_n,
        evidence=_node_effects(ranking, classes, confirmed.nodes, confirmed.effects, kept),
        shown=shown,
        sizes=_sizes(contrast_pairs, confirmed),
        validation=validation,
        cost=found.cost(perf_counter() - started, model.counter.tokens - tokens_before),
        notes=_notes(confirmed, settings.risk),
    )


def _contrast_pairs(
    task: Task, contrast: str, patched: PatchedPairs, settings: DiscoverySettings
) -> ContrastPairs:
    """The pairs with their directions and the clean metric."""
    classes = pool(directions(patched.pairs, contrast, task))
    pairs, metric = patched.pairs, patched.metric
    return ContrastPairs(contrast, pairs, classes, metric, patched.clean, settings.tau)


def _notes(confirmed: Confirmed, error: float) -> tuple[str, ...]:
    """What was patched on fewer pairs, and what was risked by it."""
    dropped = len(confirmed.nodes) - int(confirmed.in_full.sum())
    if not error or not dropped:
        return ()
    return (
        f"{dropped} of {len(confirmed.nodes)} nodes were patched on fewer than "
        f"{confirmed.effects.shape[1]} pairs, until they were beyond doubt too small for the "
        f"section: the chance that it, or the null, is not that of all nodes on all pairs is at "
        f"most {error:.0%}.",
    )


def _shown_effects(
    patched: PatchedPairs, classes: Int[Tensor, "pair"], shown: Attribution
) -> tuple[NodeEffect, ...]:
    """Nodes that are only shown: all of them are patched and none is kept."""
    sets = [(node,) for node in shown.nodes]
    expect(patched.unmeasured(sets, len(patched.pairs)))
    patched.measure(sets, range(len(patched.pairs)))
    never_kept = [False] * len(sets)
    return _node_effects(shown, classes, shown.nodes, patched.effects(sets), never_kept)


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
        effects.nanmean(1).tolist(),
        statistic(effects, classes).tolist(),
        standard_error(effects, classes).tolist(),
        kept,
        (~effects.isnan()).sum(1).tolist(),
        strict=True,
    )
    for node, effect, value, stderr, is_kept, n in exact:
        by_node[node] = replace(
            by_node[node], effect=effect, statistic=value, stderr=stderr, kept=is_kept, n=n
        )

    def place(effect: NodeEffect) -> tuple[bool, float, Node]:
        return effect.statistic is None, -effect.best, effect.node

    return tuple(sorted(by_node.values(), key=place))


def _sizes(contrast_pairs: ContrastPairs, confirmed: Confirmed) -> dict[float, int]:
    """How large the section would be at other thresholds, among the nodes patched.

    Nodes that were dropped count by the statistic of their last look.
    """
    values = statistic(confirmed.effects, contrast_pairs.classes)
    baseline, null = contrast_pairs.baseline, confirmed.level
    return {tau: int(passes(values, baseline=baseline, tau=tau, null=null).sum()) for tau in TAUS}
