"""The two searches do what their formulas say.

Slow literal twins, every subset tried, and cases by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
import torch

from sage.dictionaries.candidates import Candidates, states
from sage.dictionaries.search import (
    ALL,
    Path,
    Rule,
    greedy,
    pursuit,
    search,
    search_together,
    walk,
)
from sage.nodes import Node, parse_node

A, B = parse_node("1.0.q@END"), parse_node("1.0.z@END")
SIZES = {A: 5, B: 7}
VARIANCE = {A: 2.0, B: 0.5}

Arrays = dict[Node, np.ndarray]
Move = dict[Node, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One site of two nodes with random steps, half of them 0 if not told, directions and
    shifts."""

    steps: Arrays
    directions: Arrays
    shift: Arrays | None
    missing: Arrays

    @staticmethod
    def draw(
        prompts: int, latents: int, seed: int, *, shift: bool = True, share: float = 0.5
    ) -> Case:
        generator = np.random.default_rng(seed)

        def some(*shape: int) -> np.ndarray:
            return generator.normal(size=shape).astype(np.float32)

        moving = generator.random((prompts, latents)) < share
        steps = {node: some(prompts, latents) * moving for node in SIZES}
        directions = {node: some(latents, size) for node, size in SIZES.items()}
        shifts = {node: some(prompts, size) for node, size in SIZES.items()}
        missing = {node: 0.7 * steps[node] @ directions[node] for node in SIZES}
        missing = {node: whole + some(*whole.shape) for node, whole in missing.items()}
        return Case(steps, directions, shifts if shift else None, missing)

    def of(self, rows: np.ndarray) -> Case:
        """The case of some of its prompts."""
        shift = self.shift and {node: value[rows] for node, value in self.shift.items()}
        steps = {node: value[rows] for node, value in self.steps.items()}
        missing = {node: value[rows] for node, value in self.missing.items()}
        return Case(steps, self.directions, shift, missing)

    @property
    def candidates(self) -> Candidates:
        shift = self.shift and tensors(self.shift)
        return Candidates(tensors(self.steps), tensors(self.directions), shift)

    @property
    def count(self) -> int:
        return len(self.directions[A]) + (self.shift is not None)

    def walk(self, rule: Rule, most: int | None = ALL) -> Path:
        return walk(self.candidates, tensors(self.missing), VARIANCE, rule=rule, most=most)

    def search(self, *budgets: int | None):
        return search(self.candidates, tensors(self.missing), VARIANCE, budgets=budgets)

    def move(self, prompt: int, candidate: int) -> Move:
        """One candidate's move of one prompt, in standard deviations of each node."""
        scale = {node: VARIANCE[node] ** -0.5 for node in SIZES}
        if candidate == len(self.directions[A]):
            assert self.shift is not None
            return {node: self.shift[node][prompt] * scale[node] for node in SIZES}
        return {
            node: self.steps[node][prompt, candidate].astype(float)
            * self.directions[node][candidate]
            * scale[node]
            for node in SIZES
        }

    def wrong(self, prompt: int, chosen: list[int]) -> Move:
        """What is wrong after some moves, in standard deviations of each node, in float64."""
        wrong = {node: -self.missing[node][prompt] * VARIANCE[node] ** -0.5 for node in SIZES}
        for candidate in chosen:
            wrong = {node: wrong[node] + self.move(prompt, candidate)[node] for node in SIZES}
        return wrong

    def distance(self, prompt: int, chosen: list[int]) -> float:
        return product(self.wrong(prompt, chosen), self.wrong(prompt, chosen))


def tensors(arrays: Arrays) -> dict[Node, torch.Tensor]:
    return {node: torch.from_numpy(array).float() for node, array in arrays.items()}


def product(left: Move, right: Move) -> float:
    return float(sum(left[node].astype(float) @ right[node] for node in SIZES))


def gain_of_greedy(case: Case, prompt: int, chosen: list[int], candidate: int) -> float:
    """By how much a candidate lowers D."""
    return case.distance(prompt, chosen) - case.distance(prompt, [*chosen, candidate])


