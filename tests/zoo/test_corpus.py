"""The corpus holds out what it says, and every text of it is written in known tokens."""

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
    CorpusText,
    corpus_texts,
    held_out_combinations,
    held_out_families,
    held_out_templates,
    is_held_out,
    tasks,
    vocabulary,
)
from sage.zoo.tokenizer import BOS, make_tokenizer

BY_NAME = tasks()


def prompts_of(name: str, texts: list[CorpusText]) -> list[Prompt]:
    """The prompts of a task in a corpus, read back from their texts."""
    prompts: list[Prompt] = []
    for text in texts:
        with contextlib.suppress(BadTask):
            prompts.append(BY_NAME[name].parse(text.text[: text.told_from]))
    return prompts


def test_a_corpus_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert corpus_texts(50, seed=3) == corpus_texts(50, seed=3)
    assert corpus_texts(50, seed=3) != corpus_texts(50, seed=4)


@pytest.mark.parametrize("name", ["ioi", "gendered_pronoun", "successor", "greater_than"])
def test_the_corpus_has_no_held_out_combination_and_no_held_out_family(name: str) -> None:
    task = BY_NAME[name]
    prompts = prompts_of(name, corpus_texts(600, seed=0))
    assert len(prompts) > 20
    assert not any(is_held_out(task, prompt) for prompt in prompts)
    assert not {prompt.family for prompt in prompts} & set(held_out_families(task))


@pytest.mark.parametrize("name", TASKS)
def test_held_out_prompts_are_what_they_say(name: str) -> None:
    task = BY_NAME[name]
    families = held_out_families(task)
    combinations = held_out_combinations(task, 20, seed=0)
    templates = held_out_templates(task, 20, seed=0)
    assert len(combinations) == 20
    assert all(is_held_out(task, prompt) for prompt in combinations)
    assert not any(prompt.family in families for prompt in combinations)
    assert all(prompt.family in families for prompt in templates)
    assert bool(templates) == (task.strata != "template")


def test_a_tenth_of_all_combinations_is_held_out_whatever_the_template() -> None:
    task = BY_NAME["ioi"]
    prompts = task.sample(1500, seed=5)
    assert 0.07 < sum(is_held_out(task, prompt) for prompt in prompts) / 1500 < 0.13
    by_values: dict[tuple[str, ...], bool] = {}
    for prompt in prompts:
        values = tuple(prompt.slots[slot] for slot in COMBINATIONS["ioi"])
        assert by_values.setdefault(values, is_held_out(task, prompt)) == is_held_out(task, prompt)


def test_every_corpus_text_is_written_in_known_tokens_and_reads_back() -> None:
    tokenizer = make_tokenizer()
    for text, _ in corpus_texts(400, seed=1):
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids, text
        assert tokenizer.decode(ids) == text


def test_what_can_be_told_is_the_completion_or_the_second_saying() -> None:
    for text, told_from in corpus_texts(200, seed=2):
        before, after = text[:told_from], text[told_from:]
        if not after:
            assert text.endswith(".")
        elif after.endswith("."):
            assert re.fullmatch(r" ?\w+\.", after), text
        else:
            words = text.removeprefix("Words: ").split(" ")
            assert words[: len(words) // 2] == words[len(words) // 2 :]
            assert len(after.split()) == len(words) // 2 - 1
            assert before.startswith("Words: ")


def test_few_completions_are_foils() -> None:
    wrong: list[bool] = []
    for text in corpus_texts(4000, seed=3):
        completion = text.text[text.told_from :]
        prompts = prompts_of("successor", [text])
        wrong += [completion == f"{prompt.foils[0]}." for prompt in prompts]
    assert 0.005 < sum(wrong) / len(wrong) < 0.08


def test_tokens_keep_their_space_and_years_are_two_tokens() -> None:
    tokenizer = make_tokenizer()
    tokens = tokenizer.convert_ids_to_tokens(tokenizer.encode("When Mary and John, in 1732"))
    assert tokens == ["When", " Mary", " and", " John", ",", " in", " 17", "32"]
    assert tokenizer.convert_tokens_to_ids(BOS) == tokenizer.bos_token_id == 0


def test_no_token_is_listed_twice() -> None:
    assert max(Counter(vocabulary()).values()) == 1
    assert all(re.fullmatch(r" ?\S+", token) for token in vocabulary())
