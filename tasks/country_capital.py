"""Country and capital: a fact recalled from a country's name (lists and sentences are our own)."""

from __future__ import annotations

from sage import Prompt, Task

# The foil is the capital of the next country in the list: countries whose capital is one token in
# common tokenizers stand together.
CAPITALS: dict[str, dict[str, str]] = {
    "Europe": dict(
        zip(
            """
            France Germany Italy Spain England Russia Austria Poland Greece Portugal Norway Finland
            Sweden Denmark Ireland Belgium Hungary Scotland Netherlands Switzerland Ukraine Turkey
            """.split(),
            """
            Paris Berlin Rome Madrid London Moscow Vienna Warsaw Athens Lisbon Oslo Helsinki
            Stockholm Copenhagen Dublin Brussels Budapest Edinburgh Amsterdam Bern Kiev Ankara
            """.split(),
            strict=True,
        )
    ),
    "Asia": dict(
        zip(
            """
            China Japan India Thailand Korea Iran Iraq Syria Philippines Lebanon Afghanistan
            Pakistan Indonesia
            """.split(),
            """
            Beijing Tokyo Delhi Bangkok Seoul Tehran Baghdad Damascus Manila Beirut Kabul Islamabad
            Jakarta
            """.split(),
            strict=True,
        )
    ),
    "Africa": {"Egypt": "Cairo", "Libya": "Tripoli", "Tunisia": "Tunis"},
    "America": {
        "Chile": "Santiago",
        "Canada": "Ottawa",
        "Jamaica": "Kingston",
        "Cuba": "Havana",
        "Peru": "Lima",
    },
}
CONTINENT = {country: continent for continent, capitals in CAPITALS.items() for country in capitals}
NOUNS = """
    letter book list map story lesson poem song report paper magazine film drawing table speech exam
    game picture
""".split()


def capital(prompt: Prompt) -> str:
    return CAPITALS[CONTINENT[prompt.slots["country"]]][prompt.slots["country"]]


def other_capital(prompt: Prompt) -> str:
    capitals = list(CAPITALS[CONTINENT[prompt.slots["country"]]].values())
    return capitals[(capitals.index(capital(prompt)) + 1) % len(capitals)]


task = Task(
    name="country_capital",
    source="Merullo et al. 2023, https://arxiv.org/abs/2305.16130, for the behaviour",
    templates={
        "capital": {"plain": "The {noun} said that the capital of {country} is the city of"},
        "called": {"plain": "In the {noun} the capital of {country} was called"},
        "visit": {
            "plain": "Anyone who goes to {country} to write a {noun} should see its capital,"
        },
        "lived": {"plain": "They lived in the capital of {country} as this {noun} says, in"},
        "government": {
            "plain": "From the {noun} we learned that the government of {country} sits in"
        },
        "question": {"plain": "Question in the {noun}: what is the capital of {country}? Answer:"},
        "capitals": {"plain": "Of all capitals in this {noun} the one of {country} is"},
        "write": {"plain": "To write to the government of {country}, send your {noun} to"},
    },
    slots={"country": list(CONTINENT), "noun": NOUNS},
    answer=capital,
    foil=other_capital,
    attributes=("continent", "country"),
    irrelevant=("noun", "template"),
    functions={"continent": lambda prompt: CONTINENT[prompt.slots["country"]]},
    within={"country": "continent"},
    contrasts=("continent", "country"),
    notes="The foil is the capital of another country of the same continent, the next in the list.",
)
