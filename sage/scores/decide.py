"""What is decided on one node set, on pairs of fit, for every dictionary alike.

Method, sections 5.2 and 5.4.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from sage.dictionaries.edits import Edited
from sage.dictionaries.supervised import FOLDS, FeatureDictionary, fit_features
from sage.scores.approximation import why_undefined
from sage.scores.control import Edits, control_statistic, make_aim, make_edits, run_edits
from sage.scores.geometry import targets_at
from sage.scores.levels import ANY, Decisions, Form
from sage.scores.node_set import NodeSet

# Of E|m|: a ground truth that moves the metric by less leaves nothing to control.
MIN_EFFECT = 0.02
# Of the supervised dictionary's own T2, cross-validated on fit: below it no dictionary has a score.
MIN_SUPERVISED = 0.2
# Success leaves too little room above what nothing does: the graded form then.
MOST_UNCHANGED = 0.5


def decide(node_set: NodeSet) -> Decisions:
    """Which scores are defined here, and in which form control is."""
    if "decisions" not in node_set.memo:
        node_set.memo["decisions"] = _decide(node_set)
    return node_set.memo["decisions"]


def _decide(node_set: NodeSet) -> Decisions:
    decide = node_set.decide.behaviour
    unchanged = float(decide.unchanged.mean())
    effect = float(decide.effect.mean())
    form = _form(node_set, unchanged)
    supervised = _cross_validated_control(node_set, form) if effect else 0.0
    return Decisions(
        why_undefined(decide),
        _why_no_control(node_set, effect, supervised),
        None if targets_at(node_set) else "no node carries an attribute that the contrast changes",
        form,
        unchanged,
        effect,
        supervised,
    )


def _form(node_set: NodeSet, unchanged: float) -> Form:
    """Success where it leaves room above what nothing does; graded for ordinal attributes with
    answer sets."""
    prompts = node_set.data.decide.base.prompts
    sets = any(len(prompt.answers) > 1 or len(prompt.foils) > 1 for prompt in prompts)
    if sets and set(node_set.data.changed) & set(node_set.data.shared.ordinal):
        return "graded"
    return "success" if unchanged <= MOST_UNCHANGED else "graded"


def _why_no_control(node_set: NodeSet, effect: float, supervised: float) -> str | None:
    size = float(np.abs(node_set.decide.behaviour.clean.metric).mean())
    least = max(MIN_EFFECT * size, _irrelevant_effect(node_set))
    if effect < least or not effect:
        return (
            f"patching these nodes moves the metric by {effect:.3g} in the mean, less than "
            f"{least:.2g}"
        )
    if supervised < MIN_SUPERVISED:
        return (
            f"the supervised features themselves, cross-validated, come to {supervised:.2f}, "
            f"less than {MIN_SUPERVISED}"
        )
    return None


def _irrelevant_effect(node_set: NodeSet) -> float:
    """E|m_clean - m_gt| where only an irrelevant attribute changes; 0 without such pairs."""
    pairs = node_set.data.irrelevant
    if pairs is None:
        return 0.0
    return float(node_set.behaviour("irrelevant", pairs).effect.mean())


def _cross_validated_control(node_set: NodeSet, form: Form) -> float:
    """T2 of the supervised features on pairs of fit, each pair by features fitted without its
    two prompts."""
    base, target = node_set.data.decide
    texts = [(p.prompt.text, q.prompt.text) for p, q in zip(base.prompts, target.prompts)]
    generator = torch.Generator().manual_seed(node_set.settings.seed)
    folds = (torch.randperm(len(texts), generator=generator) % FOLDS).tolist()
    parts: list[tuple[list[int], Edits]] = []
    for fold in range(FOLDS):
        rows = [row for row, own in enumerate(folds) if own == fold]
        if not rows:
            continue
        features = _features_without(node_set, {text for row in rows for text in texts[row]})
        aim = make_aim(features, node_set.needs, unbounded=False)
        held, labels = base.select(rows), target.select(rows).prompt_labels
        parts.append((rows, make_edits(features, held, labels, aim, masks={ANY: None})))
    edits = {key: _joined([(rows, own[key]) for rows, own in parts]) for key in parts[0][1]}
    watched, answers = node_set.watched("decide"), node_set.data.shared.answers
    control = run_edits(node_set.model, edits, node_set.decide, watched, answers)
    columns = control.columns(form, (ANY,))
    return float(control_statistic(columns.values.mean(0, keepdims=True))[0])


def _features_without(node_set: NodeSet, texts: Collection[str]) -> FeatureDictionary:
    shared = node_set.data.shared
    kept = [n for n, p in enumerate(node_set.fit.prompts) if p.prompt.text not in texts]
    if len(kept) == len(node_set.fit):
        return node_set.data.supervised
    return fit_features(
        node_set.fit.select(kept),
        attributes=shared.attributes,
        within=shared.within,
        nuisance=shared.nuisance,
        seed=node_set.settings.seed,
    )


def _joined(parts: Sequence[tuple[list[int], Edited]]) -> Edited:
    """Edits of different prompts as one, each in its prompt's row."""
    order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
    edits = [edit for _, edit in parts]
    return Edited(
        {node: torch.cat([e.values[node] for e in edits])[order] for node in edits[0].values},
        torch.cat([e.picks for e in edits])[order],
        torch.cat([e.distance for e in edits])[order],
        torch.cat([e.start for e in edits])[order],
        {},
    )
