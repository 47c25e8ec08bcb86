"""The induction detector against loops over the repeated tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sage.circuits.comparison import compare
from sage.circuits.induction import detected_circuit, induction_scores
from sage.errors import SageError
from sage.nodes import parse_node


def test_the_induction_score_is_attention_to_what_followed_last_time():
    # A B A B: the second A reads the first B, the second B reads the second A.
    pattern = np.zeros((1, 4, 4))
    pattern[0, 2, 1], pattern[0, 3, 2], pattern[0, 1, 0] = 0.6, 0.2, 1.0
    assert induction_scores({"1.0": pattern}, period=2) == pytest.approx({"1.0": 0.4})
    assert induction_scores({"1.0": torch.tensor(pattern)}, period=2) == pytest.approx({"1.0": 0.4})


@pytest.mark.parametrize("start", [0, 1])
def test_the_induction_score_equals_a_loop_over_the_repeated_tokens(start: int):
    rng = np.random.default_rng(start)
    period, length = 5, start + 13
    pattern = rng.random((3, length, length))
    slow = np.mean(
        [
            pattern[prompt, i, i - period + 1]
            for prompt in range(3)
            for i in range(start + period, length)
        ]
    )
    assert induction_scores({"0.0": pattern}, period=period, start=start) == pytest.approx(
        {"0.0": slow}
    )


@pytest.mark.parametrize(("period", "length"), [(1, 8), (4, 4), (9, 4)])
def test_without_a_repetition_there_is_no_induction_score(period: int, length: int):
    with pytest.raises(SageError, match=r"No induction score for head 2\.1"):
        induction_scores({"2.1": np.zeros((1, length, length))}, period=period)


def test_the_detected_circuit_has_the_heads_above_the_threshold_of_any_model():
    circuit = detected_circuit({"1.10": 0.5, "0.0": 0.1, "1.2": 0.8}, 0.5, model="tiny-gpt2")
    assert (circuit.task, circuit.model, circuit.heads_total) == ("induction", "tiny-gpt2", 3)
    assert circuit.heads == {"1.2": ("induction",), "1.10": ("induction",)}
    assert compare(circuit, [parse_node("1.2.z@END")], {}).heads[:2] == (1.0, 0.5)
    with pytest.raises(
        SageError,
        match=r"No head of tiny-gpt2 has an induction score of 0\.9 or more; "
        r"the largest of 2 is 0\.8",
    ):
        detected_circuit({"0.0": 0.1, "1.2": 0.8}, 0.9, model="tiny-gpt2")
