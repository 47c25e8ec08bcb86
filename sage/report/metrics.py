"""The metrics that pages show, by the names they have there."""

from __future__ import annotations

from sage.result import COMPONENTS

NORMALISED = {component: f"{component} normalised" for component in COMPONENTS}

# A suite's numbers over all contrasts.
SUMMARY = ("control", "sage", *NORMALISED.values(), "reach")

OVERALL_COLUMNS = {
    "control = T2": "control",
    "T1": NORMALISED["T1"],
    "T3": NORMALISED["T3"],
    "T4": NORMALISED["T4"],
    "sage": "sage",
}
OVERALL_PANELS = {
    "control (T2)": "control",
    "T1 approximation": NORMALISED["T1"],
    "T3 interpretability": NORMALISED["T3"],
    "T4 geometry": NORMALISED["T4"],
    "sage (mean of four)": "sage",
}
COMPONENT_PANELS = {
    "T1 approximation": "T1",
    "T2 control": "T2",
    "T3 interpretability": "T3",
    "T4 geometry": "T4",
}
PARTS = (
    "sufficiency",
    "necessity",
    "coverage",
    "decoding",
    "MCC",
    "MCC null",
    "uniqueness",
    "principal angle",
)
MEASURED_ON_SHUFFLED_LABELS = ("T3", "T4")
AT_A_BUDGET = ("accuracy", "graded", "isolation", "magnitude")
COMPARED = {"control": "Control", "sage": "The sage score"}
