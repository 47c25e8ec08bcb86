"""Circuits: the heads and MLPs a publication says a task runs through, as facts, as a graph and as
a picture.

The facts are the TOML files of circuits/, whose README.md gives the keys, the sources and where
published lists disagree. Where no list exists there is a detector: the induction score of Wang et
al. 2022, appendix H.
"""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sage.errors import BadFile, SageError, Unsupported, unknown

if TYPE_CHECKING:
    import networkx as nx
    import numpy as np
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Members with one role: heads (`9.6`) and MLPs (given as layers, named as members `8.mlp`).

    `position` is where they act: a head reads its query and writes there. It is a name of the task,
    None where the source does not say. `carries` is what they move, `feeds` the roles that read
    them, `disputed` the members some published lists lack.
    """

    role: str
    heads: tuple[str, ...] = ()
    mlps: tuple[int, ...] = ()
    position: str | None = None
    carries: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    disputed: tuple[str, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.heads, *(f"{layer}.mlp" for layer in self.mlps))


@dataclass(frozen=True)
class Circuit:
    """A circuit of one task in one model, which has `heads_total` heads. A member may be in several
    groups."""

    name: str
    task: str
    model: str
    source: str
    where: str
    heads_total: int
    groups: tuple[Group, ...]
    notes: str = ""

    @property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """Every head with its roles, in the order in which a forward pass computes them."""
        return {member: self._roles(member) for member in self._members if not is_mlp(member)}

    @property
    def mlps(self) -> dict[str, tuple[str, ...]]:
        """Every MLP (`8.mlp`) with its roles; empty where the source lists none."""
        return {member: self._roles(member) for member in self._members if is_mlp(member)}

    @property
    def disputed(self) -> frozenset[str]:
        return frozenset(member for group in self.groups for member in group.disputed)

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of positions that the circuit uses; its task must have them all."""
        return tuple(
            dict.fromkeys(group.position for group in self.groups if group.position is not None)
        )

    def positions_of(self, member: str) -> tuple[str, ...]:
        """Where a member acts; empty means anywhere, as when one of its groups gives no position."""
        given = [group.position for group in self.groups if member in group.members]
        return (
            ()
            if None in given
            else tuple(dict.fromkeys(position for position in given if position is not None))
        )

    def graph(self) -> nx.DiGraph[str]:
        """Members as nodes (kind, layer, role, position, carries, disputed), with an edge wherever
        a role feeds a role.

        Only what is computed earlier feeds what is computed later; a head comes before the MLP of
        its layer.
        """
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.graph.update(
            name=self.name,
            task=self.task,
            model=self.model,
            source=self.source,
            where=self.where,
            heads_total=self.heads_total,
        )
        for member in self._members:
            graph.add_node(
                member,
                kind="mlp" if is_mlp(member) else "head",
                layer=forward_order(member)[0],
                role=", ".join(self._roles(member)),
                position=", ".join(self.positions_of(member)),
                carries=", ".join(
                    dict.fromkeys(
                        name
                        for group in self.groups
                        if member in group.members
                        for name in group.carries
                    )
                ),
                disputed=member in self.disputed,
            )
        graph.add_edges_from((source, target) for _, source, _, target in self.links())
        return graph

    @property
    def _members(self) -> list[str]:
        return sorted(
            {member for group in self.groups for member in group.members}, key=forward_order
        )

    def _roles(self, member: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(group.role for group in self.groups if member in group.members))

    def links(self) -> Iterator[tuple[Group, str, Group, str]]:
        """(group, member, reading group, reading member) for every edge."""
        for group in self.groups:
            for reader in self.groups:
                for source in group.members if reader.role in group.feeds else ():
                    for target in reader.members:
                        if forward_order(source)[:2] < forward_order(target)[:2]:
                            yield group, source, reader, target


def forward_order(member: str) -> tuple[int, bool, int]:
    """(layer, is an MLP, head): the order in which a forward pass computes members. SageError for
    what is no member."""
    if not (match := _MEMBER.fullmatch(member)):
        raise SageError(
            f"'{member}' is neither a head, such as '9.6', nor an MLP, such as '8.mlp'."
        )
    layer, inside = match.groups()
    return (int(layer), inside == "mlp", 0 if inside == "mlp" else int(inside))


