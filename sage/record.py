"""What a run found, as a result: sections, suites, features, rows, and how it was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from sage.circuits.roles import HeadRole
from sage.discovery import Discovery
from sage.models.base import Model
from sage.nodes import EVERYWHERE
from sage.preparation import GATE_PROMPTS
from sage.result import (
    FeatureInfo,
    Gate,
    HeadInfo,
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
)
from sage.run import WHOLE, Plan
from sage.saes.residual_tokens import measure_on
from sage.saes.suite import Suite
from sage.scores.data import SharedData
from sage.scores.score import versions
from sage.scores.suite import SuiteScores
from sage.scores.summary import summary_rows
from sage.stopwatch import Stopwatch
from sage.store.key import LIBRARIES, prompts_digest, suite_digest
from sage.task.splits import Splits
from sage.task.task import Task
from sage.version import __version__


class Findings(NamedTuple):
    """What the steps of the main path came to; below the gate `by_suite` is empty.

    It holds what every contrast of every suite came to, by contrast and suite.
    """

    task: Task
    splits: Splits
    gate: Gate
    discovery: Discovery | None
    shared: SharedData | None
    by_suite: Mapping[tuple[str, str], SuiteScores]
    roles: Sequence[HeadRole] = ()

    @property
    def parts(self) -> list[SuiteScores]:
        """What every contrast of every suite came to."""
        return list(self.by_suite.values())

    def has_nodes(self, contrast: str) -> bool:
        """Whether a contrast lives anywhere."""
        return self.discovery is not None and bool(self.discovery.sections[contrast].nodes)

    def of_suite(self, suite: str) -> list[SuiteScores]:
        """What every contrast of a suite came to."""
        return [part for (_, name), part in self.by_suite.items() if name == suite]


def make_result(
    model: Model,
    suites: Sequence[Suite],
    plan: Plan,
    findings: Findings,
    *,
    started: str,
    watch: Stopwatch,
) -> Result:
    """The result of a run."""
    rows = [row for part in findings.parts for row in part.rows]
    return Result(
        task=TaskInfo(findings.task.name, findings.task.source, prompts_digest(findings.splits)),
        model=model_info(model),
        run=_run(model, findings.splits, plan, started, watch),
        gate=findings.gate,
        sections=_sections(findings.discovery),
        suites=[_suite(model, suite, findings) for suite in suites] if findings.discovery else [],
        discovery=_node_rows(findings.discovery),
        rows=[*rows, *(row for suite in suites for row in _summary(suite.id, findings, plan.seed))],
        features=_features(findings),
        heads=_heads(findings),
        notes=_notes(model, plan, findings),
        moved=[latent for part in findings.parts for latent in part.moved],
    )


def model_info(model: Model) -> ModelInfo:
    """Which model was run."""
    return ModelInfo(model.name, model.revision, model.backend, model.dtype, model.anatomy.d_model)


def run_info(model: Model, plan: Plan) -> RunInfo:
    """How it is run, as far as that is known before anything is."""
    return RunInfo(
        sage=__version__,
        seed=plan.seed,
        prompts={},
        started="",
        seconds=0.0,
        forwards=0.0,
        batch_size=model.batch_size,
        plan=plan.facts,
        device=model.device,
        libraries={library: version(library) for library in LIBRARIES},
        scores=versions(),
    )


def _summary(suite: str, findings: Findings, seed: int) -> list[Row]:
    parts = findings.of_suite(suite)
    reached = [part.scores.reach for part in parts if findings.has_nodes(part.scores.contrast)]
    reach = float(np.mean(reached)) if reached else 0.0
    contrasts = [part.scores for part in parts]
    return summary_rows(contrasts, suite=suite, reach=reach, seed=seed) if parts else []


def _suite(model: Model, suite: Suite, findings: Findings) -> SuiteInfo:
    """The suite with what its SAEs do to the tokens of the task's fit prompts, its reach by
    contrast, and the L0 of its controls."""
    prompts = findings.splits.fit[:GATE_PROMPTS]
    streams = model.read([hook.at(EVERYWHERE) for hook in suite.hooks], prompts)
    saes: list[SAEInfo] = []
    for hook, sae in suite.saes.items():
        fidelity = measure_on(model, sae, streams[hook.at(EVERYWHERE)], prompts)
        name = sae.encoder.name
        saes.append(SAEInfo(sae.id, name, str(sae.hook), sae.width, fidelity.l0, fidelity.fvu))
    parts = findings.of_suite(suite.id)
    reach = {part.scores.contrast: part.scores.reach for part in parts}
    names = dict.fromkeys(name for part in parts for name in part.l0)
    l0 = {name: float(np.mean([p.l0[name] for p in parts if name in p.l0])) for name in names}
    return SuiteInfo(suite.id, saes, reach, l0, suite_digest(suite))


def _sections(discovery: Discovery | None) -> list[SectionInfo]:
    """Every section and its groups, with the summed statistic of their nodes."""
    sections: list[SectionInfo] = []
    for contrast, section in (discovery.sections if discovery else {}).items():
        places = {contrast: section.nodes}
        places |= {f"{contrast}/{name}": nodes for name, nodes in section.groups.items()}
        for name, nodes in places.items():
            effect = float(sum(section.statistic[node] for node in nodes))
            sections.append(SectionInfo(name, contrast, [str(node) for node in nodes], effect))
    return sections


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


def _features(findings: Findings) -> list[FeatureInfo]:
    """What the supervised features of every attribute are at every node of every section, those
    that are left out among them."""
    if findings.discovery is None or findings.shared is None:
        return []
    fits = findings.shared.fitted.supervised.fits
    features: list[FeatureInfo] = []
    for contrast, section in findings.discovery.sections.items():
        for node in section.nodes:
            fit = fits[node]
            for column, share in zip(fit.additive.columns, fit.additive.carried, strict=True):
                features.append(
                    FeatureInfo(
                        contrast,
                        str(node),
                        column.name,
                        len(column.keys),
                        share,
                        fit.unexplained,
                        "coupled" if fit.coupled else "additive",
                        fit.nuisance_unexplained,
                        fit.has_features,
                    )
                )
    return features


def _heads(findings: Findings) -> list[HeadInfo]:
    """What every confirmed head does, and which sections it is in."""
    sections = findings.discovery.sections if findings.discovery else {}
    return [
        HeadInfo(
            node=str(role.node),
            contrasts=[name for name, section in sections.items() if role.node in section.nodes],
            attends=dict(role.attends),
            direct=role.direct,
            stderr=role.stderr,
            n=role.n,
        )
        for role in findings.roles
    ]


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
    return replace(
        run_info(model, plan),
        prompts=dict(splits.counts),
        started=started,
        seconds=whole.seconds,
        forwards=whole.tokens / test,
        stages=stages,
    )


def _notes(model: Model, plan: Plan, findings: Findings) -> list[str]:
    """What a reader of the numbers must know."""
    gate = findings.gate
    if not gate.passed:
        measured = f"accuracy {gate.accuracy:.3f} on {gate.n} prompts is below {gate.threshold}"
        return [f"{model.name} does not do this task: {measured}. Nothing was scored."]
    notes = [f"plan {plan.name}: {saved}" for saved in plan.savings()]
    notes += findings.splits.notes()
    if findings.shared is not None:
        supervised = findings.shared.fitted.supervised
        notes += [
            f"{nuisance} is left out of the fit: it explains more than half of {attribute}"
            for nuisance, attribute in supervised.aliased.items()
        ]
        bare = [str(node) for node, fit in supervised.fits.items() if not fit.has_features]
        if bare:
            notes.append(f"no supervised feature at {', '.join(bare)}: left out for all alike")
    return notes
