"""T3, interpretable control, the headline: control with only those latents that mean something.

Method, section 5.5. The budgets and edits of T2, with the latents whose activity predicts, at a
corrected F1 of at least t, a value of an attribute that the contrast changes: the mean over t =
.1, .2 to .9. A level at which nothing qualifies scores 0. Called `sage` in tables.
"""

from __future__ import annotations

from collections.abc import Iterator

from sage.scores.control import EditOutcomes, control_statistic, raw_control_statistic
from sage.scores.levels import FORMS, LEVELS, OTHER_FORM, Decisions
from sage.scores.score import Columns, Detail, Score


def _columns(part: EditOutcomes, decisions: Decisions) -> Columns | None:
    return part.columns(decisions.form, LEVELS) if part.has_levels else None


def _details(part: EditOutcomes, decisions: Decisions) -> Iterator[Detail]:
    """The other form, and every level by itself in both forms."""
    if not part.has_levels:
        return
    rules = (control_statistic, raw_control_statistic)
    for form in FORMS:
        if form != decisions.form:
            columns = part.columns(form, LEVELS)
            yield Detail("interpretable", columns, *rules, form=form, at=OTHER_FORM)
        for level in LEVELS:
            columns = part.columns(form, (level,))
            yield Detail("interpretable", columns, *rules, form=form, at=f"F1 >= {level}")


SCORE = Score(
    name="interpretable",
    version=3,
    symbol="T3",
    title="sage: interpretable control",
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
