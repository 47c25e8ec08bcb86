"""Copying: Makelov's test of control, which reads the counterfactual's own codes.

Method, section 5.6 (Makelov, Lange and Nanda 2024, arXiv 2405.08366, section 5.1). Codes, bias and
target are those of p' itself, moved greedily with at most k latents at each site. It compares with
published numbers, can be won by a lookup table, and is in no mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.dictionaries.edits import Edited, copying
from sage.scores.levels import Decisions, Form, Split
from sage.scores.node_set import Contender, NodeSet
from sage.scores.runs import Behaviour, SplitBehaviour, behaviours
from sage.scores.score import Columns, Detail, Score


class Copying(NamedTuple):
    """One dictionary's copied edits of the pairs of one split, by k."""

    split: SplitBehaviour
    behaviour: Mapping[int, Behaviour]
    isolation: Mapping[int, Float[np.ndarray, "prompt"]]
    picks: Mapping[int, Float[np.ndarray, "prompt"]]

    def columns(self, form: Form, k: int) -> Columns:
        """w with nothing edited and with k latents moved at each site."""
        weights = [self._weight(form, None), self._weight(form, k)]
        return Columns(np.stack(weights, -1), self.split.clusters)

    def _weight(self, form: Form, k: int | None) -> Float[np.ndarray, "prompt"]:
        behaviour = self.split.clean if k is None else self.behaviour[k]
        isolation = 1.0 if k is None else self.isolation[k]
        if form == "success":
            return (behaviour.choice == self.split.truth.choice) * isolation
        score = self.split.graded(behaviour.metric)
        return np.where(score > 0, score * isolation, score)


def run_copying(node_set: NodeSet, contender: Contender) -> Copying:
    """Copy at most k latents at each site of the test pairs, for every k, and run the model."""
    split, watched = node_set.test, node_set.watched("test")
    edits: dict[int, Edited] = copying(
        contender.dictionary,
        *split.pairs,
        variance=node_set.data.supervised.variance,
        ks=node_set.settings.copying,
        choice=contender.choice,
    )
    values = [edit.values for edit in edits.values()]
    answers = node_set.data.shared.answers
    results = behaviours(node_set.model, values, split.pairs, answers)
    return Copying(
        split.behaviour,
        dict(zip(edits, results, strict=True)),
        {k: watched.isolation(edit.values) for k, edit in edits.items()},
        {k: edit.picks.double().numpy() for k, edit in edits.items()},
    )


def raw_copying(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, "draw"]:
    """(w_k - w_0)/(1 - w_0)."""
    return (means[:, 1] - means[:, 0]) / (1 - means[:, 0])


def copying_statistic(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, "draw"]:
    """The same, clipped to [0, 1]."""
    return np.clip(raw_copying(means), 0, 1)


def measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, Copying]:
    """Those contenders that are to be copied; nothing is decided by it, so on test alone."""
    if split != "test" or not node_set.settings.copying:
        return {}
    return {
        contender.name: run_copying(node_set, contender)
        for contender in contenders
        if contender.copied
    }


def _columns(part: Copying, decisions: Decisions) -> Columns:
    return part.columns(decisions.form, max(part.behaviour))


def _details(part: Copying, decisions: Decisions) -> Iterator[Detail]:
    """Every k."""
    for k in part.behaviour:
        columns = part.columns(decisions.form, k)
        picks = float(part.picks[k].mean())
        yield Detail("copying", columns, copying_statistic, raw_copying, k=k, picks=picks)


SCORE = Score(
    name="copying",
    version=2,
    symbol="copying",
    title="copying",
    zero="nothing edited",
    one="the nodes set to what they hold on the other prompt",
    measurement="copying",
    columns=_columns,
    statistic=copying_statistic,
    raw=raw_copying,
    why_undefined=lambda decisions: decisions.control,
    details=_details,
    headline=False,
    has_form=True,
    figure="copying",
)
