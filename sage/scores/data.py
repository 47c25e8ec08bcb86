"""What one contrast is scored on.

Everything here is read or fitted once and serves every suite and control (method, sections 1, 3
and 5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sage.dictionaries.activations import Activations, Labels, Moments, Reader, moments, read
from sage.dictionaries.supervised import FeatureDictionary, fit_features
from sage.nodes import Node, Section
from sage.scores.isolation import Decoder, fit_decoder
from sage.task.declaration import TEMPLATE
from sage.task.metric import Metric, find_metric
from sage.task.splits import Splits, interleave
from sage.task.task import Task
from sage.task.tokens import TokenizedPair

# Of the pairs of `fit`: an attribute whose label differs in fewer has not changed.
MIN_CHANGED = 0.01


class PairRuns(NamedTuple):
    """Clean activations of prompts p and of their counterfactuals p', row by row."""

    base: Activations
    target: Activations

    @property
    def labels(self) -> Labels:
        """All that an edit may know of p'."""
        return self.target.prompt_labels

    def on(self, nodes: Collection[Node]) -> PairRuns:
        """The same pairs on some of the nodes."""
        return PairRuns(self.base.on(nodes), self.target.on(nodes))


class Answers(NamedTuple):
    """How what a model says is read: the task's metric, and the tokens among which it chooses."""

    metric: Metric
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class FittedFeatures:
    """What is fitted on the split `fit`, whatever the contrast."""

    supervised: FeatureDictionary
    decoder: Decoder
    moments: Moments


@dataclass(frozen=True)
class SharedData:
    """What does not depend on the contrast, at the nodes of all sections.

    The split `fit` and what was fitted on it; pairs of it in which only an irrelevant attribute
    changes, equally many of each; prompts of test beyond those of the pairs, to detect on.
    """

    fit: Activations
    irrelevant: PairRuns | None
    detect: Activations | None
    fitted: FittedFeatures
    answers: Answers
    within: Mapping[str, str]
    ordinal: tuple[str, ...]
    nuisance: tuple[str, ...]
    attributes: tuple[str, ...]


@dataclass(frozen=True)
class ContrastData:
    """What one contrast is scored on, at all nodes of its section that have supervised features.

    `decide` are pairs of fit, on which everything is decided, `test` those that are reported.
    `changed` are the attributes whose label differs in at least 1 % of the pairs of fit.
    """

    section: Section
    shared: SharedData
    decide: PairRuns
    test: PairRuns
    changed: tuple[str, ...] = field(default=())

    @property
    def fit(self) -> Activations:
        """The prompts of `fit` at the section's nodes."""
        return self.shared.fit.on(self.section.nodes)

    @property
    def irrelevant(self) -> PairRuns | None:
        """Pairs of fit in which only an irrelevant attribute changes; None where there are none."""
        return self.shared.irrelevant and self.shared.irrelevant.on(self.section.nodes)

    @property
    def supervised(self) -> FeatureDictionary:
        return self.shared.fitted.supervised

    @property
    def moments(self) -> Moments:
        return self.shared.fitted.moments

    def on(self, nodes: Collection[Node]) -> ContrastData:
        """The same on some of the nodes."""
        return replace(
            self,
            section=self.section.restrict(nodes),
            decide=self.decide.on(nodes),
            test=self.test.on(nodes),
        )


def read_shared(
    model: Reader,
    task: Task,
    splits: Splits,
    sections: Iterable[Section],
    *,
    hooks: Collection[Node] | None = None,
    remember: Callable[[Callable[[], FittedFeatures]], FittedFeatures] = lambda fit: fit(),
    seed: int = 0,
) -> SharedData:
    """Read and fit, once for all contrasts, what does not depend on the contrast.

    `hooks` are the streams that suites have SAEs at. `remember` may know what the fit would come
    to.
    """
    nodes = sorted({node for section in sections for node in section.nodes})
    most = max(map(len, splits.fit_pairs.values()), default=0)
    pairs = interleave(splits.fit_null, most=most)
    fit = read(model, nodes, splits.fit, hooks=hooks)
    return SharedData(
        fit=fit,
        irrelevant=read_pairs(model, nodes, pairs, hooks=[]) if pairs else None,
        detect=read(model, nodes, splits.detect, hooks=hooks) if splits.detect else None,
        fitted=remember(lambda: fit_all(task, fit, seed=seed)),
        answers=answers_of(task, splits),
        within=task.within,
        ordinal=tuple(task.ordinal),
        nuisance=nuisances(task),
        attributes=tuple(task.attributes),
    )


def fit_all(task: Task, fit: Activations, *, seed: int = 0) -> FittedFeatures:
    """The supervised features, the decoders of irrelevant attributes, and the moments."""
    supervised = fit_features(
        fit, attributes=task.attributes, within=task.within, nuisance=nuisances(task), seed=seed
    )
    return FittedFeatures(supervised, fit_decoder(supervised, fit, task), moments(fit))


def nuisances(task: Task) -> tuple[str, ...]:
    """What varies beside the attributes: irrelevant attributes and the template."""
    return tuple(dict.fromkeys((*task.irrelevant, TEMPLATE)))


def answers_of(task: Task, splits: Splits) -> Answers:
    """The task's metric, and every answer and foil that prompts of its splits have."""
    tokens = {token for p in splits.prompts() for token in (*p.answers, *p.foils)}
    return Answers(find_metric(task.metric), tuple(sorted(tokens)))


def read_contrast(
    model: Reader,
    splits: Splits,
    section: Section,
    shared: SharedData,
    *,
    hooks: Collection[Node] | None = None,
) -> ContrastData:
    """Everything that one contrast is scored on: what is shared, and the activations of its own
    pairs, at the nodes that have supervised features."""
    nodes = shared.fitted.supervised.with_features(section.nodes)
    contrast = section.contrast
    decide = splits.fit_pairs[contrast]
    return ContrastData(
        section=section.restrict(nodes),
        shared=shared,
        decide=read_pairs(model, nodes, decide, hooks=hooks),
        test=read_pairs(model, nodes, splits.test[contrast], hooks=hooks),
        changed=changed_attributes(decide, shared.attributes),
    )


def changed_attributes(
    pairs: Sequence[TokenizedPair], attributes: Sequence[str]
) -> tuple[str, ...]:
    """The attributes whose label differs in at least 1 % of the pairs."""

    def share(name: str) -> float:
        differ = [
            pair.clean.prompt.labels[name] != pair.counterfactual.prompt.labels[name]
            for pair in pairs
        ]
        return sum(differ) / len(differ)

    return tuple(name for name in attributes if share(name) >= MIN_CHANGED)


def read_pairs(
    model: Reader,
    nodes: Sequence[Node],
    pairs: Sequence[TokenizedPair],
    *,
    hooks: Collection[Node] | None,
) -> PairRuns:
    """The clean activations of both prompts of every pair."""
    base = read(model, nodes, [pair.clean for pair in pairs], hooks=hooks)
    return PairRuns(base, read(model, nodes, [pair.counterfactual for pair in pairs], hooks=hooks))
