"""Files of prompt pairs as tasks: what a line becomes, what a donor is, which files are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sage.errors import BadFile, BadTask
from sage.task.ownership import UNEQUAL, Drop
from sage.task.pairs import PairTask, load_pairs
from sage.task.prompt import Prompt
from sage.task.splits import Splits, directions, split
from sage.task.token_audit import Unequal, audit
from sage.task.tokens import FastTokenizer, tokenize
from words import word_tokenizer

PLACES = "car box bus hut zoo spa inn bar".split()
VERBS = ((" is", " are"), (" was", " were"))


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
    """A file of these rows; a text is a line as it is."""
    path = folder / "agreement.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines))
    return path


def agreement(folder: Path, *more: dict[str, Any], nouns: int = 10) -> PairTask:
    """Nouns in both numbers at every place, each patched by its other number, with two verbs.

    The plural of noun 0 is two words.
    """
    rows: list[dict[str, Any]] = []
    for number, place, (is_, are) in product(range(nouns), PLACES, VERBS):
        noun = f"noun{number}"
        singular = f"The {noun} by the {place}"
        plural = f"The {'two ' if number == 0 else ''}{noun}s by the {place}"
        rows.append(row(singular, plural, "singular", is_, are))
        rows.append(row(plural, singular, "plural", are, is_))
    return load_pairs(write(folder, [*rows, *more]))


def tokenizer_of(task: PairTask) -> FastTokenizer:
    texts = [f"{pair.clean.text} {pair.patch.text}" for pair in task.pairs]
    return word_tokenizer([*texts, "The is are was were"])


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
    clean, patch = task.pairs[0]
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
    assert (task.name, task.attributes, task.contrast_names, task.null_contrasts) == (
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
    assert [pair.patch.labels["case"] for pair in load_pairs(write(tmp_path, rows)).pairs] == [
        "many",
        "one",
        "many",
    ]
    assert load_pairs(write(tmp_path, rows[2:])).pairs[0].patch.labels == {"case": "one patched"}


def test_the_contrast_leads_to_the_rows_own_patch_and_a_donor_has_the_same_label(
    tmp_path: Path,
) -> None:
    task = agreement(tmp_path)
    prompt = task.pairs[4].clean
    assert [other.text for other in task.counterfactuals(prompt, "case", rng=Random(0))] == [
        task.pairs[4].patch.text
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
    assert splits.drops == {Drop(UNEQUAL): 32}
    pairs = (*splits.discover["case"], *splits.fit_pairs["case"], *splits.test["case"])
    assert all(len(pair.clean.ids) == len(pair.counterfactual.ids) for pair in pairs)
    assert splits.unequal == {"case": 0}


def test_a_prompt_left_out_of_all_splits_is_no_donor_either(tmp_path: Path) -> None:
    """The noun0 by the car has as many tokens as other singular prompts, but no patch as long."""
    splits = splits_of(agreement(tmp_path))
    nulls = (splits.discover_null, splits.fit_null, splits.test_null)
    pairs = list(chain.from_iterable(null["donor"] for null in nulls))
    assert len(pairs) > 50
    assert not [pair for pair in pairs if "noun0" in pair.counterfactual.prompt.text]


def test_a_prompt_that_is_longer_than_all_of_its_label_has_no_donor_and_is_counted(
    tmp_path: Path,
) -> None:
    """Both prompts of this pair are in one split, each the longest of its label."""
    singular, plural = "The cat by the old hut", "The cats by the old hut"
    task = agreement(
        tmp_path,
        row(singular, plural, "singular", " is", " are"),
        row(plural, singular, "plural", " are", " is"),
    )
    drops = splits_of(task).drops
    assert [count for drop, count in drops.items() if drop.contrast == "donor"] == [2]
    assert {drop.why for drop in drops} == {UNEQUAL}


def test_splits_are_by_text_and_keep_every_answer_of_it(tmp_path: Path) -> None:
    splits = splits_of(agreement(tmp_path))
    discover = Counter(pair.clean.prompt.text for pair in splits.discover["case"])
    test = Counter(pair.clean.prompt.text for pair in splits.test["case"])
    fit = {prompt.prompt.text for prompt in splits.fit}
    assert len(fit | set(discover) | set(test)) == len(fit) + len(discover) + len(test)
    assert len(fit) == len(splits.fit)
    assert min(test.values()) == 2
    assert splits.counts["test"] == len(test)


def test_donors_have_the_length_and_the_label_of_the_prompt_and_its_stratum_says_both(
    tmp_path: Path,
) -> None:
    splits = splits_of(agreement(tmp_path))
    for pair in splits.discover_null["donor"]:
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
    assert list(task.counterfactuals(task.pairs[0].clean, "donor", rng=Random(0))) == []
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
    real_tokenizer: Callable[[str], FastTokenizer],
) -> None:
    task = load_pairs(shared_data / "subject_verb_agreement" / f"{file}_test.jsonl")
    real = real_tokenizer(tokenizer)
    audited = audit(task, real, bos=False)
    assert audited.unequal["case"] == Unequal(unequal, rows)
    assert audited.refused == {}
    assert task.position_names == positions
    if file == "simple":  # 39 different prompts
        with pytest.raises(BadTask, match=r"has 7 different prompts to test on .* needs 30"):
            split(audited.task, lambda prompt: tokenize(prompt, real, bos=False), seed=0)
        return
    splits = split(audited.task, lambda prompt: tokenize(prompt, real, bos=False), seed=0)
    assert splits.drops.get(Drop(UNEQUAL), 0) == unequal
    assert splits.counts["test"] >= 30
    assert len(set(directions(splits.discover["case"], "case", audited.task))) == 4
    assert splits.discover_null["donor"]
