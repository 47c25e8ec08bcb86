"""T1, approximation: do reconstructions carry what the model needs (sufficiency), and does what
they leave out carry nothing (necessity)?

All nodes of the set are written at once, from clean runs (method, section 5, T1; Makelov, Lange and
Nanda 2024, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sage.dictionaries.activations import Activations, Dictionary, Moments
from sage.models.base import Model
from sage.nodes import Node
from sage.scores.chunks import in_parts
from sage.stats import Sampled, average, bootstrap, combine
from sage.task.metric import Metric

MIN_SHARE = 0.1
MIN_ERRORS = 3


class Baseline(NamedTuple):
    """The metric per prompt in the clean run and with every node at its mean: what every dictionary
    on these nodes is measured between."""

    clean: Float[np.ndarray, "prompt"]
    ablated: Float[np.ndarray, "prompt"]

    @property
    def undefined(self) -> str | None:
        """Why T1 is undefined here, if it is: mean-ablating the nodes hardly moves the metric."""
        effect = self.clean - self.ablated
        error = effect.std(ddof=1) / np.sqrt(len(effect)) if len(effect) > 1 else np.inf
        least = max(MIN_SHARE * abs(self.clean.mean()), MIN_ERRORS * error)
        if 0 < least <= abs(effect.mean()):
            return None
        return f"mean-ablating the nodes moves the metric from {self.clean.mean():.3g} to {self.ablated.mean():.3g}, less than {least:.2g}"


class Approximation(NamedTuple):
    """T1 of one dictionary on one node set. `sufficient` and `necessary` are the metric per prompt
    under each edit."""

    sufficiency: Sampled
    necessity: Sampled
    score: Sampled
    sufficient: Float[np.ndarray, "prompt"]
    necessary: Float[np.ndarray, "prompt"]


def baseline(model: Model, given: Activations, *, moments: Moments, metric: Metric) -> Baseline:
    """The clean metric and the mean-ablated one; on `fit` it decides whether T1 is defined."""
    means = {node: moments.mean[node].expand_as(value) for node, value in given.values.items()}
    clean, ablated = model.measure([{}, means], given.prompts, metric)
    return Baseline(_numbers(clean), _numbers(ablated))


def score_approximations(
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    given: Activations,
    *,
    baseline: Baseline,
    moments: Moments,
    metric: Metric,
    seed: int = 0,
) -> dict[str, Approximation]:
    """Sufficiency with a <- a_hat, necessity with a <- a_bar + (a - a_hat), and the mean of clip(1
    - |1 - x|, 0, 1) of the two.

    Dictionaries run together, as many as keep what is written small.
    """
    clusters = [prompt.prompt.text for prompt in given.prompts]
    found: dict[str, Approximation] = {}
    for names in in_parts(list(dictionaries), given, copies=2):
        edits: list[dict[Node, Tensor]] = []
        for name in names:
            reconstructed = dictionaries[name].reconstruct(given)
            rest = {
                node: moments.mean[node] + (given.values[node] - value)
                for node, value in reconstructed.items()
            }
            edits += [reconstructed, rest]
        metrics = _numbers(model.measure(edits, given.prompts, metric))
        for name, sufficient, necessary in zip(names, metrics[::2], metrics[1::2], strict=True):
            found[name] = _approximation(
                baseline, sufficient, necessary, clusters=clusters, seed=seed
            )
    return found


def closeness(share: Float[np.ndarray, "draw"]) -> Float[np.ndarray, "draw"]:
    """clip(1 - |1 - x|, 0, 1): 1 at 1, falling to both sides, since both shares may pass 1."""
    return np.clip(1 - np.abs(1 - share), 0, 1)


def _approximation(
    baseline: Baseline,
    sufficient: Float[np.ndarray, "prompt"],
    necessary: Float[np.ndarray, "prompt"],
    *,
    clusters: Sequence[str],
    seed: int,
) -> Approximation:
    """T1 from the metric per prompt under each edit."""
    columns = np.stack([baseline.clean, baseline.ablated, sufficient, necessary], -1)
    sufficiency = bootstrap(
        columns,
        lambda means: _share(means[:, 2] - means[:, 1], means),
        seed=seed,
        clusters=clusters,
    )
    necessity = bootstrap(
        columns,
        lambda means: _share(means[:, 0] - means[:, 3], means),
        seed=seed,
        clusters=clusters,
    )
    score = average([combine(closeness, sufficiency), combine(closeness, necessity)])
    return Approximation(sufficiency, necessity, score, sufficient, necessary)


def _share(
    part: Float[np.ndarray, "draw"], means: Float[np.ndarray, "draw column"]
) -> Float[np.ndarray, "draw"]:
    return part / (means[:, 0] - means[:, 1])


def _numbers(metric: Float[Tensor, "*many prompt"]) -> Float[np.ndarray, "*many prompt"]:
    return metric.double().cpu().numpy()
