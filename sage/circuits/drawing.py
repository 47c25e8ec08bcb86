"""A circuit as a picture: layers go up, columns are roles inside bands of one position.

Lines go from members to those that read them. Heads are round, MLPs square, disputed members
dashed and hatched.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from sage.circuits.circuit import Circuit, forward_order, is_mlp, layer_of
from sage.errors import Unsupported

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#999999")
COLUMN_GAP, BAND_GAP, BAND_MARGIN = 0.4, 0.8, 0.3
BOX_WIDTH, BOX_HEIGHT = 0.84, 0.54

Key = TypeVar("Key")
Place = tuple[float, float]


def draw_circuit(circuit: Circuit, path: Path | str) -> None:
    """Write the picture of a circuit: PNG, SVG or PDF by the name's suffix."""
    from matplotlib.figure import Figure

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise Unsupported(
            f"A picture cannot be written as '{path.name}'. Give it a name that ends in .png, .svg "
            "or .pdf."
        )
    columns = _columns(circuit)
    width = columns[-1].right
    margin = max(0.6, (8 - width) / 2)
    top = max(layer_of(member) for member in circuit.members) + 1
    figure = Figure(
        figsize=(0.7 * (width + 2 * margin) + 0.8, 0.46 * top + 2.6), layout="constrained"
    )
    axes = figure.add_subplot(
        xlim=(-margin, width + margin), ylim=(-0.7, top + 1.3), yticks=range(top), ylabel="layer"
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _draw_edges(axes, circuit, columns)
    _draw_bands(axes, columns, top)
    _draw_members(axes, columns, circuit.disputed, top)
    figure.suptitle(
        f"The circuit {circuit.name} in {circuit.model}", fontsize=12, fontweight="bold"
    )
    source = textwrap.fill(f"{circuit.source}. {circuit.where}", round(15 * figure.get_figwidth()))
    legend = "\ndashed and hatched: not in every published list" if circuit.disputed else ""
    figure.supxlabel(source + legend, fontsize=8, color="0.35")
    figure.savefig(path, dpi=160)


class _Column(NamedTuple):
    """The members of one role at one position; `left` and `width` in units of one member."""

    role: str
    position: str | None
    members: tuple[str, ...]
    left: float
    width: int

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def middle(self) -> float:
        return self.left + self.width / 2

    def places(self) -> dict[str, Place]:
        """The centre of every member: x, and its layer as y."""
        by_layer: dict[int, list[str]] = {}
        for member in self.members:
            by_layer.setdefault(layer_of(member), []).append(member)
        places: dict[str, Place] = {}
        for layer, row in by_layer.items():
            for index, member in enumerate(row):
                places[member] = (self.middle + index - (len(row) - 1) / 2, float(layer))
        return places


def _columns(circuit: Circuit) -> list[_Column]:
    """Positions from left to right by the mean layer of what acts there; roles in them likewise."""
    by_role: dict[tuple[str, str | None], list[str]] = {}
    by_position: dict[str | None, list[str]] = {}
    for group in circuit.groups:
        by_role.setdefault((group.role, group.position), []).extend(group.members)
        by_position.setdefault(group.position, []).extend(group.members)
    columns: list[_Column] = []
    left = 0.0
    for position in _shallow_first(by_position):
        roles = {role: names for (role, at), names in by_role.items() if at == position}
        for role in _shallow_first(roles):
            members = tuple(sorted(set(roles[role]), key=forward_order))
            width = max(2, *Counter(map(layer_of, members)).values())
            columns.append(_Column(role, position, members, left, width))
            left += width + COLUMN_GAP
        left += BAND_GAP
    return columns


def _shallow_first(members: Mapping[Key, Sequence[str]]) -> list[Key]:
    """The keys, sorted by the mean layer of their members."""

    def mean_layer(key: Key) -> float:
        return sum(map(layer_of, members[key])) / len(members[key])

    return sorted(members, key=mean_layer)


def _draw_edges(axes: Axes, circuit: Circuit, columns: Iterable[_Column]) -> None:
    from matplotlib.patches import FancyArrowPatch

    places = {(column.role, column.position): column.places() for column in columns}
    for edge in circuit.edges():
        source, target = edge.group, edge.reading_group
        line = FancyArrowPatch(
            places[source.role, source.position][edge.member],
            places[target.role, target.position][edge.reader],
            arrowstyle="-",
            connectionstyle="arc3,rad=0.12",
            color="0.7",
            linewidth=0.8,
            zorder=1,
        )
        axes.add_patch(line)


def _draw_bands(axes: Axes, columns: Sequence[_Column], top: int) -> None:
    for position in dict.fromkeys(column.position for column in columns):
        band = [column for column in columns if column.position == position]
        left, right = band[0].left - BAND_MARGIN, band[-1].right + BAND_MARGIN
        axes.axvspan(left, right, color="0.955", linewidth=0, zorder=0)
        title = f"@{position}" if position else "position not given"
        middle = (left + right) / 2
        axes.text(middle, top + 0.75, title, ha="center", va="bottom", fontsize=10, color="0.35")


def _draw_members(
    axes: Axes, columns: Sequence[_Column], disputed: Collection[str], top: int
) -> None:
    roles = list(dict.fromkeys(column.role for column in columns))
    for column in columns:
        colour = COLOURS[roles.index(column.role) % len(COLOURS)]
        axes.text(
            column.middle,
            top - 0.35,
            textwrap.fill(column.role, 7 * column.width),
            ha="center",
            va="bottom",
            fontsize=9,
            fontweight="bold",
        )
        for member, place in column.places().items():
            _draw_member(axes, member, place, colour=colour, disputed=member in disputed)


def _draw_member(axes: Axes, member: str, place: Place, *, colour: str, disputed: bool) -> None:
    from matplotlib.patches import FancyBboxPatch
    from matplotlib.patheffects import withStroke

    x, y = place
    box = FancyBboxPatch(
        (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2),
        BOX_WIDTH,
        BOX_HEIGHT,
        boxstyle="square,pad=0" if is_mlp(member) else "round,pad=0,rounding_size=0.24",
        linestyle=(0, (3, 2)) if disputed else "-",
        hatch="//////" if disputed else None,
        linewidth=2,
        zorder=2,
    )
    box.set(facecolor="white", edgecolor=colour)
    axes.add_patch(box)
    label = f"MLP {layer_of(member)}" if is_mlp(member) else member
    text = axes.text(x, y, label, ha="center", va="center", fontsize=8.5, zorder=3)
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])
