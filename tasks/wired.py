"""Associative recall over two clauses: the behaviour that the wired model was built for."""

from sage import Task

ANIMALS = ("dog", "cat", "fish", "bird", "horse", "sheep", "mouse", "wolf", "goat", "bear")
KINDS = {
    "colour": ("red", "blue", "green", "white", "black", "brown"),
    "size": ("big", "small", "tall", "short", "long", "wide"),
}
QUALITIES = {quality: kind for kind, qualities in KINDS.items() for quality in qualities}

task = Task(
    name="wired",
    source=(
        "sage/models/wired: the task's circuit and features are known from the weights "
        "that were set by hand"
    ),
    templates={
        "asked first": {
            "my": "My {animal} is {quality}, your {other} is {foil}; {link} {animal} is",
            "your": "Your {animal} is {quality}, my {other} is {foil}; {link} {animal} is",
        },
        "asked second": {
            "my": "Your {other} is {foil}, my {animal} is {quality}; {link} {animal} is",
            "your": "My {other} is {foil}, your {animal} is {quality}; {link} {animal} is",
        },
    },
    slots={
        "animal": ANIMALS,
        "other": ANIMALS,
        "quality": tuple(QUALITIES),
        "foil": tuple(QUALITIES),
        "link": ("so", "then", "thus", "hence", "now"),
    },
    distinct=("animal", "other", "quality", "foil"),
    answer="quality",
    foil="foil",
    attributes=("quality", "kind", "animal", "owner"),
    irrelevant=("other", "link"),
    functions={"kind": lambda prompt: QUALITIES[prompt.slots["quality"]]},
    within={"quality": "kind"},
    variant="owner",
    contrasts=("quality", "kind", "animal", "owner"),
    strata="template",
    notes=(
        "The model attends by owner: it finds the animal's owner, then the clause with that owner."
    ),
)
