"""T2, control: does the model do under a few moved latents what it does under a whole patch?

Method, sections 5.3 and 5.4. The latents are moved by what the labels of p' tell alone; the ground
truth patches the same nodes with the activations of p'. Success is that the model says what it then
says; the graded form is the share of the change of the metric that the edit brings about. Both
count only as far as the edit leaves alone what it was not meant to change. T3 (`interpretable`) and
`move` are measured on the same edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.dictionaries.activations import Activations, Labels, Site
from sage.dictionaries.dictionary import Dictionary, LabelMoves
from sage.dictionaries.edits import Edited, Masks, Way, control
from sage.dictionaries.need import MULTIPLES
from sage.dictionaries.search import Budget
from sage.dictionaries.supervised import FeatureDictionary
from sage.memory import EDITED_NUMBERS_HELD
from sage.models.base import Model
from sage.scores.data import Answers
from sage.scores.isolation import Bystanders
from sage.scores.levels import (
    ANY,
    BUDGETS,
    FORMS,
    LEVELS,
    OTHER_FORM,
    UNBOUNDED,
    Decisions,
    Form,
    Split,
)
from sage.scores.node_set import Contender, NodeSet
from sage.scores.runs import Behaviour, SplitBehaviour, SplitRuns, behaviours
from sage.scores.score import Columns, Detail, Score, mean_of


class EditOutcomes(NamedTuple):
    """One dictionary's edits of the pairs of one split, by F1 level and budget.

    `behaviour` is what the model does under each, `isolation` the share of bystanders left alone,
    `distance` what is missing to the aim of `start`, `picks` how many latents were moved.
    """

    split: SplitBehaviour
    edits: Mapping[tuple[float, str], Edited]
    behaviour: Mapping[tuple[float, str], Behaviour]
    isolation: Mapping[tuple[float, str], Float[np.ndarray, "prompt"]]

    def success(self, level: float, budget: str) -> Float[np.ndarray, "prompt"]:
        """Where the model says what it says under the ground truth."""
        said = self.behaviour[level, budget].choice
        return (said == self.split.truth.choice).astype(float)

    def graded(self, level: float, budget: str) -> Float[np.ndarray, "prompt"]:
        """1 - |m_edit - m_gt| / E|m_clean - m_gt|."""
        return self.split.graded(self.behaviour[level, budget].metric)

    def weight(self, form: Form, level: float, budget: str) -> Float[np.ndarray, "prompt"]:
        """w: success or graded, times isolation where it is positive."""
        score = self.success(level, budget) if form == "success" else self.graded(level, budget)
        return np.where(score > 0, score * self.isolation[level, budget], score)

    def nothing(self, form: Form) -> Float[np.ndarray, "prompt"]:
        """w with nothing edited."""
        if form == "success":
            return self.split.unchanged
        return self.split.graded(self.split.clean.metric)

    def columns(self, form: Form, levels: Sequence[float]) -> Columns:
        """w with nothing edited, and at every level and budget, level by level."""
        weights = [self.weight(form, level, budget) for level in levels for budget in BUDGETS]
        return Columns(np.stack([self.nothing(form), *weights], -1), self.clusters)

    def moved(self, levels: Sequence[float]) -> Columns:
        """The distance to the aim with nothing edited, and at every level and budget."""
        return self.distances(self.edits, levels, self.clusters)

    @staticmethod
    def distances(
        edits: Mapping[tuple[float, str], Edited],
        levels: Sequence[float],
        clusters: tuple[int, ...] | None = None,
    ) -> Columns:
        """The same of edits under which the model was not run."""
        first = next(iter(edits.values()))
        left = [edits[level, budget].distance for level in levels for budget in BUDGETS]
        numbers = [distance.double().numpy() for distance in (first.start, *left)]
        return Columns(np.stack(numbers, -1), clusters)

    @property
    def clusters(self) -> tuple[int, ...]:
        """Which pairs share prompts."""
        return self.split.clusters

    @property
    def budgets(self) -> tuple[str, ...]:
        """The budgets that were run without a bound on F1."""
        return tuple(budget for level, budget in self.edits if level == ANY)

    @property
    def has_levels(self) -> bool:
        """Whether the edits were run at every F1 level."""
        return all((level, BUDGETS[0]) in self.edits for level in LEVELS)


class Aim(NamedTuple):
    """What edits aim at: by whose features, with how many latents at each site."""

    features: FeatureDictionary
    budgets: Mapping[Site, tuple[Budget, ...]]
    names: tuple[str, ...]


Edits = Mapping[tuple[float, str], Edited]


def make_aim(features: FeatureDictionary, needs: Mapping[Site, int], *, unbounded: bool) -> Aim:
    """Budgets of need, 2 need and 4 need at every site, and no bound at all if wanted."""
    last: tuple[Budget, ...] = (None,) if unbounded else ()
    budgets = {site: (*(n * need for n in MULTIPLES), *last) for site, need in needs.items()}
    return Aim(features, budgets, (*BUDGETS, *((UNBOUNDED,) if unbounded else ())))


class Along(NamedTuple):
    """The latents that each level lets through, and whose directions they are moved along (None:
    their own dictionary's)."""

    masks: Mapping[float, Masks | None]
    directions: Dictionary | None = None


def make_edits(
    candidates: LabelMoves, base: Activations, labels: Labels, aim: Aim, *, along: Sequence[Along]
) -> list[Edits]:
    """Every prompt's nodes moved towards the aim at every budget and level, for dictionaries that
    have the codes of the candidates. The budget without a bound is at level 0 alone."""
    ways = {
        (id(mask), id(each.directions)): Way(mask, each.directions, bounded=mask is not None)
        for each in along
        for mask in each.masks.values()
    }
    edited = control(
        candidates,
        base,
        labels,
        aim.features.aim(base, labels),
        variance=aim.features.variance,
        budgets=aim.budgets,
        ways=list(ways.values()),
    )
    by_way = dict(zip(ways, edited, strict=True))
    return [
        {
            (level, name): edit
            for level, mask in each.masks.items()
            for name, edit in zip(
                aim.names if mask is None else [n for n in aim.names if n != UNBOUNDED],
                by_way[id(mask), id(each.directions)],
                strict=True,
            )
            if name != UNBOUNDED or level == ANY
        }
        for each in along
    ]


def run_edits(
    model: Model,
    edits: Mapping[str, Edits],
    split: SplitRuns,
    watched: Bystanders,
    answers: Answers,
) -> dict[str, EditOutcomes]:
    """What the model does under the edits of every dictionary, run together, and what they leave
    alone."""
    values = [edit.values for made in edits.values() for edit in made.values()]
    results = iter(behaviours(model, values, split.pairs, answers))
    alone = {
        id(edit): watched.isolation(edit.values)
        for made in edits.values()
        for edit in made.values()
    }
    return {
        name: EditOutcomes(
            split.behaviour,
            {key: edit._replace(values={}) for key, edit in made.items()},
            {key: next(results) for key in made},
            {key: alone[id(edit)] for key, edit in made.items()},
        )
        for name, made in edits.items()
    }


def control_statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
    """The mean over budgets of (w - w_0)/(1 - w_0), clipped for each level, and its mean over the
    levels."""
    return np.clip(_by_level(means), 0, 1).mean(-1)


def raw_control_statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw"]:
    """The same, unclipped."""
    return _by_level(means).mean(-1)


def _by_level(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, "draw level"]:
    nothing = means[:, :1]
    shares = (means[:, 1:] - nothing) / (1 - nothing)
    return shares.reshape(len(means), -1, len(BUDGETS)).mean(-1)


def measure(
    node_set: NodeSet, contenders: Sequence[Contender], *, split: Split
) -> dict[str, EditOutcomes]:
    """Every contender that has latents to move, edited at its levels; as many at a time as memory
    should hold, and those that have the same codes together."""
    runs = node_set.split(split)
    watched, answers = node_set.watched(split), node_set.data.shared.answers
    outcomes: dict[str, EditOutcomes] = {}
    waiting: dict[str, Edits] = {}
    numbers = sum(value.numel() for value in runs.pairs.base.values.values())
    for group in _told_alike(contenders):
        waiting |= _edits_of(node_set, group, runs)
        apart = {id(edit) for made in waiting.values() for edit in made.values()}
        if numbers * len(apart) > EDITED_NUMBERS_HELD:
            outcomes |= run_edits(node_set.model, waiting, runs, watched, answers)
            waiting = {}
    return outcomes | run_edits(node_set.model, waiting, runs, watched, answers)


def _told_alike(contenders: Sequence[Contender]) -> list[list[Contender]]:
    """Contenders that have latents, those together whose latents would move by the same steps."""
    groups: list[list[Contender]] = []
    for contender in contenders:
        if contender.candidates is None:
            continue
        for group in groups:
            if contender.told_as(group[0]):
                group.append(contender)
                break
        else:
            groups.append([contender])
    return groups


def _edits_of(
    node_set: NodeSet, group: Sequence[Contender], runs: SplitRuns
) -> Mapping[str, Edits]:
    """The edits of contenders that have the same codes."""
    first = group[0]
    assert first.candidates is not None
    aim = make_aim(first.features, node_set.needs, unbounded=node_set.settings.unbounded)
    base, labels = runs.pairs.base, runs.pairs.labels
    along = [
        Along(node_set.masks(entry), None if entry is first else entry.dictionary)
        for entry in group
    ]
    edits = make_edits(first.candidates, base, labels, aim, along=along)
    return dict(zip([entry.name for entry in group], edits, strict=True))


def _columns(part: EditOutcomes, decisions: Decisions) -> Columns:
    return part.columns(decisions.form, (ANY,))


def _details(part: EditOutcomes, decisions: Decisions) -> Iterator[Detail]:
    """The other form, every budget in both forms, isolation, and the budget without a bound."""
    for form in FORMS:
        if form != decisions.form:
            columns = part.columns(form, (ANY,))
            detail = Detail("control", columns, control_statistic, raw_control_statistic)
            yield detail._replace(form=form, at=OTHER_FORM)
    for budget in part.budgets:
        picks = float(part.edits[ANY, budget].picks.double().mean())
        for form in FORMS:
            weights = [part.nothing(form), part.weight(form, ANY, budget)]
            columns = Columns(np.stack(weights, -1), part.clusters)
            detail = Detail("control", columns, _clipped_gain, gain, form=form)
            yield detail._replace(budget=budget, picks=picks)
        isolation = Columns(part.isolation[ANY, budget][:, None], part.clusters)
        yield Detail("isolation", isolation, mean_of(0), budget=budget, picks=picks)


def gain(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, "draw"]:
    """(w - w_0)/(1 - w_0) at one budget."""
    return (means[:, 1] - means[:, 0]) / (1 - means[:, 0])


def _clipped_gain(means: Float[np.ndarray, "draw 2"]) -> Float[np.ndarray, "draw"]:
    return np.clip(gain(means), 0, 1)


SCORE = Score(
    name="control",
    version=2,
    symbol="T2",
    title="control",
    zero="nothing edited",
    one="the nodes set to what they hold on the other prompt",
    measurement="control",
    columns=_columns,
    statistic=control_statistic,
    raw=raw_control_statistic,
    why_undefined=lambda decisions: decisions.control,
    details=_details,
    has_form=True,
    figure="frontier",
)
