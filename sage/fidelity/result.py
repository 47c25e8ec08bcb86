"""What was measured of SAEs on sequences: rows with their errors, and the sums they are made of.

The sums of each sequence are kept, so that whatever is made of the numbers later (the mean over
hooks, a frontier, a difference) has its interval over the same resamples of sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from sage.errors import unknown
from sage.fidelity.measures import MEASURES, measure_columns
from sage.fidelity.reconstruction import LatentShare
from sage.result import ModelInfo
from sage.stats import Estimate, Sampled, average

if TYPE_CHECKING:
    import pandas as pd

MEAN_OVER_HOOKS = "mean over hooks"
# Shares of latents, whose errors are of another kind: no draws of sequences.
LATENT_MEASURES = {"dead": "dead latents", "dense": "dense latents"}


@dataclass(frozen=True)
class TextInfo:
    """What was measured on: `asked` says of what cross-entropy and KL are, every next token or the
    answer at END; `longest` is the number of tokens of the longest sequence."""

    source: str
    asked: str
    sequences: int
    longest: int
    sha256: str


@dataclass(frozen=True, eq=False)
class MeasuredSAE:
    """One SAE of a suite: the sums of each sequence, by `sage.fidelity.measures.COLUMNS`, and the
    shares of latents that are dead and dense."""

    suite: str
    id: str
    hook: str
    architecture: str
    width: int
    columns: Float[np.ndarray, "sequence column"]
    dead: LatentShare
    dense: LatentShare


@dataclass(frozen=True)
class FidelityRow:
    """One measure of one SAE, or the mean over the hooks of its suite, with its standard error and
    95 % interval over sequences; None where it is undefined."""

    suite: str
    sae: str
    hook: str
    architecture: str
    measure: str
    value: float | None
    stderr: float | None
    low: float | None
    high: float | None
    n: int


class MeasuredSuite(NamedTuple):
    """A suite as one: the mean over its hooks of every measure that has draws, and of the shares of
    latents. `undefined` names the hooks that a measure is undefined at, which its mean leaves
    out."""

    id: str
    architecture: str
    hooks: tuple[str, ...]
    measures: dict[str, Sampled]
    latents: dict[str, Estimate]
    undefined: dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class FidelityResult:
    """The fidelity of SAEs of one model on one text; sequences that are equal are one cluster."""

    model: ModelInfo
    text: TextInfo
    clusters: tuple[str, ...]
    saes: tuple[MeasuredSAE, ...]

    @cached_property
    def measures(self) -> list[dict[str, Sampled]]:
        """Every measure of every SAE, in their order, with draws of the same resamples."""
        return [measure_columns(sae.columns, self.clusters) for sae in self.saes]

    @property
    def suites(self) -> list[MeasuredSuite]:
        """Every suite, as the plain mean over its hooks."""
        names = dict.fromkeys(sae.suite for sae in self.saes)
        return [self._suite(name) for name in names]

    def suite(self, name: str) -> MeasuredSuite:
        """The suite of that name."""
        names = {sae.suite for sae in self.saes}
        if name not in names:
            raise unknown("suite in this result", name, names)
        return self._suite(name)

    def rows(self) -> list[FidelityRow]:
        """Every measure of every SAE, and after them the mean over the hooks of each suite that has
        several."""
        return [*self._sae_rows(), *self._suite_rows()]

    def table(self) -> pd.DataFrame:
        """The rows as a pandas frame, with the model in front."""
        import pandas as pd

        frame = pd.DataFrame([asdict(row) for row in self.rows()])
        frame.insert(0, "model", self.model.name)
        return frame

    def _suite(self, name: str) -> MeasuredSuite:
        numbers = [number for number, sae in enumerate(self.saes) if sae.suite == name]
        saes = [self.saes[number] for number in numbers]
        return MeasuredSuite(
            name,
            " + ".join(sorted({sae.architecture for sae in saes})),
            tuple(sae.hook for sae in saes),
            {
                measure: _mean_of_defined([self.measures[number][measure] for number in numbers])
                for measure in MEASURES
            },
            {
                measure: _mean_share([getattr(sae, measure) for sae in saes]).estimate(n=self._n)
                for measure in LATENT_MEASURES
            },
            {measure: self._undefined(numbers, measure) for measure in MEASURES},
        )

    def _undefined(self, numbers: Sequence[int], measure: str) -> tuple[str, ...]:
        """The hooks of some SAEs at which a measure is undefined."""
        values = {number: self.measures[number][measure].value for number in numbers}
        return tuple(self.saes[n].hook for n, value in values.items() if not np.isfinite(value))

    @property
    def _n(self) -> int:
        return len(self.clusters)

    def _sae_rows(self) -> Iterator[FidelityRow]:
        for sae, measures in zip(self.saes, self.measures, strict=True):
            where = (sae.suite, sae.id, sae.hook, sae.architecture)
            for name, sampled in measures.items():
                yield _row(where, name, sampled.estimate())
            for name in LATENT_MEASURES:
                estimate = getattr(sae, name).estimate(n=self._n)
                yield _row(where, name, estimate)

    def _suite_rows(self) -> Iterator[FidelityRow]:
        for suite in self.suites:
            if len(suite.hooks) < 2:
                continue
            where = (suite.id, MEAN_OVER_HOOKS, " ".join(suite.hooks), suite.architecture)
            for name, sampled in suite.measures.items():
                yield _row(where, name, sampled.estimate())
            for name, estimate in suite.latents.items():
                yield _row(where, name, estimate)


def _mean_of_defined(numbers: Sequence[Sampled]) -> Sampled:
    """The mean over the hooks at which the measure is defined; undefined where it is at none."""
    defined = [number for number in numbers if np.isfinite(number.value)]
    return average(defined or numbers[:1])


def _mean_share(shares: Sequence[LatentShare]) -> LatentShare:
    """The mean over hooks; groups of sequences are the same at all of them."""
    whole = float(np.mean([share.whole for share in shares]))
    return LatentShare(whole, np.mean([share.without for share in shares], axis=0))


def _row(where: tuple[str, str, str, str], measure: str, estimate: Estimate) -> FidelityRow:
    """One row; what is not finite is None."""
    value, stderr, low, high = (number if np.isfinite(number) else None for number in estimate[:4])
    return FidelityRow(*where, measure, value, stderr, low, high, estimate.n)
