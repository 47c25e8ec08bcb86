"""The claim that a report opens with: which suite leads on each model, or what cannot be ranked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sage.report.differences import difference_of
from sage.report.metrics import HEADLINES, MAIN
from sage.report.ranking import RankedSuite, Ranking, RunSummary, rankings
from sage.report.reported_score import covers
from sage.report.tables.all_runs import LINES
from sage.report.words import count, listed

# Of more models than this the table has the names.
MOST_NAMED = 3
_CONTROL = "control"


class Claim(NamedTuple):
    """The first line of the report and what must stand beside it.

    Every second one of the line's parts is a name or a number.
    """

    parts: tuple[str, ...]
    beside: list[str]

    @property
    def headline(self) -> str:
        return "".join(self.parts)


def make_claim(suites: Sequence[RankedSuite], runs: Sequence[RunSummary]) -> Claim:
    """Model by model the suite with the highest interpretable control, where suites may be ranked;
    else why not."""
    if not any(run.gate.passed for run in runs):
        return Claim(
            ("No model does its task here, so nothing was scored.",),
            ["The table of gates below says by how much each one misses."],
        )
    ranked = [ranking for ranking in rankings(suites) if ranking.suites]
    if not ranked:
        reasons = dict.fromkeys(suite.score(MAIN).why for suite in suites)
        why = "; ".join(reasons) or "no suite was given"
        return Claim((f"No suite has a {HEADLINES[MAIN]} score here.",), [f"Undefined: {why}."])
    led = [ranking for ranking in ranked if ranking.best is not None]
    if not led:
        return Claim(
            _not_ranked(ranked), [*_beside(ranked, runs), *_what_cannot_be_ranked(led, ranked)]
        )
    return Claim(_leaders(led), [*_beside(led, runs), *_what_cannot_be_ranked(led, ranked)])


def _leaders(led: Sequence[Ranking]) -> tuple[str, ...]:
    """The best suite of each model, its score and its L0."""
    label = HEADLINES[MAIN]
    if len(led) > MOST_NAMED:
        return ("On each of ", str(len(led)), f" models one suite leads in {label}: see the table.")
    parts: list[str] = []
    for ranking in led:
        best = ranking.suites[0]
        opening = f"Highest interpretable control ({label}): " if not parts else "; "
        parts += [opening, best.name, " ", str(best.shared), " at L0 ", f"{best.l0:.1f}"]
    return (*parts, _gains(led))


def _gains(led: Sequence[Ranking]) -> str:
    """The end of the claim: which of those that lead are not above their best control for sure."""
    gains = {ranking.suites[0].name: ranking.suites[0].line(MAIN).gain for ranking in led}
    unsure = [name for name, gain in gains.items() if gain.low is None or gain.low <= 0]
    if not unsure:
        return "."
    who = "it" if len(led) == 1 else listed(unsure)
    return f"; that {who} is above the best control is not told."


def _not_ranked(ranked: Sequence[Ranking]) -> tuple[str, ...]:
    """The only suite of a model with its score; else why nothing is ranked."""
    ranking = ranked[0]
    if len(ranked) == 1 and len(ranking.suites) == 1:
        suite = ranking.suites[0]
        label = f" comes to an interpretable control ({HEADLINES[MAIN]}) of "
        return (
            "",
            suite.name,
            label,
            str(suite.score(MAIN)),
            " at L0 ",
            f"{suite.l0:.1f}",
            ", over ",
            count(suite.score(MAIN).tasks, "task"),
            ".",
        )
    reasons = {ranking.why for ranking in ranked}
    if len(reasons) > 1:
        return ("Nothing is ranked here; the reasons stand below.",)
    return (f"Nothing is ranked here: {ranking.why}.",)


def _beside(rankings: Sequence[Ranking], runs: Sequence[RunSummary]) -> Iterator[str]:
    """What stands beside the first suite of each ranking, and what its interval covers."""
    for ranking in rankings if len(rankings) <= MOST_NAMED else ():
        suite = ranking.suites[0]
        line = suite.line(MAIN)
        words = [
            f"{HEADLINES[MAIN]} {line.score}",
            f"best control {line.best}",
            f"gain over it {line.gain}",
            f"supervised features {line.supervised}",
            *_lines(suite),
        ]
        over = f"{count(line.score.contrasts, 'contrast')} of {count(line.score.tasks, 'task')}"
        yield (
            f"{suite.name}, over {over}: {', '.join(words)}. Its SAEs reach"
            f" {100 * suite.reach:.0f} % of the sections, by effect."
        )
        if len(ranking.suites) > 1:
            yield _second(ranking, runs) if ranking.best else _another(ranking, runs)
    scores = [ranking.suites[0].score(MAIN) for ranking in rankings]
    yield (
        "0 is what editing nothing does, 1 what setting the nodes to their values on the other"
        f" prompt does. 95 % intervals are {covers(scores)}, with tasks taken as given."
    )


def _lines(suite: RankedSuite) -> Iterator[str]:
    """What memories and principal components come to on the same nodes; T2 where the plan did not
    measure interpretable control of them."""
    for name in LINES:
        score = suite.score(MAIN, name)
        if score.value is not None:
            yield f"{name} {score}"
            continue
        score = suite.score(_CONTROL, name)
        if score.value is not None:
            yield f"{name} ({HEADLINES[_CONTROL]}) {score}"


def _second(ranking: Ranking, runs: Sequence[RunSummary]) -> str:
    """The runner-up, and whether the two can be told apart."""
    best, second = ranking.suites[0], ranking.suites[1]
    told = _told_apart(best, second, runs)
    return (
        f"Ranked on {ranking.model}: {count(len(ranking.suites), 'suite')} over the"
        f" {count(ranking.contrasts, 'contrast')} of {count(ranking.tasks, 'task')} that all of"
        f" them have. Second: {second.label} {second.shared} at L0 {second.l0:.1f}{told}."
    )


def _another(ranking: Ranking, runs: Sequence[RunSummary]) -> str:
    """The next of suites that are not ranked, and whether the first can be told from it."""
    first, other = ranking.suites[:2]
    told = _told_apart(first, other, runs)
    return f"Beside it {other.label} {other.score(MAIN)} at L0 {other.l0:.1f}{told}."


def _told_apart(best: RankedSuite, second: RankedSuite, runs: Sequence[RunSummary]) -> str:
    """The first less the second, in pairs, and over how many of its tasks where these are fewer."""
    difference = difference_of(best, second, runs)
    if difference is None:
        return "; whether the two can be told apart is not known"
    over = "seeds" if difference.redrawn else "test prompts"
    if difference.over.tasks < best.score(MAIN).tasks:
        over += f" of {count(difference.over.tasks, 'task')}"
    told = "" if difference.told_apart else ", so that the two are not told apart"
    return f"; the first less it is {difference}, in pairs over {over}{told}"


def _what_cannot_be_ranked(led: Sequence[Ranking], ranked: Sequence[Ranking]) -> Iterator[str]:
    """Why the suites of the other models stand without a ranking."""
    reasons: dict[str, list[str]] = {}
    for ranking in ranked:
        if ranking not in led:
            reasons.setdefault(ranking.why, []).append(ranking.model)
    if led or len(reasons) > 1:
        for why, models in reasons.items():
            yield f"Not ranked on {listed(models)}: {why}."
    if len(ranked) > 1:
        yield "Models are not ranked against each other: their nodes and contrasts differ."
