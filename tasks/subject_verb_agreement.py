"""Subject-verb agreement with another noun in the way, or not.

Word lists and sentences are our own. The answers are the verbs that agree with the subject, the
foils their other forms: the metric is the mean over verb pairs of the logit difference. For
probability differences, as published figures have them, set `metric="probability_difference"`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sage import Prompt, Task

SUBJECTS = """
    boy girl teacher doctor lawyer farmer author student king actor artist writer player singer
    driver manager guard parent friend soldier officer judge guest worker nurse pilot dancer
    minister customer scientist engineer president leader prince brother sister
""".split()
ATTRACTORS = """
    dog cat horse bird cow lion bear snake rabbit monkey goat pig chicken dragon elephant duck
""".split()
PREPOSITIONS = "near behind beside before around past above below opposite".split()
VERBS = {
    "singular": "is was has does goes wants needs seems".split(),
    "plural": "are were have do go want need seem".split(),
}

PLURALS = {noun: f"{noun}s" for noun in (*SUBJECTS, *ATTRACTORS)}
OTHER_NUMBER = PLURALS | {plural: noun for noun, plural in PLURALS.items()}


def number(noun: str) -> str:
    return "singular" if noun in PLURALS else "plural"


def agreeing(prompt: Prompt) -> Sequence[str]:
    return VERBS[number(prompt.slots["subject"])]


def disagreeing(prompt: Prompt) -> Sequence[str]:
    return VERBS[number(OTHER_NUMBER[prompt.slots["subject"]])]


task = Task(
    name="subject_verb_agreement",
    source="Linzen et al. 2016, https://arxiv.org/abs/1611.01368; Finlayson et al. 2021, https://arxiv.org/abs/2106.06087",
    templates={
        "none": {"plain": "Right {preposition} the {attractor}, the {subject} still"},
        "PP": {"plain": "The {subject} {preposition} the {attractor} still"},
        "RC": {"plain": "The {subject} that the {attractor} saw {preposition} us still"},
    },
    slots={
        "subject": [*SUBJECTS, *(PLURALS[noun] for noun in SUBJECTS)],
        "attractor": [*ATTRACTORS, *(PLURALS[noun] for noun in ATTRACTORS)],
        "preposition": PREPOSITIONS,
    },
    answer=agreeing,
    foil=disagreeing,
    attributes=("subject_number", "attractor_number", "subject"),
    irrelevant=("preposition",),
    functions={
        "subject_number": lambda prompt: number(prompt.slots["subject"]),
        "attractor_number": lambda prompt: number(prompt.slots["attractor"]),
    },
    within={"subject": "subject_number"},
    maps={"subject_number": OTHER_NUMBER, "attractor_number": OTHER_NUMBER},
    contrasts=("subject_number", "attractor_number", "subject"),
    strata="template",
    notes=(
        "Stratum: what stands between subject and verb, no noun (none), "
        "a prepositional phrase (PP) or a relative clause (RC). A model that does not use the "
        "attractor's number has no section for it, and that is the finding."
    ),
)
