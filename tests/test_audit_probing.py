"""Metrics of other benchmarks on a model: texts from a file, attributes of a task, what is told."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sage.audit.labelled_texts import LabelledTexts, is_text_file, read_labelled_texts
from sage.audit.peers import probing, scr, tpp
from sage.audit.probed import (
    ACTIVATION,
    LABEL,
    UNTRAINED,
    ProbeRow,
    ProbeSettings,
    of_task,
    of_texts,
    probe,
)
from sage.cli import cli
from sage.errors import BadFile, SageError
from sage.models.base import Model
from sage.models.load import load_model
from sage.saes.planted import planted_suite
from sage.saes.sae import SAE
from sage.task.catalog import load_task

ANIMALS, QUALITIES = ("dog", "cat", "fish"), ("red", "blue", "green", "big", "small", "tall")
SETTINGS = ProbeSettings(train=120, test=80, ks=(1,), draws=2)


@pytest.fixture(scope="module")
def wired() -> Model:
    return load_model("wired", device="cpu")


@pytest.fixture(scope="module")
def planted(wired: Model) -> SAE:
    """A latent for every token, at the embedding."""
    return next(iter(planted_suite(wired.anatomy.hooks[:1]).saes.values()))


def texts(path: Path) -> Path:
    """Every animal with every quality and owner, labelled by the kind of quality at the end."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        table.writerow(("prompt", "prompt_len", "target"))
        for _ in range(2):
            for owner in ("My", "Your"):
                for animal in ANIMALS:
                    for quality in QUALITIES:
                        label = "colour" if quality in QUALITIES[:3] else "size"
                        table.writerow((f"{owner} {animal} is {quality}", 4, label))
    return path


def at(rows: list[ProbeRow], dictionary: str, metric: str, size: int | None) -> ProbeRow:
    key = (dictionary, metric, size)
    [row] = [row for row in rows if (row.dictionary, row.metric, row.size) == key]
    return row


def test_tables_of_texts_are_read_whatever_their_form(tmp_path: Path) -> None:
    rows = [{"text": "a, b", "label": 1}, {"text": "c", "label": 0}, {"text": None, "label": 0}]
    lines = tmp_path / "lines.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert read_labelled_texts(lines) == LabelledTexts("lines", ("a, b", "c"), ("1", "0"))
    comma, tab = texts(tmp_path / "one.csv"), texts(tmp_path / "one.tsv")
    assert read_labelled_texts(comma) == read_labelled_texts(tab)
    assert all(map(is_text_file, (comma, tab, lines, Path("x.csv.gz"), Path("x.csv.zst"))))
    assert not any(map(is_text_file, (Path("ioi"), Path("my_task.py"))))


def test_a_file_without_the_column_says_which_it_has(tmp_path: Path) -> None:
    file = texts(tmp_path / "texts.csv")
    with pytest.raises(BadFile, match="no column of labels named mood"):
        read_labelled_texts(file, label="mood")
    with pytest.raises(BadFile, match="no file"):
        read_labelled_texts(tmp_path / "none.csv")


def test_one_planted_latent_reads_what_the_last_token_is(
    tmp_path: Path, wired: Model, planted: SAE
) -> None:
    """The embedding of a colour holds the feature of its kind: one latent tells the classes apart,
    and so does what is read off the whole activation."""
    given = of_texts(wired, read_labelled_texts(texts(tmp_path / "kinds.csv")))
    assert (given.name, given.attributes, len(given.prompts)) == ("kinds", (LABEL,), 72)
    rows = probe(wired, given, {"planted": planted}, SETTINGS)
    best = at(rows, "planted", probing.NAME, 1)
    assert (best.value, best.stderr, best.classes, best.hook) == (1.0, 0.0, 2, "0.resid_pre")
    assert at(rows, ACTIVATION, probing.NAME, None).value == pytest.approx(1)
    assert at(rows, UNTRAINED, probing.NAME, 1).value <= 1
    assert {row.metric for row in rows} == {probing.NAME, tpp.NAME}
    assert {row.attribute for row in rows} == {LABEL}


def test_texts_with_unknown_words_are_left_out_and_counted(wired: Model) -> None:
    given = of_texts(wired, LabelledTexts("x", ("My dog is red", "My zebra is red"), ("a", "b")))
    assert [prompt.prompt.text for prompt in given.prompts] == ["My dog is red"]
    assert given.notes == ("1 of 2 texts left out: words that the model does not know.",)
    assert given.prompts[0].index["END"] == len(given.prompts[0].ids) - 1
    with pytest.raises(SageError, match="does not know"):
        of_texts(wired, LabelledTexts("x", ("zebra",), ("a",)))


def test_attributes_of_a_task_are_probed_where_they_stand(wired: Model, planted: SAE) -> None:
    """At the quality's own token its kind is a feature and the owner is none: the embedding does
    not know whose clause it stands in."""
    task = load_task("wired")
    given = of_task(wired, task, SETTINGS, position="quality", attributes=("kind", "owner"))
    rows = probe(wired, given, {"planted": planted}, replace(SETTINGS, draws=1))
    kind, owner = (
        next(row.value for row in rows
             if (row.attribute, row.dictionary, row.metric) == (name, "planted", probing.NAME))
        for name in ("kind", "owner")
    )  # fmt: skip
    assert kind == 1
    assert owner < 0.7
    pairs = {row.attribute for row in rows if row.metric == scr.NAME}
    assert pairs == {"kind, owner"}
    with pytest.raises(SageError, match="quality"):
        of_task(wired, task, SETTINGS, position="nowhere")
    with pytest.raises(SageError, match="mood"):
        of_task(wired, task, SETTINGS, attributes=("mood",))


def test_too_few_texts_are_refused_with_their_number(wired: Model, planted: SAE) -> None:
    given = of_texts(wired, LabelledTexts("few", ("My dog is red", "My cat is big"), ("a", "b")))
    with pytest.raises(SageError, match="it has 2 prompts"):
        probe(wired, given, {"planted": planted}, SETTINGS)


def test_the_command_prints_probes_and_what_the_audit_says_of_them(tmp_path: Path) -> None:
    file, out = texts(tmp_path / "kinds.csv"), tmp_path / "rows.csv"
    words = ["probe", str(file), "-m", "wired", "--sae", str(_saved(tmp_path)), "-q"]
    words += ["--metric", "tpp", "--train", "48", "--test", "24", "--draws", "1"]
    told = CliRunner().invoke(cli, [*words, "--out", str(out)])
    assert told.exit_code == 0, told.output
    assert "TPP, by the audit: do not use" in told.output
    with out.open(encoding="utf-8") as read:
        rows = list(csv.DictReader(read))
    assert {row["size"] for row in rows} == {str(n) for n in tpp.COUNTS}
    assert {row["data"] for row in rows} == {"kinds"}


def _saved(folder: Path) -> Path:
    from sage.saes.planted import save_planted

    model = load_model("wired", device="cpu")
    return save_planted(model.anatomy.hooks[:1], folder / "saes")[0]
