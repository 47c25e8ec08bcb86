"""Files of prompt pairs as tasks: what a row becomes, what a donor is, and which files are refused."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sage.errors import BadFile, BadTask
from sage.task.pairs import PairTask, load_pairs
from sage.task.prompt import Prompt
from sage.task.splits import Splits, directions, split
from sage.task.token_audit import Unequal, audit
from sage.task.tokens import FastTokenizer, tokenize
from words import word_tokenizer

PLACES = "car box bus hut zoo spa inn bar".split()


def row(
    clean: str, patch: str, case: Any, right: str = " is", wrong: str = " are"
) -> dict[str, Any]:
    return {
        "clean_prefix": clean,
        "patch_prefix": patch,
        "clean_answer": right,
        "patch_answer": wrong,
        "case": case,
    }


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "agreement.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in rows))
    return path


def agreement(folder: Path, nouns: int = 10) -> PairTask:
    """Every noun in both numbers at every place, singular and plural patched by each other, with
    two verbs; the plural of noun 0 is two words."""
    rows: list[dict[str, Any]] = []
    for noun in range(nouns):
        one, many = f"noun{noun}", f"two noun{noun}s" if noun == 0 else f"noun{noun}s"
        for place in PLACES:
            for right, wrong in ((" is", " are"), (" was", " were")):
                rows.append(
                    row(
                        f"The {one} by the {place}",
                        f"The {many} by the {place}",
                        "singular",
                        right,
                        wrong,
                    )
                )
                rows.append(
                    row(
                        f"The {many} by the {place}",
                        f"The {one} by the {place}",
                        "plural",
                        wrong,
                        right,
                    )
                )
    return load_pairs(write(folder, rows))


def tokenizer_of(task: PairTask) -> FastTokenizer:
    return word_tokenizer(
        text + " is are was were"
        for pair in task.rows
        for text in (pair.clean.text, pair.patch.text)
    )


def splits_of(task: PairTask) -> Splits:
    tokenizer = tokenizer_of(task)
    return split(
        audit(task, tokenizer, bos=False).task,
        lambda prompt: tokenize(prompt, tokenizer, bos=False),
        seed=0,
    )


def test_a_row_is_a_clean_prompt_and_what_it_is_patched_with(tmp_path: Path) -> None:
    task = load_pairs(
        write(
            tmp_path,
            [
                row("The cat by a hut", "The cats by a hut", 1),
                row("The cats by a hut", "The cat by a hut", 2, " are", " is"),
            ],
        )
    )
    clean, patch = task.rows[0]
    assert clean == Prompt(
        "The cat by a hut",
        "agreement",
        "clean",
        {},
        {"case": 1},
        {"DIFF": (4, 7)},
        (" is",),
        (" are",),
        stratum="1",
    )
    assert (patch.labels, patch.spans, patch.answers, patch.foils) == (
        {"case": 2},
        {"DIFF": (4, 8)},
        (" are",),
        (" is",),
    )
    assert task.position_names == ("DIFF", "END")
    assert (task.name, task.attributes, task.contrast_names, task.null_names) == (
        "agreement",
        ("case",),
        ("case",),
        ("donor",),
    )
    assert task.values("case") == (1, 2)
    assert task.changes_answer("case")


def test_a_patched_prompt_that_is_nowhere_clean_gets_the_label_to_which_its_row_usually_leads(
    tmp_path: Path,
) -> None:
    rows = [
        row("A cat is by", "A cats is by", "one"),
        row("A cats is by", "A cat is by", "many"),
        row("A dog is by", "A dogs is by", "one"),
    ]
    assert [pair.patch.labels["case"] for pair in load_pairs(write(tmp_path, rows)).rows] == [
        "many",
        "one",
        "many",
    ]
    assert load_pairs(write(tmp_path, rows[2:])).rows[0].patch.labels == {"case": "one patched"}


def test_the_contrast_leads_to_the_rows_own_patch_and_a_donor_has_the_same_label(
    tmp_path: Path,
) -> None:
    task = agreement(tmp_path)
    prompt = task.rows[4].clean
    assert [other.text for other in task.counterfactuals(prompt, "case", rng=Random(0))] == [
        task.rows[4].patch.text
    ]
    donors = [other.text for other in task.counterfactuals(prompt, "donor", rng=Random(0))]
    assert prompt.text not in donors
    assert len(donors) == 10 * len(PLACES) - 1


def test_a_difference_in_the_last_word_has_no_position_of_its_own(tmp_path: Path) -> None:
    ending = row("The cat", "The cats", "one")
    assert load_pairs(write(tmp_path, [ending])).position_names == ("END",)
    with pytest.raises(
        BadFile, match=r"in 1 of 2 pairs the first word that differs is the last one.*two files"
    ):
        load_pairs(write(tmp_path, [ending, row("The cat by a hut", "The cats by a hut", "one")]))


def test_pairs_of_unequal_length_are_dropped_and_counted(tmp_path: Path) -> None:
    """Noun 0 has a plural of two words: 8 places, 2 verbs, 2 directions."""
    task = agreement(tmp_path)
    assert audit(task, tokenizer_of(task), bos=False).unequal["case"] == Unequal(32, 10 * 32)
    splits = splits_of(task)
    assert splits.drops == {"pairs of unequal token length": 32}
    pairs = [
        pair for found in (splits.discover, splits.fit_pairs, splits.test) for pair in found["case"]
    ]
    assert all(len(pair.clean.ids) == len(pair.counterfactual.ids) for pair in pairs)
    assert splits.unequal == {"case": 0}


def test_splits_are_by_text_and_keep_every_answer_of_it(tmp_path: Path) -> None:
    splits = splits_of(agreement(tmp_path))
    texts = {
        name: {pair.clean.prompt.text for pair in found["case"]}
        for name, found in (("d", splits.discover), ("t", splits.test))
    }
    texts["f"] = {prompt.prompt.text for prompt in splits.fit}
    assert len(set.union(*texts.values())) == sum(map(len, texts.values()))
    assert len(texts["f"]) == len(splits.fit)
    assert Counter(pair.clean.prompt.text for pair in splits.test["case"]).most_common()[-1][1] == 2
    assert splits.counts["test"] == len(texts["t"])


def test_donors_have_the_length_and_the_label_of_the_prompt_and_its_stratum_says_both(
    tmp_path: Path,
) -> None:
    splits = splits_of(agreement(tmp_path))
    for pair in splits.null["donor"]:
        assert len(pair.clean.ids) == len(pair.counterfactual.ids)
        assert pair.clean.prompt.labels == pair.counterfactual.prompt.labels
        assert pair.clean.prompt.stratum == f"{pair.clean.prompt.labels['case']} x 5 tokens"


def test_directions_are_those_of_the_label(tmp_path: Path) -> None:
    task = agreement(tmp_path)
    assert set(directions(splits_of(task).discover["case"], "case", task)) == {
        ("singular", "plural"),
        ("plural", "singular"),
    }


def test_where_no_other_prompt_has_the_label_there_is_no_donor(tmp_path: Path) -> None:
    task = load_pairs(
        write(tmp_path, [row(f"The cat{n} by a hut", f"The dog{n} by a hut", n) for n in range(40)])
    )
    assert list(task.counterfactuals(task.rows[0].clean, "donor", rng=Random(0))) == []
    with pytest.raises(
        BadTask, match="has 0 different prompts to test on"
    ):  # each label's only prompt goes to fit
        splits_of(task)


GOOD = row("The cat by a hut", "The cats by a hut", "one")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"agreement.jsonl, line 2 is not JSON"),
        ("[1]", r"line 2 is no object; a pair is one with clean_prefix, .*, case"),
        (
            {name: GOOD[name] for name in GOOD if name != "case"},
            r"line 2 has no 'case' but clean_prefix",
        ),
        ({}, r"line 2 has no 'clean_prefix' but nothing"),
        ({**GOOD, "clean_answer": 3}, r"line 2: .* must be texts; they are .*, 3, "),
        ({**GOOD, "clean_prefix": " "}, r"line 2: .* must be texts"),
        ({**GOOD, "case": [1]}, r"line 2: case is \[1\]; a label is a text or a whole number"),
        ({**GOOD, "patch_answer": " is"}, r"line 2: clean_answer and patch_answer are both ' is'"),
        (
            {**GOOD, "patch_prefix": "The cat by a hut and"},
            r"line 2: no word of 'The cat by a hut' differs",
        ),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(BadFile, match=message):
        load_pairs(write(tmp_path, [GOOD, line]))


def test_a_file_that_is_missing_empty_or_binary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"nowhere.jsonl cannot be read"):
        load_pairs(tmp_path / "nowhere.jsonl")
    with pytest.raises(BadFile, match="has no pairs"):
        load_pairs(write(tmp_path, []))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="cannot be read"):
        load_pairs(tmp_path / "binary.jsonl")


@cache
def real_tokenizer(folder: Path) -> FastTokenizer:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize(
    ("file", "tokenizer", "unequal", "rows", "positions"),
    [
        ("simple", "gpt2", 23, 120, ("END",)),
        ("simple", "pythia", 23, 120, ("END",)),
        ("nounpp", "gpt2", 66, 480, ("DIFF", "END")),
        ("nounpp", "pythia", 66, 480, ("DIFF", "END")),
        ("within_rc", "pythia", 0, 2400, ("END",)),
    ],
)
def test_published_agreement_files(
    file: str,
    tokenizer: str,
    unequal: int,
    rows: int,
    positions: tuple[str, ...],
    shared_data: Path,
) -> None:
    task, real = (
        load_pairs(shared_data / "subject_verb_agreement" / f"{file}_test.jsonl"),
        real_tokenizer(shared_data / "tokenizers" / tokenizer),
    )
    found = audit(task, real, bos=False)
    assert found.unequal["case"] == Unequal(unequal, rows)
    assert found.refused == {}
    assert task.position_names == positions
    if file == "simple":  # 39 different prompts
        with pytest.raises(BadTask, match=r"has 7 different prompts to test on .* needs 30"):
            split(found.task, lambda prompt: tokenize(prompt, real, bos=False), seed=0)
        return
    splits = split(found.task, lambda prompt: tokenize(prompt, real, bos=False), seed=0)
    assert splits.drops.get("pairs of unequal token length", 0) == unequal
    assert splits.counts["test"] >= 30
    assert len(set(directions(splits.discover["case"], "case", found.task))) == 4
    assert splits.null["donor"]
