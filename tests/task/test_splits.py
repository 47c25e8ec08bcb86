"""Splits: disjoint in prompts, the same for the same seed, and never silent about what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sage.errors import BadTask
from sage.task import catalog
from sage.task.splits import Splits, directions, shuffled, split
from sage.task.task import Prompt, Task
from sage.task.tokens import Tokenized, TokenizedPair, tokenize
from words import word_tokenizer

load_task = cache(catalog.load_task)


def encode(prompt: Prompt) -> Tokenized:
    """Words as tokens, whatever the vocabulary: a word's id is its spelling in base 256."""
    words = prompt.text.split()
    ids = tuple(int.from_bytes(word.encode()) for word in words)
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
    return split(load_task("ioi"), encode, seed=0, test=40, discover=30, fit=100)


@cache
def month_splits() -> Splits:
    return split(months(), encode, seed=0)


def prompts(splits: Splits) -> Iterator[tuple[str, Tokenized]]:
    """Every prompt of every pair and of fit, with the split it is in."""
    groups = {
        "discover": (splits.discover, splits.null),
        "fit": (splits.fit_pairs, splits.fit_null),
        "test": (splits.test, splits.test_null),
    }
    for name, several in groups.items():
        for pairs in several:
            for pair in (pair for found in pairs.values() for pair in found):
                yield from ((name, pair.clean), (name, pair.counterfactual))
    yield from (("fit", prompt) for prompt in splits.fit)


@pytest.mark.parametrize("splits", [ioi_splits, month_splits])
def test_no_prompt_is_in_two_splits(splits: Any) -> None:
    owners: dict[str, set[str]] = {}
    for name, prompt in prompts(splits()):
        owners.setdefault(prompt.prompt.text, set()).add(name)
    assert all(len(names) == 1 for names in owners.values())
    assert len(owners) > 100


def test_where_there_are_plenty_every_contrast_gets_what_was_asked_for_on_the_same_prompts() -> (
    None
):
    splits, task = ioi_splits(), load_task("ioi")
    assert {name: len(pairs) for name, pairs in splits.test.items()} == dict.fromkeys(
        task.contrast_names, 40
    )
    assert {name: len(pairs) for name, pairs in splits.test_null.items()} == dict.fromkeys(
        task.irrelevant, 40
    )
    assert {name: len(pairs) for name, pairs in splits.discover.items()} == dict.fromkeys(
        task.contrast_names, 30
    )
    assert {name: len(pairs) for name, pairs in splits.null.items()} == dict.fromkeys(
        task.irrelevant, 30
    )
    assert {name: len(pairs) for name, pairs in splits.fit_pairs.items()} == dict.fromkeys(
        task.contrast_names, 100
    )
    cleans = [[pair.clean.prompt.text for pair in pairs] for pairs in splits.test.values()]
    assert all(texts == cleans[0] for texts in cleans)
    assert len(set(cleans[0])) == 40
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
    splits = split(task, encode, seed=0, test=30, discover=10)
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
    assert any(one != other for one, other in lengths)
    assert splits.unequal == {"month": 0}


def test_few_prompts_are_divided_20_50_30_and_pairs_stay_inside() -> None:
    """12 months x 6 adverbs x 2 templates are 144 prompts; the template's only counterfactual is in
    the same split."""
    splits = month_splits()
    owners: dict[str, str] = {prompt.prompt.text: name for name, prompt in prompts(splits)}
    sizes = Counter(owners.values())
    assert sum(sizes.values()) == 144
    assert sizes["discover"] == pytest.approx(0.2 * 144, abs=2)
    assert sizes["fit"] == pytest.approx(0.5 * 144, abs=2)
    assert sizes["test"] == pytest.approx(0.3 * 144, abs=2)
    assert len(splits.test_null["template"]) == sizes["test"]
    alone = splits.drops.get("test, month: no counterfactual of the prompt belongs to the split", 0)
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
    with pytest.raises(BadTask, match="Task ioi has 20 different prompts"):
        split(load_task("ioi"), encode, seed=0, test=20, discover=10, fit=100)


