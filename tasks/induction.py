"""Induction: a token that came before is followed by what followed it then.

In nonsense and in sentences; word lists are our own.
"""

from __future__ import annotations

from sage import Task

CUES = """
    Mary John Alice Bob Jack James Robert Michael William David Richard Joseph Thomas Charles Daniel
    Paul Steven Andrew Kevin Edward
    Sarah Emma Anna Laura Julia Kate Jane Linda Susan Karen Lisa Nancy Helen Ruth Emily Rebecca
    Rachel Maria Diana Elizabeth
""".split()
TARGETS = """
    Brown Green Stone Cook Hill Wood King Bell Young Fox Wolf Ford Hunt Banks Rice Price West Long
    Grant Baker Carter Cooper Taylor Turner Walker Fisher Porter Parker Knight Bishop Rivers Brooks
    Snow Frost Lane White Black Gray Reed Moore
""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
PLACES = """
    park school store station library museum office hospital market beach garden restaurant
""".split()

FIRST, SECOND = "{cue} {target}", "{other_cue} {other}"
TEXTS = {
    "words": f"Words: {{place}} {FIRST} {{day}} {SECOND} music because {{cue}}",
    "met": f"On {{day}} {FIRST} met {SECOND} at the {{place}}. In the evening {{cue}}",
    "list": f"Guests of the {{place}} on {{day}}: {FIRST}, {SECOND}, and once more {{cue}}",
    "saw": (
        f"Nobody at the {{place}} saw {FIRST} or {SECOND} that {{day}}. Later we asked for {{cue}}"
    ),
    "names": f"Names {{place}} {{day}} {FIRST} {SECOND} again the same {{cue}}",
    "wrote": (
        f"In the {{place}} {FIRST} wrote to {SECOND} every {{day}}, "
        "and the reader of the story of {cue}"
    ),
    "sat": f"This {{day}} {FIRST} sat in the {{place}} beside {SECOND}. Then came {{cue}}",
    "call": (
        f"They called {FIRST} and {SECOND} to the {{place}} on {{day}}, "
        "but first they called {cue}"
    ),
}


def distances(far: str) -> dict[str, str]:
    """The pair to be repeated comes first (far), or second (near)."""
    return {
        "far": far,
        "near": far.replace(FIRST, "{}").replace(SECOND, FIRST).replace("{}", SECOND),
    }


task = Task(
    name="induction",
    source=(
        "Elhage et al. 2021, https://transformer-circuits.pub/2021/framework; "
        "Olsson et al. 2022, https://arxiv.org/abs/2209.11895"
    ),
    templates={family: distances(text) for family, text in TEXTS.items()},
    slots={
        "cue": CUES,
        "target": TARGETS,
        "other_cue": CUES,
        "other": TARGETS,
        "place": PLACES,
        "day": DAYS,
    },
    distinct=("cue", "target", "other_cue", "other"),
    answer="target",
    foil="other",
    attributes=("target", "distance"),
    irrelevant=("place", "day", "template"),
    variant="distance",
    contrasts=("target", "distance"),
    notes=(
        "`words` is a row of unrelated words, the other templates are sentences. "
        "The foil is the other word that followed a cue."
    ),
)
