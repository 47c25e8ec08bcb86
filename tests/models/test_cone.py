"""The cone of an edit: the positions that depend on it and that END's logits feel."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from sage.models.partial.cone import Level, cone, reach
from sage.models.steps import HookPoint

State = tuple[int, int]


def test_a_cone_by_hand() -> None:
    """Four layers, five positions; the window of layer 2 is two positions."""
    windows = (None, None, 2, None)
    assert reach(windows, 5) == [0, 0, 0, 0, 4]
    assert reach((None, 2, 2), 5) == [0, 2, 3, 4]
    v_and_z = {HookPoint("v", 1): frozenset({1}), HookPoint("z", 3): frozenset({4})}
    assert cone(v_and_z, windows, 5).levels == (
        Level(1, (), (1, 2, 3, 4)),
        Level(2, (1, 2, 3, 4), (1, 2, 3, 4)),
        Level(3, (1, 2, 3, 4), (4,)),
    )
    assert cone({HookPoint("mlp_out", 1): frozenset({1})}, windows, 5).levels == (
        Level(1, (), (1,)),
        Level(2, (1,), (1, 2)),
        Level(3, (1, 2), (4,)),
    )
    assert cone({HookPoint("resid_post", 3): frozenset({2, 4})}, windows, 5) == ((), True)
    assert cone({HookPoint("resid_post", 3): frozenset({2})}, windows, 5) == ((), False)
    assert cone({}, windows, 5) == ((), False)


@pytest.mark.parametrize("windows", [(None, None, None), (2, 3, None), (3, None, 2), (2, 2, 2)])
def test_a_cone_is_what_a_search_through_the_graph_of_dependencies_finds(
    windows: tuple[int | None, ...],
) -> None:
    """Of every edit at one hook point or two: each stream position that both depends on an edit and
    is felt by END's logits."""
    length, kinds = 4, ("resid_pre", "k", "v", "q", "z", "mlp_in", "resid_mid", "resid_post")
    single = [
        (HookPoint(kind, layer), position)
        for kind, layer, position in product(kinds, range(3), range(length))
    ]
    for edits in [*((edit,) for edit in single), *list(combinations(single, 2))[::17]]:
        edited: dict[HookPoint, frozenset[int]] = {}
        for hook_point, position in edits:
            edited[hook_point] = edited.get(hook_point, frozenset()) | {position}
        computed: set[State] = set()
        for level in cone(edited, windows, length).levels:
            computed |= {(level.layer + 1, position) for position in level.after}
        assert computed == _searched(edited, windows, length), edited


def _searched(
    edited: dict[HookPoint, frozenset[int]], windows: tuple[int | None, ...], length: int
) -> set[State]:
    """(layer, position) of streams ahead of a layer, and behind the last, on a path from an edit to
    END, by search."""

    def edited_at(layer: int, *kinds: str) -> set[int]:
        return set().union(*(edited.get(HookPoint(kind, layer), ()) for kind in kinds))

    def fed_by(layer: int, position: int) -> set[State]:
        window = windows[layer]
        stop = length if window is None else min(length, position + window)
        return {(layer + 1, later) for later in range(position, stop)}

    def reaches_end(state: State) -> bool:
        layer, position = state
        if layer == len(windows):
            return position == length - 1
        return any(reaches_end(later) for later in fed_by(layer, position))

    changed: set[State] = set()
    for layer in range(len(windows)):
        entering = {position for at, position in changed if at == layer}
        entering |= edited_at(layer, "resid_pre") | edited_at(layer - 1, "resid_post")
        entering = {position for position in entering if reaches_end((layer, position))}
        moved = entering | edited_at(layer, "q", "z", "mlp_in", "resid_mid")
        behind = {(layer + 1, position) for position in moved}
        for position in entering | edited_at(layer, "k", "v"):
            behind |= fed_by(layer, position)
        changed |= {state for state in behind if reaches_end(state)}
    return changed
