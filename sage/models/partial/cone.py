"""The dependency cone of edits: which layers, and at each which positions, they can change and
END's logits can feel.

An edit changes its own position; through keys and values it changes all positions that attend to
it, which are later ones, within the layer's window. From the other end, END's logits depend on END
alone above the last layer, and below it on what END can see.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sage.models.steps import Point

_KEYS = ("k", "v")
_SUBLAYERS = ("q", "z", "attn_out", "resid_mid", "mlp_in", "mlp_out")

Touched = Mapping[Point, frozenset[int]]


class Level(NamedTuple):
    """One layer: `before` are positions where the residual stream ahead of it may differ from the
    clean run's and matters, `after` those where the stream behind it may. Only these are computed.
    """

    layer: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def every(self) -> tuple[int, ...]:
        """Positions whose residual stream ahead of the layer is needed."""
        return tuple(sorted({*self.before, *self.after}))


class Cone(NamedTuple):
    """The levels to compute, lowest first, and whether END's stream behind the last layer may
    differ."""

    levels: tuple[Level, ...]
    last: bool


def cone(touched: Touched, windows: Sequence[int | None], length: int) -> Cone:
    """The cone of edits at these positions of these points, in a prompt of this length; `windows`
    are the layers', None for no limit."""
    first = first_layer(touched, len(windows))
    start = reach(windows, length)
    levels: list[Level] = []
    dirty: set[int] = set()
    for layer in range(first, len(windows)):
        before = {
            position for position in dirty | entering(touched, layer) if position >= start[layer]
        }
        seen = before | _at(touched, layer, _KEYS)
        own = before | _at(touched, layer, _SUBLAYERS)
        dirty = {
            position
            for position in range(start[layer + 1], length)
            if position in own or any(_sees(position, key, windows[layer]) for key in seen)
        }
        levels.append(Level(layer, tuple(sorted(before)), tuple(sorted(dirty))))
    return Cone(tuple(levels), length - 1 in dirty | entering(touched, len(windows)))


def first_layer(touched: Collection[Point], layers: int) -> int:
    """The lowest layer that must be computed again; what leaves a layer is an edit of the next."""
    return min((point.layer + (point.kind == "resid_post") for point in touched), default=layers)


def reach(windows: Sequence[int | None], length: int) -> list[int]:
    """For every layer, and behind the last, the first position whose residual stream END's logits
    can feel."""
    start = [length - 1]
    for window in reversed(windows):
        start.append(0 if window is None else max(0, start[-1] - window + 1))
    return start[::-1]


def entering(touched: Touched, layer: int) -> set[int]:
    """Positions where what enters a layer is set, under either of its names."""
    return {
        *touched.get(Point("resid_pre", layer), ()),
        *touched.get(Point("resid_post", layer - 1), ()),
    }


def _at(touched: Touched, layer: int, kinds: Sequence[str]) -> set[int]:
    return {position for kind in kinds for position in touched.get(Point(kind, layer), ())}


def _sees(query: int, key: int, window: int | None) -> bool:
    return key <= query and (window is None or query - key < window)
