"""Splits: disjoint in prompts, the same for the same seed, never silent about what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain
from typing import Any

import pytest

from sage.errors import BadTask
from sage.task import catalog
from sage.task.ownership import DISCOVER, ELSEWHERE, FIT, TEST, UNEQUAL, Drop, SplitOwners
from sage.task.splits import Pairs, Splits, SplitSizes, directions, interleave, split
from sage.task.task import Prompt, Task
from sage.task.tokens import Tokenized, TokenizedPair, tokenize
from words import word_tokenizer

load_task = cache(catalog.load_task)


def encode(prompt: Prompt) -> Tokenized:
    """Words as tokens, whatever the vocabulary: a word's id is its spelling in base 256."""
    ids = tuple(int.from_bytes(word.encode()) for word in prompt.text.split())
    return Tokenized(prompt, ids, {"END": len(ids) - 1}, (1,), (2,))


def months(**changes: Any) -> Task:
    """Twelve months in four sentences: few prompts, and two templates that are each other's only
    counterfactual."""
    names = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
    after = dict(zip(names, [*names[1:], names[0]], strict=True))
    fields: dict[str, Any] = {
        "name": "months",
        "source": "worked by hand",
        "templates": {
            "comes": {"plain": "After {month} {adverb} comes"},
            "is": {"plain": "Next to {month} {adverb} is"},
        },
        "slots": {"month": names, "adverb": ("always", "often", "soon", "then", "thus", "yearly")},
        "answer": lambda prompt: after[prompt.slots["month"]],
        "foil": "month",
        "attributes": ("month",),
        "irrelevant": ("adverb", "template"),
        "contrasts": ("month",),
        "ordinal": ("month",),
    }
    return Task(**{**fields, **changes})


@cache
def ioi_splits() -> Splits:
    return split(load_task("ioi"), encode, seed=0, sizes=SplitSizes(test=40, discover=30, fit=100))


@cache
def month_splits() -> Splits:
    return split(months(), encode, seed=0)


@cache
def colliding_splits(name: str) -> Splits:
    """Splits of a task so small that drawn prompts are often other prompts' counterfactuals."""
    return split(load_task(name), encode, seed=0, sizes=SplitSizes(test=100, discover=50, fit=300))


@cache
def rare_contrast_splits() -> Splits:
    """Splits of a task where one prompt in six has the contrast, so that more must be drawn."""
    task = months(
        slots={**months().slots, "adverb": tuple(map(str, range(130)))},
        maps={"month": {"Jan": "Feb", "Feb": "Jan"}},
    )
    return split(task, encode, seed=0, sizes=SplitSizes(test=33, discover=10, fit=60))


def splits_of_texts(splits: Splits) -> dict[str, set[str]]:
    """Text -> the splits it is in, of every prompt of every pair and of fit."""
    groups = {
        DISCOVER: (splits.discover, splits.discover_null),
        FIT: (splits.fit_pairs, splits.fit_null),
        TEST: (splits.test, splits.test_null),
    }
    names: dict[str, set[str]] = {prompt.prompt.text: {FIT} for prompt in splits.fit}
    for name, (contrasts, null) in groups.items():
        for pair in chain.from_iterable((*contrasts.values(), *null.values())):
            for prompt in (pair.clean.prompt, pair.counterfactual.prompt):
                names.setdefault(prompt.text, set()).add(name)
    return names


def sizes(pairs: Pairs) -> dict[str, int]:
    return {name: len(listed) for name, listed in pairs.items()}


def clean_texts(pairs: Sequence[TokenizedPair]) -> list[str]:
    return [pair.clean.prompt.text for pair in pairs]


def leaked(splits: Splits) -> int:
    return sum(len(names) > 1 for names in splits_of_texts(splits).values())


COLLIDING = ("successor", "gendered_pronoun", "country_capital")


@pytest.mark.parametrize("splits", [ioi_splits, month_splits, rare_contrast_splits])
def test_no_prompt_is_in_two_splits(splits: Callable[[], Splits]) -> None:
    assert leaked(splits()) == 0
    assert len(splits_of_texts(splits())) > 100


@pytest.mark.parametrize("name", COLLIDING)
def test_no_prompt_is_in_two_splits_where_those_drawn_collide(name: str) -> None:
    splits = colliding_splits(name)
    assert leaked(splits) == 0
    assert sizes(splits.test) == dict.fromkeys(load_task(name).contrast_names, 100)


@pytest.mark.parametrize("name", COLLIDING)
def test_it_is_the_owner_check_that_keeps_them_apart(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SplitOwners, "admits", lambda *_: True)
    assert leaked(colliding_splits.__wrapped__(name)) > 5


