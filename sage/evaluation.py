"""The main path: what a model does on a task, where, with which features, and how well SAEs know
them.

One call per step of the method: split, gate, discover, read, fit, project, score. A run that is
killed and repeated goes on where it was and ends with the same numbers; what does not depend on an
SAE is computed once and shared by all suites.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sage import __version__
from sage.dictionaries.activations import read_streams
from sage.dictionaries.controls import CONTROLS
from sage.dictionaries.projected import Options
from sage.discovery import Discovery, DiscoverySettings, discover
from sage.models.base import Model
from sage.progress import Progress, silent
from sage.result import (
    FeatureInfo,
    Gate,
    ModelInfo,
    NodeRow,
    Result,
    Row,
    RunInfo,
    SAEInfo,
    SectionInfo,
    StageInfo,
    SuiteInfo,
    TaskInfo,
    save,
)
from sage.saes.residual_tokens import measure_on
from sage.saes.sae import SAE, check_fits
from sage.saes.suite import Suite
from sage.scores.control import KS, largest_k
from sage.scores.data import Settings
from sage.scores.interpretability import LEVELS
from sage.scores.node_set import NodeSets
from sage.scores.reading import Recalls, Shared, gather, gather_shared
from sage.scores.rows import summary_rows
from sage.scores.suite import Scored, check_names, from_part, score_suite, to_part
from sage.scores.summary import summarise
from sage.stopwatch import Stopwatch
from sage.store.cache import Cache
from sage.store.checkpoints import Checkpoints, digest
from sage.store.recall import Recall
from sage.store.run_keys import how_run, prompts_digest, suite_digest, what_decides
from sage.task.metric import find_metric
from sage.task.splits import FIT_PAIRS, Splits, split
from sage.task.task import Task
from sage.task.token_audit import audit
from sage.task.tokens import Tokenized

GATE_PROMPTS = 500
WHOLE = "whole"


@dataclass(frozen=True)
class Plan:
    """How a run is done: its seed, the pairs per contrast to test on, to discover with and to
    decide on, the prompts to fit on (None: 2,000, or 20 for each value if that is more), the
    options scored beside the headline.

    `across_models` fixes k_max at 4, as every comparison of models of different width needs.
    Without `groups` only the union of each section is scored, and not its (kind, position) classes
    as well. `largest_k` ends the curve over budgets there, or at k_max. `controls` are those that
    are run, `levels` the corrected F1 from which latents count as interpretable in the causal
    scores.
    """

    seed: int = 0
    prompts: int = 500
    discover: int = 200
    tried: int = FIT_PAIRS
    fit: int | None = None
    also: tuple[Options, ...] = ()
    across_models: bool = False
    groups: bool = True
    largest_k: int | None = None
    controls: tuple[str, ...] = CONTROLS
    levels: tuple[float, ...] = LEVELS


class Prepared(NamedTuple):
    """A task restricted to what a model's tokenizer can carry, and its splits as the model reads
    them."""

    task: Task
    splits: Splits


class Evaluation(NamedTuple):
    """A result and the arrays beside it."""

    result: Result
    arrays: dict[str, np.ndarray]


def evaluate(
    model: Model,
    task: Task,
    suites: Sequence[Suite],
    *,
    plan: Plan | None = None,
    folder: Path | None = None,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Score suites on one task and model.

    With a folder result.json and result.safetensors are written there; finished parts are kept on
    the way, and a repeated call goes on from them. A cache keeps what depends on no SAE, for other
    runs too. Raises SageError for an SAE that does not fit the model, a task that its tokenizer
    cannot run, too few prompts.
    """
    plan = plan or Plan()
    started, watch = (
        datetime.now(UTC).isoformat(timespec="seconds"),
        Stopwatch(lambda: model.counter.tokens),
    )
    check_names(suites)
    suites = [_on_model(suite, model) for suite in suites]
    with watch.stage(WHOLE), watch.stage("prompts"):
        task, splits = prepare(
            model,
            task,
            seed=plan.seed,
            test=plan.prompts,
            discover=plan.discover,
            fit=plan.fit,
            tried=plan.tried,
        )
    identity = prompts_digest(splits)
    depends = what_decides(model, task, identity, seed=plan.seed)
    recalls = _recalls(model, task, depends, cache)
    checkpoints = Checkpoints(
        folder and folder / ".unfinished", digest(__version__, *depends, plan)[:16]
    )
    with watch.stage(WHOLE):
        with watch.stage("gate"):
            gate = _gate(model, task, splits, recalls.task)
        with watch.stage("discovery"):
            discovery = (
                _discovery(model, task, splits, plan, checkpoints, recalls.task, progress)
                if gate.passed
                else None
            )
        features, scored = (
            _score(
                model, task, splits, discovery, suites, plan, checkpoints, recalls, watch, progress
            )
            if discovery
            else ([], [])
        )
        there = (
            {contrast for contrast, section in discovery.sections.items() if section.nodes}
            if discovery
            else set[str]()
        )
        infos = (
            [_suite(model, suite, splits, scored, there, recalls.model) for suite in suites]
            if discovery
            else []
        )
    result = Result(
        task=TaskInfo(task.name, task.source, identity),
        model=ModelInfo(
            model.name, model.revision, model.backend, model.dtype, model.anatomy.d_model
        ),
        run=_run(model, splits, plan, started, watch),
        gate=gate,
        sections=_sections(discovery),
        suites=infos,
        discovery=_node_rows(discovery),
        rows=[*(row for found in scored for row in found.rows), *_summaries(suites, scored, there)],
        features=features,
        notes=_notes(gate, model),
    )
    arrays = {name: array for found in scored for name, array in found.arrays.items()}
    if folder is not None:
        save(result, folder, arrays=arrays)
        checkpoints.clear()
    return Evaluation(result, arrays)


