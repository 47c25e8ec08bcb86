"""Greater-than: what began in a year ends in a later one of its century.

Nouns and sentences are our own.

Years split as [" CC", "YY"] for some centuries only (all years from 1702 for GPT-2 and Pythia), so
prompts are kept or dropped as a whole. The metric is the summed probability of the years above YY
minus that of the years up to it, from 01: 1700 is one token in GPT-2.
"""

from __future__ import annotations

from sage import Prompt, Task

NOUNS = """
    war project campaign mission journey study marriage strike drought debate siege boom treaty
    crisis reform trial plan empire dynasty rebellion search deal voyage tour alliance contract
    tradition famine plague expedition reign revolt trade work dispute festival friendship movement
    alarm occupation
""".split()
CENTURIES = ["17"]
YEARS = [f"{year:02d}" for year in range(2, 99)]


def later(prompt: Prompt) -> list[str]:
    return [f"{year:02d}" for year in range(int(prompt.slots["YY"]) + 1, 100)]


def not_later(prompt: Prompt) -> list[str]:
    return [f"{year:02d}" for year in range(1, int(prompt.slots["YY"]) + 1)]


task = Task(
    name="greater_than",
    source="Hanna et al. 2023, https://arxiv.org/abs/2305.00586",
    templates={
        "lasted": {"plain": "The {noun} lasted from the year {CC}{YY} to the year {CC}"},
        "began": {"plain": "The {noun} began in {CC}{YY} and was over in {CC}"},
        "between": {"plain": "There was a {noun} between the years {CC}{YY} and {CC}"},
        "started": {"plain": "It is known that the {noun} started in {CC}{YY} and ended in {CC}"},
        "went": {"plain": "In our books the {noun} went on from {CC}{YY} until {CC}"},
        "long": {"plain": "They said that the long {noun} of {CC}{YY} came to an end in {CC}"},
        "books": {"plain": "Our books say of the {noun} that it went from {CC}{YY} up to {CC}"},
        "nobody": {"plain": "Nobody knew that a {noun} of {CC}{YY} would go on until {CC}"},
    },
    slots={"noun": NOUNS, "CC": CENTURIES, "YY": YEARS},
    answer=later,
    foil=not_later,
    before_answer="",
    metric="probability_difference",
    attributes=("decade", "YY"),
    irrelevant=("noun", "template"),
    functions={"decade": lambda prompt: int(prompt.slots["YY"][0])},
    within={"YY": "decade"},
    ordinal=("decade", "YY"),
    contrasts=("decade", "YY"),
    notes=(
        "For other centuries replace the slot CC; "
        "Gemma splits years into digits and can carry none of them."
    ),
)
