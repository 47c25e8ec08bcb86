"""Work: what every stage of a run does, counted term by term.

A term is a number of things done; `coefficients.toml` says what one of them takes, in units that a
machine has a price for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sage.cost.sizes import Shape, Sizes, SuiteSize
from sage.dictionaries.controls.lookup import TASK, TEXT
from sage.discovery.search import DiscoverySettings
from sage.memory import PATCHED_SETS_AT_ONCE
from sage.preparation import GATE_PROMPTS
from sage.run import Plan

Units = Mapping[str, float | int]
"""How many of each term."""

# Sets of nodes that validation patches: the section, 20 random ones, and 8 points of the curve.
VALIDATED_SETS = 29
# Dictionaries of a suite that are measured in full by every plan, beside lookup tables: itself, the
# supervised features, shuffled labels.
ALWAYS_IN_FULL = 3
# What no suite enters, or only its width, so that suites share it.
SHARED = ("mean only", TEXT, TASK, "neurons", "identity")
# Of the thirty edits of a dictionary, at ten levels and three budgets, as many as differ in the
# mean: equal ones are run once, prompt by prompt. Of the twelve at four levels nearly all did, and
# took a quarter fewer runs.
EDITS_APART = 16
# Of what a dictionary takes that is measured in full: what one takes that has one score alone.
SCOUTED = 0.3


def prompts_work(sizes: Sizes) -> Units:
    """Prompts drawn, checked and read by the tokenizer."""
    return {"prompts.prompt": sizes.prompts.drawn}


def gate_work(sizes: Sizes) -> Units:
    """Token-layers of the clean runs."""
    return {"gate.run": _token_layers(sizes, min(GATE_PROMPTS, sizes.prompts.fit))}


def attribution_work(sizes: Sizes, contrasts: Sequence[str]) -> Units:
    """Token-layers of the clean prompts, which contrasts share, and of the counterfactual ones;
    candidates."""
    wanted = [sizes.contrasts[name] for name in contrasts]
    if not wanted:
        return {}
    pairs = [size.discover for size in wanted]
    return {
        "attribution.clean": _token_layers(sizes, max(pairs)),
        "attribution.run": _token_layers(sizes, sum(pairs)),
        "attribution.candidate": sum(size.candidates for size in wanted),
    }


def patching_work(sizes: Sizes, contrast: str) -> Units:
    """Token-layers of the nodes patched on the contrast's pairs and on irrelevant ones; nodes."""
    size = sizes.contrasts[contrast]
    nodes = min(size.candidates, 2 * DiscoverySettings().first(size.candidates))
    pairs = size.discover + sizes.prompts.null
    return {
        "patching.run": nodes * _token_layers(sizes, pairs),
        "patching.call": _calls(sizes, 2 * nodes / PATCHED_SETS_AT_ONCE),
        "patching.node": nodes,
    }


def validation_work(sizes: Sizes, contrast: str, shape: Shape) -> Units:
    """Token-layers of the sets of nodes patched, and once; nothing where no node was kept."""
    if not shape.nodes:
        return {}
    runs = VALIDATED_SETS * _token_layers(sizes, sizes.contrasts[contrast].discover)
    return {"validation.run": runs, "validation.contrast": 1}


def features_work(sizes: Sizes, shapes: Mapping[str, Shape]) -> Units:
    """Token-layers read, nodes fitted, and numbers in what is fitted."""
    nodes = sum(shape.nodes for shape in shapes.values())
    prompts = sizes.prompts.fit + sizes.prompts.detect + 2 * sizes.prompts.null
    return {
        "features.run": _token_layers(sizes, prompts),
        "features.node": nodes,
        "features.number": nodes * sizes.prompts.fit * sizes.model.d_head,
    }


def text_work(sizes: Sizes, *, tokens: int) -> Units:
    """Token-layers of ordinary text."""
    return {"text.run": tokens * sizes.model.layers}