def is_mlp(member: str) -> bool:
    """Whether a member is an MLP (`8.mlp`) rather than a head (`9.6`)."""
    return forward_order(member)[1]


def load_circuit(path: Path | str) -> Circuit:
    """The circuit of a TOML file, named after the file. BadFile says which key is wrong, what
    stands there and what should."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadFile(
            f"There is no file {path}. A circuit is a TOML file; circuits/README.md gives its keys."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFile(f"{path} cannot be read as TOML: {error}.") from error
    _check(table, _CIRCUIT_KEYS, optional=("notes",), place=str(path))
    groups = tuple(
        _group(entry, place=f"{path}, groups[{index}]")
        for index, entry in enumerate(table["groups"])
    )
    roles = [group.role for group in groups]
    for index, group in enumerate(groups):
        for role in group.feeds:
            if role not in roles:
                raise BadFile(
                    f"{path}, groups[{index}] ('{group.role}'): 'feeds' has '{role}'. {unknown('role', role, roles)}"
                )
    circuit = Circuit(
        path.stem, groups=groups, **{key: value for key, value in table.items() if key != "groups"}
    )
    if len(circuit.heads) > circuit.heads_total:
        raise BadFile(
            f"{path}: 'heads_total' is {circuit.heads_total}; expected at least {len(circuit.heads)}, the heads of its groups."
        )
    return circuit


def write_graphml(circuit: Circuit, path: Path | str) -> None:
    """The circuit's graph as GraphML, which networkx, Gephi and yEd read."""
    import networkx as nx

    nx.write_graphml_xml(circuit.graph(), path)


