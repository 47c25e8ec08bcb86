"""T2, sparse control: do k latents, moved from p's codes to those of p', make the model do what the
whole activation of p' would?

The ground truth patches the same nodes with the activations of p'. Success is agreement with what
the model then says; the graded form is the share of the change of the metric that the edit brings
about. The only normalisation is by the supervised dictionary under the same budget (method, section
5, T2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Activations, Dictionary, Edited
from sage.models.base import Model, Outcome
from sage.scores.chunks import in_parts
from sage.scores.isolation import Bystanders, spoiled
from sage.stats import Sampled, bootstrap, combine
from sage.task.metric import Metric

KS = (0, 1, 2, 4, 8, 16, 32)
KS_ACROSS_MODELS = 4
MIN_ROOM = 0.2
MIN_EFFECT = 0.02

Form = Literal["success", "graded"]


class Truth(NamedTuple):
    """What the model does on p, and with the nodes set to their activations on p'."""

    clean: Outcome
    patched: Outcome


class Control(NamedTuple):
    """One dictionary's edits of one node set, per k and prompt.

    `success` is agreement with the ground-truth patch, `left` |m_edit - m_gt|, `effect` |m_clean -
    m_gt|; `spoiled` counts attributes outside the contrast that an edit broke, out of `bystanders`
    (none where isolation was not measured).
    """

    success: dict[int, Float[np.ndarray, "prompt"]]
    left: dict[int, Float[np.ndarray, "prompt"]]
    effect: Float[np.ndarray, "prompt"]
    picks: dict[int, Float[np.ndarray, "prompt"]]
    magnitude: dict[int, Float[np.ndarray, "prompt"]]
    spoiled: dict[int, Float[np.ndarray, "prompt"]]
    bystanders: dict[int, Float[np.ndarray, "prompt"]]
    clusters: list[str]

    def accuracy(self, k: int, *, seed: int = 0) -> Sampled:
        """Share of prompts on which the edited model says what the ground-truth patch makes it say."""
        return bootstrap(
            self.success[k][:, None], lambda means: means[:, 0], seed=seed, clusters=self.clusters
        )

    def graded(self, k: int, *, seed: int = 0) -> Sampled:
        """1 - E|m_edit - m_gt| / E|m_clean - m_gt|."""
        columns = np.stack([self.left[k], self.effect], -1)
        return bootstrap(
            columns, lambda means: 1 - means[:, 0] / means[:, 1], seed=seed, clusters=self.clusters
        )

    def area(self, form: Form, *, k_max: int, seed: int = 0) -> Sampled:
        """The trapezoid of the accuracy (or graded score) over log2 k, from k = 1 to k_max, divided
        by log2 k_max."""
        ks = [k for k in sorted(self.success) if 1 <= k <= k_max]
        value = self.accuracy if form == "success" else self.graded
        return combine(
            lambda *points: trapezoid(np.log2(ks), points), *(value(k, seed=seed) for k in ks)
        )

    def isolation(self, k: int, *, seed: int = 0) -> Sampled:
        """1 - the share of (prompt, node, attribute outside the contrast) that the edit broke."""
        columns = np.stack([self.spoiled[k], self.bystanders[k]], -1)
        return bootstrap(
            columns, lambda means: 1 - means[:, 0] / means[:, 1], seed=seed, clusters=self.clusters
        )

    def start(self, form: Form, *, seed: int = 0) -> Sampled:
        """The accuracy (or graded score) with nothing edited."""
        return self.accuracy(0, seed=seed) if form == "success" else self.graded(0, seed=seed)


def ground_truth(model: Model, base: Activations, target: Activations, *, metric: Metric) -> Truth:
    """The clean run and the ground-truth patch of the nodes."""
    return Truth(*model.write_many([{}, target.values], base.prompts, metric))


def score_controls(
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    base: Activations,
    target: Activations,
    *,
    truth: Truth,
    metric: Metric,
    watched: Bystanders | None = None,
    ks: Sequence[int] = KS,
) -> dict[str, Control]:
    """Edit every prompt's nodes towards its counterfactual with at most k latents per site, for
    every k, and run the model.

    Dictionaries and budgets run together. A budget that gives no prompt a pick more than a smaller
    one gives the same edit, and is not run again; without any picks that is the clean run.
    Isolation is measured on the bystanders that are `watched`.
    """
    found: dict[str, Control] = {}
    for names in in_parts(list(dictionaries), base, copies=len(ks)):
        edits = {name: dictionaries[name].edit(base, target, ks=ks) for name in names}
        different = {
            name: [k for k, first in _same_edit(own).items() if first == k]
            for name, own in edits.items()
        }
        written = [edits[name][k].values for name in names for k in different[name]]
        outcomes = iter(model.write_many(written, base.prompts, metric))
        for name in names:
            own = {k: next(outcomes) for k in different[name]}
            found[name] = _control(edits[name], own, truth=truth, watched=watched, base=base)
    return found