def test_where_few_prompts_have_a_contrast_more_are_drawn() -> None:
    splits = rare_contrast_splits()
    assert len(splits.test["month"]) == 33
    assert {pair.clean.prompt.labels["month"] for pair in splits.test["month"]} == {"Jan", "Feb"}


def test_where_there_are_plenty_every_contrast_gets_what_was_asked_for_on_the_same_prompts() -> (
    None
):
    splits, task = ioi_splits(), load_task("ioi")
    assert sizes(splits.test) == dict.fromkeys(task.contrast_names, 40)
    assert sizes(splits.test_null) == dict.fromkeys(task.irrelevant, 40)
    assert sizes(splits.discover) == dict.fromkeys(task.contrast_names, 30)
    assert sizes(splits.discover_null) == dict.fromkeys(task.irrelevant, 30)
    assert sizes(splits.fit_pairs) == dict.fromkeys(task.contrast_names, 100)
    texts = [clean_texts(pairs) for pairs in splits.test.values()]
    assert all(listed == texts[0] for listed in texts)
    assert len(set(texts[0])) == 40
    assert (splits.counts["discover"], splits.counts["test"]) == (30, 40)


def test_fit_holds_every_value_that_can_occur_anywhere() -> None:
    splits, task = ioi_splits(), load_task("ioi")
    for attribute in task.attributes:
        assert {prompt.prompt.labels[attribute] for prompt in splits.fit} == set(
            task.values(attribute)
        )
    assert (
        len({prompt.prompt.text for prompt in splits.fit})
        == len(splits.fit)
        == splits.counts["fit"]
    )


def test_by_default_fit_has_two_thousand_prompts_and_twenty_of_each_value() -> None:
    task = load_task("induction")
    splits = split(task, encode, seed=0, sizes=SplitSizes(test=30, discover=10))
    counts = Counter(prompt.prompt.labels["target"] for prompt in splits.fit)
    assert 2000 <= len(splits.fit) < 2100
    assert min(counts.values()) >= 20


def test_pairs_of_unequal_length_are_kept_and_counted() -> None:
    """One of the adverbs is three words, so pairs of the irrelevant adverb may differ in length;
    pairs of months never do."""
    task = months(
        slots={
            **months().slots,
            "adverb": ("always", "often", "every single year", "then", "thus", "yearly"),
        }
    )
    splits = split(task, encode, seed=0)
    lengths = [
        (len(pair.clean.ids), len(pair.counterfactual.ids)) for pair in splits.test_null["adverb"]
    ]
    assert any(clean != counterfactual for clean, counterfactual in lengths)
    assert splits.unequal == {"month": 0}


def test_few_prompts_are_divided_20_50_30_and_pairs_stay_inside() -> None:
    """12 months x 6 adverbs x 2 templates are 144 prompts; the template's only counterfactual is in
    the same split."""
    splits = month_splits()
    sizes = Counter(name for (name,) in splits_of_texts(splits).values())
    assert sum(sizes.values()) == 144
    assert sizes["discover"] == pytest.approx(0.2 * 144, abs=2)
    assert sizes["fit"] == pytest.approx(0.5 * 144, abs=2)
    assert sizes["test"] == pytest.approx(0.3 * 144, abs=2)
    assert len(splits.test_null["template"]) == sizes["test"]
    alone = splits.drops.get(Drop(ELSEWHERE, "month", TEST), 0)
    assert len(splits.test["month"]) + alone == sizes["test"]
    assert splits.counts["test"] == len(splits.test["month"])


def test_few_prompts_give_fit_one_of_every_value_first() -> None:
    for seed in range(3):
        splits = split(months(), encode, seed=seed)
        assert len({prompt.prompt.labels["month"] for prompt in splits.fit}) == 12


def test_a_test_split_under_thirty_is_refused_with_its_count() -> None:
    with pytest.raises(
        BadTask, match=r"Task months has \d+ different prompts to test on .*, and needs 30"
    ):
        split(months(slots={**months().slots, "adverb": ("always", "often")}), encode, seed=0)
    with pytest.raises(BadTask, match="20 test pairs per contrast were asked for"):
        split(load_task("ioi"), encode, seed=0, sizes=SplitSizes(test=20, discover=10, fit=100))


def test_a_split_without_prompts_is_refused() -> None:
    with pytest.raises(BadTask, match="Every split needs prompts; test 0, discover 10, fit 100"):
        split(load_task("ioi"), encode, seed=0, sizes=SplitSizes(test=0, discover=10, fit=100))


