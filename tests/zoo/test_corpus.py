from __future__ import annotations

import contextlib
import re
from collections import Counter

import pytest

from sage.errors import BadTask
from sage.task.prompt import Prompt
from sage.zoo.corpus import (
    COMBINATIONS,
    TASKS,
    Row,
    held_out_combinations,
    held_out_families,
    held_out_templates,
    is_held_out,
    rows,
    tasks,
    vocabulary,
)
from sage.zoo.tokenizer import BOS, make_tokenizer

KNOWN = tasks()


def prompts_of(name: str, texts: list[Row]) -> list[Prompt]:
    """The prompts of a task in a corpus, read back from their texts."""
    found: list[Prompt] = []
    for row in texts:
        with contextlib.suppress(BadTask):
            found.append(KNOWN[name].parse(row.text[: row.known]))
    return found


def test_a_corpus_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert rows(50, seed=3) == rows(50, seed=3)
    assert rows(50, seed=3) != rows(50, seed=4)


@pytest.mark.parametrize("name", ["ioi", "gendered_pronoun", "successor", "greater_than"])
def test_the_corpus_has_no_held_out_combination_and_no_held_out_family(name: str) -> None:
    task = KNOWN[name]
    found = prompts_of(name, rows(600, seed=0))
    assert len(found) > 20
    assert not any(is_held_out(task, prompt) for prompt in found)
    assert not {prompt.family for prompt in found} & set(held_out_families(task))


@pytest.mark.parametrize("name", TASKS)
def test_held_out_prompts_are_what_they_say(name: str) -> None:
    task = KNOWN[name]
    combinations, templates = (
        held_out_combinations(task, 20, seed=0),
        held_out_templates(task, 20, seed=0),
    )
    assert len(combinations) == 20
    assert all(
        is_held_out(task, prompt) and prompt.family not in held_out_families(task)
        for prompt in combinations
    )
    assert all(prompt.family in held_out_families(task) for prompt in templates)
    assert bool(templates) == (task.strata != "template")


def test_a_tenth_of_all_combinations_is_held_out_whatever_the_template() -> None:
    task = KNOWN["ioi"]
    prompts = task.sample(1500, seed=5)
    assert 0.07 < sum(is_held_out(task, prompt) for prompt in prompts) / 1500 < 0.13
    same = {}
    for prompt in prompts:
        values = tuple(prompt.slots[slot] for slot in COMBINATIONS["ioi"])
        assert same.setdefault(values, is_held_out(task, prompt)) == is_held_out(task, prompt)


def test_every_corpus_text_is_written_in_known_tokens_and_reads_back() -> None:
    tokenizer = make_tokenizer()
    for row in rows(400, seed=1):
        ids = tokenizer.encode(row.text)
        assert tokenizer.unk_token_id not in ids, row.text
        assert tokenizer.decode(ids) == row.text


def test_what_can_be_told_is_the_completion_or_the_second_saying() -> None:
    for row in rows(200, seed=2):
        before, after = row.text[: row.known], row.text[row.known :]
        if not after:
            assert row.text.endswith(".")
        elif after.endswith("."):
            assert re.fullmatch(r" ?\w+\.", after), row
        else:
            words = row.text.removeprefix("Words: ").split(" ")
            assert words[: len(words) // 2] == words[len(words) // 2 :]
            assert len(after.split()) == len(words) // 2 - 1
            assert before.startswith("Words: ")


def test_few_completions_are_foils() -> None:
    made = [(prompts_of("successor", [row]), row) for row in rows(4000, seed=3)]
    wrong = [
        prompt.foils[0] + "." == row.text[row.known :] for found, row in made for prompt in found
    ]
    assert 0.005 < sum(wrong) / len(wrong) < 0.08


def test_tokens_keep_their_space_and_years_are_two_tokens() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("When Mary and John, in 1732")) == [
        "When",
        " Mary",
        " and",
        " John",
        ",",
        " in",
        " 17",
        "32",
    ]
    assert tokenizer.convert_tokens_to_ids(BOS) == tokenizer.bos_token_id == 0


def test_no_token_is_listed_twice() -> None:
    assert max(Counter(vocabulary()).values()) == 1
    assert all(re.fullmatch(r" ?\S+", token) for token in vocabulary())
