"""The tasks of the embedded models, on their tokenizer and on real ones."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from sage.task.catalog import load_task
from sage.task.token_audit import audit
from sage.task.tokens import encode
from sage.zoo.corpus import TASKS
from sage.zoo.tokenizer import make_tokenizer

OWN = ("greater_than", "gendered_pronoun", "successor", "country_capital")


@pytest.mark.parametrize("name", TASKS)
def test_the_word_level_tokenizer_carries_the_whole_task(name: str) -> None:
    audited = audit(load_task(name), make_tokenizer(), bos=True)
    assert not any(audited.dropped.values())
    assert not audited.families
    assert not audited.refused


@pytest.mark.parametrize("tokenizer", ["gpt2", "pythia"])
@pytest.mark.parametrize("name", OWN)
def test_real_tokenizers_carry_the_task(shared_data: Path, name: str, tokenizer: str) -> None:
    from transformers import AutoTokenizer

    real = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / tokenizer)
    audited = audit(load_task(name), real, bos=tokenizer == "gpt2")
    assert not audited.families
    assert not audited.refused
    dropped = {slot for slot, values in audited.dropped.items() if values}
    if (name, tokenizer) == ("country_capital", "pythia"):
        assert dropped == {"country"}
        assert len(audited.kept["country"]) == 29
    else:
        assert not dropped


def test_a_year_is_compared_by_its_last_two_digits(shared_data: Path) -> None:
    from transformers import AutoTokenizer

    task = load_task("greater_than")
    prompt = task.make("lasted", "plain", {"noun": "war", "CC": "17", "YY": "96"})
    assert prompt.text == "The war lasted from the year 1796 to the year 17"
    assert prompt.answers == ("97", "98", "99")
    assert prompt.foils == tuple(f"{year:02d}" for year in range(1, 97))
    assert prompt.labels["decade"] == 9
    for folder in ("gpt2", "pythia"):
        tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / folder)
        pieces = encode(prompt.text, tokenizer)
        ends = (-1, *pieces.covering(prompt.spans["YY"]))
        texts = [prompt.text[slice(*pieces.spans[end])] for end in ends]
        assert texts == [" 17", "96", "96"]


def test_a_year_changes_inside_its_decade_and_a_decade_changes_with_its_year() -> None:
    task = load_task("greater_than")
    prompt = task.make("lasted", "plain", {"noun": "war", "CC": "17", "YY": "42"})
    years = [other.slots["YY"] for other in task.counterfactuals(prompt, "YY", rng=Random(0))]
    assert sorted(years) == ["40", "41", "43", "44", "45", "46", "47", "48", "49"]
    decades = {
        other.labels["decade"] for other in task.counterfactuals(prompt, "decade", rng=Random(0))
    }
    assert decades == set(range(10)) - {4}


def test_a_pronoun_follows_the_name() -> None:
    task = load_task("gendered_pronoun")
    prompt = task.make("because", "plain", {"name": "Mary", "adjective": "kind", "place": "park"})
    assert prompt.text == "At the park everyone knew Mary was kind, because"
    assert (prompt.answers, prompt.foils) == ((" she",), (" he",))
    assert (task.changes_answer("gender"), task.changes_answer("name")) == (True, False)


@pytest.mark.parametrize(
    ("item", "following", "kind"),
    [
        ("December", "January", "month"),
        ("Sunday", "Monday", "weekday"),
        ("nineteen", "twenty", "number word"),
        ("9", "10", "numeral"),
        ("May", "June", "month"),
    ],
)
def test_a_successor_is_the_next_item_of_its_list(item: str, following: str, kind: str) -> None:
    prompt = load_task("successor").make("before", "plain", {"noun": "map", "item": item})
    assert (prompt.answers, prompt.foils, prompt.labels["kind"]) == (
        (f" {following}",),
        (f" {item}",),
        kind,
    )


def test_the_last_items_of_the_lists_that_end_are_only_answers() -> None:
    assert not {"twenty", "30"} & set(load_task("successor").slots["item"])


def test_a_capital_is_asked_for_against_another_of_its_continent() -> None:
    task = load_task("country_capital")
    for country, answer, foil in (
        ("France", "Paris", "Berlin"),
        ("Turkey", "Ankara", "Paris"),
        ("Peru", "Lima", "Santiago"),
    ):
        prompt = task.make("called", "plain", {"country": country, "noun": "map"})
        assert (prompt.answers, prompt.foils) == ((f" {answer}",), (f" {foil}",))
