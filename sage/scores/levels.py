"""What every score of control is over: F1 levels, budgets and forms.

Method, sections 5.3 to 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["decide", "test"]
Form = Literal["success", "graded"]
FORMS: tuple[Form, ...] = ("success", "graded")
# Corrected F1 from which a latent means something; at 0 every latent may be moved.
ANY = 0.0
LEVELS = (0.25, 0.5, 0.75)
EVERY_LEVEL = (ANY, *LEVELS)
BUDGETS = ("need", "2 need", "4 need")
UNBOUNDED = "all"
# Where a row stands in the form that was not chosen: it is no headline.
OTHER_FORM = "other form"


@dataclass(frozen=True)
class Decisions:
    """What was decided on fit for all dictionaries of a node set alike: why approximation, control
    and geometry are undefined, if they are, and in which form control is.

    `unchanged` is how often the model says the same with nothing edited as under the ground truth,
    `effect` is E|m_clean - m_gt|, `supervised` the supervised features' own control,
    cross-validated.
    """

    approximation: str | None
    control: str | None
    geometry: str | None
    form: Form
    unchanged: float
    effect: float
    supervised: float
