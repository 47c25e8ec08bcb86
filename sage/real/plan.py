"""What `sage real` does: which models, tasks, streams and SAEs, and with how much text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sage.run import Plan, make_plan
from sage.saes.training_settings import TrainingSettings


@dataclass(frozen=True)
class RealSuite:
    """A suite to train at every hook: an architecture, its sparsity, and what of it is frozen."""

    name: str
    architecture: str
    k: float = 32.0
    penalty: float = 1.0
    freeze: str = "none"


@dataclass(frozen=True)
class RealModel:
    """Streams of a model at which SAEs are trained, and the tasks that they are scored on."""

    hooks: tuple[str, ...]
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class RealPlan:
    """How much is done.

    `tokens` of text are read, of which `held_out` are kept for measuring; SAEs have `times` the
    model's width in latents and are trained for `steps` of `batch` tokens. `scores` is the plan of
    `sage score`, with `pairs` test pairs where these are given, and everything but the SAEs drawn
    anew for each of `seeds` seeds from `seed` on.
    """

    name: str
    models: Mapping[str, RealModel]
    suites: tuple[RealSuite, ...]
    tokens: int = 1_000_000
    held_out: int = 20_000
    times: int = 4
    steps: int = 1_200
    batch: int = 1_024
    scores: str = "quick"
    pairs: int | None = None
    seed: int = 0
    seeds: int = 1

    def training(self, suite: RealSuite, d_model: int) -> TrainingSettings:
        """How an SAE of a suite is trained on a model of this width."""
        return TrainingSettings(
            architecture=suite.architecture,
            width=self.times * d_model,
            steps=self.steps,
            batch=self.batch,
            k=suite.k,
            penalty=suite.penalty,
            decay=self.steps // 5,
            seed=self.seed,
            freeze=suite.freeze,
        )

    def scorings(self) -> list[Plan]:
        """How its SAEs are scored, seed by seed."""
        changes = {} if self.pairs is None else {"pairs": self.pairs}
        seeds = range(self.seed, self.seed + self.seeds)
        return [make_plan(self.scores, seed=seed, **changes) for seed in seeds]


_TOPK32 = RealSuite("topk32", "topk", 32.0)
_SOFT_FROZEN = RealSuite("topk32-soft-frozen", "topk", 32.0, freeze="soft")
_EVERY_SUITE = (
    RealSuite("topk16", "topk", 16.0),
    _TOPK32,
    RealSuite("topk64", "topk", 64.0),
    RealSuite("relu", "relu"),
    _SOFT_FROZEN,
    RealSuite("topk32-frozen-decoder", "topk", 32.0, freeze="decoder"),
    RealSuite("topk32-frozen-encoder", "topk", 32.0, freeze="encoder"),
)
_TASKS = (
    "ioi",
    "subject_verb_agreement",
    "induction",
    "gendered_pronoun",
    "country_capital",
    "successor_in_text",
    "greater_than",
)

REAL_PLANS = {
    "quick": RealPlan(
        "quick",
        {
            "smollm2-135m": RealModel(
                ("20.resid_pre", "23.resid_pre", "25.resid_pre"), ("gendered_pronoun", "ioi")
            )
        },
        (RealSuite("topk16", "topk", 16.0), _TOPK32, RealSuite("relu", "relu"), _SOFT_FROZEN),
    ),
    "standard": RealPlan(
        "standard",
        {
            "smollm2-135m": RealModel(
                (
                    "12.resid_pre",
                    "17.resid_pre",
                    "20.resid_pre",
                    "23.resid_pre",
                    "25.resid_pre",
                ),
                _TASKS,
            ),
            "gemma-3-270m": RealModel(
                ("5.resid_pre", "9.resid_pre", "12.resid_pre", "14.resid_pre", "16.resid_pre"),
                _TASKS,
            ),
        },
        _EVERY_SUITE,
        steps=4_000,
        times=8,
        scores="standard",
    ),
}
