"""Scores of dictionaries in a planted world, by the same code that scores SAEs on a model.

Method, sections 5 and 7: prompts to fit on, pairs to decide on and pairs to report, and one node,
whose statistic is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sage.dictionaries.activations import moments
from sage.dictionaries.dictionary import Dictionary
from sage.dictionaries.supervised import fit_features
from sage.nodes import Section
from sage.scores.contest import Contest, hold
from sage.scores.data import (
    Answers,
    ContrastData,
    FittedFeatures,
    PairRuns,
    SharedData,
    changed_attributes,
)
from sage.scores.isolation import Decoder
from sage.scores.node_set import NodeSet, Settings
from sage.scores.score import Score, at_means, headlines
from sage.task.metric import logit_difference
from sage.task.tokens import TokenizedPair
from sage.toy.planted import NODE, World

# The seeds of a world's draws, by what these are for.
FIT, DECIDE, TEST = 0, 1, 2

Scores = Mapping[str, float]


def score_panel(
    world: World,
    dictionaries: Sequence[Dictionary],
    contrasts: Sequence[str],
    *,
    prompts: int = 2000,
    pairs: int = 200,
) -> dict[str, Scores]:
    """Every dictionary's headline scores in a world, the mean over these contrasts."""
    return score(node_sets(world, contrasts, prompts=prompts, pairs=pairs), dictionaries)


def score(node_sets: Sequence[NodeSet], dictionaries: Sequence[Dictionary]) -> dict[str, Scores]:
    """Every dictionary's headline scores by their names, `interpretable`, `control`,
    `approximation`, `geometry` and `move`, the mean over node sets; NaN where one is undefined."""
    names = [dictionary.name for dictionary in dictionaries]
    assert len(set(names)) == len(names), f"dictionaries are told apart by their names: {names}"
    contests = [
        hold(
            node_set,
            [node_set.contender(dictionary) for dictionary in dictionaries],
            controls=(),
            thorough=True,
        )
        for node_set in node_sets
    ]
    return {
        dictionary.name: {
            headline.name: _mean(contests, headline, dictionary.name) for headline in headlines()
        }
        for dictionary in dictionaries
    }


def node_sets(world: World, contrasts: Sequence[str], *, prompts: int, pairs: int) -> list[NodeSet]:
    """The node set of every contrast: features fitted on so many prompts, so many pairs to decide
    on and as many to report."""
    fit = world.draw(prompts, FIT)
    features = fit_features(fit, attributes=world.attributes, within=world.within)
    decoder = Decoder(features, {}, world.attributes)
    fitted = FittedFeatures(features, decoder, moments(fit))
    sets: list[NodeSet] = []
    for contrast in contrasts:
        shared = SharedData(
            fit=fit,
            irrelevant=None,
            detect=None,
            fitted=fitted,
            answers=Answers(logit_difference, tuple(world.words[contrast])),
            within=world.within,
            ordinal=(),
            nuisance=(),
            attributes=world.attributes,
        )
        decide, test = (world.pairs(contrast, pairs, seed) for seed in (DECIDE, TEST))
        data = ContrastData(
            section=Section(contrast, {NODE: 1.0}),
            shared=shared,
            decide=decide,
            test=test,
            changed=changed_attributes(_tokenized(decide, contrast), world.attributes),
        )
        model = world.model(*decide, *test)
        sets.append(NodeSet(model, data, Settings(copying=(), unbounded=False)))
    return sets


def _tokenized(pairs: PairRuns, contrast: str) -> list[TokenizedPair]:
    both = zip(pairs.base.prompts, pairs.target.prompts, strict=True)
    return [TokenizedPair(p, q, contrast) for p, q in both]


def _mean(contests: Sequence[Contest], headline: Score, name: str) -> float:
    values: list[float] = []
    for contest in contests:
        evidence = contest.evidence(headline, name)
        if evidence is None or headline.why_undefined(contest.decisions) is not None:
            return float("nan")
        values.append(at_means(evidence, headline.statistic))
    return sum(values) / len(values)
