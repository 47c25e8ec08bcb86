"""Scores of dictionaries in a planted world, by the same code that scores SAEs on a model.

Method, sections 5 and 7: prompts to fit on, pairs to decide on and pairs to report, and one node,
whose statistic is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sage.dictionaries.activations import Activations, moments
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
from sage.scores.score import Score, at_means, headlines, mean_of, scores
from sage.task.metric import logit_difference
from sage.task.tokens import TokenizedPair
from sage.toy.planted import NODE, World

# The seeds of a world's draws, by what these are for; another seed of the scores is so far off.
FIT, DECIDE, TEST, DETECT = 0, 1, 2, 3
APART = 10_000
# Rows beside scores that are audited like scores.
BESIDE = ("isolation", "decoding")

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


def every_score(
    node_sets: Sequence[NodeSet], dictionaries: Sequence[Dictionary]
) -> dict[str, dict[str, float]]:
    """Every dictionary's scores, and with them `decoding` and `isolation` (the mean over budgets),
    which are rows beside scores; `coverage` and `decoding` where the node sets have prompts to
    detect on, `copying` where they copy. The mean over node sets, NaN where one is undefined."""
    by_set = [_every_score(node_set, dictionaries) for node_set in node_sets]
    return {
        dictionary.name: {
            metric: sum(scored[dictionary.name][metric] for scored in by_set) / len(by_set)
            for metric in by_set[0][dictionary.name]
        }
        for dictionary in dictionaries
    }


def one_score(node_sets: Sequence[NodeSet], dictionary: Dictionary, metric: str) -> float:
    """One score of one dictionary, with nothing else measured; the mean over node sets."""
    wanted = (scores()[metric].measurement,)
    contests = [
        hold(
            node_set,
            [node_set.contender(dictionary, measurements=wanted)],
            controls=(),
            thorough=True,
        )
        for node_set in node_sets
    ]
    return _mean(contests, scores()[metric], dictionary.name)


def node_sets(
    world: World,
    contrasts: Sequence[str],
    *,
    prompts: int,
    pairs: int,
    detect: int = 0,
    copying: tuple[int, ...] = (),
    seed: int = 0,
) -> list[NodeSet]:
    """The node set of every contrast: features fitted on so many prompts, so many pairs to decide
    on and as many to report, prompts to detect on, and the k of copying. Another seed redraws all
    of them."""
    first = APART * seed
    fit = world.draw(prompts, first + FIT)
    detected = world.draw(detect, first + DETECT) if detect else None
    fitted = fit_world(world, fit, seed=seed)
    settings = Settings(seed=seed, copying=copying, unbounded=False)
    sets: list[NodeSet] = []
    for contrast in contrasts:
        decide, test = (world.pairs(contrast, pairs, first + use) for use in (DECIDE, TEST))
        data = contrast_data(world, contrast, Drawn(fit, fitted, decide, test, detected))
        sets.append(NodeSet(world.model(*decide, *test), data, settings))
    return sets


def fit_world(world: World, fit: Activations, *, seed: int = 0) -> FittedFeatures:
    """What is fitted on prompts of a world, whatever the contrast."""
    features = fit_features(fit, attributes=world.attributes, within=world.within, seed=seed)
    return FittedFeatures(features, Decoder(features, {}, world.attributes), moments(fit))


class Drawn(NamedTuple):
    """What a contrast is scored on: prompts to fit on and what was fitted on them, pairs to decide
    on and to report, prompts to detect on."""

    fit: Activations
    fitted: FittedFeatures
    decide: PairRuns
    test: PairRuns
    detect: Activations | None = None


def contrast_data(world: World, contrast: str, drawn: Drawn) -> ContrastData:
    """The data of one contrast at the world's node, whose statistic is 1."""
    shared = SharedData(
        fit=drawn.fit,
        irrelevant=None,
        detect=drawn.detect,
        fitted=drawn.fitted,
        answers=Answers(logit_difference, tuple(world.words[contrast])),
        within=world.within,
        ordinal=(),
        nuisance=(),
        attributes=world.attributes,
    )
    return ContrastData(
        section=Section(contrast, {NODE: 1.0}),
        shared=shared,
        decide=drawn.decide,
        test=drawn.test,
        changed=changed_attributes(_tokenized(drawn.decide, contrast), world.attributes),
    )


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


def _every_score(
    node_set: NodeSet, dictionaries: Sequence[Dictionary]
) -> dict[str, dict[str, float]]:
    copied, detected = bool(node_set.settings.copying), node_set.detect is not None
    contenders = [
        node_set.contender(dictionary, copied=copied, detected=detected)
        for dictionary in dictionaries
    ]
    contest = hold(node_set, contenders, controls=(), thorough=True)
    return {entry.name: dict(_of_dictionary(contest, entry.name)) for entry in contenders}


def _of_dictionary(contest: Contest, name: str) -> Iterator[tuple[str, float]]:
    """Its scores, and the rows beside them that are metrics of their own."""
    for score in scores().values():
        evidence = contest.evidence(score, name)
        if evidence is None:
            continue
        undefined = score.why_undefined(contest.decisions) is not None
        yield score.name, float("nan") if undefined else at_means(evidence, score.statistic)
        beside: dict[str, list[float]] = {}
        for detail in score.details(contest.measured[name][score.measurement], contest.decisions):
            if detail.metric in BESIDE:
                value = at_means(detail.evidence, detail.statistic or mean_of(0))
                beside.setdefault(detail.metric, []).append(value)
        for metric, values in beside.items():
            yield metric, sum(values) / len(values)
