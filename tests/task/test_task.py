"""Tasks: what a prompt knows about itself, what a contrast changes, and what no task may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.errors import BadTask, UnknownName
from sage.task import catalog
from sage.task.task import Contrast, Prompt, Task

NAMES = ("Ann", "Bob", "Cy")
SUITE = ("ioi", "subject_verb_agreement", "induction")


load_task = cache(catalog.load_task)


def giving(**changes: Any) -> Task:
    """Indirect objects with three names, one place more than none, two families."""
    fields: dict[str, Any] = {
        "name": "giving",
        "source": "worked by hand",
        "templates": {
            "went": {
                "ABB": "{IO} and {S} went to the {place}. {S} gave it to",
                "BAB": "{S} and {IO} went to the {place}. {S} gave it to",
            },
            "met": {
                "ABB": "At the {place} {IO} met {S}. Then {S} ran to",
                "BAB": "At the {place} {S} met {IO}. Then {S} ran to",
            },
        },
        "slots": {"IO": NAMES, "S": NAMES, "place": ("park", "shop")},
        "distinct": ("IO", "S"),
        "answer": "IO",
        "foil": "S",
        "attributes": ("IO", "S", "order"),
        "irrelevant": ("place", "template"),
        "variant": "order",
        "positions": ("S1+1",),
        "contrasts": ("IO", "S", "order", Contrast("repeated", set={"S2": "IO"})),
    }
    return Task(**{**fields, **changes})


def pronoun(**changes: Any) -> Task:
    """Gender contains name; the answer depends on gender alone."""
    gender = {"Ann": "she", "Eve": "she", "Mia": "she", "Bob": "he", "Tom": "he"}
    fields: dict[str, Any] = {
        "name": "pronoun",
        "source": "worked by hand",
        "templates": {"is": {"plain": "{name} is {mood}, is not"}},
        "slots": {"name": tuple(gender), "mood": ("glad", "sad")},
        "answer": lambda prompt: gender[prompt.slots["name"]],
        "foil": lambda prompt: "he" if gender[prompt.slots["name"]] == "she" else "she",
        "attributes": ("gender", "name"),
        "irrelevant": ("mood",),
        "functions": {"gender": lambda prompt: gender[prompt.slots["name"]]},
        "within": {"name": "gender"},
        "contrasts": ("gender", "name"),
    }
    return Task(**{**fields, **changes})


def texts(task: Task, prompt: Prompt, contrast: str) -> set[str]:
    return {other.text for other in task.counterfactuals(prompt, contrast, rng=Random(0))}


def test_a_prompt_knows_its_labels_spans_answers_and_foils() -> None:
    assert giving().make("went", "BAB", {"IO": "Ann", "S": "Bob", "place": "park"}) == Prompt(
        text="Bob and Ann went to the park. Bob gave it to",
        family="went",
        variant="BAB",
        slots={"IO": "Ann", "S": "Bob", "place": "park"},
        labels={"IO": "Ann", "S": "Bob", "order": "BAB", "place": "park", "template": "went"},
        spans={"S1": (0, 3), "IO": (8, 11), "place": (24, 28), "S2": (30, 33)},
        answers=(" Ann",),
        foils=(" Bob",),
    )


@pytest.mark.parametrize(
    ("contrast", "expected"),
    [
        ("IO", {"Cy and Bob went to the park. Bob gave it to"}),
        ("S", {"Ann and Cy went to the park. Cy gave it to"}),
        ("order", {"Bob and Ann went to the park. Bob gave it to"}),
        ("repeated", {"Ann and Bob went to the park. Ann gave it to"}),
        ("place", {"Ann and Bob went to the shop. Bob gave it to"}),
        ("template", {"At the park Ann met Bob. Then Bob ran to"}),
    ],
)
def test_a_contrast_changes_one_thing(contrast: str, expected: set[str]) -> None:
    task = giving()
    assert (
        texts(task, task.parse("Ann and Bob went to the park. Bob gave it to"), contrast)
        == expected
    )


def test_repeated_swaps_the_roles_and_flips_the_answer() -> None:
    task = giving()
    clean = task.parse("Ann and Bob went to the park. Bob gave it to")
    other = task.counterfactual(clean, "repeated", rng=Random(0))
    assert other is not None
    assert (clean.labels["IO"], clean.labels["S"], clean.labels["order"], clean.answers) == (
        "Ann",
        "Bob",
        "ABB",
        (" Ann",),
    )
    assert (other.labels["IO"], other.labels["S"], other.labels["order"], other.answers) == (
        "Bob",
        "Ann",
        "BAB",
        (" Bob",),
    )


def test_what_a_contrast_names_whether_it_moves_the_answer_and_whether_it_leads_to_one_prompt() -> (
    None
):
    task = giving()
    assert {
        name: (task.attributes_of(name), task.changes_answer(name), task.is_deterministic(name))
        for name in task.contrast_names
    } == {
        "IO": (("IO",), True, True),  # of three names two are taken
        "S": (("S",), False, True),
        "order": (("order",), False, True),
        "repeated": (("IO", "S", "order"), True, True),
    }
    assert not pronoun().is_deterministic("gender")


def test_a_fine_attribute_is_redrawn_inside_its_coarse_one_and_a_coarse_one_redraws_it() -> None:
    task = pronoun()
    ann = task.parse("Ann is glad, is not")
    assert texts(task, ann, "name") == {"Eve is glad, is not", "Mia is glad, is not"}
    assert texts(task, ann, "gender") == {"Bob is glad, is not", "Tom is glad, is not"}
    assert task.attributes_of("gender") == ("gender",)
    assert task.values("gender") == ("she", "he")


@pytest.mark.parametrize(
    "towards", [{"Ann": "Bob", "Bob": "Ann"}, lambda name: {"Ann": "Bob"}.get(name)]
)
def test_a_map_says_where_a_contrast_leads(towards: dict[str, str] | Callable[[str], str]) -> None:
    task = pronoun(maps={"gender": towards})
    assert texts(task, task.parse("Ann is glad, is not"), "gender") == {"Bob is glad, is not"}
    assert texts(task, task.parse("Eve is glad, is not"), "gender") == set()
    assert task.counterfactual(task.parse("Eve is glad, is not"), "gender", rng=Random(0)) is None


def test_an_irrelevant_attribute_is_redrawn_only_where_nothing_else_changes() -> None:
    """The mood decides the answer of Bob and Tom here: for them no change of it is irrelevant."""
    answers = {
        ("he", "sad"): "it",
        ("he", "glad"): "they",
        ("she", "sad"): "we",
        ("she", "glad"): "we",
    }
    task = pronoun(answer=lambda prompt: answers[prompt.labels["gender"], prompt.slots["mood"]])
    assert texts(task, task.parse("Ann is glad, is not"), "mood") == {"Ann is sad, is not"}
    assert texts(task, task.parse("Bob is glad, is not"), "mood") == set()


def test_a_slot_that_closes_every_text_is_END_alone() -> None:
    task = pronoun(templates={"is": {"plain": "{name} is {mood}, so {name}"}})
    assert task.position_names == ("name1", "mood", "END")
    assert giving().position_names == ("IO", "S1", "place", "S2", "S1+1", "END")


def test_sizes_are_counted_with_distinct_values() -> None:
    task = giving()
    assert task.size == 2 * 2 * 3 * 2 * 2
    everything = list(task.every())
    assert len({prompt.text for prompt in everything}) == len(everything) == task.size
    assert len(task.sample(10, seed=0)) == 10
    assert {prompt.text for prompt in task.sample(1000, seed=0)} == {
        prompt.text for prompt in everything
    }


def test_a_sample_has_no_prompt_twice_and_depends_on_its_seed_alone() -> None:
    task = load_task("ioi")
    sample = [prompt.text for prompt in task.sample(300, seed=7)]
    assert len(set(sample)) == 300
    assert sample == [prompt.text for prompt in replace(task).sample(300, seed=7)]
    assert sample != [prompt.text for prompt in task.sample(300, seed=8)]


def test_keep_refuses_prompts_and_counterfactuals() -> None:
    task = giving(keep=lambda prompt: prompt.slots["IO"] != "Cy")
    assert len(list(task.every())) == 2 * 2 * 4 * 2
    assert texts(task, task.parse("Ann and Bob went to the park. Bob gave it to"), "IO") == set()


def test_what_stands_before_an_answer_can_be_nothing() -> None:
    task = pronoun(before_answer="")
    assert task.parse("Ann is glad, is not").answers == ("she",)


def test_strata_are_an_attribute_or_a_function() -> None:
    assert (
        giving(strata="template").parse("At the park Ann met Bob. Then Bob ran to").stratum == "met"
    )
    assert pronoun(strata=lambda prompt: prompt.text[0]).parse("Ann is glad, is not").stratum == "A"


def test_a_text_is_parsed_where_it_has_one_reading() -> None:
    task = giving()
    assert task.parse("At the shop Cy met Bob. Then Cy ran to").labels["order"] == "BAB"
    with pytest.raises(BadTask, match="has no readings in family went of task giving"):
        task.parse("At the shop Cy met Bob. Then Cy ran to", family="went")
    twice = giving(
        templates={family: giving().templates["went"] for family in ("one", "two")},
        irrelevant=("place",),
    )
    with pytest.raises(BadTask, match="has 2 readings"):
        twice.parse("Ann and Bob went to the park. Bob gave it to")


PLAIN = {"a": {"x": "{IO} and {S} at {place}: {S} to"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributes": ("IO", "S", "ordr")}, "No attribute is named 'ordr'. Did you mean 'order'"),
        (
            {"templates": {"a": {"ABB": "{IO} and {X} of"}}},
            "uses the slot 'X'. Slots with values: IO, S, place",
        ),
        ({"templates": {"a": {"ABB": "{IO} of {0}"}}}, "'{0}' is not a slot"),
        ({"templates": {"a": {"ABB": "{IO of"}}}, "template a/ABB: .* double a brace"),
        ({"templates": {}}, "no templates"),
        ({"templates": {"a": {"ABB": "{IO} and {S} to"}}}, "no template uses the slot 'place'"),
        ({"templates": {"a": {"ABB": "{IO} {S} {place} to "}}}, "begins or ends with a space"),
        (
            {"templates": {**PLAIN, "b": {"y": "{IO} and {S} at {place}: {S} to"}}},
            "family 'b' has the variants y, family 'a' has x",
        ),
        (
            {"templates": {"a": {"x": PLAIN["a"]["x"], "y": "{S} and {IO} at {place} to"}}},
            "uses IO, S, place, template a/x uses IO, S x 2",
        ),
        (
            {"templates": {"a": {"x": PLAIN["a"]["x"], "y": "At {place} {IO} and {S} {S}"}}},
            "a/y ends in slot S2",
        ),
        ({"contrasts": ("IO", "gender")}, "No attribute for a contrast is named 'gender'"),
        ({"contrasts": ("S", "order")}, "no contrast changes the right answer"),
        ({"contrasts": ()}, "has no contrasts"),
        (
            {"contrasts": ("IO", Contrast("swap", set={"S3": "IO"}))},
            "No position to set is named 'S3'",
        ),
        (
            {"contrasts": ("IO", Contrast("swap", set={"S2": "IO2"}))},
            "No slot to set a position to is named 'IO2'",
        ),
        ({"contrasts": ("IO", Contrast("S", set={"S2": "IO"}))}, "bears the name of an attribute"),
        ({"contrasts": ("IO", "IO")}, "contrasts lists 'IO' twice"),
        (
            {"contrasts": ("IO", Contrast("swap", set={"S2": "IO"}, names=("IO",)))},
            "contrast 'swap' cannot change",
        ),
        ({"irrelevant": ()}, "no irrelevant attribute"),
        ({"irrelevant": ("IO",)}, "'IO' is both an attribute and irrelevant"),
        (
            {"irrelevant": ("place",), "slots": {"IO": NAMES, "S": NAMES, "place": ("park",)}},
            "irrelevant attribute 'place' cannot change",
        ),
        ({"attributes": "IO"}, r"attributes is one string. .*attributes=\('IO',\)"),
        ({"distinct": ("IO", "SS")}, "No slot in distinct is named 'SS'"),
        (
            {"slots": {"IO": NAMES, "S": ("Ann", "Ann"), "place": ("park", "shop")}},
            "slot 'S' lists 'Ann' more than once",
        ),
        (
            {"slots": {"IO": NAMES, "S": (), "place": ("park", "shop")}},
            "slot 'S' needs a list of values",
        ),
        (
            {"slots": {"IO": NAMES, "S": NAMES, "place": ("park", "shop"), "spare": ("x",)}},
            "no template uses the slot 'spare'",
        ),
        ({"within": {"IO": "S", "S": "IO"}}, "goes round in a circle: IO in S in IO"),
        ({"within": {"IO": "gender"}}, "No attribute in within is named 'gender'"),
        ({"maps": {"gender": {}}}, "No contrast in maps is named 'gender'"),
        ({"ordinal": ("size",)}, "No attribute in ordinal is named 'size'"),
        ({"positions": ("S3+1",)}, "No position is named 'S3'"),
        (
            {"positions": ("place+1",), "templates": {"a": {"x": "{IO} at {place} {S}: {S} to"}}},
            r"place\+1 is S1 in template a/x",
        ),
        ({"answer": "giver"}, "No slot for an answer or foil is named 'giver'"),
        ({"answer": lambda _: ()}, "needs at least one of each"),
        ({"answer": "S"}, "1000 draws met no prompt"),
        ({"functions": {"IO": lambda _: 1}}, "'IO' is defined twice"),
        ({"strata": "kind"}, "No attribute for the strata is named 'kind'"),
        ({"keep": lambda _: False}, "1000 draws met no prompt"),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadTask, match=message) as error:
        giving(**changes)
    assert str(error.value).startswith("Task giving")


def test_a_name_nothing_bears_is_an_unknown_name() -> None:
    with pytest.raises(
        UnknownName, match=r"No contrast of task giving is named 'oder'. Did you mean 'order'\?"
    ):
        giving().counterfactual(giving().draw(Random(0)), "oder", rng=Random(0))
    with pytest.raises(UnknownName, match="No attribute of task giving is named 'gender'"):
        giving().values("gender")


@pytest.mark.parametrize("name", SUITE)
def test_every_task_of_the_suite_has_what_a_task_needs(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert "http" in task.source
    assert any(task.changes_answer(contrast) for contrast in task.contrast_names)


def test_ioi_has_sixty_names_and_both_orders_of_every_sentence() -> None:
    task = load_task("ioi")
    assert len(task.slots["IO"]) >= 60
    assert {tuple(variants) for variants in task.templates.values()} == {("ABB", "BAB")}
    for family in task.templates:
        abb, bab = (
            task.make(
                family, order, {"IO": "Mary", "S": "John", "place": "park", "object": "ring"}
            ).text
            for order in ("ABB", "BAB")
        )
        assert abb.count("Mary") == bab.count("Mary") == 1
        assert abb.count("John") == bab.count("John") == 2
        assert abb.index("Mary") < abb.index("John")
        assert bab.index("John") < bab.index("Mary")


def test_agreement_answers_with_every_verb_of_the_subjects_number() -> None:
    task = load_task("subject_verb_agreement")
    prompt = task.make(
        "PP", "plain", {"subject": "boys", "attractor": "dog", "preposition": "near"}
    )
    assert prompt.text == "The boys near the dog still"
    assert prompt.labels == {
        "subject_number": "plural",
        "attractor_number": "singular",
        "subject": "boys",
        "preposition": "near",
    }
    assert prompt.stratum == "PP"
    assert dict(zip(prompt.foils, prompt.answers, strict=True))[" is"] == " are"
    assert texts(task, prompt, "subject_number") == {"The boy near the dog still"}
    assert texts(task, prompt, "attractor_number") == {"The boys near the dogs still"}
    assert all(
        other.labels["subject_number"] == "plural"
        for other in task.counterfactuals(prompt, "subject", rng=Random(0))
    )


def test_induction_repeats_the_cue_and_answers_with_what_followed_it() -> None:
    task = load_task("induction")
    for prompt in task.sample(50, seed=0):
        assert prompt.text.endswith(prompt.slots["cue"])
        assert prompt.text.count(f"{prompt.slots['cue']} {prompt.slots['target']}") == 1
        assert prompt.answers == (f" {prompt.slots['target']}",)
        assert prompt.foils[0] in prompt.text


@pytest.mark.parametrize("name", SUITE)
@settings(max_examples=60)
@given(data=st.data())
def test_a_counterfactual_differs_in_its_attribute_and_in_nothing_else(
    name: str, data: st.DataObject
) -> None:
    task = load_task(name)
    rng = Random(data.draw(st.integers(0, 10**6)))
    contrast = data.draw(st.sampled_from((*task.contrast_names, *task.irrelevant)))
    clean = task.draw(rng)
    other = task.counterfactual(clean, contrast, rng=rng)
    assert other is not None
    moved = {
        attribute
        for attribute in clean.labels
        if clean.labels[attribute] != other.labels[attribute]
    }
    finer = {fine for fine, coarse in task.within.items() if coarse == contrast}
    assert set(task.attributes_of(contrast)) <= moved <= {*task.attributes_of(contrast), *finer}
    assert contrast not in task.irrelevant or (clean.answers, clean.foils) == (
        other.answers,
        other.foils,
    )
    assert task.parse(other.text, family=other.family) == other
    assert all(
        other.text[start:end] == other.slots[task.slot_of[at]]
        for at, (start, end) in other.spans.items()
    )


def test_samples_and_counterfactuals_do_not_depend_on_the_hash_seed(
    printed_under_two_hash_seeds: Callable[[str], tuple[str, str]],
) -> None:
    """Three tasks with 20 prompts each; IOI has 4 contrasts, agreement 3, induction 2."""
    code = """if True:
        from random import Random
        from sage.task.catalog import load_task

        for name in ("ioi", "subject_verb_agreement", "induction"):
            task = load_task(name)
            for prompt in task.sample(20, seed=3):
                print(prompt.text)
                for contrast in task.contrast_names:
                    print(task.counterfactual(prompt, contrast, rng=Random(1)).text)
    """
    first, second = printed_under_two_hash_seeds(code)
    assert first == second
    assert first.count("\n") == 20 * (3 + 4 + 3 + 2)


def test_a_task_can_be_narrowed_and_is_checked_again() -> None:
    narrower = replace(giving(), slots={"IO": NAMES, "S": NAMES, "place": ("park", "inn")})
    assert narrower.values("place") == ("park", "inn")
    with pytest.raises(BadTask, match="'place' cannot change"):
        replace(giving(), slots={"IO": NAMES, "S": NAMES, "place": ("park",)})