def gain_of_pursuit(case: Case, prompt: int, chosen: list[int], candidate: int) -> float:
    """<move, what is missing> / |move|; a candidate that does not move has none."""
    move = case.move(prompt, candidate)
    length = product(move, move) ** 0.5
    return -product(move, case.wrong(prompt, chosen)) / length if length else 0.0


Gain = Callable[[Case, int, list[int], int], float]
TWINS: dict[str, tuple[Rule, Gain]] = {
    "greedy": (greedy, gain_of_greedy),
    "pursuit": (pursuit, gain_of_pursuit),
}


def literal(case: Case, prompt: int, gain: Gain, most: int) -> list[int]:
    """One candidate after another, each the one with the largest gain, while that is positive."""
    chosen: list[int] = []
    while len(chosen) < most:
        left = [candidate for candidate in range(case.count) if candidate not in chosen]
        gains = {candidate: gain(case, prompt, chosen, candidate) for candidate in left}
        best = max(gains, key=lambda candidate: gains[candidate], default=None)
        if best is None or gains[best] <= 1e-5:
            break
        chosen.append(best)
    return chosen


def taken(path: Path, prompt: int) -> list[int]:
    return [candidate for candidate in path.chosen[prompt].tolist() if candidate >= 0]


@pytest.mark.parametrize("at_once", [10**6, 800], ids=["together", "in parts"])
@pytest.mark.parametrize(
    ("latents", "share", "kind"),
    [(20, 0.6, "_Multiplied"), (60, 0.3, "_Multiplied"), (80, 0.1, "_Overlapping")],
    ids=["many", "some", "few"],
)
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("name", TWINS)
def test_a_walk_is_the_literal_one(
    name: str,
    shift: bool,
    latents: int,
    share: float,
    kind: str,
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With all candidates, with each prompt's own, and by the overlaps of a prompt's own."""
    rule, gain = TWINS[name]
    monkeypatch.setattr("sage.dictionaries.candidates.SEARCHED_NUMBERS_AT_ONCE", at_once)
    case = Case.draw(prompts=12, latents=latents, seed=1, shift=shift, share=share)
    begun = list(states(case.candidates, tensors(case.missing), VARIANCE, long=True))
    assert {type(state).__name__ for state in begun} == {kind}
    assert kind == "_Multiplied" or max(len(state.prompts) for state in begun) > 1
    assert kind == "_Multiplied" or (len(begun) > 3) == (at_once == 800)
    whole, short = case.walk(rule), case.walk(rule, 3)
    lengths: set[int] = set()
    for prompt in range(12):
        chosen = literal(case, prompt, gain, case.count)
        lengths.add(len(chosen))
        assert taken(whole, prompt) == chosen
        assert taken(short, prompt) == chosen[:3]
        for count in range(whole.distance.shape[1]):
            expected = case.distance(prompt, chosen[:count])
            assert whole.distance[prompt, count].item() == pytest.approx(expected, rel=1e-4)
    assert len(lengths) > 1
    assert max(lengths) < case.count


def literal_search(case: Case, prompt: int, budget: int) -> tuple[list[int], float]:
    """Of both searches' first choices, each cut where D is least, the ones that end nearer."""
    ends: list[tuple[float, list[int]]] = []
    for _, gain in TWINS.values():
        chosen = literal(case, prompt, gain, budget)
        lengths = range(len(chosen) + 1)
        distances = [case.distance(prompt, chosen[:length]) for length in lengths]
        best = int(np.argmin(distances))
        ends.append((distances[best], chosen[:best]))
    distance, chosen = min(ends, key=lambda end: end[0])
    return chosen, distance


def test_at_every_budget_and_prompt_the_search_that_ends_nearer_counts() -> None:
    """Both do at times; the pursuit goes too far at times, and of its choices the best prefix
    counts."""
    case = Case.draw(prompts=10, latents=12, seed=2)
    budgets = (1, 2, 4, 8, None)
    choices = case.search(*budgets)
    by_pursuit = too_far = 0
    for prompt in range(10):
        for budget, choice in zip(budgets, choices, strict=True):
            most = case.count if budget is None else budget
            chosen, distance = literal_search(case, prompt, most)
            assert choice.chosen[prompt].nonzero().flatten().tolist() == sorted(chosen)
            assert choice.distance[prompt].item() == pytest.approx(distance, rel=1e-4)
            assert choice.start[prompt].item() == pytest.approx(case.distance(prompt, []), rel=1e-5)
            by_pursuit += sorted(chosen) != sorted(literal(case, prompt, gain_of_greedy, most))
            whole = literal(case, prompt, gain_of_pursuit, most)
            too_far += case.distance(prompt, whole) > distance + 1e-4
    assert 0 < by_pursuit < 40
    assert too_far


@pytest.mark.parametrize(("latents", "share"), [(18, 0.5), (120, 0.08)], ids=["many", "few"])
def test_budgets_of_one_call_are_those_of_calls_of_their_own(latents: int, share: float) -> None:
    """Without a bound few candidates are searched by their overlaps, with one by products."""
    case = Case.draw(prompts=15, latents=latents, seed=3, share=share)
    together = case.search(0, 2, 3, None)
    for budget, choice in zip((0, 2, 3, None), together, strict=True):
        (alone,) = case.search(budget)
        assert torch.equal(choice.chosen, alone.chosen)
        assert torch.equal(choice.distance, alone.distance)
        if budget is not None:
            assert (choice.chosen.sum(1) <= budget).all()
    assert not together[0].chosen.any()
    assert torch.equal(together[0].distance, together[0].start)


def test_the_best_prefix_is_the_shortest_of_those_that_end_nearest() -> None:
    path = Path(
        torch.tensor([[3, 0, 1], [2, 1, -1]]),
        torch.tensor([[9.0, 4.0, 4.0 - 1e-6, 5.0], [9.0, 8.0, 1.0, 1.0]]),
    )
    assert path.best_prefix(3).tolist() == [1, 2]
    assert path.best_prefix(1).tolist() == [1, 1]
    assert path.best_prefix(0).tolist() == [0, 0]
    assert path.first(torch.tensor([2, 3]), 4).tolist() == [
        [True, False, False, True],
        [False, True, True, False],
    ]


def between_values(cosine: float) -> tuple[Candidates, dict[Node, torch.Tensor]]:
    """From one value of an exact dictionary to another: its direction goes, the other comes."""
    u = torch.tensor([[1.0, 0.0], [cosine, (1 - cosine**2) ** 0.5]])
    return Candidates({A: torch.tensor([[-1.0, 1.0]])}, {A: u}), {A: u[1:] - u[:1]}


@pytest.mark.parametrize(("cosine", "stalls"), [(0.3, False), (0.6, True), (0.9, True)])
def test_greedy_alone_stalls_between_values_that_are_alike_and_the_search_arrives(
    cosine: float, stalls: bool
) -> None:
    """Each of the two moves alone changes D = 2 - 2c by 1 - 2 (1 - c) = 2c - 1."""
    candidates, missing = between_values(cosine)
    alone = walk(candidates, missing, {A: 1.0}, rule=greedy)
    assert alone.chosen.shape[1] == (0 if stalls else 2)
    assert alone.distance[0, 0].item() == pytest.approx(2 - 2 * cosine)
    one_move, two_moves = search(candidates, missing, {A: 1.0}, budgets=(1, 2))
    assert one_move.distance.item() == pytest.approx(min(1.0, 2 - 2 * cosine), abs=1e-6)
    assert two_moves.distance.item() == pytest.approx(0, abs=1e-6)
    assert two_moves.chosen.all()
    assert one_move.chosen.sum() == (not stalls)


def test_a_step_worked_by_hand() -> None:
    """Missing (3, 1). The first latent moves by (-1, 0): worse. The second moves by (2, 0): 10 to
    2.

    The third moves by (0, 2): |(-1, 1)|^2 = 2 after the second, no lower, so greedy stops after
    one. It still points at what is missing: the pursuit takes it, and its best prefix is one too.
    """
    candidates = Candidates(
        {A: torch.tensor([[-1.0, 2.0, 1.0]])},
        {A: torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0]])},
    )
    missing = {A: torch.tensor([[3.0, 1.0]])}
    by_greedy, by_pursuit = (
        walk(candidates, missing, {A: 4.0}, rule=rule) for rule in (greedy, pursuit)
    )
    assert by_greedy.chosen.tolist() == [[1]]
    assert by_greedy.distance.tolist() == [[10 / 4, 2 / 4]]
    assert by_pursuit.chosen.tolist() == [[1, 2]]
    assert by_pursuit.distance.tolist() == [[10 / 4, 2 / 4, 2 / 4]]
    (choice,) = search(candidates, missing, {A: 4.0}, budgets=(3,))
    assert choice.chosen.tolist() == [[False, True, False]]
    assert candidates.moved(A, choice.chosen).tolist() == [[2, 0]]