def largest_k(width: int, *, across_models: bool = False) -> int:
    """k_max: the largest k of the grid up to min(8, D/16), at least 2; 4 in comparisons across
    models (D = d_model)."""
    if across_models:
        return KS_ACROSS_MODELS
    return max(2, *(k for k in KS if k <= min(8, width / 16)))


def normalised(area: Sampled, start: Sampled, ceiling: Sampled) -> Sampled:
    """(area - acc_0)/(area_sup - acc_0), draw by draw."""
    return combine(lambda own, zero, best: (own - zero) / (best - zero), area, start, ceiling)


def decide_form(
    supervised: Control, *, k_max: int, effect_of_irrelevant: float, metric_size: float
) -> tuple[Form | None, str]:
    """Which form of T2 a contrast has, decided on pairs of `fit`; None with the reason where it has
    neither.

    `effect_of_irrelevant` is E|m_clean - m_gt| of irrelevant pairs at the same nodes, `metric_size`
    is E|m|.
    """
    effect = float(supervised.effect.mean())
    least = max(MIN_EFFECT * metric_size, effect_of_irrelevant)
    if effect < least or not effect:
        return (
            None,
            f"patching these nodes moves the metric by {effect:.3g} in the mean, less than {least:.2g}",
        )
    room = {
        form: supervised.area(form, k_max=k_max).value - supervised.start(form).value
        for form in ("success", "graded")
    }
    if room["success"] >= MIN_ROOM:
        return "success", "ok"
    if room["graded"] >= MIN_ROOM:
        return "graded", "ok"
    return (
        None,
        f"the supervised dictionary itself gains only {room['success']:.2f} in accuracy and {room['graded']:.2f} graded at k <= {k_max}",
    )


def trapezoid(
    places: Float[np.ndarray, "point"], values: Sequence[Float[np.ndarray, "draw"]]
) -> Float[np.ndarray, "draw"]:
    """The area under points divided by their range; a single point is its own area."""
    if len(places) == 1:
        return values[0]
    return np.trapezoid(np.stack(values), places, axis=0) / (places[-1] - places[0])


def _control(
    edits: Mapping[int, Edited],
    outcomes: Mapping[int, Outcome],
    *,
    truth: Truth,
    watched: Bystanders | None,
    base: Activations,
) -> Control:
    """T2 of one dictionary from its edits and the outcomes of those that differ."""
    same = _same_edit(edits)
    nothing = np.zeros(len(base))
    every: dict[int | None, Outcome] = {None: truth.clean, **outcomes}
    broken: dict[int | None, np.ndarray] = {None: nothing}
    broken |= {k: spoiled(watched, edits[k].values) if watched else nothing for k in outcomes}
    aim = _numbers(truth.patched.metric)
    return Control(
        success={k: _numbers(every[same[k]].choice == truth.patched.choice) for k in edits},
        left={k: np.abs(_numbers(every[same[k]].metric) - aim) for k in edits},
        effect=np.abs(_numbers(truth.clean.metric) - aim),
        picks={k: _numbers(own.picks) for k, own in edits.items()},
        magnitude={k: _numbers(own.magnitude) for k, own in edits.items()},
        spoiled={k: broken[same[k]] for k in edits},
        bystanders=dict.fromkeys(edits, watched.total if watched else nothing),
        clusters=[prompt.prompt.text for prompt in base.prompts],
    )


def _same_edit(edits: Mapping[int, Edited]) -> dict[int, int | None]:
    """The smallest k with the same picks on every prompt; None where there are none."""
    found: dict[int, int | None] = {}
    before: tuple[int | None, Tensor] = (None, torch.zeros(()))
    for k in sorted(edits):
        if not bool((edits[k].picks == before[1]).all()):
            before = (k, edits[k].picks)
        found[k] = before[0]
    return found


def _numbers(values: Tensor) -> Float[np.ndarray, "prompt"]:
    return values.double().cpu().numpy()