def prepare(
    model: Model,
    task: Task,
    *,
    seed: int = 0,
    test: int = 500,
    discover: int = 200,
    fit: int | None = None,
    tried: int = FIT_PAIRS,
) -> Prepared:
    """Drop what the tokenizer cannot carry and split the rest; BadTask where too little is left."""
    usable = audit(task, model.tokenizer, bos=model.bos).task
    return Prepared(
        usable,
        split(
            usable, model.tokenize, seed=seed, test=test, discover=discover, fit=fit, fit_pairs=tried
        ),
    )


def measure_gate(model: Model, task: Task, prompts: Sequence[Tokenized]) -> Gate:
    """Whether the model does the task: how often it prefers the answer to the foil, and the mean
    metric."""
    (metric,) = model.measure([{}], prompts, find_metric(task.metric))
    accuracy = float((metric > 0).float().mean())
    return Gate(accuracy, float(metric.mean()), len(prompts), task.gate, accuracy >= task.gate)


def _on_model(suite: Suite, model: Model) -> Suite:
    """The suite with its weights where the model's are; BadFile for an SAE of another width."""
    for sae in suite.saes.values():
        check_fits(sae, model.anatomy.d_model)
    return Suite(suite.id, {hook: sae.to(model.device) for hook, sae in suite.saes.items()})


def _recalls(model: Model, task: Task, depends: tuple[object, ...], cache: Cache | None) -> Recalls:
    """What earlier runs kept of the model, and of the task on it."""
    name = Path(model.name).name
    return Recalls(
        Recall(cache, name, how_run(model), model.device),
        Recall(cache, f"{task.name} on {name}", depends, model.device),
    )


def _gate(model: Model, task: Task, splits: Splits, recall: Recall) -> Gate:
    return recall.once("gate", make=lambda: measure_gate(model, task, splits.fit[:GATE_PROMPTS]))