def test_greedys_choice_counts_where_both_searches_end_as_near() -> None:
    """Missing (1, 0). (.6, .3) and (1.5, 0) both leave D = .25: greedy takes the first of the two,
    the pursuit the one that points there."""
    moves = torch.tensor([[0.6, 0.3], [1.5, 0.0]])
    candidates, missing = Candidates({A: torch.ones(1, 2)}, {A: moves}), {A: torch.eye(2)[:1]}
    by_greedy, by_pursuit = (
        walk(candidates, missing, {A: 1.0}, rule=rule, most=1) for rule in (greedy, pursuit)
    )
    assert (by_greedy.chosen.tolist(), by_pursuit.chosen.tolist()) == ([[0]], [[1]])
    torch.testing.assert_close(by_greedy.distance, by_pursuit.distance)
    (choice,) = search(candidates, missing, {A: 1.0}, budgets=(1,))
    assert choice.chosen.tolist() == [[True, False]]


def test_the_variance_decides_which_node_counts() -> None:
    """Each of two latents repairs one node wholly; the node that varies less weighs more, and one
    that does not vary not at all."""
    eye = torch.eye(2)
    steps = {A: torch.ones(1, 2), B: torch.ones(1, 2)}
    directions = {A: eye * torch.tensor([1.0, 0.0]), B: eye * torch.tensor([0.0, 1.0])}
    missing = {A: torch.tensor([[1.0, 0.0]]), B: torch.tensor([[0.0, 1.0]])}
    candidates = Candidates(steps, directions)
    cases = [({A: 1.0, B: 2.0}, 0), ({A: 2.0, B: 1.0}, 1), ({A: 1.0, B: 0.0}, 0)]
    for variance, first in cases:
        for rule in (greedy, pursuit):
            path = walk(candidates, missing, variance, rule=rule, most=1)
            assert path.chosen.tolist() == [[first]]
        (choice,) = search(candidates, missing, variance, budgets=(None,))
        expected = sum(1 / value for value in variance.values() if value)
        assert choice.start.item() == pytest.approx(expected)
        assert choice.distance.item() == 0
        assert choice.chosen.sum() == sum(value > 0 for value in variance.values())


