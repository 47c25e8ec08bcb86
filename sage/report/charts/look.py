"""One look for all figures: sizes in inches, colours that colour-blind readers can tell apart.

Categories take the colours of Okabe and Ito (2008), amounts the map viridis, whose steps look alike
in size (Smith and van der Walt 2015), cosines a diverging map from -1 to 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

WIDE = 10.4
SMALL, TINY = 8.0, 7.5

INK, SOFT, FAINT, RULE = "#1d2329", "#5c6670", "#a6adb4", "#d9dde1"
BLUE = "#0072b2"
ORANGE = "#e69f00"
GREEN = "#009e73"
VERMILLION = "#d55e00"
PURPLE = "#cc79a7"
SKY = "#56b4e9"
YELLOW = "#d6c400"
AMOUNTS, COSINES = "viridis", "PuOr_r"

# Each control has a colour and a shape, so that either tells it.
MARKS = {
    "supervised": (INK, "|"),
    "text lookup": (SOFT, "^"),
    "task lookup": (SOFT, "v"),
    "PCA": (ORANGE, "D"),
    "neurons": (PURPLE, "*"),
    "untrained": (VERMILLION, "x"),
    "permuted": (SKY, "+"),
    "random": (GREEN, "1"),
}

# Each line that holds at any sparsity has a colour and dashes.
LEVELS: dict[str, tuple[str, Any]] = {
    "supervised": (INK, "-"),
    "text lookup": (SOFT, (0, (1, 1.5))),
    "task lookup": (SOFT, (0, (5, 1.5, 1, 1.5))),
}

_FONTS = ["Helvetica Neue", "Segoe UI", "Roboto", "Arial", "Liberation Sans", "DejaVu Sans"]
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "sage",
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": _FONTS,
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


@contextmanager
def look() -> Generator[None]:
    """Draw in this look.

    Letters that the measuring font lacks are left to the browser's fonts, without a warning.
    """
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context(_STYLE):
        for message in (
            "Glyph .* missing from font",
            "Matplotlib currently does not support .* natively",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