def _discovery(
    model: Model,
    task: Task,
    splits: Splits,
    plan: Plan,
    checkpoints: Checkpoints,
    recall: Recall,
    progress: Progress,
) -> Discovery:
    def find() -> dict[str, Any]:
        settings = DiscoverySettings(seed=plan.seed)
        return discover(model, task, splits, settings=settings, progress=progress).to_dict()

    part = checkpoints.load("discovery")
    found = part.data if part else recall.once("discovery", make=find)
    checkpoints.save("discovery", found)
    return Discovery.from_dict(found)


def _score(
    model: Model,
    task: Task,
    splits: Splits,
    discovery: Discovery,
    suites: Sequence[Suite],
    plan: Plan,
    checkpoints: Checkpoints,
    recalls: Recalls,
    watch: Stopwatch,
    progress: Progress,
) -> tuple[list[FeatureInfo], list[Scored]]:
    """The ground-truth features, and every contrast of every suite; what suites share is read once,
    and only if one needs it."""
    width, metric = model.anatomy.d_model, find_metric(task.metric)
    k_max = largest_k(width, across_models=plan.across_models)
    ks = tuple(k for k in KS if plan.largest_k is None or k <= max(k_max, plan.largest_k))
    settings = Settings(metric, k_max, ks, plan.seed, plan.levels)
    names = {suite.id: f"{suite.id} {suite_digest(suite)}" for suite in suites}
    parts = {
        (contrast, suite.id): checkpoints.load(f"{contrast} {names[suite.id]}")
        for contrast in discovery.sections
        for suite in suites
    }
    sources = {
        model.anatomy.source(node)
        for section in discovery.sections.values()
        for node in section.nodes
    }
    hooks = [hook for hook in sources if any(suite.at(hook) for suite in suites)]
    known = checkpoints.load("features")
    shared: Shared | None = None
    if known is None or None in parts.values():
        with watch.stage("features"):
            shared = gather_shared(
                model,
                task,
                splits,
                discovery.sections.values(),
                hooks=hooks,
                seed=plan.seed,
                recalls=recalls,
            )
    features = (
        _features(shared, discovery)
        if shared
        else [FeatureInfo(**one) for one in known.data]
        if known
        else []
    )
    checkpoints.save("features", [asdict(one) for one in features])
    scored: list[Scored] = []
    for contrast, section in discovery.sections.items():
        node_sets: NodeSets | None = None
        for suite in suites:
            part = parts[contrast, suite.id]
            if part is None:
                with watch.stage("scores"):
                    node_sets = node_sets or NodeSets(
                        model,
                        gather(
                            model,
                            task,
                            splits,
                            section,
                            shared=shared,
                            hooks=hooks,
                            seed=plan.seed,
                            recalls=recalls,
                        ),
                        settings,
                        recalls.task,
                    )
                    part = to_part(
                        score_suite(
                            node_sets,
                            suite,
                            also=plan.also,
                            groups=plan.groups,
                            among=plan.controls,
                        )
                    )
                checkpoints.save(f"{contrast} {names[suite.id]}", *part)
            scored.append(from_part(part))
            progress(f"{task.name}: score", len(scored), len(parts))
    return features, scored


def _features(shared: Shared, discovery: Discovery) -> list[FeatureInfo]:
    """What the supervised features of every attribute are at every node of every section."""
    found: list[FeatureInfo] = []
    for contrast, section in discovery.sections.items():
        for node in section.nodes:
            own, plain = shared.supervised.fits[node], shared.supervised.additive(node)
            fit = "coupled" if own.additive else "additive"
            found += [
                FeatureInfo(
                    contrast,
                    str(node),
                    column.name,
                    len(column.keys),
                    share,
                    shared.supervised.unexplained[node],
                    fit,
                )
                for column, share in zip(plain.columns, plain.carried, strict=True)
            ]
    return found