def pairs_work(sizes: Sizes, contrast: str, shape: Shape) -> Units:
    """Token-layers of both prompts of the pairs that a contrast is scored on."""
    if not shape.nodes:
        return {}
    size = sizes.contrasts[contrast]
    return {"pairs.run": _token_layers(sizes, 2 * (size.decide + size.test))}


def suite_work(
    sizes: Sizes, contrast: str, shape: Shape, suite: SuiteSize, *, first: bool = True
) -> Units:
    """One suite with its controls on one contrast; what suites share counts in the `first` alone.

    Searches and choices are counted over dictionaries as far as they are measured in full.
    """
    weights = {"suite.weight": float(suite.hooks * suite.width * sizes.model.d_model)}
    if not shape.nodes:
        return weights
    size, plan = sizes.contrasts[contrast], sizes.plan
    full = dictionaries_in_full(plan, first=first)
    prompts = size.test + size.decide
    each = EDITS_APART + int(plan.unbounded) + 2
    edits = full * (each + len(plan.copying) * size.test / prompts)
    tokens = shape.encoded * (sizes.prompts.fit + 2 * prompts + sizes.prompts.detect)
    encoders = 2 if plan.controls else 1
    return weights | {
        "suite.run": edits * _token_layers(sizes, prompts) * shape.cone,
        "suite.call": _calls(sizes, 2 * full),
        "suite.dictionary": full,
        "suite.node": full * shape.nodes,
        "suite.site": full * shape.sites,
        "suite.label": full * shape.nodes * (sizes.prompts.fit + prompts),
        "suite.choice": full * shape.sites * prompts * suite.width,
        "suite.encoded": encoders * tokens * suite.width * sizes.model.d_model,
        "suite.contrast": float(first),
    }


def result_work(sizes: Sizes, suites: Sequence[SuiteSize]) -> Units:
    """Tokens of fit encoded by every SAE, for its L0 and FVU, and once."""
    prompts = min(GATE_PROMPTS, sizes.prompts.fit)
    weights = sum(suite.hooks * suite.width * sizes.model.d_model for suite in suites)
    tokens = prompts * sizes.model.tokens
    return {"result.encoded": tokens * weights, "result.weight": weights, "result.cell": 1}


def screen_work(sizes: Sizes, contrast: str, shape: Shape, suite: SuiteSize) -> Units:
    """The edits of one suite, under which the model is not run."""
    if not shape.nodes:
        return {}
    size = sizes.contrasts[contrast]
    tokens = shape.encoded * (sizes.prompts.fit + 2 * (size.test + size.decide))
    return {
        "suite.dictionary": 1,
        "suite.node": shape.nodes,
        "suite.site": shape.sites,
        "suite.label": shape.nodes * (sizes.prompts.fit + size.test),
        "suite.choice": shape.sites * size.test * suite.width,
        "suite.encoded": tokens * suite.width * sizes.model.d_model,
    }


def dictionaries_in_full(plan: Plan, *, first: bool = True) -> float:
    """How many dictionaries are measured, those at no level and with one score as the part of one
    that they are; own and moved nodes by themselves count as half of the nodes each."""
    controls = [name for name in plan.controls if first or name not in SHARED]
    lookups = sum(name in controls for name in (TEXT, TASK))
    always = ALWAYS_IN_FULL - int(not first)
    best = min(1, len(controls) - lookups)
    rest = len(controls) - lookups - best
    scouted = always + lookups + best + SCOUTED * rest
    whole = float(always + len(controls)) if plan.thorough else scouted
    return whole + (scouted - 1 if plan.apart else 0.0)


def total(parts: Sequence[Units]) -> Units:
    """All of it together."""
    together: dict[str, float] = {}
    for part in parts:
        for term, count in part.items():
            together[term] = together.get(term, 0.0) + count
    return together


def _calls(sizes: Sizes, calls: int | float) -> float:
    """Layers of so many calls of the model, which runs prompts of one length together."""
    return calls * sizes.model.lengths * sizes.model.layers


def _token_layers(sizes: Sizes, prompts: int | float) -> float:
    return prompts * sizes.model.tokens * sizes.model.layers
