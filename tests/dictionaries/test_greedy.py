"""The greedy choice does what its formula says: it is compared with a slow literal twin and with
trying every subset."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from sage.dictionaries.greedy import Candidates, choose, greedy
from sage.errors import SageError
from sage.nodes import Node, parse_node

A, B = parse_node("1.0.q@END"), parse_node("1.0.z@END")


class Case:
    """One site of two nodes with random codes, directions and shifts."""

    def __init__(self, prompts: int, latents: int, seed: int, *, shift: bool = True) -> None:
        generator = np.random.default_rng(seed)
        self.sizes = {A: 5, B: 7}
        self.variance = {A: 2.0, B: 0.5}
        self.alpha = {node: codes(generator, prompts, latents) for node in self.sizes}
        self.beta = {node: codes(generator, prompts, latents) for node in self.sizes}
        self.directions = {
            node: generator.normal(size=(latents, size)).astype(np.float32)
            for node, size in self.sizes.items()
        }
        self.shift = (
            {
                node: generator.normal(size=(prompts, size)).astype(np.float32)
                for node, size in self.sizes.items()
            }
            if shift
            else None
        )
        self.base = {
            node: generator.normal(size=(prompts, size)).astype(np.float32)
            for node, size in self.sizes.items()
        }
        self.target = {
            node: self.base[node]
            + 0.7 * (self.beta[node] - self.alpha[node]) @ self.directions[node]
            for node in self.sizes
        }

    def candidates(self) -> Candidates:
        return Candidates(
            tensors(self.alpha),
            tensors(self.beta),
            tensors(self.directions),
            tensors(self.shift) if self.shift else None,
        )

    def greedy(self, ks: tuple[int, ...]):
        return choose(
            self.candidates(), tensors(self.base), tensors(self.target), self.variance, ks=ks
        )


def codes(generator: np.random.Generator, prompts: int, latents: int) -> np.ndarray:
    return (
        generator.random((prompts, latents)) * (generator.random((prompts, latents)) < 0.5)
    ).astype(np.float32)


def tensors(arrays: dict[Node, np.ndarray]) -> dict[Node, torch.Tensor]:
    return {node: torch.from_numpy(array).float() for node, array in arrays.items()}


def distance(case: Case, prompt: int, moves: list[dict[Node, np.ndarray]]) -> float:
    """sum_n |base + moves - target|^2 / Var_n of one prompt, in float64."""
    total = 0.0
    for node in case.sizes:
        wrong = case.base[node][prompt].astype(np.float64) - case.target[node][prompt]
        for move in moves:
            wrong = wrong + move[node]
        total += float(wrong @ wrong) / case.variance[node]
    return total


def move(case: Case, prompt: int, candidate: int) -> dict[Node, np.ndarray]:
    latents = len(case.directions[A])
    if candidate == latents:
        assert case.shift is not None
        return {node: case.shift[node][prompt] for node in case.sizes}
    return {
        node: (case.beta[node][prompt, candidate] - case.alpha[node][prompt, candidate])
        * case.directions[node][candidate]
        for node in case.sizes
    }


def literal(case: Case, prompt: int, k: int) -> list[int]:
    """The greedy choice, one distance after another."""
    every = len(case.directions[A]) + (case.shift is not None)
    chosen: list[int] = []
    while len(chosen) < k:
        taken = [move(case, prompt, one) for one in chosen]
        tried = {
            one: distance(case, prompt, [*taken, move(case, prompt, one)])
            for one in range(every)
            if one not in chosen
        }
        best = min(tried, key=lambda one: tried[one])
        if tried[best] >= distance(case, prompt, taken) - 1e-7:
            break
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("shift", [True, False])
def test_the_choice_is_the_literal_one_at_every_k(shift: bool) -> None:
    case = Case(prompts=12, latents=20, seed=1, shift=shift)
    ks = (0, 1, 2, 4, 8, 16, 32)
    found = case.greedy(ks)
    stopped = 0
    for prompt in range(12):
        chosen = literal(case, prompt, 32)
        stopped += len(chosen) < 20
        assert [one for one in found.chosen[prompt].tolist() if one >= 0] == chosen
        for k in ks:
            assert found.edited[k].picks[prompt] == len(chosen[:k])
            for node in case.sizes:
                value = case.base[node][prompt] + sum(
                    move(case, prompt, one)[node] for one in chosen[:k]
                )
                np.testing.assert_allclose(found.edited[k].values[node][prompt], value, atol=1e-5)
    assert stopped


def test_k_0_and_a_prompt_without_moves_are_the_base_to_the_bit() -> None:
    case = Case(prompts=3, latents=4, seed=2)
    case.shift = None
    case.beta = {node: case.alpha[node].copy() for node in case.sizes}
    for edited in (Case(3, 4, 5).greedy((0,)).edited[0], case.greedy((4,)).edited[4]):
        assert edited.picks.tolist() == [0, 0, 0]
        assert edited.magnitude.tolist() == [0, 0, 0]
    assert all(
        torch.equal(case.greedy((4,)).edited[4].values[node], torch.from_numpy(case.base[node]))
        for node in case.sizes
    )


def test_a_step_worked_by_hand() -> None:
    """Base 0, target (3, 1). Removing the first latent moves by (-1, 0): worse. Adding the second
    moves by (2, 0): 10 -> 2.

    Adding the third moves by (0, 2): |(−1, 1)|^2 = 2 after the second, no lower, so it stops after
    one.
    """
    node = {A: torch.tensor([[1.0, 0.0, 0.0]])}, {A: torch.tensor([[0.0, 2.0, 1.0]])}
    directions = {A: torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])}
    found = choose(
        Candidates(*node, directions),
        {A: torch.zeros(1, 2)},
        {A: torch.tensor([[3.0, 1.0]])},
        {A: 4.0},
        ks=(3,),
    )
    assert found.chosen[0, 0] == 1
    assert found.edited[3].values[A].tolist() == [[2, 0]]
    assert found.edited[3].picks.tolist() == [1]


def test_the_variance_decides_which_node_counts() -> None:
    """Each of two latents repairs one node wholly; the node that varies less weighs more."""
    eye = torch.eye(2)
    alpha, beta = (
        {A: torch.zeros(1, 2), B: torch.zeros(1, 2)},
        {A: torch.ones(1, 2), B: torch.ones(1, 2)},
    )
    directions = {A: eye * torch.tensor([1.0, 0.0]), B: eye * torch.tensor([0.0, 1.0])}
    base, target = (
        {A: torch.zeros(1, 2), B: torch.zeros(1, 2)},
        {A: torch.tensor([[1.0, 0.0]]), B: torch.tensor([[0.0, 1.0]])},
    )
    for variance, first in (({A: 1.0, B: 2.0}, 0), ({A: 2.0, B: 1.0}, 1)):
        assert choose(
            Candidates(alpha, beta, directions), base, target, variance, ks=(1,)
        ).chosen.tolist() == [[first]]


def test_of_equal_candidates_the_lowest_number_is_taken() -> None:
    same = torch.tensor([[0.3, 0.7, 0.1]]).expand(50, 3)
    codes = {A: torch.zeros(4, 50)}, {A: torch.ones(4, 50)}
    found = choose(
        Candidates(*codes, {A: same}), {A: torch.zeros(4, 3)}, {A: 2 * same[:4]}, {A: 1.0}, ks=(2,)
    )
    assert found.chosen.tolist() == [[0, 1]] * 4


def test_magnitude_is_the_share_of_the_reconstruction_that_the_picks_took_away() -> None:
    """a_hat - bias = 3 e1 + 4 e2: weights 9/25 and 16/25. The second falls from 4 to 1: 3/4 of its
    weight; the third adds only."""
    codes = {A: torch.tensor([[3.0, 4.0, 0.0]])}, {A: torch.tensor([[3.0, 1.0, 5.0]])}
    base = torch.tensor([[3.0, 4.0, 0.0]])
    found = choose(
        Candidates(*codes, {A: torch.eye(3)}),
        {A: base},
        {A: torch.tensor([[3.0, 1.0, 5.0]])},
        {A: 1.0},
        ks=(0, 1, 2),
    )
    assert [found.edited[k].magnitude.item() for k in (0, 1, 2)] == pytest.approx(
        [0, 0, 0.75 * 16 / 25]
    )


def test_sites_are_chosen_alone_and_reported_together() -> None:
    """Per-node choice: k candidates at each node, picks summed, magnitude averaged over nodes."""
    case = Case(prompts=6, latents=9, seed=3)
    apart = case.candidates().apart()
    base, target = tensors(case.base), tensors(case.target)
    together = greedy(apart, base, target, case.variance, ks=(3,))[3]
    alone = [choose(site, base, target, case.variance, ks=(3,)).edited[3] for site in apart]
    assert torch.equal(together.picks, alone[0].picks + alone[1].picks)
    torch.testing.assert_close(together.magnitude, (alone[0].magnitude + alone[1].magnitude) / 2)
    for site in alone:
        for node, value in site.values.items():
            assert torch.equal(together.values[node], value)


def test_the_distance_never_grows_with_k() -> None:
    case = Case(prompts=40, latents=30, seed=4)
    edited = case.greedy(tuple(range(33))).edited
    distances = torch.stack(
        [
            sum(
                (
                    (edited[k].values[node] - torch.from_numpy(case.target[node])).square().sum(-1)
                    / case.variance[node]
                    for node in case.sizes
                ),
                start=torch.zeros(40),
            )
            for k in range(33)
        ]
    )
    assert (distances[1:] <= distances[:-1]).all()


def test_prompts_do_not_depend_on_one_another() -> None:
    whole = Case(prompts=30, latents=25, seed=5)
    together = whole.greedy((2, 8))
    order = np.random.default_rng(0).permutation(30)
    for rows in (order, order[:1], order[3:10]):
        part = Case(prompts=30, latents=25, seed=5)
        for field in ("alpha", "beta", "shift", "base", "target"):
            setattr(
                part, field, {node: array[rows] for node, array in getattr(part, field).items()}
            )
        found = part.greedy((2, 8))
        steps = min(found.chosen.shape[1], together.chosen.shape[1])
        assert torch.equal(found.chosen[:, :steps], together.chosen[rows][:, :steps])
        for node in whole.sizes:
            torch.testing.assert_close(
                found.edited[8].values[node],
                together.edited[8].values[node][rows],
                atol=1e-5,
                rtol=1e-5,
            )


def test_greedy_stays_within_five_per_cent_of_the_best_subset() -> None:
    """200 cases: 12 unit directions in 32 dimensions, k = 4, 40 % of codes active, target the full
    move and noise of .1 sd."""
    ratios = []
    subsets = np.array(
        [
            [number in chosen for number in range(12)]
            for size in range(5)
            for chosen in combinations(range(12), size)
        ]
    )
    for seed in range(200):
        generator = np.random.default_rng(seed)
        directions = generator.normal(size=(12, 32))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        alpha, beta = (
            (generator.random(12) < 0.4) * np.abs(generator.normal(size=12)) for _ in range(2)
        )
        moves = (beta - alpha)[:, None] * directions
        target = moves.sum(0) + 0.1 * generator.normal(size=32)
        best = np.square(subsets @ moves - target).sum(-1).min()
        arrays = (
            torch.from_numpy(array).float() for array in (alpha[None], beta[None], directions)
        )
        alphas, betas, vectors = ({A: array} for array in arrays)
        to = torch.from_numpy(target[None]).float()
        edited = choose(
            Candidates(alphas, betas, vectors), {A: torch.zeros(1, 32)}, {A: to}, {A: 1.0}, ks=(4,)
        ).edited[4]
        ratios.append((edited.values[A] - to).square().sum().item() / best)
    assert min(ratios) > 1 - 1e-4
    assert np.mean(ratios) <= 1.05


def test_what_cannot_be_asked_is_refused() -> None:
    case = Case(prompts=1, latents=2, seed=0)
    for ks in ((), (-1, 2)):
        with pytest.raises(SageError, match="at least one k"):
            case.greedy(ks)
    with pytest.raises(SageError, match="no nodes"):
        greedy([], {}, {}, {}, ks=(1,))
