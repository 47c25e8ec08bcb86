"""Indirect object identification: two people, one of whom gives something to the other.

Word lists and sentences are our own.
"""

from __future__ import annotations

from sage import Contrast, Task

NAMES = """
    Mary John Alice Bob Tom Jack James Robert Michael William David Richard Joseph Thomas Charles
    Daniel Anthony Mark Paul Steven Andrew George Kevin Brian Edward Jason Ryan Jacob Gary Eric
    Stephen Justin Scott Frank Patrick Henry Peter Adam Martin Arthur
    Sarah Emma Anna Laura Julia Kate Jane Linda Susan Karen Lisa Nancy Helen Ruth Michelle Emily Amy
    Rebecca Rachel Maria Diana Elizabeth Jennifer Jessica
""".split()
PLACES = """
    park school store station library museum office hospital market beach garden restaurant
""".split()
OBJECTS = "book ring letter key drink hat map bottle basket phone camera bag".split()

SENTENCES = {
    "when": "When {first} and {second} went to the {place}, {S} gave the {object} to",
    "then": (
        "Then, {first} and {second} spent the day at the {place}, and {S} handed the {object} to"
    ),
    "after": "After {first} and {second} met at the {place}, {S} decided to offer the {object} to",
    "while": "While {first} and {second} were working at the {place}, {S} showed the {object} to",
    "friends": (
        "The friends {first} and {second} came back from the {place}. "
        "Soon {S} passed the {object} to"
    ),
    "long": (
        "Last year {first} and {second} argued at the {place} for hours. "
        "Afterwards {S} brought the {object} to"
    ),
    "found": (
        "At the {place}, {first} and {second} found the {object}, "
        "but {S} did not want it and gave it to"
    ),
    "bought": (
        "Because {first} and {second} had bought the {object} at the {place}, "
        "{S} could now send it to"
    ),
}


def orders(sentence: str) -> dict[str, str]:
    """The sentence with the indirect object first, and with the subject first."""
    both = {"ABB": ("{IO}", "{S}"), "BAB": ("{S}", "{IO}")}
    return {
        order: sentence.replace("{first}", first).replace("{second}", second)
        for order, (first, second) in both.items()
    }


task = Task(
    name="ioi",
    source="Wang et al. 2022, https://arxiv.org/abs/2211.00593",
    templates={family: orders(sentence) for family, sentence in SENTENCES.items()},
    slots={"IO": NAMES, "S": NAMES, "place": PLACES, "object": OBJECTS},
    distinct=("IO", "S"),
    answer="IO",
    foil="S",
    attributes=("IO", "S", "order"),
    irrelevant=("place", "object", "template"),
    variant="order",
    positions=("S1+1",),
    contrasts=("IO", "S", "order", Contrast("repeated", set={"S2": "IO"})),
    notes=(
        "`order` leaves the answer alone. `repeated` swaps who is named twice: "
        "IO, S and order all change, and the answer flips."
    ),
)
