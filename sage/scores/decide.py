"""What is decided on one node set, on pairs of fit, for every dictionary alike.

Method, sections 5.2 and 5.4.
"""

from __future__ import annotations

import numpy as np

from sage.scores.approximation import why_undefined
from sage.scores.geometry import chance
from sage.scores.held_out import cross_validated_control
from sage.scores.levels import Decisions, Form
from sage.scores.node_set import NodeSet
from sage.scores.targets import targets_at

# Of E|m|: a ground truth that moves the metric by less leaves nothing to control.
MIN_EFFECT = 0.02
# Of the supervised dictionary's own T2, cross-validated on fit: below it no dictionary has a score.
MIN_SUPERVISED = 0.2
# Success leaves too little room above what nothing does: the graded form then.
MOST_UNCHANGED = 0.5
# Where features fitted to shuffled labels match these ones better, T4 has no room above its zero.
MOST_CHANCE = 0.8
# Where one shuffle differs more from the next, in units of T4, the mean of twenty is no zero: it is
# not known to within .045.
MOST_SPREAD = 0.2


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
    supervised = cross_validated_control(node_set, form) if effect else 0.0
    return Decisions(
        why_undefined(decide),
        _why_no_control(node_set, effect, supervised),
        _why_no_geometry(node_set),
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


def _why_no_geometry(node_set: NodeSet) -> str | None:
    targets = targets_at(node_set)
    if not targets:
        return "no node carries an attribute that the contrast changes"
    mean, spread = chance(targets, node_set.data.section)
    if mean > MOST_CHANCE:
        return f"features fitted to shuffled labels match these ones to {mean:.3f}"
    if spread > MOST_SPREAD:
        return f"features fitted to shuffled labels come to a T4 of 0 ± {spread:.2f}"
    return None
