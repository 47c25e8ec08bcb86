"""Sinks: BOS, and whatever a model without BOS makes one of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from sage.models.load import load_model
from sage.models.sinks import FACTOR, NormsAt, first_is_massive, massive, middle, norms_of
from sage.nodes import Node
from sage.saes.residual_tokens import residual_tokens
from tests.tiny import random_prompts, save_random_model

HOOK = Node("resid_pre", 1)


def test_norms_by_hand() -> None:
    """Norms 60, 3, 4, 5: the middle of the last three is 4."""
    stream = torch.diag(torch.tensor([60.0, 3.0, 4.0, 5.0]))
    assert norms_of({HOOK: stream}) == [NormsAt(HOOK, 4.0, 15.0, 1.25)]


def test_the_middle_of_prompts_decides_whether_the_first_token_is_massive() -> None:
    prompts = [[NormsAt(HOOK, 1.0, first, 2.0)] for first in (0.5, FACTOR + 1, 500.0)]
    assert middle(prompts) == [NormsAt(HOOK, 1.0, FACTOR + 1, 2.0)]
    assert first_is_massive(middle(prompts))
    assert not first_is_massive([NormsAt(HOOK, 1.0, FACTOR, 2.0)])


def test_tokens_far_longer_than_the_middle_one_are_massive_wherever_they_stand() -> None:
    tokens = torch.tensor([[1.0], [2.0], [2.0], [2 * FACTOR], [2.1 * FACTOR]])
    assert massive(tokens).tolist() == [False, False, False, False, True]
    assert massive(tokens[3:]).tolist() == [False, False]


def test_the_first_token_is_left_out_where_the_model_makes_a_sink_of_it(tmp_path: Path) -> None:
    model = load_model(str(save_random_model(tmp_path, "llama")), device="cpu")
    assert (model.bos, model.sink) == (False, False)
    assert replace(model, bos=True).sink
    prompts = random_prompts(2, lengths=(5,))
    assert len(residual_tokens(model, HOOK, prompts)) == 10
    sinking = replace(model)
    sinking.__dict__["sink"] = True
    assert len(residual_tokens(sinking, HOOK, prompts)) == 8