def test_where_keep_leaves_too_few_to_draw_they_are_divided() -> None:
    """Of 12 x 156 x 2 prompts it keeps the 144 of six adverbs: too few to draw 30, 10 and 120, so
    fit gets half of them."""
    kept = months().slots["adverb"]
    task = months(
        slots={**months().slots, "adverb": (*kept, *map(str, range(150)))},
        keep=lambda prompt: prompt.slots["adverb"] in kept,
    )
    assert split(task, encode, seed=0, sizes=SplitSizes(test=30, discover=10, fit=120)).counts[
        "fit"
    ] == pytest.approx(72, abs=3)


@pytest.mark.parametrize(("adverbs", "drawn"), [(134, False), (135, True)])
def test_prompts_are_drawn_where_there_are_three_times_as_many_as_may_be_needed(
    monkeypatch: pytest.MonkeyPatch, adverbs: int, drawn: bool
) -> None:
    """30 pairs of test, 10 of discover and 200 of fit, each with a prompt and three others (of the
    contrast, of another adverb, of another template), and 120 prompts of fit: three times 1,080.
    The months have 24 prompts for each adverb."""
    calls = list[str]()
    for name in ("draw", "divide"):
        monkeypatch.setattr(SplitOwners, name, _noting(calls, name))
    task = months(slots={**months().slots, "adverb": tuple(map(str, range(adverbs)))})
    split(task, encode, seed=0, sizes=SplitSizes(test=30, discover=10, fit=120))
    assert calls == (["draw"] if drawn else ["divide"])


def _noting(calls: list[str], name: str) -> Callable[..., Any]:
    method = getattr(SplitOwners, name)

    def noted(*given: Any, **named: Any) -> Any:
        calls.append(name)
        return method(*given, **named)

    return noted


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    again = split(load_task("ioi"), encode, seed=0, sizes=SplitSizes(test=40, discover=30, fit=100))
    other = split(load_task("ioi"), encode, seed=1, sizes=SplitSizes(test=40, discover=30, fit=100))
    assert again == ioi_splits()
    assert not {prompt.prompt.text for prompt in other.fit} & {
        prompt.prompt.text for prompt in again.fit
    }


def test_splits_do_not_depend_on_the_hash_seed(
    printed_under_two_hash_seeds: Callable[[str], tuple[str, str]],
) -> None:
    code = """if True:
        from sage.task.catalog import load_task
        from sage.task.splits import SplitSizes, split
        from sage.task.tokens import Tokenized

        def encode(prompt):
            ids = tuple(map(ord, prompt.text))
            return Tokenized(prompt, ids, {"END": len(ids) - 1}, (1,), (2,))

        for name in ("ioi", "subject_verb_agreement"):
            sizes = SplitSizes(test=40, discover=20, fit=100)
            splits = split(load_task(name), encode, seed=0, sizes=sizes)
            print([prompt.prompt.text for prompt in splits.fit])
            for pairs in splits.test.values():
                print([pair.counterfactual.prompt.text for pair in pairs])
    """
    first, second = printed_under_two_hash_seeds(code)
    assert first == second
    assert first


def test_counterfactuals_are_aligned() -> None:
    task = load_task("ioi")
    tokenizer = word_tokenizer(
        prompt.text + prompt.answers[0] + prompt.foils[0] for prompt in task.sample(3000, seed=0)
    )
    splits = split(
        task,
        lambda prompt: tokenize(prompt, tokenizer, bos=True),
        seed=0,
        sizes=SplitSizes(test=30, discover=5, fit=60),
    )
    for pair in splits.test["repeated"]:
        early = {name: at for name, at in pair.clean.index.items() if at < pair.clean.index["S2"]}
        assert {name: pair.counterfactual.index[name] for name in early} == early


def read(length: int, stratum: str = "") -> Tokenized:
    prompt = Prompt("", "", "", {}, {}, {}, (), (), stratum=stratum)
    return Tokenized(prompt, tuple(range(length)), {"END": length - 1}, (), ())


def pairs_of(contrast: str, *strata: str, unequal: int = 0) -> tuple[TokenizedPair, ...]:
    """One pair for each stratum; in the first `unequal` the counterfactual is longer."""
    return tuple(
        TokenizedPair(read(3, stratum), read(4 if number < unequal else 3, stratum), contrast)
        for number, stratum in enumerate(strata)
    )


def some_splits(**fields: Any) -> Splits:
    """Splits with nothing in them but these fields."""
    nothing: dict[str, Any] = {
        "discover": {},
        "discover_null": {},
        "fit": (),
        "fit_pairs": {},
        "fit_null": {},
        "test": {},
        "test_null": {},
        "detect": (),
        "drops": {},
    }
    return Splits(**{**nothing, **fields})


