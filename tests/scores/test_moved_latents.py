"""Which latents were moved: counted by hand over pairs, F1 levels and budgets."""

from __future__ import annotations

from typing import Any, cast

import torch

from saes.examples import sae
from sage.dictionaries.edits import Edited
from sage.nodes import Node
from sage.saes.suite import assemble
from sage.scores.control import EditOutcomes
from sage.scores.levels import BUDGETS, LEVELS
from sage.scores.moved_latents import count_moves

SITE = (Node("resid_pre", 4), "END")


def edited(latents: list[list[int]]) -> Edited:
    """Edits of two pairs, with these latents moved; -1 is none."""
    numbers = torch.tensor(latents)
    nothing = torch.zeros(2)
    return Edited({}, (numbers >= 0).sum(1), nothing, nothing, {SITE: numbers})


def test_a_latent_is_moved_in_the_share_of_pairs_and_edits_that_move_it() -> None:
    """27 edits of two pairs: 3 in every edit of the first pair, 5 in nine edits of both."""
    edits = {
        (level, budget): edited([[3, 5], [5, -1]] if budget == "need" else [[3, -1], [-1, -1]])
        for level in LEVELS
        for budget in BUDGETS
    }
    outcomes = EditOutcomes(cast("Any", None), edits, {}, {})
    suite = assemble("one", [sae("relu")])
    found = {at.latent: at for at in count_moves(outcomes, suite)}
    assert set(found) == {3, 5}
    assert (found[3].share, found[3].times.tolist()) == (27 / 54, [27, 0])
    assert (found[5].share, found[5].times.tolist()) == (18 / 54, [9, 9])


def test_a_site_that_the_suite_does_not_read_has_no_latents() -> None:
    edits = {(level, budget): edited([[3], [3]]) for level in LEVELS for budget in BUDGETS}
    outcomes = EditOutcomes(cast("Any", None), edits, {}, {})
    assert (
        list(count_moves(outcomes, assemble("other", [sae("relu", hook=Node("resid_pre", 1))])))
        == []
    )