def _summaries(
    suites: Sequence[Suite], scored: Sequence[Scored], there: Collection[str]
) -> list[Row]:
    """Every dictionary's components, control and sage score over all contrasts, suite by suite;
    reach is over those that live anywhere."""
    rows: list[Row] = []
    for suite in suites:
        own = [found for found in scored if found.suite == suite.id]
        shares = [found.reach for found in own if found.contrast in there]
        reach = float(np.mean(shares)) if shares else 0.0
        for name in dict.fromkeys(name for found in own for name in found.components):
            summary = summarise({found.contrast: found.components.get(name, {}) for found in own})
            rows += summary_rows(summary, suite=suite.id, dictionary=name, reach=reach)
    return rows


def _notes(gate: Gate, model: Model) -> list[str]:
    if gate.passed:
        return []
    measured = f"accuracy {gate.accuracy:.3f} on {gate.n} prompts is below {gate.threshold}"
    return [f"{model.name} does not do this task: {measured}. Nothing was scored."]


def _sections(discovery: Discovery | None) -> list[SectionInfo]:
    """Every section and its groups, with the summed statistic of their nodes."""
    found: list[SectionInfo] = []
    for contrast, section in (discovery.sections if discovery else {}).items():
        sets = {
            contrast: section.nodes,
            **{f"{contrast}/{name}": nodes for name, nodes in section.groups.items()},
        }
        found += [
            SectionInfo(
                name,
                contrast,
                [str(node) for node in nodes],
                float(sum(section.statistic[node] for node in nodes)),
            )
            for name, nodes in sets.items()
        ]
    return found


def _node_rows(discovery: Discovery | None) -> list[NodeRow]:
    """One row per candidate node, contrast by contrast."""
    rows: list[NodeRow] = []
    for contrast, finding in (discovery.findings if discovery else {}).items():
        rows += [
            NodeRow(
                contrast=contrast,
                node=str(effect.node),
                attribution=effect.attribution,
                effect=effect.effect,
                statistic=effect.statistic,
                null=finding.null,
                kept=effect.kept,
            )
            for effect in finding.evidence
        ]
    return rows


def _suite(
    model: Model,
    suite: Suite,
    splits: Splits,
    scored: Sequence[Scored],
    there: Collection[str],
    recall: Recall,
) -> SuiteInfo:
    """What a suite is, measured on the tokens of `fit`, and how much of each section it reaches, of
    those that have nodes."""
    own = [found for found in scored if found.suite == suite.id]
    prompts = splits.fit[:GATE_PROMPTS]
    streams = read_streams(model, suite.hooks, prompts, recall=recall)
    saes = [_sae(model, sae, streams[hook], prompts) for hook, sae in suite.saes.items()]
    l0 = next((dict(found.l0) for found in own if found.l0), {})
    return SuiteInfo(
        suite.id,
        saes,
        {found.contrast: found.reach for found in own if found.contrast in there},
        l0,
    )


def _sae(
    model: Model,
    sae: SAE,
    stream: Float[Tensor, "prompt position d_model"],
    prompts: Sequence[Tokenized],
) -> SAEInfo:
    found = measure_on(model, sae, stream, prompts)
    return SAEInfo(sae.id, sae.encoder.name, str(sae.hook), sae.width, found.l0, found.fvu)


def _run(model: Model, splits: Splits, plan: Plan, started: str, watch: Stopwatch) -> RunInfo:
    """How it was run; `forwards` is tokens run through the model over the tokens of the test
    prompts."""
    test = max(1, sum(len(pair.clean.ids) for pairs in splits.test.values() for pair in pairs))
    stages = [
        StageInfo(name, lap.seconds, lap.tokens / test)
        for name, lap in watch.laps.items()
        if name != WHOLE
    ]
    whole = watch.laps[WHOLE]
    return RunInfo(
        __version__,
        plan.seed,
        dict(splits.counts),
        started,
        whole.seconds,
        whole.tokens / test,
        model.batch_size,
        stages,
    )
