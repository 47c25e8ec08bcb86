"""Finding the sections of a task, contrast by contrast: rank, confirm, hold against the null,
validate (method, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from jaxtyping import Float
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
from sage.discovery.confirm import Confirmed, Irrelevant, Trial, confirm, irrelevant
from sage.discovery.discovery import Cost, Discovery, Finding, NodeEffect
from sage.discovery.patching import patch
from sage.discovery.stage import Stage
from sage.discovery.statistic import passes, pool, standard_error, statistic
from sage.discovery.validation import validate
from sage.errors import BadTask, unknown
from sage.models.base import Model
from sage.nodes import Node
from sage.progress import Progress, silent
from sage.task.metric import find_metric
from sage.task.splits import Splits, directions
from sage.task.task import Task
from sage.task.tokens import TokenizedPair

TAU = 0.02
TAUS = (0.005, 0.01, 0.02, 0.05, 0.1)
TINY, TOP_TINY, TOP = 1000, 40, 100


def discover(
    model: Model,
    task: Task,
    splits: Splits,
    *,
    contrasts: Sequence[str] | None = None,
    method: str = ATTRIBUTION_PATCHING,
    qk_fix: bool = True,
    tau: float = TAU,
    top: int | None = None,
    show: Sequence[str] = (),
    progress: Progress = silent,
    seed: int = 0,
) -> Discovery:
    """The nodes where each contrast lives, from the pairs of `splits.discover` and the irrelevant
    ones of `splits.null`.

    `contrasts` are all of the task's by default. `method` ranks: attribution patching, integrated
    gradients, graddrop, or `exact`, which patches every candidate (and still attributes, to be
    compared). `top` nodes of either ranking are patched first, by default 40 where there are fewer
    than 1,000 candidates and 100 elsewhere. `show` adds nodes of kinds that are never in a section
    (resid_pre, resid_mid, resid_post, attn_out, mlp_out). Raises UnknownName, BadTask and
    Unsupported.
    """
    names = task.contrast_names if contrasts is None else tuple(contrasts)
    for name in names:
        if name not in splits.discover:
            raise unknown(f"contrast of task {task.name}", name, splits.discover)
    if method not in METHODS:
        raise unknown("method of discovery", method, METHODS)
    most = max((len(splits.discover[name]) for name in names), default=0)
    unlike = irrelevant(splits.null, find_metric(task.metric), most=most)
    settings = _Settings(method, qk_fix, tau, top, shown_kinds(show, model.anatomy), progress, seed)
    findings = {
        name: _find(model, task, name, splits.discover[name], unlike, settings) for name in names
    }
    return Discovery(
        task.name, model.name, task.position_names, method, qk_fix, tau, seed, findings
    )


@dataclass(frozen=True)
class _Settings:
    method: str
    qk_fix: bool
    tau: float
    top: int | None
    show: tuple[str, ...]
    progress: Progress
    seed: int

    def first(self, candidates: int) -> int:
        """How many nodes of each ranking are patched first."""
        if self.method == EXACT:
            return candidates
        return self.top or (TOP_TINY if candidates < TINY else TOP)


def _find(
    model: Model,
    task: Task,
    contrast: str,
    drawn: Sequence[TokenizedPair],
    unlike: Irrelevant,
    settings: _Settings,
) -> Finding:
    """One contrast, from its pairs to its section."""
    started, before, metric = perf_counter(), model.counter.tokens, unlike.metric
    stages = {
        name: Stage(f"{contrast}: {name}", settings.progress)
        for name in ("attribution", "patching", "validation")
    }
    pairs = _usable(drawn, task, contrast, settings.method)
    positions = reachable(pairs, task)
    trial = Trial(
        contrast,
        pairs,
        pool(directions(pairs, contrast, task)),
        patch(model, [()], pairs, metric)[0],
        settings.tau,
    )

    def rank(kinds: Sequence[str]) -> Attribution:
        nodes = nodes_at(positions, kinds, model.anatomy)
        return attribute(
            model,
            nodes,
            pairs,
            metric,
            method=settings.method,
            qk_fix=settings.qk_fix,
            stage=stages["attribution"],
        )

    ranking, shown = rank(SECTION_KINDS), rank(settings.show)
    first = settings.first(len(ranking.nodes))
    confirmed = confirm(
        model,
        trial,
        ranking.ranks(trial.classes),
        unlike,
        top=first,
        seed=settings.seed,
        stage=stages["patching"],
    )
    guesses = dict(zip(ranking.nodes, ranking.statistic(trial.classes).tolist(), strict=True))
    validation = validate(
        model, trial, confirmed, guesses, metric, seed=settings.seed, stage=stages["validation"]
    )
    beside = (
        patch(model, [(node,) for node in shown.nodes], pairs, metric, stage=stages["patching"])
        - trial.clean
    )
    clean_tokens = sum(len(pair.clean.ids) for pair in pairs)
    return Finding(
        contrast=contrast,
        n=len(pairs),
        dropped=len(drawn) - len(pairs),
        directions=len(trial.classes.unique()),
        positions=positions,
        baseline=trial.baseline,
        null=confirmed.level,
        null_n=0 if confirmed.null_classes is None else len(confirmed.null_classes),
        evidence=_evidence(
            ranking, trial, confirmed.nodes, confirmed.effects, confirmed.kept.tolist()
        ),
        shown=_evidence(shown, trial, shown.nodes, beside, [False] * len(shown.nodes)),
        sizes=_sizes(trial, confirmed),
        validation=validation,
        cost=Cost(perf_counter() - started, (model.counter.tokens - before) / clean_tokens),
    )


def _usable(
    drawn: Sequence[TokenizedPair], task: Task, contrast: str, method: str
) -> tuple[TokenizedPair, ...]:
    """The pairs a method can take: integrated gradients need both prompts of a pair to be equally
    long."""
    pairs = tuple(
        pair
        for pair in drawn
        if method != INTEGRATED_GRADIENTS or len(pair.clean.ids) == len(pair.counterfactual.ids)
    )
    if not pairs:
        remedy = " Use attribution patching: its pairs may differ in length." if drawn else ""
        raise BadTask(
            f"Task {task.name}: {method} can use none of the {len(drawn)} pairs drawn for contrast '{contrast}'.{remedy}"
        )
    return pairs


def _evidence(
    ranking: Attribution,
    trial: Trial,
    patched: Sequence[Node],
    effects: Float[Tensor, "patched pair"],
    kept: Sequence[bool],
) -> tuple[NodeEffect, ...]:
    """What is known of every node ranked: those patched by their statistic, then the others by that
    of their attribution."""
    exact = (
        effects.mean(1),
        statistic(effects, trial.classes),
        standard_error(effects, trial.classes),
    )
    known = dict(
        zip(patched, zip(*(numbers.tolist() for numbers in exact), kept, strict=True), strict=True)
    )
    guessed = zip(
        ranking.nodes, ranking.mean.tolist(), ranking.statistic(trial.classes).tolist(), strict=True
    )
    found = [NodeEffect(node, mean, guess, *known.get(node, ())) for node, mean, guess in guessed]
    return tuple(sorted(found, key=lambda one: (one.statistic is None, -one.best, one.node)))


def _sizes(trial: Trial, confirmed: Confirmed) -> dict[float, int]:
    """How large the section would be at other thresholds, among the nodes patched."""
    values = statistic(confirmed.effects, trial.classes)
    return {
        tau: int(passes(values, baseline=trial.baseline, tau=tau, null=confirmed.level).sum())
        for tau in TAUS
    }
