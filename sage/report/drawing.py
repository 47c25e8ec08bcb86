"""Drawing: one look for all figures, sizes in inches, colours that colour-blind readers can tell
apart, and SVG with the data beside it.

Categories take the colours of Okabe and Ito (2008), amounts the map viridis, whose steps look alike
in size (Smith and van der Walt 2015), cosines a diverging map from -1 to 1. The same results give
the same bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage.report.score import Score
from sage.report.tables import csv_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 10.4
INK, SOFT, FAINT, RULE = "#1d2329", "#5c6670", "#a6adb4", "#d9dde1"
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
    "#d6c400",
)
AMOUNTS, COSINES = "viridis", "PuOr_r"
SMALL, TINY = 7.5, 6.5
OUTER = (-1.0, 2.0)

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sage",
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": [
        "Helvetica Neue",
        "Segoe UI",
        "Roboto",
        "Arial",
        "Liberation Sans",
        "DejaVu Sans",
    ],
    "font.size": SMALL,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
}


@dataclass(frozen=True)
class Plate:
    """A figure on a page: where it and its data lie from there, what it shows in words, and how
    many it rests on."""

    image: str
    data: str
    alt: str
    caption: str
    n: str
    width: int
    height: int


@dataclass(frozen=True)
class Sheet:
    """A figure under construction; places are in inches from its upper left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
        """Axes at a place."""
        return self.figure.add_axes(
            (
                left / self.width,
                1 - (top + height) / self.height,
                width / self.width,
                height / self.height,
            ),
            **options,
        )

    def canvas(self) -> Axes:
        """Axes over all of it, in inches from its upper left corner, with nothing but what is drawn
        on them."""
        axes = self.axes(0.0, 0.0, self.width, self.height)
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        axes.set_autoscale_on(False)
        return axes

    def say(self, left: float, top: float, words: str, **options: Any) -> None:
        """Text at a place, by its upper left corner."""
        self.figure.text(
            left / self.width, 1 - top / self.height, words, verticalalignment="top", **options
        )


@dataclass(frozen=True)
class Folio:
    """Where the figures of one page go: a folder under `out`, which the page's links start from."""

    out: Path
    folder: str

    def add(
        self,
        name: str,
        sheet: Sheet,
        rows: Sequence[Mapping[str, object]],
        *,
        alt: str,
        caption: str,
        n: str,
    ) -> Plate:
        """Write the figure and the data behind it."""
        picture, data = f"{self.folder}/{name}.svg", f"{self.folder}/{name}.csv"
        drawn = BytesIO()
        sheet.figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
        write(self.out / picture, drawn.getvalue())
        write(self.out / data, csv_text(rows).encode())
        return Plate(
            picture, data, alt, caption, n, round(sheet.width * 96), round(sheet.height * 96)
        )


def write(path: Path, data: bytes) -> Path:
    """Write a file of the report, which can always be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@contextmanager
def style() -> Generator[None]:
    """The look of all figures; letters that the measuring font lacks are left to the browser's
    fonts."""
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context(_STYLE):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings(
            "ignore", message="Matplotlib currently does not support .* natively"
        )
        yield


def sheet(width: float, height: float) -> Sheet:
    """An empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Sheet(Figure(figsize=(width, height), facecolor="white"), width, height)


def short(name: str, length: int = 26) -> str:
    """A name that fits its place in a figure; in data and tables it stands whole."""
    clean = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    return clean if len(clean) <= length else f"{clean[: length - 9]}…{clean[-8:]}"


def bars(
    axes: Axes,
    places: Sequence[float | int],
    scores: Sequence[Score],
    *,
    colour: str,
    upright: bool = False,
    width: float = 1.6,
) -> None:
    """95 % intervals, along x or upright."""
    drawn = [
        (place, found.low, found.high)
        for place, found in zip(places, scores, strict=True)
        if found.low is not None
    ]
    if drawn:
        at, low, high = zip(*drawn, strict=True)
        (axes.vlines if upright else axes.hlines)(
            at, low, high, colors=colour, linewidth=width, zorder=3
        )


def defined(
    places: Sequence[float | int], scores: Sequence[Score | None]
) -> list[tuple[float | int, float]]:
    """Place and value of those that have one."""
    pairs = zip(places, scores, strict=True)
    return [
        (place, score.value)
        for place, score in pairs
        if score is not None and score.value is not None
    ]


def beyond(values: Sequence[float | None]) -> bool:
    """Whether a value lies outside of what is drawn."""
    return any(value is not None and not OUTER[0] <= value <= OUTER[1] for value in values)


def limits(
    values: Sequence[float | None], *, least: tuple[float, float] = (0.0, 1.0)
) -> tuple[float, float]:
    """Limits that hold all values between `OUTER` and at least `least`, with a little room."""
    found = [min(max(value, OUTER[0]), OUTER[1]) for value in values if value is not None]
    low, high = min([least[0], *found]), max([least[1], *found])
    room = 0.04 * (high - low)
    return low - room, high + room
