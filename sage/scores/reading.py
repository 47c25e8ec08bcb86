"""Reading and fitting what contrasts are scored on: once for all suites, and what no contrast
changes once for all contrasts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sage.dictionaries.activations import Activations, Moments, moments, read
from sage.dictionaries.supervised import FeatureDictionary, fit_features
from sage.models.base import Model
from sage.nodes import Node, Section
from sage.scores.data import ContrastData, Runs
from sage.scores.isolation import Decoder, fit_decoder
from sage.store.recall import NOTHING, Recall
from sage.task.splits import Splits, interleave
from sage.task.task import Task
from sage.task.tokens import TokenizedPair


class Recalls(NamedTuple):
    """What earlier runs kept of the model alone, whatever the task, and of the task on this model."""

    model: Recall
    task: Recall


FORGETFUL = Recalls(NOTHING, NOTHING)


class Fitted(NamedTuple):
    """What is fitted on the split `fit`."""

    supervised: FeatureDictionary
    decoder: Decoder
    moments: Moments


class Shared(NamedTuple):
    """What does not depend on the contrast, at the nodes of all sections.

    The split `fit`, the features and moments fitted on it, and pairs of it in which only an
    irrelevant attribute changes: as many as a contrast is decided on, equally many of each
    attribute.
    """

    fit: Activations
    irrelevant: Runs | None
    supervised: FeatureDictionary
    decoder: Decoder
    moments: Moments


def gather_shared(
    model: Model,
    task: Task,
    splits: Splits,
    sections: Iterable[Section],
    *,
    hooks: Collection[Node] | None = None,
    seed: int = 0,
    recalls: Recalls = FORGETFUL,
) -> Shared:
    """Read and fit, once for all contrasts, what does not depend on the contrast; `hooks` are the
    streams that suites have SAEs at."""
    nodes = sorted({node for section in sections for node in section.nodes})
    pairs = interleave(splits.fit_null, most=max(map(len, splits.fit_pairs.values()), default=0))
    fit = read(model, nodes, splits.fit, hooks=hooks, recall=recalls.model)

    def fitted() -> Fitted:
        supervised = fit_features(fit, attributes=task.attributes, within=task.within, seed=seed)
        return Fitted(supervised, fit_decoder(supervised, fit, task), moments(fit))

    known = recalls.task.once("features", [str(node) for node in nodes], make=fitted)
    return Shared(fit, _runs(model, nodes, pairs, [], recalls) if pairs else None, *known)


def gather(
    model: Model,
    task: Task,
    splits: Splits,
    section: Section,
    *,
    shared: Shared | None = None,
    hooks: Collection[Node] | None = None,
    seed: int = 0,
    recalls: Recalls = FORGETFUL,
) -> ContrastData:
    """Everything that one contrast is scored on: what is shared, and the activations of its own
    pairs."""
    contrast, nodes = section.contrast, section.nodes
    shared = shared or gather_shared(
        model, task, splits, [section], hooks=hooks, seed=seed, recalls=recalls
    )
    return ContrastData(
        section=section,
        named=task.attributes_of(contrast),
        fit=shared.fit.on(nodes),
        tried=_runs(model, nodes, splits.fit_pairs[contrast], hooks, recalls),
        irrelevant=shared.irrelevant and shared.irrelevant.on(nodes),
        test=_runs(model, nodes, splits.test[contrast], hooks, recalls),
        supervised=shared.supervised,
        decoder=shared.decoder,
        moments=shared.moments,
        within=task.within,
    )


def _runs(
    model: Model,
    nodes: Sequence[Node],
    pairs: Sequence[TokenizedPair],
    hooks: Collection[Node] | None,
    recalls: Recalls,
) -> Runs:
    sides = ([pair.clean for pair in pairs], [pair.counterfactual for pair in pairs])
    return Runs(*(read(model, nodes, side, hooks=hooks, recall=recalls.model) for side in sides))
