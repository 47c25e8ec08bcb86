"""Sequences: how text is cut, and what the model is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage.errors import BadFile, SageError
from sage.fidelity.sequences import (
    sequences_of,
    sequences_of_tasks,
    sequences_of_text,
    targets,
)
from sage.models.base import Model
from sage.models.load import load_model
from sage.task.catalog import load_task
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized

TEXT = "When Mary and John went to the store, John gave a book to Mary"


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("tiny-gpt2", device="cpu")


def _tokenized(*ids: int, answers: tuple[int, ...] = ()) -> Tokenized:
    return Tokenized(Prompt("", "", "", {}, {}, {}, (), ()), ids, {}, answers, ())


def test_passages_are_cut_into_sequences_that_begin_with_bos(model: Model, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text(f"{TEXT}\n\n{TEXT} and\n")
    tokens = len(model.tokenizer.encode(TEXT, add_special_tokens=False))
    sequences = sequences_of_text(model, file, length=8)
    assert {len(prompt.ids) for prompt in sequences.prompts} <= set(range(3, 9))
    assert {prompt.ids[0] for prompt in sequences.prompts} == {model.tokenizer.bos_token_id}
    assert len(sequences.prompts[0].ids) == 8
    whole = sequences_of_text(model, file, length=tokens + 1)
    assert [len(prompt.ids) for prompt in whole.prompts] == [tokens + 1] * 2
    assert len(sequences_of_text(model, file, length=8, most=1).prompts) == 1


def test_a_dataset_in_a_folder_is_text(model: Model, tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_dict({"text": [TEXT, "", TEXT]})
    dataset.save_to_disk(tmp_path / "plain")
    DatasetDict({"test": Dataset.from_dict({"text": ["a"]}), "train": dataset}).save_to_disk(
        tmp_path / "splits"
    )
    plain = sequences_of_text(model, tmp_path / "plain", length=32)
    assert len(plain.prompts) == 2
    split = sequences_of_text(model, tmp_path / "splits", length=32)
    assert [prompt.ids for prompt in split.prompts] == [prompt.ids for prompt in plain.prompts]


def test_what_is_no_text_is_refused(model: Model, tmp_path: Path) -> None:
    from datasets import Dataset

    with pytest.raises(BadFile, match="no dataset on disk"):
        sequences_of_text(model, tmp_path)
    Dataset.from_dict({"words": [TEXT]}).save_to_disk(tmp_path / "other")
    with pytest.raises(BadFile, match="no column 'text'; it has: words"):
        sequences_of_text(model, tmp_path / "other", length=32)
    with pytest.raises(SageError, match="no sequence has 3 tokens"):
        sequences_of(model, [_tokenized(0, 5)], source="short")
    with pytest.raises(SageError, match="ask for no next token"):
        sequences_of_text(model, tmp_path / "other", length=2)
    with pytest.raises(SageError, match=r"positions for \d+ tokens"):
        sequences_of_text(model, tmp_path / "other", length=10_000)
    with pytest.raises(SageError, match="no prompts"):
        sequences_of_tasks(model, [])


def test_text_asks_for_every_next_token_but_the_one_after_bos() -> None:
    prompts = [_tokenized(0, 5, 6, 7), _tokenized(0, 8, 9, 5)]
    with_bos = targets(prompts, "next tokens", bos=True)
    assert with_bos.positions.tolist() == [1, 2]
    assert with_bos.token_ids.tolist() == [[[6], [7]], [[9], [5]]]
    without = targets(prompts, "next tokens", bos=False)
    assert without.positions.tolist() == [0, 1, 2]
    assert without.token_ids[0].tolist() == [[5], [6], [7]]
    assert without.valid.all()


def test_prompts_of_a_task_come_with_their_answers(model: Model) -> None:
    sequences = sequences_of_tasks(model, [load_task("gendered_pronoun")], count=3)
    assert (len(sequences.prompts), sequences.asked) == (3, "answers")
    assert sequences.source == "gendered_pronoun"
    assert all(prompt.answers for prompt in sequences.prompts)


def test_a_task_asks_for_any_of_the_answers_at_the_end() -> None:
    asked = targets(
        [_tokenized(0, 5, 6, answers=(7,)), _tokenized(0, 5, 8, answers=(3, 9))],
        "answers",
        bos=True,
    )
    assert asked.positions.tolist() == [2]
    assert asked.token_ids[1].tolist() == [[3, 9]]
    assert asked.valid.tolist() == [[[True, False]], [[True, True]]]
