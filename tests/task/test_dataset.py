"""Prompts leave for a Dataset, parquet or JSON lines and come back equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage.errors import BadFile
from sage.task.catalog import load_task
from sage.task.dataset import from_dataset, load, save, to_dataset
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized, tokenize
from words import word_tokenizer

SUITE = ("ioi", "subject_verb_agreement", "induction")

PROMPT = Prompt(
    "Ann and Bob",
    "a",
    "x",
    {"IO": "Ann"},
    {"IO": "Ann", "size": 3},
    {"IO": (0, 3)},
    (" Ann",),
    (" Bob", " Cy"),
    stratum="s",
)
READ = Tokenized(PROMPT, (5, 6, 7), {"IO": 0, "S1+1": 2, "END": 2}, (8,), (9, 10))


def read(name: str) -> list[Tokenized]:
    prompts = load_task(name).sample(20, seed=0)
    tokenizer = word_tokenizer(
        prompt.text + "".join((*prompt.answers, *prompt.foils)) for prompt in prompts
    )
    return [tokenize(prompt, tokenizer, bos=True) for prompt in prompts]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("name", SUITE)
def test_prompts_and_read_prompts_come_back_equal(name: str, suffix: str, tmp_path: Path) -> None:
    prompts = load_task(name).sample(20, seed=0)
    tokens = read(name)
    assert load(save(prompts, tmp_path / f"prompts{suffix}")) == prompts
    assert load(save(tokens, tmp_path / "deep" / f"tokens{suffix}")) == tokens
    assert from_dataset(to_dataset(prompts)) == prompts
    assert from_dataset(to_dataset(tokens)) == tokens


def test_a_dataset_has_a_column_for_every_label_and_position() -> None:
    dataset = to_dataset([READ])
    assert dataset[0] == {
        "text": "Ann and Bob",
        "family": "a",
        "variant": "x",
        "answers": [" Ann"],
        "foils": [" Bob", " Cy"],
        "stratum": "s",
        "slot.IO": "Ann",
        "label.IO": "Ann",
        "label.size": 3,
        "span.IO": [0, 3],
        "ids": [5, 6, 7],
        "answer_ids": [8],
        "foil_ids": [9, 10],
        "position.IO": 0,
        "position.S1+1": 2,
        "position.END": 2,
    }


def test_a_name_that_only_some_prompts_have_stays_theirs(tmp_path: Path) -> None:
    bare = Prompt("Hm", "a", "x", {}, {"IO": "none"}, {}, (" b",), (" c",))
    for suffix in (".parquet", ".jsonl"):
        assert load(save([PROMPT, bare], tmp_path / f"some{suffix}")) == [PROMPT, bare]


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
names = st.text("ABS12+:", min_size=1, max_size=4)


@settings(max_examples=15)
@given(
    st.fixed_dictionaries(
        {
            "text": texts,
            "slots": st.dictionaries(names, texts, max_size=3),
            "labels": st.dictionaries(names, st.one_of(texts, st.integers(-9, 9)), max_size=3),
            "spans": st.dictionaries(
                names, st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3
            ),
            "answers": st.lists(texts, min_size=1, max_size=2).map(tuple),
        }
    )
)
def test_any_prompt_comes_back(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]
) -> None:
    prompt = Prompt(family="a", variant="x", foils=(" c",), **fields)
    folder = tmp_path_factory.mktemp("any")
    for suffix in (".parquet", ".jsonl"):
        assert load(save([prompt], folder / f"any{suffix}")) == [prompt]


def test_a_file_that_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"There is no file .*nowhere.jsonl"):
        load(tmp_path / "nowhere.jsonl")
    with pytest.raises(BadFile, match=r"prompts.csv does not end in .parquet or .jsonl"):
        save([PROMPT], tmp_path / "prompts.csv")
    for content in (b"not parquet", b"PAR1" * 20):
        (tmp_path / "bad.parquet").write_bytes(content)
        with pytest.raises(BadFile, match=r"bad.parquet is not a readable parquet file"):
            load(tmp_path / "bad.parquet")
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(BadFile, match="cannot be read as UTF-8"):
        load(tmp_path / "bad.jsonl")


def row(**changes: Any) -> str:
    good = {
        "text": "a",
        "family": "f",
        "variant": "x",
        "answers": [" b"],
        "foils": [" c"],
        "stratum": "",
        "label.IO": "a",
        "span.IO": [0, 1],
    }
    return json.dumps(
        {name: value for name, value in {**good, **changes}.items() if value != "gone"}
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "has no prompts"),
        ([row(), "{"], "line 2 is not JSON"),
        ([row(), "3"], "line 2 is no object"),
        ([row(), row(text="gone")], "prompt 2 has no 'text'"),
        ([row(answers=" b")], "prompt 1: answers is ' b'; it must be a list of texts"),
        ([row(foils=[1])], r"foils is \[1\]; it must be a list of texts"),
        ([row(**{"label.IO": 1.5})], r"label.IO is 1.5; it must be a text or a whole number"),
        ([row(**{"span.IO": [0]})], r"span.IO is \[0\]; it must be two whole numbers"),
        (
            [row(ids=[1], answer_ids=[2], foil_ids=[True])],
            r"foil_ids is \[True\]; it must be a list of whole numbers",
        ),
        (
            [row(ids=[1], answer_ids=[2], foil_ids=[3], **{"position.END": "0"})],
            r"position.END is '0'; it must be a whole number",
        ),
        ([row(ids=[1], answer_ids=[2])], "prompt 1 has no 'foil_ids'"),
    ],
)
def test_a_row_that_is_no_prompt_is_named(lines: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(BadFile, match=message):
        load(path)
