"""The fit of the estimate's coefficients: planted ones come back, and what no run has stays."""

from __future__ import annotations

import numpy as np
import pytest

from sage.cost.estimate import coefficients
from tests.benchmarks.fitting import PRIORS, Fitted, fit


def test_every_term_has_a_prior() -> None:
    assert {*PRIORS} == {*coefficients()}


def test_planted_coefficients_come_back_and_an_unseen_term_keeps_its_prior() -> None:
    generator = np.random.default_rng(0)
    planted = {"suite.run": 0.1, "suite.node": 60.0, "patching.run": 0.9}
    runs: list[Fitted] = []
    for _ in range(30):
        stages: list[tuple[float, dict[str, float]]] = []
        for terms in (("suite.run", "suite.node"), ("patching.run",)):
            counts = {t: float(generator.uniform(1, 10)) / planted[t] for t in terms}
            stages.append((sum(planted[t] * count for t, count in counts.items()), counts))
        runs.append(Fitted(sum(seconds for seconds, _ in stages), stages))
    fitted = fit(runs)
    for term, count in planted.items():
        assert fitted[term] == pytest.approx(count, rel=0.03)
    assert fitted["gate.run"] == pytest.approx(PRIORS["gate.run"])