def test_of_equal_candidates_the_lowest_number_is_taken() -> None:
    direction = torch.tensor([[0.3, 0.7, 0.1]]).expand(50, 3)
    candidates = Candidates({A: torch.ones(4, 50)}, {A: direction})
    for rule in (greedy, pursuit):
        path = walk(candidates, {A: 2 * direction[:4]}, {A: 1.0}, rule=rule, most=2)
        assert path.chosen.tolist() == [[0, 1]] * 4


@pytest.mark.parametrize("latents", [0, 3])
def test_where_nothing_moves_nothing_is_chosen(latents: int) -> None:
    candidates = Candidates({A: torch.zeros(2, latents)}, {A: torch.ones(latents, 4)})
    for choice in search(candidates, {A: torch.ones(2, 4)}, {A: 4.0}, budgets=(0, 2, None)):
        assert choice.chosen.shape == (2, latents)
        assert not choice.chosen.any()
        assert choice.distance.tolist() == choice.start.tolist() == [1, 1]


def test_the_shift_alone_can_be_a_candidate() -> None:
    shift = {A: torch.tensor([[2.0, 0.0]])}
    candidates = Candidates({A: torch.zeros(1, 0)}, {A: torch.zeros(0, 2)}, shift)
    path = walk(candidates, {A: torch.tensor([[3.0, 0.0]])}, {A: 1.0}, rule=greedy)
    assert path.chosen.tolist() == [[0]]
    assert path.distance.tolist() == [[9, 1]]


