"""The supervised features' own control, cross-validated: what labels can bring about at all.

Method, section 5.4. Each pair of fit is edited by features that were fitted without its two
prompts; where these come to little, no dictionary has a control here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch

from sage.dictionaries.activations import Activations
from sage.dictionaries.cross_validation import FOLDS
from sage.dictionaries.design import design_columns
from sage.dictionaries.edits import Edited
from sage.dictionaries.supervised import SUPERVISED, FeatureDictionary, fit_features
from sage.scores.control import Along, Edits, control_statistic, make_aim, make_edits, run_edits
from sage.scores.levels import ANY, Form
from sage.scores.node_set import NodeSet
from sage.scores.score import at_means


def cross_validated_control(node_set: NodeSet, form: Form) -> float:
    """T2 of the supervised features on pairs of fit, each pair by features fitted without its two
    prompts.

    A pair with a value that only its own fold has is left as it is: nothing is known of it.
    """
    base, target = node_set.data.decide
    texts = [
        (p.prompt.text, q.prompt.text) for p, q in zip(base.prompts, target.prompts, strict=True)
    ]
    generator = torch.Generator().manual_seed(node_set.settings.seed)
    folds = torch.randperm(len(texts), generator=generator) % FOLDS
    parts: list[_HeldOut] = []
    for fold in folds.unique().tolist():
        rows = (folds == fold).nonzero().flatten().tolist()
        parts += _held_out(node_set, rows, {text for row in rows for text in texts[row]})
    edits = {key: _joined(parts, key) for key in parts[0].edits}
    watched, answers = node_set.watched("decide"), node_set.data.shared.answers
    outcomes = run_edits(node_set.model, {SUPERVISED: edits}, node_set.decide, watched, answers)
    return at_means(outcomes[SUPERVISED].columns(form, (ANY,)), control_statistic)


class _HeldOut(NamedTuple):
    """Edits of the pairs in these rows."""

    rows: list[int]
    edits: Edits


def _held_out(node_set: NodeSet, rows: list[int], texts: Collection[str]) -> list[_HeldOut]:
    """Edits of pairs by features fitted without these texts."""
    base, target = node_set.data.decide
    kept = [n for n, p in enumerate(node_set.fit.prompts) if p.prompt.text not in texts]
    features, known = node_set.data.supervised, rows
    if len(kept) < len(node_set.fit):
        fit = node_set.fit.select(kept)
        features, known = _refit(node_set, fit), _with_known_values(node_set, fit, rows)
    aim = make_aim(features, node_set.needs, unbounded=False)
    parts: list[_HeldOut] = []
    if known:
        labels = target.select(known).prompt_labels
        (edits,) = make_edits(features, base.select(known), labels, aim, along=[Along({ANY: None})])
        parts.append(_HeldOut(known, edits))
    if unknown := [row for row in rows if row not in known]:
        untouched = _untouched(base.select(unknown))
        parts.append(_HeldOut(unknown, {(ANY, budget): untouched for budget in aim.names}))
    return parts


def _refit(node_set: NodeSet, fit: Activations) -> FeatureDictionary:
    shared = node_set.data.shared
    return fit_features(
        fit,
        attributes=shared.attributes,
        within=shared.within,
        nuisance=shared.nuisance,
        seed=node_set.settings.seed,
    )


def _with_known_values(node_set: NodeSet, fit: Activations, rows: Sequence[int]) -> list[int]:
    """The pairs all of whose values, nested ones as chains, some prompt of the fit has."""
    shared = node_set.data.shared
    columns = design_columns(shared.attributes, shared.within, fit.prompt_labels)
    sides = [run.prompt_labels for run in node_set.data.decide]
    keys = [(column, column.keys_of(labels)) for column in columns for labels in sides]
    return [row for row in rows if all(own[row] in column.keys for column, own in keys)]


def _untouched(base: Activations) -> Edited:
    nothing = torch.zeros(len(base))
    return Edited(dict(base.values), nothing.long(), nothing, nothing, {})


def _joined(parts: Sequence[_HeldOut], key: tuple[float, str]) -> Edited:
    """Edits of different pairs as one, each in its pair's row."""
    order = torch.tensor([row for part in parts for row in part.rows]).argsort()
    edits = [part.edits[key] for part in parts]
    return Edited(
        {node: torch.cat([e.values[node] for e in edits])[order] for node in edits[0].values},
        torch.cat([edit.picks for edit in edits])[order],
        torch.cat([edit.distance for edit in edits])[order],
        torch.cat([edit.start for edit in edits])[order],
        {},
    )
