"""What contrasts are scored on: read once, and no more of it than is decided on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from linear import MLP, activations
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Section, parse_node
from sage.preparation import Prepared, prepare
from sage.run import Plan
from sage.scores.data import answers_of, changed_attributes, read_contrast, read_shared
from sage.task.catalog import load_task
from sage.task.tokens import TokenizedPair
from scores.worlds import split_world

PLAN = Plan(pairs=30, discover=30, decide=40, fit=400, detect=20)
SECTION = Section("IO", {parse_node("1.0.z@END"): 1.0})


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("tiny-neox", device="cpu")


@pytest.fixture(scope="module")
def prepared(model: Model) -> Prepared:
    return prepare(model, load_task("ioi"), PLAN)


def test_irrelevant_pairs_are_as_many_as_those_decided_on_and_equally_many_of_each_attribute(
    model: Model, prepared: Prepared
) -> None:
    task, splits = prepared
    shared = read_shared(model, task, splits, [SECTION], hooks=[])
    assert task.irrelevant == ("place", "object", "template")
    assert shared.irrelevant is not None
    base, target = shared.irrelevant
    changed: list[list[str]] = []
    for before, after in zip(base.prompt_labels, target.prompt_labels, strict=True):
        names = (*task.attributes, *task.irrelevant)
        changed.append([name for name in names if before[name] != after[name]])
    assert changed == [["place"], ["object"], ["template"]] * 13 + [["place"]]
    data = read_contrast(model, splits, SECTION, shared, hooks=[])
    assert len(data.decide.base) == 40
    assert shared.detect is not None
    assert len(shared.detect) == 20


def test_a_contrast_with_few_pairs_leaves_the_irrelevant_ones_as_many_as_the_others_have(
    model: Model, prepared: Prepared
) -> None:
    task, splits = prepared
    few = {**splits.fit_pairs, "order": splits.fit_pairs["order"][:9]}
    shared = read_shared(model, task, replace(splits, fit_pairs=few), [SECTION], hooks=[])
    assert shared.irrelevant is not None
    assert len(shared.irrelevant.base) == 40


def test_pairs_and_prompts_of_different_splits_and_to_detect_on_share_no_text(
    model: Model, prepared: Prepared
) -> None:
    task, splits = prepared
    shared = read_shared(model, task, splits, [SECTION], hooks=[])
    data = read_contrast(model, splits, SECTION, shared, hooks=[])
    assert shared.detect is not None
    detect, fit = (
        {prompt.prompt.text for prompt in given.prompts} for given in (shared.detect, shared.fit)
    )
    test = {prompt.prompt.text for run in data.test for prompt in run.prompts}
    decide = {prompt.prompt.text for run in data.decide for prompt in run.prompts}
    assert not detect & (fit | test | decide)
    assert not test & (fit | decide)


def test_what_a_model_may_say_are_all_answers_and_foils_of_the_splits(prepared: Prepared) -> None:
    task, splits = prepared
    tokens = answers_of(task, splits).tokens
    assert list(tokens) == sorted(set(tokens))
    for prompt in splits.prompts():
        assert {*prompt.answers, *prompt.foils} <= set(tokens)


@pytest.mark.parametrize(("count", "changed"), [(1, ("a", "b")), (0, ("a",))])
def test_an_attribute_has_changed_whose_label_differs_in_one_of_a_hundred_pairs(
    count: int, changed: tuple[str, ...]
) -> None:
    """`c` never differs, `b` in `count` of 100 pairs."""
    before = [{"a": 0, "b": 0, "c": 0}] * 100
    after = [{"a": 1, "b": int(number < count), "c": 0} for number in range(100)]
    base, target = (activations(labels, mlp=torch.zeros(100, 8)) for labels in (before, after))
    pairs = [TokenizedPair(p, q, "a") for p, q in zip(base.prompts, target.prompts, strict=True)]
    assert changed_attributes(pairs, ("a", "b", "c")) == changed
    assert changed_attributes([*pairs, *pairs[1:2]], ("a", "b", "c")) == ("a",)


def test_pairs_on_fewer_nodes_keep_their_labels() -> None:
    data = split_world().data.on([MLP])
    assert [label["a"] for label in data.test.labels] == [1] * 6
    assert data.section.nodes == (MLP,)