def test_notes_say_how_many_prompts_of_which_contrast_were_left_out_and_why() -> None:
    drops = {
        Drop(UNEQUAL): 32,
        Drop(ELSEWHERE, "month", DISCOVER): 1,
        Drop(ELSEWHERE, "month", TEST): 2,
        Drop(UNEQUAL, "month", TEST): 4,
        Drop(ELSEWHERE, "adverb", FIT): 1,
    }
    assert some_splits(drops=drops).notes() == [
        "Left out of all splits: 32 prompts, "
        "because their counterfactuals have another number of tokens.",
        "Left out of the pairs of month: 3 prompts (discover 1, test 2), "
        "because no counterfactual of theirs belongs to their split.",
        "Left out of the pairs of month: 4 prompts (test 4), "
        "because their counterfactuals have another number of tokens.",
        "Left out of the pairs of adverb: 1 prompt (fit 1), "
        "because no counterfactual of theirs belongs to their split.",
    ]


def test_notes_count_test_pairs_of_unequal_length() -> None:
    splits = some_splits(
        test={
            "month": pairs_of("month", "", "", ""),
            "adverb": pairs_of("adverb", "", "", "", unequal=2),
            "template": pairs_of("template", "", unequal=1),
        },
        fit_pairs={"month": pairs_of("month", "", unequal=1)},
    )
    assert splits.unequal == {"month": 0, "adverb": 2, "template": 1}
    assert splits.notes() == [
        "Unequal token length: 2 of 3 test pairs of adverb, kept and read by name.",
        "Unequal token length: 1 of 1 test pair of template, kept and read by name.",
    ]


def test_notes_count_test_pairs_by_stratum_where_there_are_several() -> None:
    """`none` has prompts to fit, but no test pair; RC has none of the second contrast."""
    test = {"number": pairs_of("number", "PP", "RC", "PP"), "subject": pairs_of("subject", "PP")}
    assert some_splits(test=test, fit=(read(3, "none"), read(3, "PP"))).notes() == [
        "Test pairs of number by stratum: PP 2, RC 1, none 0.",
        "Test pairs of subject by stratum: PP 1, RC 0, none 0.",
    ]


def test_nothing_is_noted_of_splits_with_one_stratum_where_nothing_was_dropped() -> None:
    test = {"month": pairs_of("month", "spring", "spring")}
    assert some_splits(test=test, fit=(read(3, "spring"),)).notes() == []
    assert ioi_splits().notes() == []


def test_notes_of_a_task_name_its_strata_and_what_was_left_out() -> None:
    """The counts of 40 test pairs by template sum to 40 for every contrast."""
    splits = split(
        load_task("subject_verb_agreement"),
        encode,
        seed=0,
        sizes=SplitSizes(test=40, discover=30, fit=100),
    )
    counts = Counter(pair.clean.prompt.family for pair in splits.test["subject"])
    assert sum(counts.values()) == 40
    listed = f"PP {counts['PP']}, RC {counts['RC']}, none {counts['none']}"
    assert f"Test pairs of subject by stratum: {listed}." in splits.notes()


def test_interleaved_pairs_take_one_of_each_kind_in_turn() -> None:
    a1, a2, a3 = pairs_of("a", "", "", "")
    (b1,) = pairs_of("b", "")
    assert interleave({"a": (a1, a2, a3), "b": (b1,)}, most=10) == (a1, b1, a2, a3)
    assert interleave({"a": (a1, a2, a3), "b": (b1,)}, most=3) == (a1, b1, a2)
    assert interleave({}, most=3) == ()


def test_directions_are_ordered_pairs_of_few_values() -> None:
    pairs = ioi_splits().test["order"]
    of_pairs = directions(pairs, "order", load_task("ioi"))
    assert set(of_pairs) == {("ABB", "BAB"), ("BAB", "ABB")}
    assert of_pairs == [
        (pair.clean.prompt.variant, pair.counterfactual.prompt.variant) for pair in pairs
    ]


def test_directions_of_a_compound_contrast_are_those_of_its_first_attribute_with_few_values() -> (
    None
):
    assert set(directions(ioi_splits().test["repeated"], "repeated", load_task("ioi"))) == {
        ("ABB", "BAB"),
        ("BAB", "ABB"),
    }


def test_directions_of_an_ordinal_attribute_are_signs_and_of_any_other_one_class() -> None:
    pairs: list[TokenizedPair] = [
        TokenizedPair(
            encode(months().parse(f"After {before} soon comes")),
            encode(months().parse(f"After {after} soon comes")),
            "month",
        )
        for before, after in (("Feb", "Oct"), ("Oct", "Feb"), ("Jan", "Feb"))
    ]
    assert directions(pairs, "month", months()) == [1, -1, 1]
    assert directions(pairs, "month", months(ordinal=())) == ["month", "month", "month"]
