"""One contrast on one node set: every dictionary measured, and its components put between floor and
ceiling.

What is decided (whether a score is defined, which form of T2, which control is the floor, latents
and thresholds) is decided on `fit`; what is reported is measured on test (method, sections 1, 5 and
6).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Dictionary
from sage.nodes import Node
from sage.result import SUPERVISED
from sage.scores import geometry, interpretability
from sage.scores.approximation import Baseline
from sage.scores.control import Control, Form, decide_form, normalised
from sage.scores.data import Settings
from sage.scores.geometry import Geometry, Targets
from sage.scores.interpretability import Interpretability
from sage.scores.node_set import IDENTITY, Causal, FitScores, Measured, NodeSet
from sage.scores.summary import FLOORS, Component, best_floor, between
from sage.stats import Sampled, constant


class Decisions(NamedTuple):
    """What was decided on `fit`: why T1 is undefined if it is, T2's form or why it has none, T4's
    features, and each component's floor."""

    t1: str | None
    form: Form | None
    t2: str
    features: Mapping[Node, Targets]
    floors: Mapping[str, str]


@dataclass(frozen=True)
class NodeSetScores:
    """Every dictionary on one contrast and node set, with what they share: baseline, metric under
    the ground-truth patch, decisions."""

    id: str
    contrast: str
    nodes: tuple[Node, ...]
    baseline: Baseline
    patched: Float[np.ndarray, "prompt"]
    decisions: Decisions
    measured: Mapping[str, Measured]
    components: Mapping[str, Mapping[str, Component]]
    causal: Mapping[str, tuple[Causal, ...]]
    clusters: tuple[str, ...]
    seed: int

    @property
    def n(self) -> int:
        """How many test prompts there are."""
        return len(self.clusters)


def score_nodes(
    node_set: NodeSet,
    dictionaries: Mapping[str, Dictionary],
    *,
    id: str,
    causal: Collection[str] = (),
    union: NodeSetScores | None = None,
) -> NodeSetScores:
    """Measure every dictionary on the node_set's nodes; `supervised` is among them, `causal` names
    those also scored by level of F1.

    T3 and T4 are measured node by node: where `union` has scored the same dictionaries on these
    nodes and more, they are taken from there.
    """
    decisions = decide(node_set, dictionaries)
    measured = _measure(node_set, dictionaries, union)
    components = {
        name: _components(name, measured, decisions, node_set.settings) for name in dictionaries
    }
    by_level = {
        name: _causal(node_set, dictionaries[name], measured[name])
        for name in causal
        if name in dictionaries
    }
    section, side = node_set.data.section, node_set.test
    texts = tuple(prompt.prompt.text for prompt in side.runs.base.prompts)
    return NodeSetScores(
        id, section.contrast, section.nodes, side.clean, side.truth.patched.metric.double().numpy(), decisions,
        measured, components, by_level, texts, node_set.settings.seed,
    )  # fmt: skip


def decide(node_set: NodeSet, dictionaries: Mapping[str, Dictionary]) -> Decisions:
    """Everything that is decided on pairs of `fit`."""
    settings = node_set.settings
    on_fit = _on_fit(
        node_set,
        {name: dictionaries[name] for name in (SUPERVISED, *FLOORS["T1"]) if name in dictionaries},
    )
    floors = {name: own for name, own in on_fit.items() if name != SUPERVISED}
    form, reason = decide_form(
        on_fit[SUPERVISED].control,
        k_max=settings.k_max,
        effect_of_irrelevant=node_set.irrelevant_effect,
        metric_size=float(np.abs(node_set.fit.clean.clean).mean()),
    )
    t1 = {name: own.t1 for name, own in floors.items()}
    t2 = {
        name: own.control.area(form or "graded", k_max=settings.k_max).value
        for name, own in floors.items()
    }
    best = {
        "T1": best_floor("T1", t1),
        "T2": best_floor("T2", t2),
        "T3": "untrained",
        "T4": "untrained",
    }
    return Decisions(node_set.fit.clean.undefined, form, reason, node_set.features, best)


def t2(control: Control, supervised: Control, *, form: Form, settings: Settings) -> Sampled:
    """(area - acc_0)/(area_sup - acc_0)."""
    seed = settings.seed
    return normalised(
        control.area(form, k_max=settings.k_max, seed=seed),
        control.start(form, seed=seed),
        supervised.area(form, k_max=settings.k_max, seed=seed),
    )


def _on_fit(node_set: NodeSet, dictionaries: Mapping[str, Dictionary]) -> dict[str, FitScores]:
    """T1 and T2 on pairs of `fit`; of dictionaries of one content, once."""
    known = node_set.known.on_fit
    new = {name: own for name, own in dictionaries.items() if own.content not in known}
    first, second = (
        node_set.approximate(new, side=node_set.fit),
        node_set.control(new, side=node_set.fit, ks=node_set.small_ks),
    )
    found = {name: FitScores(first[name].score.value, second[name]) for name in new}
    known |= {own.content: found[name] for name, own in new.items() if own.content}
    return {
        name: found[name] if name in found else known[own.content or ""]
        for name, own in dictionaries.items()
    }


