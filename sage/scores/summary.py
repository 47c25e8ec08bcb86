"""Over contrasts: the mean of clipped scores, and of their gains over the best control.

Method, sections 5.1 and 5.9. Where the union of a contrast's nodes has no control, the group that
stands in for it does; contrasts that have neither are lost, for every dictionary alike, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sage.result import ALL, Row
from sage.scores.rows import PlaceScores, with_estimate, with_gain
from sage.scores.score import Score, headlines
from sage.stats import Sampled, average


@dataclass(frozen=True, eq=False)
class ContrastScores:
    """One contrast of one suite: at the union of the nodes it reaches, and what stands in for it.

    `stand_in` is a group of them, where the union has no control; `reach` the share of the
    section's statistic.
    """

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
        places = [place for entry in contrasts if (place := entry.at(score)) is not None]
        lost = [entry.contrast for entry in contrasts if entry.at(score) is None]
        measured: dict[str, None] = {}
        for place in places:
            measured |= dict.fromkeys(place.sampled[score.name])
        for name in measured or (suite,):
            blank = Row(
                ALL, suite, name, score.name, ALL, None, 0,
                version=score.version, contrasts=len(places), seed=seed,
                status=f"ok; without {', '.join(lost)}" if lost else "ok",
            )  # fmt: skip
            rows.append(_summary(score, blank, places))
    return rows


def _summary(score: Score, blank: Row, places: Sequence[PlaceScores]) -> Row:
    """The mean over these places; undefined for a dictionary that some of them lack."""
    if not places:
        return replace(blank, status="undefined: no contrast has this score")
    values = _sampled(score, places, [blank.dictionary] * len(places))
    if len(values) < len(places):
        why = f"measured at {len(values)} of {len(places)} contrasts"
        return replace(blank, status=f"undefined: {why}")
    mean = average(values)
    row = with_estimate(blank, mean)
    controls = _sampled(score, places, [place.best.get(score.name) for place in places])
    if len(controls) < len(places):
        return row
    return with_gain(row, mean, "best of each contrast", average(controls))


def _sampled(
    score: Score, places: Sequence[PlaceScores], names: Sequence[str | None]
) -> list[Sampled]:
    """What these dictionaries, one for each place, score there; those that were not measured are
    left out."""
    values: list[Sampled] = []
    for place, name in zip(places, names, strict=True):
        value = place.sampled[score.name].get(name or "")
        if value is not None:
            values.append(value)
    return values