def draw(circuit: Circuit, path: Path | str) -> None:
    """The circuit as a picture: PNG, SVG or PDF by the name's suffix.

    Layers go up, columns are roles inside bands of one position, lines go from members to those
    that read them. Heads are round, MLPs square, disputed members dashed and hatched.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch

    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise Unsupported(
            f"A picture cannot be written as '{path.name}'. Give it a name that ends in .png, .svg or .pdf."
        )
    columns = _columns(circuit)
    width = columns[-1].left + columns[-1].width
    margin = max(0.6, (8 - width) / 2)
    top = max(forward_order(member)[0] for column in columns for member in column.members) + 1
    figure = Figure(
        figsize=(0.7 * (width + 2 * margin) + 0.8, 0.46 * top + 2.6), layout="constrained"
    )
    axes = figure.add_subplot(
        xlim=(-margin, width + margin), ylim=(-0.7, top + 1.3), yticks=range(top), ylabel="layer"
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    places = {(column.role, column.position): _places(column) for column in columns}
    for group, source, reader, target in circuit.links():
        ends = (
            places[group.role, group.position][source],
            places[reader.role, reader.position][target],
        )
        axes.add_patch(
            FancyArrowPatch(
                *ends,
                arrowstyle="-",
                connectionstyle="arc3,rad=0.12",
                color="0.7",
                linewidth=0.8,
                zorder=1,
            )
        )
    _draw_bands(axes, columns, top)
    _draw_members(axes, columns, circuit.disputed, top)
    figure.suptitle(
        f"The circuit {circuit.name} in {circuit.model}", fontsize=12, fontweight="bold"
    )
    origin = textwrap.fill(f"{circuit.source}. {circuit.where}", round(15 * figure.get_figwidth()))
    doubt = "\ndashed and hatched: not in every published list" if circuit.disputed else ""
    figure.supxlabel(origin + doubt, fontsize=8, color="0.35")
    figure.savefig(path, dpi=160)


def induction_scores(
    patterns: Mapping[str, Float[np.ndarray | Tensor, "prompt query key"]],
    *,
    period: int,
    start: int = 0,
) -> dict[str, float]:
    """Each head's mean attention from i to i - period + 1 on prompts that repeat a block of
    `period` tokens (Wang et al. 2022, appendix H).

    That token follows the previous occurrence of token i. Only repeated tokens are averaged: with a
    BOS token before the first block `start` is 1, else the first token of all would be taken for an
    occurrence.
    """
    import numpy as np

    scores: dict[str, float] = {}
    for head, pattern in patterns.items():
        weights = np.asarray(pattern)
        prompts, queries, keys = weights.shape
        if period < 2 or queries != keys or prompts == 0 or queries <= start + period:
            raise SageError(
                f"No induction score for head {head}: a pattern of shape {weights.shape} with period {period} and start {start} has no "
                "token that repeats an earlier one. Give [prompt, query, key] with query = key > start + period, and period >= 2."
            )
        scores[head] = float(
            np.diagonal(weights, offset=1 - period, axis1=1, axis2=2)[:, start + 1 :].mean()
        )
    return scores


def detected_circuit(scores: Mapping[str, float], threshold: float, *, model: str) -> Circuit:
    """The induction circuit of any model: the heads whose induction score reaches the threshold;
    `scores` has all its heads."""
    heads = tuple(head for head in sorted(scores, key=forward_order) if scores[head] >= threshold)
    if not heads:
        best = max(scores.values(), default=0.0)
        raise SageError(
            f"No head of {model} has an induction score of {threshold} or more; the largest of {len(scores)} is {best:.3g}."
        )
    return Circuit(
        name="induction",
        task="induction",
        model=model,
        source="Detector: mean attention from i to i - period + 1 (Wang et al. 2022, arXiv 2211.00593)",
        where=f"Appendix H for the score; threshold {threshold:g}",
        heads_total=len(scores),
        groups=(Group("induction", heads),),
    )


class _Column(NamedTuple):
    role: str
    position: str | None
    members: tuple[str, ...]
    left: float
    width: int


def _columns(circuit: Circuit) -> list[_Column]:
    members: dict[tuple[str, str | None], list[str]] = {}
    for group in circuit.groups:
        members.setdefault((group.role, group.position), []).extend(group.members)
    bands: dict[str | None, list[str]] = {}
    for (_, position), names in members.items():
        bands.setdefault(position, []).extend(names)
    columns: list[_Column] = []
    left = 0.0
    for position in sorted(bands, key=lambda position: _mean_layer(bands[position])):
        for role, _ in sorted(
            (key for key in members if key[1] == position),
            key=lambda key: _mean_layer(members[key]),
        ):
            names = tuple(sorted(set(members[role, position]), key=forward_order))
            width = max(2, *Counter(forward_order(name)[0] for name in names).values())
            columns.append(_Column(role, position, names, left, width))
            left += width + 0.4
        left += 0.8
    return columns


def _mean_layer(members: Sequence[str]) -> float:
    return sum(forward_order(member)[0] for member in members) / len(members)


def _places(column: _Column) -> dict[str, tuple[float, float]]:
    rows: dict[int, list[str]] = {}
    for member in column.members:
        rows.setdefault(forward_order(member)[0], []).append(member)
    middle = column.left + column.width / 2
    return {
        name: (middle + index - (len(row) - 1) / 2, float(layer))
        for layer, row in rows.items()
        for index, name in enumerate(row)
    }


def _draw_bands(axes: Axes, columns: Sequence[_Column], top: int) -> None:
    for position in dict.fromkeys(column.position for column in columns):
        band = [column for column in columns if column.position == position]
        left, right = band[0].left - 0.3, band[-1].left + band[-1].width + 0.3
        axes.axvspan(left, right, color="0.955", linewidth=0, zorder=0)
        title = f"@{position}" if position else "position not given"
        axes.text(
            (left + right) / 2,
            top + 0.75,
            title,
            ha="center",
            va="bottom",
            fontsize=10,
            color="0.35",
        )


def _draw_members(
    axes: Axes, columns: Sequence[_Column], disputed: Collection[str], top: int
) -> None:
    from matplotlib.patches import FancyBboxPatch
    from matplotlib.patheffects import withStroke

    roles = list(dict.fromkeys(column.role for column in columns))
    for column in columns:
        colour = _COLOURS[roles.index(column.role) % len(_COLOURS)]
        middle = column.left + column.width / 2
        axes.text(
            middle,
            top - 0.35,
            textwrap.fill(column.role, 7 * column.width),
            ha="center",
            va="bottom",
            fontsize=9,
            fontweight="bold",
        )
        for member, (x, y) in _places(column).items():
            shape = "square,pad=0" if is_mlp(member) else "round,pad=0,rounding_size=0.24"
            line, hatch = ((0, (3, 2)), "//////") if member in disputed else ("-", None)
            box = FancyBboxPatch(
                (x - 0.42, y - 0.27),
                0.84,
                0.54,
                boxstyle=shape,
                linestyle=line,
                hatch=hatch,
                linewidth=2,
                zorder=2,
            )
            box.set(facecolor="white", edgecolor=colour)
            axes.add_patch(box)
            label = f"MLP {forward_order(member)[0]}" if is_mlp(member) else member
            text = axes.text(x, y, label, ha="center", va="center", fontsize=8.5, zorder=3)
            text.set_path_effects([withStroke(linewidth=3, foreground="white")])


_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000", "#999999")
_MEMBER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*|mlp)")


class _Expected(NamedTuple):
    words: str
    holds: Callable[[Any], bool]


def _listed(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, list) and all(map(holds, value)) and len(set(value)) == len(value)
    )


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_TEXT = _Expected("text", _text)
_NAMES = _Expected('a list of names, each once, such as ["IO"]', _listed(_text))
_HEADS = _Expected(
    'a list of heads, layer.head, each once, such as ["9.6", "10.0"]',
    _listed(
        lambda value: (
            isinstance(value, str) and bool(_MEMBER.fullmatch(value)) and not value.endswith("mlp")
        )
    ),
)
_CIRCUIT_KEYS = {
    **dict.fromkeys(("task", "model", "source", "where", "notes"), _TEXT),
    "heads_total": _Expected(
        "the number of heads of the model, such as 144", lambda value: _whole(value) and value > 0
    ),
    "groups": _Expected(
        "[[groups]] tables, at least one",
        lambda value: (
            isinstance(value, list)
            and bool(value)
            and all(isinstance(entry, dict) for entry in value)
        ),
    ),
}
_GROUP_KEYS = {
    "role": _TEXT,
    "position": _TEXT,
    "heads": _HEADS,
    "mlps": _Expected("a list of layers, each once, such as [8, 9]", _listed(_whole)),
    "carries": _NAMES,
    "feeds": _NAMES,
    "disputed": _Expected(
        'true, or a list of members such as ["10.6", "8.mlp"]',
        lambda value: value is True or _NAMES.holds(value),
    ),
}


def _group(table: Mapping[str, Any], *, place: str) -> Group:
    _check(table, _GROUP_KEYS, optional=set(_GROUP_KEYS) - {"role"}, place=place)
    lists = {key: tuple(table.get(key, ())) for key in ("heads", "mlps", "carries", "feeds")}
    group = Group(table["role"], position=table.get("position"), **lists)
    if not group.members:
        raise BadFile(
            f"{place} ('{group.role}') has neither 'heads' nor 'mlps'; expected one of them, with at least one entry."
        )
    disputed = group.members if table.get("disputed") is True else tuple(table.get("disputed", ()))
    for member in disputed:
        if member not in group.members:
            raise BadFile(
                f"{place} ('{group.role}'): 'disputed' has '{member}'; expected members of the group: {', '.join(group.members)}."
            )
    return Group(
        group.role, group.heads, group.mlps, group.position, group.carries, group.feeds, disputed
    )


def _check(
    table: Mapping[str, Any],
    keys: Mapping[str, _Expected],
    *,
    optional: Collection[str],
    place: str,
) -> None:
    for key in table:
        if key not in keys:
            raise BadFile(f"{place}: {unknown('key', key, keys)}")
    for key, expected in keys.items():
        if key not in table and key not in optional:
            raise BadFile(f"{place}: the key '{key}' is missing; expected {expected.words}.")
        if key in table and not expected.holds(table[key]):
            raise BadFile(f"{place}: '{key}' is {table[key]!r}; expected {expected.words}.")
