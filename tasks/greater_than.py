"""Greater-than: what began in a year ends in a later one of its century.

Nouns and sentences are our own.

Years split as [" CC", "YY"] for some centuries only (all years from 1702 for GPT-2 and Pythia), so
prompts are kept or dropped as a whole. The metric is the summed probability of the years above YY
minus that of the years up to it, from 01: 1700 is one token in GPT-2.

Where years split into digits (Gemma, SmolLM2) the next digit is that of the decade: the metric is
the summed probability of later decades minus that of earlier ones, and the year within its decade
moves nothing.
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


def later_decade(prompt: Prompt) -> list[str]:
    return [str(digit) for digit in range(int(prompt.slots["decade"]) + 1, 10)]


def earlier_decade(prompt: Prompt) -> list[str]:
    return [str(digit) for digit in range(int(prompt.slots["decade"]))]


SOURCE = "Hanna et al. 2023, https://arxiv.org/abs/2305.00586"
TEMPLATES = {
    "lasted": {"plain": "The {noun} lasted from the year {CC}{YY} to the year {CC}"},
    "began": {"plain": "The {noun} began in {CC}{YY} and was over in {CC}"},
    "between": {"plain": "There was a {noun} between the years {CC}{YY} and {CC}"},
    "started": {"plain": "It is known that the {noun} started in {CC}{YY} and ended in {CC}"},
    "went": {"plain": "In our books the {noun} went on from {CC}{YY} until {CC}"},
    "long": {"plain": "They said that the long {noun} of {CC}{YY} came to an end in {CC}"},
    "books": {"plain": "Our books say of the {noun} that it went from {CC}{YY} up to {CC}"},
    "nobody": {"plain": "Nobody knew that a {noun} of {CC}{YY} would go on until {CC}"},
}

digits = Task(
    name="greater_than",
    source=SOURCE,
    templates={
        family: {
            variant: text.replace("{CC}{YY}", "{CC}{decade}{year}")
            for variant, text in texts.items()
        }
        for family, texts in TEMPLATES.items()
    },
    slots={
        "noun": NOUNS,
        "CC": CENTURIES,
        "decade": [str(digit) for digit in range(1, 9)],
        "year": [str(digit) for digit in range(10)],
    },
    answer=later_decade,
    foil=earlier_decade,
    before_answer="",
    metric="probability_difference",
    attributes=("decade",),
    irrelevant=("noun", "year", "template"),
    ordinal=("decade",),
    contrasts=("decade",),
    multi_token=("CC",),
)

task = Task(
    name="greater_than",
    source=SOURCE,
    templates=TEMPLATES,
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
    otherwise=digits,
    notes=(
        "For other centuries replace the slot CC. Where years split into digits, the decade alone "
        "is asked for, by the next digit."
    ),
)
