"""The sequential test against its literal twin: every node patched on every pair."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sage.discovery.confirm import Confirmed, confirm
from sage.discovery.looks import all_at_once, plan_looks
from sage.discovery.pairs import ContrastPairs, NodeSet, PatchedPairs
from sage.discovery.sequential import ComparedSets, patch_above, patch_highest
from sage.discovery.statistic import null_level, statistic
from sage.nodes import Node
from sage.task.metric import logit_difference
from tests.discovery.conftest import random_pairs

PAIRS = random_pairs(40)
CLASSES = torch.arange(40) % 2
ORDER = torch.arange(40)
LOOKS = plan_looks(CLASSES, ORDER)


class Planted(PatchedPairs):
    """Pairs on which patching one node does what a row of a table says; attribution says the
    same, or nothing."""

    def __init__(self, effects: Tensor, *, attributed: bool = False) -> None:
        nodes = [Node("z", 0, head, "END") for head in range(len(effects))]
        known = dict(zip(nodes, effects, strict=True)) if attributed else {}
        self.pairs, self.attributed, self._effects = PAIRS, known, {}
        self.table = effects
        self.nodes = nodes
        self.runs = 0

    @property
    def sets(self) -> list[NodeSet]:
        return [(node,) for node in self.nodes]

    def measure(self, node_sets: Sequence[NodeSet], rows: Sequence[int]) -> None:
        for node_set in node_sets:
            missing = list(self._missing(node_set, rows))
            self.runs += len(missing)
            self._row(node_set)[missing] = self.table[node_set[0].head or 0, missing]


def planted(rows: Sequence[Sequence[float]], *, attributed: bool = False) -> Planted:
    return Planted(torch.tensor(rows, dtype=torch.float64), attributed=attributed)


def known(effects: Tensor) -> list[int]:
    return (~effects.isnan()).sum(1).tolist()


def random_effects(nodes: int, seed: int, *, pairs: int = 40) -> Tensor:
    """Effects of very different sizes, a tenth of them on one pair in five alone."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(nodes, pairs, generator=generator, dtype=torch.float64)
    sizes = torch.randn(nodes, 2, generator=generator, dtype=torch.float64).exp() - 1
    effects = sizes[:, :1] + noise * sizes[:, 1:].abs()
    effects[::10, torch.arange(pairs) % 5 > 0] = 0
    return effects


# What is dropped, and when. Looks are at 10, 20 and 40 pairs: an eighth would be 2 or 3 of a class.


def test_a_set_goes_on_until_it_is_beyond_doubt_below_the_bar():
    """At a bar of 1: .5 is below at once; 2 and 1 itself never are; +-3 have mean 0 at the first
    look, and so much spread that only all pairs show it."""
    rows = [[0.5] * 40, [2.0] * 40, [1.0] * 40, [3.0, 3.0, -3.0, -3.0] * 10]
    pairs = planted(rows)
    effects = patch_above(pairs, ComparedSets.among(pairs.sets, error=0.01), LOOKS, bar=1.0)
    assert known(effects) == [10, 40, 40, 40]
    assert pairs.runs == 130
    assert statistic(effects, CLASSES).tolist() == [0.5, 2.0, 1.0, 0.0]


def test_a_lower_bar_takes_up_again_what_was_dropped():
    pairs = planted([[0.5] * 40, [2.0] * 40])
    candidates = ComparedSets.among(pairs.sets, error=0.01)
    assert known(patch_above(pairs, candidates, LOOKS, bar=1.0)) == [10, 40]
    assert known(patch_above(pairs, candidates, LOOKS, bar=0.4)) == [40, 40]
    assert pairs.runs == 80


def test_an_effect_on_few_pairs_is_not_dropped_where_the_attribution_knows_of_it():
    """10 on 8 of the last 20 pairs: the first look sees nothing; the statistic is 2."""
    rows = [[0.0] * 20 + [10.0] * 8 + [0.0] * 12]
    for attributed, expected in ((True, 40), (False, 10)):
        pairs = planted(rows, attributed=attributed)
        effects = patch_above(pairs, ComparedSets.among(pairs.sets, error=0.01), LOOKS, bar=1.0)
        assert known(effects) == [expected]


def test_the_null_is_patched_in_full_only_where_it_is_decided():
    """Of 12 nodes with statistics 1 to 12 the two largest decide the 99th percentile, 11.89."""
    pairs = planted([[float(size)] * 40 for size in range(1, 13)])
    effects = patch_highest(pairs, ComparedSets.among(pairs.sets, error=0.01), LOOKS)
    assert known(effects) == [10] * 10 + [40] * 2
    assert null_level(effects, CLASSES) == pytest.approx(11.89)


def test_one_look_at_all_pairs_is_the_full_procedure():
    pairs = Planted(random_effects(30, seed=0))
    candidates = ComparedSets.among(pairs.sets, error=0.01)
    at_once = all_at_once(CLASSES)
    assert torch.equal(patch_above(pairs, candidates, at_once, bar=1e9), pairs.table)
    assert torch.equal(patch_highest(pairs, candidates, at_once), pairs.table)


# The error that is stated


def search(seed: int, *, error: float) -> Confirmed:
    """Confirm 60 nodes with random effects, against a random null."""
    own = Planted(random_effects(60, seed), attributed=True)
    null = Planted(0.3 * random_effects(60, seed + 1000), attributed=True)
    pairs = ContrastPairs(
        "any", PAIRS, CLASSES, logit_difference, torch.full((40,), 10.0), tau=0.05
    )
    ranks = {node: rank for rank, node in enumerate(own.nodes)}
    confirmed = confirm(pairs, own, ranks, null, top=20, seed=seed, error=error)
    assert error or not confirmed.effects.isnan().any()
    return confirmed


def test_sections_and_nulls_are_those_of_all_nodes_on_all_pairs():
    """At an error of 1 % more than two of 50 contrasts differ once in 70 such tests."""
    differing, dropped = 0, 0
    for seed in range(50):
        full, sequential = (search(seed, error=error) for error in (0.0, 0.01))
        same = full.section == sequential.section and full.level == sequential.level
        differing += not same
        dropped += int((~sequential.in_full).sum())
    assert differing <= 2
    assert dropped > 250


def test_sets_share_an_error_equally():
    sets = ComparedSets.among([(), ()], error=0.01).and_then(ComparedSets.among([()], error=0.005))
    assert sets.chance.tolist() == [0.005] * 3
    assert len(sets.sets) == 3


def test_the_same_seed_looks_at_the_same_pairs():
    first, again = search(3, error=0.01), search(3, error=0.01)
    assert torch.equal(first.effects.nan_to_num(-1.0), again.effects.nan_to_num(-1.0))
