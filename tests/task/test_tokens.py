"""Prompts as a model reads them: named positions, alignment, and what the token audit drops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.errors import BadTask, Unsupported
from sage.task import catalog
from sage.task.task import Contrast, Pair, Prompt, Task
from sage.task.token_audit import Unequal, audit
from sage.task.tokens import (
    FastTokenizer,
    Tokenized,
    align,
    first_difference,
    tokenize,
    tokenize_pair,
)
from words import word_tokenizer

SUITE = ("ioi", "subject_verb_agreement", "induction")
REAL = ("gpt2", "pythia")

REPEATED = Contrast("repeated", set={"S2": "IO"})

load_task = cache(catalog.load_task)


def giving(
    names: Sequence[str] = ("Ann", "Bob", "Cy"),
    places: Sequence[str] = ("park", "shop"),
    **changes: Any,
) -> Task:
    fields: dict[str, Any] = {
        "name": "giving",
        "source": "worked by hand",
        "templates": {
            "went": {
                "ABB": "{IO} and {S} left the {place}. {S} ran to",
                "BAB": "{S} and {IO} left the {place}. {S} ran to",
            }
        },
        "slots": {"IO": names, "S": names, "place": places},
        "distinct": ("IO", "S"),
        "answer": "IO",
        "foil": "S",
        "attributes": ("IO", "S", "order"),
        "irrelevant": ("place",),
        "variant": "order",
        "contrasts": ("IO", "S", "order", REPEATED),
    }
    return Task(**{**fields, **changes})


def vocabulary(task: Task, *more: str) -> FastTokenizer:
    return word_tokenizer([*(prompt.text + prompt.answers[0] for prompt in task.every()), *more])


def token_texts(tokenizer: Any, read: Tokenized) -> list[str]:
    return tokenizer.convert_ids_to_tokens(list(read.ids))


def test_a_position_is_the_last_token_of_its_slot() -> None:
    """The old-park is three tokens.

    place is its last, place:first its first, place+1 the token after it.
    """
    task = giving(places=("old-park", "shop"))
    tokenizer = vocabulary(task)
    prompt = task.make("went", "ABB", {"IO": "Cy", "S": "Ann", "place": "old-park"})
    read = tokenize(prompt, tokenizer, bos=True)
    assert token_texts(tokenizer, read) == [
        "<bos>",
        "Cy",
        " and",
        " Ann",
        " left",
        " the",
        " old",
        "-",
        "park",
        ".",
        " Ann",
        " ran",
        " to",
    ]
    assert {
        name: read.index[name]
        for name in ("IO", "S1", "S1+1", "place:first", "place", "place+1", "S2", "S2+1", "END")
    } == {
        "IO": 1,
        "S1": 3,
        "S1+1": 4,
        "place:first": 6,
        "place": 8,
        "place+1": 9,
        "S2": 10,
        "S2+1": 11,
        "END": 12,
    }
    assert tokenizer.convert_ids_to_tokens([*read.answers, *read.foils]) == [" Cy", " Ann"]


def test_without_BOS_everything_is_one_token_earlier() -> None:
    task = giving()
    tokenizer, prompt = vocabulary(task), task.draw(Random(0))
    with_bos, without = (
        tokenize(prompt, tokenizer, bos=True),
        tokenize(prompt, tokenizer, bos=False),
    )
    assert with_bos.ids == (0, *without.ids)
    assert with_bos.index == {name: at + 1 for name, at in without.index.items()}


def test_the_token_after_the_last_has_no_name() -> None:
    task = giving(
        templates={
            "a": {
                "x": "At the {place} {IO} and {S}, so {S}",
                "y": "At the {place} {S} and {IO}, so {S}",
            }
        }
    )
    read = tokenize(task.draw(Random(0)), vocabulary(task), bos=False)
    assert read.index["S2"] == read.index["END"] == len(read.ids) - 1
    assert "S2+1" not in read.index


def test_a_tokenizer_without_BOS_is_unsupported_where_one_is_wanted() -> None:
    task = giving()
    tokenizer = word_tokenizer(
        [prompt.text + prompt.answers[0] for prompt in task.every()], bos=False
    )
    with pytest.raises(Unsupported, match="no BOS token"):
        tokenize(task.draw(Random(0)), tokenizer, bos=True)


def test_an_answer_of_two_tokens_and_an_unknown_word_are_refused() -> None:
    task = giving(("Ann-Lou", "Bob", "Cy"))
    prompt = task.make("went", "ABB", {"IO": "Ann-Lou", "S": "Bob", "place": "park"})
    with pytest.raises(
        BadTask, match=r"' Ann-Lou' does not continue .* as one token \(it adds 3\)"
    ):
        tokenize(prompt, vocabulary(task), bos=False)
    with pytest.raises(BadTask, match=r"'Ann', in .* is not in the model's vocabulary"):
        tokenize(prompt, vocabulary(giving(("Cy", "Bob", "Di"))), bos=False)


def test_an_answer_that_would_change_the_tokens_before_it_is_refused() -> None:
    """Without a space before it the answer melts into the last word."""
    task = giving(before_answer="")
    tokenizer = word_tokenizer([*(prompt.text for prompt in task.every()), "toAnn toBob toCy"])
    with pytest.raises(BadTask, match="does not continue"):
        tokenize(task.draw(Random(0)), tokenizer, bos=False)


def test_a_token_that_reaches_beyond_its_slot_is_refused() -> None:
    task = giving(
        templates={
            "a": {
                "x": "At {place}s {IO} met {S}. {S} ran to",
                "y": "At {place}s {S} met {IO}. {S} ran to",
            }
        }
    )
    with pytest.raises(BadTask, match=r"the token ' (park|shop)s' reaches beyond place"):
        tokenize(task.draw(Random(0)), vocabulary(task), bos=False)


def test_in_repeated_a_name_before_the_difference_is_read_where_it_was() -> None:
    """Ann and Bob left the park. Bob ran -> Ann ran.

    The tokens differ from S2 on, though IO and S1 trade places.
    """
    task = giving()
    clean = task.parse("Ann and Bob left the park. Bob ran to")
    other = task.counterfactual(clean, "repeated", rng=Random(0))
    assert other is not None
    tokenizer = vocabulary(task)
    alone = tokenize(other, tokenizer, bos=False)
    pair = tokenize_pair(Pair(clean, other, "repeated"), tokenizer, bos=False)
    assert (alone.index["IO"], alone.index["S1"]) == (2, 0)
    assert (pair.counterfactual.index["IO"], pair.counterfactual.index["S1"]) == (0, 2)
    assert pair.counterfactual.index == pair.clean.index
    assert first_difference(pair.clean, pair.counterfactual) == pair.clean.index["S2"] == 7


def test_in_order_a_name_is_read_where_it_went() -> None:
    task = giving()
    clean = task.parse("Ann and Bob left the park. Bob ran to")
    pair = tokenize_pair(
        Pair(clean, task.parse("Bob and Ann left the park. Bob ran to"), "order"),
        vocabulary(task),
        bos=False,
    )
    assert (pair.clean.index["IO"], pair.counterfactual.index["IO"]) == (0, 2)
    assert (pair.clean.index["place"], pair.counterfactual.index["place"]) == (5, 5)


@settings(max_examples=100)
@given(
    st.lists(st.integers(0, 1), min_size=1, max_size=6),
    st.lists(st.integers(0, 1), min_size=1, max_size=6),
    st.data(),
)
def test_alignment_follows_its_rule(
    clean_ids: list[int], other_ids: list[int], data: st.DataObject
) -> None:
    def some(ids: list[int]) -> Tokenized:
        index = {name: data.draw(st.integers(0, len(ids) - 1)) for name in ("A", "B", "END")}
        return Tokenized(Prompt("", "", "", {}, {}, {}, (), ()), tuple(ids), index, (), ())

    clean, other = some(clean_ids), some(other_ids)
    aligned = align(clean, other)
    for name, at in clean.index.items():
        unchanged = len(other_ids) > at and clean_ids[: at + 1] == other_ids[: at + 1]
        assert aligned.index[name] == (at if unchanged else other.index[name])
    assert aligned.ids == other.ids


def test_values_that_are_not_one_token_are_dropped_with_the_tokens_they_are() -> None:
    task = giving(("Ann-Lou", "Ann", "Bob", "Cy"), places=("old-park", "shop"))
    audited = audit(task, vocabulary(task), bos=True)
    assert audited.dropped == {
        "IO": {"Ann-Lou": "IO 'Ann-Lou' is ' Ann' + '-' + 'Lou'"},
        "S": {"Ann-Lou": "S 'Ann-Lou' is ' Ann' + '-' + 'Lou'"},
    }
    assert audited.kept == {
        "IO": ("Ann", "Bob", "Cy"),
        "S": ("Ann", "Bob", "Cy"),
        "place": ("old-park", "shop"),
    }
    assert audited.unequal["place"] == Unequal(24, 24)  # an irrelevant slot may be longer
    assert audited.unequal["IO"] == Unequal(0, 24)
    assert (audited.refused, audited.families) == ({}, {})
    assert audited.positions["place"] in ("park", " shop")
    assert audited.positions["END"] == " to"


def test_fewer_than_two_values_and_a_required_value_are_errors() -> None:
    task = giving(("Ann-Lou", "Mary-Ann", "Cy"))
    too_few = r"leaves slot 'IO' too few values .2 needed.. Kept: Cy. "
    with pytest.raises(BadTask, match=too_few + r"Dropped: .* ' Ann' . '-' . 'Lou'; .*Mary"):
        audit(task, vocabulary(task), bos=False)
    task = giving(("Ann-Lou", "Bob", "Cy"))
    with pytest.raises(
        BadTask, match="the value 'Ann-Lou' cannot be used with this tokenizer: IO 'Ann-Lou' is"
    ):
        audit(task, vocabulary(task), bos=False, required=["Ann-Lou"])


TWO = {
    "templates": {
        "left": {
            "ABB": "{IO} and {S} left the {place}. {S} ran to",
            "BAB": "{S} and {IO} left the {place}. {S} ran to",
        },
        "saw": {
            "ABB": "{IO} and {S} saw a {place}. {S} ran to",
            "BAB": "{S} and {IO} saw a {place}. {S} ran to",
        },
    }
}


def test_the_slot_of_an_attribute_may_be_declared_longer_than_one_token() -> None:
    attributes = {
        "attributes": ("order", "place"),
        "irrelevant": ("template",),
        "contrasts": ("place", REPEATED),
        **TWO,
    }
    strict = giving(("Ann", "Bob"), ("old-park", "shop", "park"), **attributes)
    loose = giving(
        ("Ann", "Bob"), ("old-park", "shop", "park"), multi_token=("place",), **attributes
    )
    assert audit(strict, vocabulary(strict), bos=False).kept["place"] == ("shop", "park")
    assert audit(loose, vocabulary(loose), bos=False).kept["place"] == ("old-park", "shop", "park")


def test_a_template_with_an_unknown_word_is_dropped() -> None:
    task = giving(**TWO)
    without_saw = vocabulary(giving(templates={"left": TWO["templates"]["left"]}))
    audited = audit(task, without_saw, bos=False)
    assert audited.families == {"saw": "'saw' is not in the vocabulary"}
    assert {prompt.family for prompt in audited.task.sample(20, seed=0)} == {"left"}
    meeting = {
        "x": "{IO} met {S} at {place}. {S} ran to",
        "y": "{S} met {IO} at {place}. {S} ran to",
    }
    with pytest.raises(
        BadTask, match=r"no template suits this tokenizer. 'met' is not in the vocabulary"
    ):
        audit(giving(templates={"met": meeting}), without_saw, bos=False)


def years(**changes: Any) -> Task:
    return Task(
        name="years",
        source="worked by hand",
        templates={
            "war": {"plain": "The {noun} lasted from {CC}{YY} to {CC}"},
            "was": {"plain": "A {noun} was there from {CC}{YY} to {CC}"},
        },
        slots={"noun": ("war", "plan"), "CC": ("17", "19"), "YY": ("32", "45", "50", "60")},
        answer=lambda prompt: str(int(prompt.slots["YY"]) + 1),
        foil=lambda prompt: str(int(prompt.slots["YY"]) - 1),
        before_answer="",
        attributes=("YY",),
        irrelevant=("noun", "template"),
        contrasts=("YY",),
        ordinal=("YY",),
        **changes,
    )


def test_slots_that_touch_are_judged_by_whole_prompts() -> None:
    """This tokenizer reads 1732 as 17 and 32, 1945 as 194 and 5.

    It knows 61 but not 51 or 49 as an answer.
    """
    task = years()
    pattern = r" ?19\d| ?\d{1,2}| ?[A-Za-z]+"
    tokenizer = word_tokenizer(
        [prompt.text for prompt in task.every()] + "33 31 46 44 61 59 5 0".split(), pattern=pattern
    )
    audited = audit(task, tokenizer, bos=False)
    assert audited.dropped == {
        "CC": {"19": "CC shares a token with its neighbour"},
        "YY": {"50": "the answer '51' is not one token"},
    }


def test_prompts_whose_splitting_depends_on_neighbours_are_refused_and_counted() -> None:
    task = years()
    pattern = r" ?194| ?\d{1,2}| ?[A-Za-z]+"
    tokenizer = word_tokenizer(
        [prompt.text for prompt in task.every()] + "33 31 46 44 51 49 61 59 5".split(),
        pattern=pattern,
    )
    audited = audit(task, tokenizer, bos=False)  # 19 + 49 melts into 194 + 9
    assert audited.dropped == {}
    assert (audited.refused, audited.tried) == (
        {"CC shares a token with its neighbour": 4, "the answer '49' is not one token": 4},
        32,
    )
    years_left = {prompt.slots["CC"] + prompt.slots["YY"] for prompt in audited.task.every()}
    assert years_left == {"1732", "1745", "1750", "1760", "1932", "1960"}


def test_two_positions_on_one_token_are_refused() -> None:
    """The word after S2 is the last one here: under two names it would be edited twice."""
    templates = {
        "a": {
            "x": "{IO} met {S} at the {place}, {S} said",
            "y": "{S} met {IO} at the {place}, {S} said",
        }
    }
    task = giving(templates=templates, positions=("S2+1",))
    with pytest.raises(BadTask, match=r"S2\+1 and END are the same token in '.* said'"):
        audit(task, vocabulary(task), bos=False)


@pytest.mark.parametrize("tokenizer", REAL)
@pytest.mark.parametrize("name", SUITE)
def test_the_suite_resolves_on_real_tokenizers(
    name: str, tokenizer: str, real_tokenizer: Callable[[str], FastTokenizer]
) -> None:
    task, real, bos = load_task(name), real_tokenizer(tokenizer), tokenizer == "gpt2"
    audited = audit(task, real, bos=bos)
    assert (audited.dropped, audited.families, audited.refused) == ({}, {}, {})
    assert all(
        count.unequal == 0 for contrast, count in audited.unequal.items() if contrast != "template"
    )
    assert name != "ioi" or len(audited.kept["IO"]) >= 60
    for prompt in audited.task.sample(30, seed=0):
        read = tokenize(prompt, real, bos=bos)
        assert set(task.position_names) <= set(read.index)
        for position, span in prompt.spans.items():
            token = real.decode([read.ids[read.index[position]]])
            assert token.strip() == prompt.text[slice(*span)]


@pytest.mark.parametrize("tokenizer", REAL)
def test_repeated_reads_no_difference_before_the_first_differing_token(
    tokenizer: str, real_tokenizer: Callable[[str], FastTokenizer]
) -> None:
    task, real, rng = load_task("ioi"), real_tokenizer(tokenizer), Random(0)
    for clean in task.sample(60, seed=0):
        other = task.counterfactual(clean, "repeated", rng=rng)
        assert other is not None
        pair = tokenize_pair(Pair(clean, other, "repeated"), real, bos=False)
        start = first_difference(pair.clean, pair.counterfactual)
        assert start == pair.clean.index["S2"]
        early = {name: at for name, at in pair.clean.index.items() if at < start}
        assert {"IO", "S1"} <= set(early)
        assert {name: pair.counterfactual.index[name] for name in early} == early
