"""Points of frontiers, out of what was measured of SAEs: one for each suite, or for each SAE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sage.fidelity.result import FidelityResult, MeasuredSuite
from sage.saes.releases import SOFT_FROZEN
from sage.stats import Sampled, combine


@dataclass(frozen=True, eq=False)
class FrontierPoint:
    """One suite, as the mean over its hooks, or one SAE: its L0 and its hit, 1 less its score.

    `series` has the points that one curve goes through: an architecture, of one model; `panel` says
    what they share: the model, the hooks, the text. `interval` is that of a hit without draws.
    """

    panel: str
    architecture: str
    series: str
    suite: str
    name: str
    model: str
    d_model: int
    l0: float | Sampled
    hit: float | Sampled
    interval: tuple[float, float] | None = None

    @property
    def l0_value(self) -> float:
        """Its L0."""
        return _value(self.l0)

    @property
    def hit_value(self) -> float:
        """Its hit."""
        return _value(self.hit)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The ends of the 95 % interval of its hit, where that is known."""
        if not isinstance(self.hit, Sampled):
            return self.interval
        estimate = self.hit.estimate()
        return estimate.low, estimate.high


def _value(number: float | Sampled) -> float:
    return number.value if isinstance(number, Sampled) else number


def fidelity_points(
    results: Sequence[FidelityResult], *, each_hook: bool = False, relative: bool = False
) -> list[FrontierPoint]:
    """A point for every suite, as the mean over its hooks, or with `each_hook` for every SAE.

    Suites share a panel where model, text and hooks are the same. With `relative`, models share
    one, as L0/D is the same to all of them; the series then names the model. Nulls, whose
    directions hardly left where they began, are no part of a frontier.
    """
    points: list[FrontierPoint] = []
    for result in results:
        of_result = list(_by_hook(result, relative) if each_hook else _by_suite(result, relative))
        if not relative and len(_texts(results, result.model.name)) > 1:
            told = f"{result.text.source} ({result.text.sha256[:6]})"
            of_result = [replace(point, panel=f"{point.panel}, {told}") for point in of_result]
        points += of_result
    return points


def _texts(results: Sequence[FidelityResult], model: str) -> set[str]:
    """The digests of the texts that a model was measured on."""
    return {result.text.sha256 for result in results if result.model.name == model}


def is_frozen(suite: str) -> bool:
    """Whether a suite is a null of another."""
    return SOFT_FROZEN in suite


def _by_suite(result: FidelityResult, relative: bool) -> Iterator[FrontierPoint]:
    for suite in result.suites:
        if is_frozen(suite.id):
            continue
        hooks = _hooks_label(suite)
        yield FrontierPoint(
            _panel(result, hooks, relative),
            suite.architecture,
            _series(suite.architecture, result, relative),
            suite.id,
            suite.id,
            result.model.name,
            result.model.d_model,
            suite.measures["l0"],
            _hit(suite.measures["loss_recovered_mean"]),
        )


def _by_hook(result: FidelityResult, relative: bool) -> Iterator[FrontierPoint]:
    for sae, measures in zip(result.saes, result.measures, strict=True):
        if is_frozen(sae.suite):
            continue
        yield FrontierPoint(
            _panel(result, sae.hook, relative),
            sae.architecture,
            _series(sae.architecture, result, relative),
            sae.suite,
            sae.id,
            result.model.name,
            result.model.d_model,
            measures["l0"],
            _hit(measures["loss_recovered_mean"]),
        )


def _hit(recovered: Sampled) -> Sampled:
    return combine(lambda share: 1 - share, recovered)


def _hooks_label(suite: MeasuredSuite) -> str:
    """`1.resid_pre`, or `mean over 1.resid_pre, 2.resid_pre`: suites of other hooks are not to be
    compared."""
    hooks = ", ".join(suite.hooks)
    return f"mean over {hooks}" if len(suite.hooks) > 1 else hooks


def _panel(result: FidelityResult, hooks: str, relative: bool) -> str:
    return result.text.source if relative else f"{result.model.name}, {hooks}"


def _series(architecture: str, result: FidelityResult, relative: bool) -> str:
    return f"{architecture}, {result.model.name}" if relative else architecture
