"""Over contrasts: the mean of clipped scores, and of their gains over the best control.

Method, sections 5.1 and 5.9. Where the union of a contrast's nodes has no control, the group that
stands in for it does; contrasts that have neither are lost, for every dictionary alike, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sage.result import ALL, BestControl, Row
from sage.scores.rows import PlaceScores, with_estimate
from sage.scores.score import Score, headlines
from sage.stats import average, combine


@dataclass(frozen=True, eq=False)
class ContrastScores:
    """One contrast of one suite: at the union of the nodes it reaches, and at the group that stands
    in where the union has no control. `reach` is the share of the section's statistic."""

    contrast: str
    reach: float
    union: PlaceScores | None
    stand_in: PlaceScores | None = None

    def at(self, score: Score) -> PlaceScores | None:
        """Where a score of this contrast is defined; None where it is nowhere."""
        for scores in (self.union, self.stand_in):
            if scores is not None and score.why_undefined(scores.decisions) is None:
                return scores
        return None


def summary_rows(
    contrasts: Sequence[ContrastScores], *, suite: str, reach: float, seed: int
) -> list[Row]:
    """Every dictionary's mean of every headline score over the contrasts that have it, beside the
    best controls' mean on the same contrasts."""
    rows = [Row(ALL, suite, suite, "reach", ALL, reach, 0, seed=seed)]
    for score in headlines():
        places = {own.contrast: place for own in contrasts if (place := own.at(score)) is not None}
        lost = [own.contrast for own in contrasts if own.contrast not in places]
        names = dict.fromkeys(n for place in places.values() for n in place.sampled[score.name])
        for name in names or (suite,):
            status = f"ok; without {', '.join(lost)}" if lost else "ok"
            blank = Row(
                ALL, suite, name, score.name, ALL, None, 0,
                version=score.version, contrasts=len(places), seed=seed, status=status,
            )  # fmt: skip
            rows.append(_summary(score, blank, list(places.values())))
    return rows


def _summary(score: Score, blank: Row, places: Sequence[PlaceScores]) -> Row:
    """The mean over these places; undefined for a dictionary that was not measured at all of
    them."""
    name = blank.dictionary
    values = [place.sampled[score.name].get(name) for place in places]
    present = [value for value in values if value is not None]
    if not places:
        return replace(blank, status="undefined: no contrast has this score")
    if len(present) < len(places):
        why = f"measured at {len(present)} of {len(places)} contrasts"
        return replace(blank, status=f"undefined: {why}")
    mean = average(present)
    row = with_estimate(blank, mean)
    controls = [place.sampled[score.name].get(place.best.get(score.name, "")) for place in places]
    known = [control for control in controls if control is not None]
    if len(known) < len(places):
        return row
    gain = combine(lambda own, control: own - control, mean, average(known)).estimate()
    best = BestControl("best of each contrast", average(known).value)
    return replace(row, best_control=best, gain=gain.value, gain_low=gain.low, gain_high=gain.high)