def _measure(
    node_set: NodeSet, dictionaries: Mapping[str, Dictionary], union: NodeSetScores | None
) -> dict[str, Measured]:
    """The four tests of every dictionary, on test: once for those of one content, and T3 once for
    those with the same codes."""
    measured = node_set.known.measured
    new = {name: own for name, own in dictionaries.items() if own.content not in measured}
    first = node_set.approximate(new, side=node_set.test)
    edited = {name: own for name, own in new.items() if name != IDENTITY}
    second = node_set.control(
        edited, side=node_set.test, ks=node_set.settings.ks, watched=node_set.watched
    )
    found = {name: Measured(first[name], None, None, None) for name in new}
    by_coding: dict[str, Interpretability] = {}
    for name, dictionary in edited.items():
        known = union.measured[name] if union else None
        if dictionary.coding not in by_coding:
            by_coding[dictionary.coding] = _interpretability(node_set, dictionary, known)
        third = by_coding[dictionary.coding]
        found[name] = Measured(
            first[name], second[name], third, _geometry(node_set, dictionary, third, known)
        )
    measured |= {own.content: found[name] for name, own in new.items() if own.content}
    return {
        name: found[name] if name in found else measured[own.content or ""]
        for name, own in dictionaries.items()
    }


def _interpretability(
    node_set: NodeSet, dictionary: Dictionary, union: Measured | None
) -> Interpretability:
    section = node_set.data.section
    if union and union.interpretability:
        return interpretability.together(
            {node: union.interpretability.nodes[node] for node in section.nodes}, section=section
        )
    return node_set.interpret(dictionary)


def _geometry(
    node_set: NodeSet, dictionary: Dictionary, third: Interpretability, union: Measured | None
) -> Geometry | None:
    if union and union.geometry and node_set.features:
        found = {node: union.geometry.nodes[node] for node in node_set.features}
        return geometry.together(
            found,
            section=node_set.data.section,
            n=len(node_set.data.fit),
            seed=node_set.settings.seed,
        )
    return node_set.compare(dictionary, third)


def _components(
    name: str, measured: Mapping[str, Measured], decisions: Decisions, settings: Settings
) -> dict[str, Component]:
    """T1 to T4 of one dictionary between their floors and ceilings."""
    supervised = measured[SUPERVISED]
    one = constant(1.0, n=supervised.approximation.score.n)
    third = supervised.interpretability
    missing = {
        "T1": decisions.t1,
        "T2": None if decisions.form else decisions.t2,
        "T3": None
        if third and third.values
        else f"no value has {interpretability.MIN_TEST_POSITIVES} positives on test",
        "T4": None
        if decisions.features
        else "no node carries an attribute that the contrast names",
    }
    return {
        component: between(
            _raw(component, measured[name], supervised, decisions, settings),
            floor=_floor(component, measured, decisions, settings),
            ceiling=_raw(component, supervised, supervised, decisions, settings)
            if component in ("T3", "T4")
            else one,
            missing=why,
        )
        for component, why in missing.items()
    }


def _raw(
    component: str, own: Measured, supervised: Measured, decisions: Decisions, settings: Settings
) -> Sampled | None:
    if component == "T1":
        return own.approximation.score if decisions.t1 is None else None
    if component == "T2":
        if own.control is None or supervised.control is None or decisions.form is None:
            return None
        return t2(own.control, supervised.control, form=decisions.form, settings=settings)
    if component == "T3":
        return own.interpretability.score if own.interpretability else None
    return own.geometry.score if own.geometry else None


def _floor(
    component: str, measured: Mapping[str, Measured], decisions: Decisions, settings: Settings
) -> Sampled | None:
    """The score of the control chosen on `fit`; for T3 and T4 the untrained SAE's, or 0 where that
    is below or there is none."""
    control = measured.get(decisions.floors[component])
    found = _raw(component, control, measured[SUPERVISED], decisions, settings) if control else None
    if component in ("T3", "T4"):
        return (
            found
            if found and not found.value <= 0
            else constant(0.0, n=measured[SUPERVISED].approximation.score.n)
        )
    return found


def _causal(node_set: NodeSet, dictionary: Dictionary, measured: Measured) -> tuple[Causal, ...]:
    """T1 and T2 with the interpretable latents only, by level of F1; of the supervised dictionary,
    once."""
    if dictionary.content in node_set.known.causal or measured.interpretability is None:
        return node_set.known.causal.get(dictionary.content or "", ())
    kept = {
        level: interpretability.interpretable(measured.interpretability, level=level)
        for level in node_set.settings.levels
    }
    values = node_set.data.fit.values
    first_with = {
        level: next(other for other, masks in kept.items() if _equal(masks, kept[level]))
        for level in kept
    }
    only = {
        str(level): dictionary.only(
            {node: mask.to(values[node].device) for node, mask in kept[level].items()}
        )
        for level in dict.fromkeys(first_with.values())
    }
    first, second = (
        node_set.approximate(only, side=node_set.test),
        node_set.control(only, side=node_set.test, ks=node_set.small_ks),
    )
    latents = {
        level: sum(int(mask.sum()) for mask in masks.values()) for level, masks in kept.items()
    }
    found = tuple(
        Causal(level, latents[level], first[str(same)], second[str(same)])
        for level, same in first_with.items()
    )
    if dictionary.content:
        node_set.known.causal[dictionary.content] = found
    return found


def _equal(one: Mapping[Node, Tensor], other: Mapping[Node, Tensor]) -> bool:
    return all(torch.equal(mask, other[node]) for node, mask in one.items())
