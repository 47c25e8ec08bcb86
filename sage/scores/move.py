"""Move: how much of the way to the aim the edits go, in the activations themselves.

Method, section 5.4: 1 - sum |a_edit - aim|^2/Var / sum |aim - a|^2/Var over nodes and prompts, at
the budgets and levels of T3. It needs no run of the model, so that it can screen hundreds of SAEs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from sage.scores.control import EditOutcomes
from sage.scores.levels import ANY, BUDGETS, LEVELS, Decisions
from sage.scores.score import Columns, Detail, Score


def move_statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
    """1 - distance / start, mean over budgets, clipped for each level, mean over levels."""
    return np.clip(_by_level(means), 0, 1).mean(-1)


def raw_move_statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
    """The same, unclipped."""
    return _by_level(means).mean(-1)


def _by_level(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw level"]:
    shares = 1 - means[:, 1:] / means[:, :1]
    return shares.reshape(len(means), -1, len(BUDGETS)).mean(-1)


def _columns(part: EditOutcomes, decisions: Decisions) -> Columns | None:
    del decisions
    return part.moved(LEVELS) if part.has_levels else None


def _details(part: EditOutcomes, decisions: Decisions) -> Iterator[Detail]:
    """With all latents, and every level by itself."""
    del decisions
    rules = (move_statistic, raw_move_statistic)
    yield Detail("move", part.moved((ANY,)), *rules, at="all latents")
    for level in LEVELS if part.has_levels else ():
        yield Detail("move", part.moved((level,)), *rules, at=f"F1 >= {level}")


SCORE = Score(
    name="move",
    version=2,
    symbol="move",
    title="move",
    zero="nothing edited",
    one="the activations are where the supervised features take them",
    measurement="control",
    columns=_columns,
    statistic=move_statistic,
    raw=raw_move_statistic,
    why_undefined=lambda decisions: decisions.control,
    details=_details,
    figure="frontier",
)
