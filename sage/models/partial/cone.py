"""The dependency cone of edits: what they can change, layer by layer, that END's logits feel.

An edit changes its own position; through keys and values it changes all positions that attend to
it, which are later ones, within the layer's window. From the other end, END's logits depend on END
alone above the last layer, and below it on what END can see.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sage.models.steps import HookPoint

_KEY_VALUE = ("k", "v")
_OWN_POSITION = ("q", "z", "attn_out", "resid_mid", "mlp_in", "mlp_out")

EditedPositions = Mapping[HookPoint, frozenset[int]]


class Level(NamedTuple):
    """What is computed of one layer.

    `before` are positions where the residual stream ahead of it may differ from the clean run's and
    matters, `after` those where the stream behind it may.
    """

    layer: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def needed(self) -> tuple[int, ...]:
        """Positions whose residual stream ahead of the layer is needed."""
        return tuple(sorted({*self.before, *self.after}))


class Cone(NamedTuple):
    """The levels to compute, lowest first, and whether END's stream behind the last layer may
    differ."""

    levels: tuple[Level, ...]
    last: bool


def cone(edited: EditedPositions, windows: Sequence[int | None], length: int) -> Cone:
    """The cone of edits at these positions, in a prompt of this length; `windows` are the layers',
    None for no limit."""
    first = first_layer(edited, len(windows))
    start = reach(windows, length)
    levels: list[Level] = []
    changed: set[int] = set()
    for layer in range(first, len(windows)):
        before = {
            position for position in changed | entering(edited, layer) if position >= start[layer]
        }
        attended = before | _edited_at(edited, layer, _KEY_VALUE)
        moved = before | _edited_at(edited, layer, _OWN_POSITION)
        changed = {
            position
            for position in range(start[layer + 1], length)
            if position in moved or any(_sees(position, key, windows[layer]) for key in attended)
        }
        levels.append(Level(layer, tuple(sorted(before)), tuple(sorted(changed))))
    return Cone(tuple(levels), length - 1 in changed | entering(edited, len(windows)))


def first_layer(edited: Collection[HookPoint], layers: int) -> int:
    """The lowest layer that must be computed again; what leaves a layer is an edit of the next."""
    return min(
        (hook_point.layer + (hook_point.kind == "resid_post") for hook_point in edited),
        default=layers,
    )


def reach(windows: Sequence[int | None], length: int) -> list[int]:
    """For every layer, and behind the last, the first position whose residual stream END's logits
    can feel."""
    start = [length - 1]
    for window in reversed(windows):
        start.append(0 if window is None else max(0, start[-1] - window + 1))
    return start[::-1]


def entering(edited: EditedPositions, layer: int) -> set[int]:
    """Positions where what enters a layer is set, under either of its names."""
    return {
        *edited.get(HookPoint("resid_pre", layer), ()),
        *edited.get(HookPoint("resid_post", layer - 1), ()),
    }


def _edited_at(edited: EditedPositions, layer: int, kinds: Sequence[str]) -> set[int]:
    """Positions where one of these kinds is set in a layer."""
    return set[int]().union(*(edited.get(HookPoint(kind, layer), ()) for kind in kinds))


def _sees(query: int, key: int, window: int | None) -> bool:
    return key <= query and (window is None or query - key < window)
