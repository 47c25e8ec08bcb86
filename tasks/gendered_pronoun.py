"""Gendered pronoun: the pronoun that fits a first name (name lists and sentences are our own)."""

from __future__ import annotations

from sage import Task

NAMES = {
    "he": """
        John Bob Tom Jack James Robert Michael William David Richard Joseph Thomas Charles Daniel
        Anthony Mark Paul Steven Andrew George Kevin Brian Edward Jason Ryan Jacob Gary Eric Stephen
        Justin
    """.split(),
    "she": """
        Mary Alice Sarah Emma Anna Laura Julia Kate Jane Linda Susan Karen Lisa Nancy Helen Ruth
        Michelle Emily Amy Rebecca Rachel Maria Diana Elizabeth Jennifer Jessica
    """.split(),
}
PRONOUNS = {name: pronoun for pronoun, names in NAMES.items() for name in names}
OTHER = {"he": "she", "she": "he"}
ADJECTIVES = (
    "good great nice kind funny happy clever quiet proud brave calm strong tired busy".split()
)
PLACES = """
    park school store station library museum office hospital market beach garden restaurant
""".split()

task = Task(
    name="gendered_pronoun",
    source="Mathwin et al. 2023, https://cmathw.itch.io/identifying-a-preliminary-circuit-for-predicting-gendered-pronouns-in-gpt-2-smal",
    templates={
        "tag": {"plain": "So {name} is a really {adjective} friend from the {place}, isn't"},
        "because": {"plain": "At the {place} everyone knew {name} was {adjective}, because"},
        "said": {"plain": "The {adjective} {name} came home from the {place} and said that"},
        "when": {"plain": "We all thought {name} looked {adjective} at the {place} when"},
        "before": {"plain": "My {adjective} friend {name} worked at the {place} for years before"},
        "if": {"plain": "Nobody at the {place} would ask {name} for a {adjective} story if"},
        "wrote": {"plain": "In a {adjective} letter from the {place} {name} wrote that"},
        "until": {"plain": "They waited at the {place} for the {adjective} {name} until"},
    },
    slots={"name": list(PRONOUNS), "adjective": ADJECTIVES, "place": PLACES},
    answer=lambda prompt: PRONOUNS[prompt.slots["name"]],
    foil=lambda prompt: OTHER[PRONOUNS[prompt.slots["name"]]],
    attributes=("gender", "name"),
    irrelevant=("adjective", "place", "template"),
    functions={"gender": lambda prompt: PRONOUNS[prompt.slots["name"]]},
    within={"name": "gender"},
    contrasts=("gender", "name"),
    notes=(
        "Gender is what first names suggest in English text. "
        "Every name is one that the lists of other tasks have too."
    ),
)