def test_a_split_without_prompts_is_refused() -> None:
    with pytest.raises(BadTask, match="Every split needs prompts; test 0, discover 10, fit 100"):
        split(load_task("ioi"), encode, seed=0, test=0, discover=10, fit=100)


def test_where_keep_leaves_too_few_to_draw_they_are_divided() -> None:
    """Of 12 x 156 x 2 prompts it keeps the 144 of six adverbs: too few to draw 30, 10 and 120, so
    fit gets half of them."""
    kept = months().slots["adverb"]
    task = months(
        slots={**months().slots, "adverb": (*kept, *map(str, range(150)))},
        keep=lambda prompt: prompt.slots["adverb"] in kept,
    )
    assert split(task, encode, seed=0, test=30, discover=10, fit=120).counts[
        "fit"
    ] == pytest.approx(72, abs=3)


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    again = split(load_task("ioi"), encode, seed=0, test=40, discover=30, fit=100)
    other = split(load_task("ioi"), encode, seed=1, test=40, discover=30, fit=100)
    assert again == ioi_splits()
    assert not {prompt.prompt.text for prompt in other.fit} & {
        prompt.prompt.text for prompt in again.fit
    }


def test_splits_do_not_depend_on_the_hash_seed() -> None:
    code = """if True:
        from sage.task.catalog import load_task
        from sage.task.splits import split
        from sage.task.tokens import Tokenized
        encode = lambda prompt: Tokenized(prompt, tuple(map(ord, prompt.text)), {"END": len(prompt.text) - 1}, (1,), (2,))
        for name in ("ioi", "subject_verb_agreement"):
            splits = split(load_task(name), encode, seed=0, test=40, discover=20, fit=100)
            print([p.prompt.text for p in splits.fit], [p.counterfactual.prompt.text for ps in splits.test.values() for p in ps])
    """
    first, second = (
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    )
    assert first == second


def test_counterfactuals_are_aligned() -> None:
    task = load_task("ioi")
    tokenizer = word_tokenizer(
        prompt.text + answer
        for prompt in task.sample(3000, seed=0)
        for answer in prompt.answers + prompt.foils
    )
    splits = split(
        task,
        lambda prompt: tokenize(prompt, tokenizer, bos=True),
        seed=0,
        test=30,
        discover=5,
        fit=60,
    )
    for pair in splits.test["repeated"]:
        early = {name: at for name, at in pair.clean.index.items() if at < pair.clean.index["S2"]}
        assert {name: pair.counterfactual.index[name] for name in early} == early


def test_shuffled_labels_stay_together_and_go_to_other_prompts() -> None:
    fit = ioi_splits().fit
    dealt = shuffled(fit, seed=0)
    assert [prompt.ids for prompt in dealt] == [prompt.ids for prompt in fit]
    assert Counter(str(prompt.prompt.labels) for prompt in dealt) == Counter(
        str(prompt.prompt.labels) for prompt in fit
    )
    kept = sum(
        one.prompt.labels == other.prompt.labels for one, other in zip(dealt, fit, strict=True)
    )
    assert kept < len(fit) / 10
    assert [prompt.prompt.labels for prompt in dealt] == [
        prompt.prompt.labels for prompt in shuffled(fit, seed=0)
    ]


def test_directions_are_ordered_pairs_of_few_values() -> None:
    pairs = ioi_splits().test["order"]
    found = directions(pairs, "order", load_task("ioi"))
    assert set(found) == {("ABB", "BAB"), ("BAB", "ABB")}
    assert found == [
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
            encode(months().parse(f"After {one} soon comes")),
            encode(months().parse(f"After {other} soon comes")),
            "month",
        )
        for one, other in (("Feb", "Oct"), ("Oct", "Feb"), ("Jan", "Feb"))
    ]
    assert directions(pairs, "month", months()) == [1, -1, 1]
    assert directions(pairs, "month", months(ordinal=())) == ["month", "month", "month"]