def test_the_distance_never_grows_with_the_budget() -> None:
    case = Case.draw(prompts=40, latents=30, seed=4)
    for distance in (
        case.walk(greedy).distance.T,
        torch.stack([choice.distance for choice in case.search(*range(33))]),
    ):
        assert (distance[1:] <= distance[:-1]).all()


def test_prompts_do_not_depend_on_one_another() -> None:
    case = Case.draw(prompts=30, latents=25, seed=5)
    together = case.search(2, 8, None)
    order = np.random.default_rng(0).permutation(30)
    for rows in (order, order[3:10], *(order[[row]] for row in range(30))):
        for whole, part in zip(together, case.of(rows).search(2, 8, None), strict=True):
            assert torch.equal(part.chosen, whole.chosen[rows])
            torch.testing.assert_close(part.distance, whole.distance[rows], atol=1e-5, rtol=1e-5)


def test_turning_a_nodes_space_changes_no_choice() -> None:
    case = Case.draw(prompts=20, latents=16, seed=6)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0].astype(np.float32)

    def turned(arrays: Arrays) -> Arrays:
        return {A: arrays[A], B: arrays[B] @ turn}

    assert case.shift is not None
    turned_case = replace(
        case,
        directions=turned(case.directions),
        shift=turned(case.shift),
        missing=turned(case.missing),
    )
    choices = zip(case.search(1, 4), turned_case.search(1, 4), strict=True)
    for straight, turned_choice in choices:
        assert torch.equal(straight.chosen, turned_choice.chosen)


def test_the_searches_stay_within_5_percent_of_the_best_subset() -> None:
    """200 cases: 12 unit directions in 32 dimensions, k = 4, 40 % of codes active, the aim is the
    full move and noise of .1 sd. Greedy alone does, and the better of both is never worse."""
    of_greedy: list[float] = []
    of_both: list[float] = []
    chosen = [subset for size in range(5) for subset in combinations(range(12), size)]
    subsets = np.array([[number in subset for number in range(12)] for subset in chosen])
    for seed in range(200):
        generator = np.random.default_rng(seed)
        directions = generator.normal(size=(12, 32))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        before, after = (
            (generator.random(12) < 0.4) * np.abs(generator.normal(size=12)) for _ in range(2)
        )
        moves = (after - before)[:, None] * directions
        target = moves.sum(0) + 0.1 * generator.normal(size=32)
        best = np.square(subsets @ moves - target).sum(-1).min()
        candidates = Candidates(tensors({A: (after - before)[None]}), tensors({A: directions}))
        missing = tensors({A: target[None]})
        path = walk(candidates, missing, {A: 1.0}, rule=greedy, most=4)
        (choice,) = search(candidates, missing, {A: 1.0}, budgets=(4,))
        of_greedy.append(path.distance[0, -1].item() / best)
        of_both.append(choice.distance.item() / best)
    assert min(of_both) > 1 - 1e-4
    assert np.mean(of_greedy) <= 1.05
    assert np.mean(of_both) <= np.mean(of_greedy)
    assert (np.array(of_both) <= np.array(of_greedy) + 1e-5).all()


@pytest.mark.parametrize("seed", range(5))
def test_searches_made_together_come_to_what_each_comes_to_alone(seed: int) -> None:
    """Three sets of candidates along the same directions: all of them, those of even number, and
    none."""
    case = Case.draw(6, 9, seed, shift=False)
    even = {node: steps * (np.arange(9) % 2 == 0) for node, steps in case.steps.items()}
    none = {node: 0 * steps for node, steps in case.steps.items()}
    cases = [replace(case, steps=steps) for steps in (case.steps, even, none)]
    together = search_together(
        [each.candidates for each in cases], tensors(case.missing), VARIANCE, budgets=(1, 3, ALL)
    )
    for each, choices in zip(cases, together, strict=True):
        for choice, expected in zip(choices, each.search(1, 3, ALL), strict=True):
            assert torch.equal(choice.chosen, expected.chosen)
            torch.testing.assert_close(choice.distance, expected.distance)
            torch.testing.assert_close(choice.start, expected.start)
    assert not any(choice.chosen.any() for choice in together[2])
    assert together[0][0].chosen.any()
