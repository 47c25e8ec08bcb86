"""Metrics and choices against a literal twin, one prompt at a time."""

from __future__ import annotations

import pytest
import torch

from sage.errors import UnknownName
from sage.task.metric import (
    answer_vocabulary,
    choice,
    find_metric,
    logit_difference,
    probability_difference,
)
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized


def read(answers: tuple[int, ...], foils: tuple[int, ...]) -> Tokenized:
    return Tokenized(Prompt("", "", "", {}, {}, {}, (), ()), (0,), {"END": 0}, answers, foils)


PROMPTS = [
    read((1,), (2,)),
    read((0, 3, 4), (2,)),
    read((5,), (1, 2)),
    read((6, 0), (3, 4)),
    read((2,), (0,)),
]
LOGITS = 3 * torch.randn(len(PROMPTS), 7, generator=torch.Generator().manual_seed(0))


def test_the_logit_difference_of_sets_is_one_of_means() -> None:
    """Logits 0 to 3; answers 1 and 2, foil 3: mean 1.5 less 3."""
    assert logit_difference(torch.arange(4.0)[None], [read((1, 2), (3,))]).tolist() == [-1.5]
    twin = [
        float(row[list(prompt.answers)].mean() - row[list(prompt.foils)].mean())
        for row, prompt in zip(LOGITS, PROMPTS, strict=True)
    ]
    assert logit_difference(LOGITS, PROMPTS).tolist() == pytest.approx(twin, rel=1e-5)


def test_the_probability_difference_of_sets_is_one_of_sums() -> None:
    """Probabilities .1 .2 .3 .4; answers 1 and 2, foil 3: .5 less .4."""
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
    assert probability_difference(logits, [read((1, 2), (3,))]).tolist() == pytest.approx([0.1])
    probabilities = LOGITS.softmax(-1)
    twin = [
        float(row[list(prompt.answers)].sum() - row[list(prompt.foils)].sum())
        for row, prompt in zip(probabilities, PROMPTS, strict=True)
    ]
    assert probability_difference(LOGITS, PROMPTS).tolist() == pytest.approx(twin, rel=1e-4)


def test_the_choice_is_the_loudest_word_and_between_sets_the_one_with_more_probability() -> None:
    """No synonym is the loudest word, and together they have more probability than the foil.

    The last prompt's loudest word is 3, which is nobody's answer where only 0 to 2 are asked for.
    """
    logits = torch.tensor(
        [[2.0, 1.5, 1.5, 0.0], [2.0, 1.0, 1.0, 0.0], [2.0, 1.5, 1.5, 0.0], [0.0, 1.0, 2.0, 9.0]]
    )
    prompts = [read((1, 2), (0,)), read((1, 2), (0,)), read((1,), (2,)), read((1,), (2,))]
    every = torch.arange(4)
    assert choice(logits, prompts, among=every).tolist() == [-1, -2, 0, 3]
    # 2 e^1.5 > e^2, 2 e < e^2
    assert choice(logits, prompts, among=every[:3]).tolist() == [-1, -2, 0, 2]


def test_an_answer_vocabulary_lists_answers_and_foils_once_and_prompts_point_into_it() -> None:
    vocabulary = answer_vocabulary([read((9,), (4,)), read((4, 7), (9,))])
    assert vocabulary.token_ids.tolist() == [4, 7, 9]
    assert vocabulary.prompts == [read((2,), (0,)), read((0, 1), (2,))]


def test_a_choice_made_of_the_answers_logits_alone_is_the_choice_made_of_all() -> None:
    """Prompts 0 and 4 have one answer and one foil; the rest choose between sets."""
    token_ids, prompts = answer_vocabulary(PROMPTS)
    chosen = choice(LOGITS[:, token_ids], prompts, among=torch.arange(len(token_ids)))
    words = [token_ids[place].item() if place >= 0 else place.item() for place in chosen]
    assert words == choice(LOGITS, PROMPTS, among=token_ids).tolist()
    assert [word >= 0 for word in words] == [True, False, False, False, True]


def test_gradients_flow_through_the_metrics() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(logit_difference(logits, [read((1, 2), (3,))]).sum(), logits)
    assert gradient.tolist() == [[0.0, 0.5, 0.5, -1.0]]


def test_metrics_are_found_by_name_and_functions_are_their_own() -> None:
    assert find_metric("logit_difference") is logit_difference
    assert find_metric(choice) is choice
    with pytest.raises(
        UnknownName, match=r"No metric is named 'logit_diff'. Did you mean 'logit_difference'"
    ):
        find_metric("logit_diff")
