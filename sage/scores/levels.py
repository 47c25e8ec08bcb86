"""What every score of control is over: F1 levels, budgets and forms.

Method, sections 5.3 to 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["decide", "test"]
Form = Literal["success", "graded"]
FORMS: tuple[Form, ...] = ("success", "graded")
# Corrected F1 from which a latent means something; at 0 every latent may be moved. Few levels are
# high steps: blind edits raised a mean over .25, .5 and .75 that took latents over them and found
# nothing better (`python -m tests.benchmarks.gaming`).
ANY = 0.0
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
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
