"""One figure of a run's page by itself, for a notebook."""

from __future__ import annotations

from typing import Any

from sage.errors import SageError, unknown
from sage.report.charts.look import look
from sage.report.figures import figures
from sage.report.scored_run import index_run
from sage.report.sources import Source, slug
from sage.report.words import suite_label
from sage.result import Result


def draw_figure(result: Result, name: str, *, suite: str | None = None) -> Any:
    """The figure of that name, a matplotlib one; of several the first, or that of a suite."""
    known = figures("run")
    if name not in known:
        raise unknown("figure of a run", name, known)
    source = Source((), result.task.name, result.model.name, result.run.seed, result.model.d_model)
    with look():
        drawings = list(known[name].draw(index_run(source, result, {})))
    if suite is not None:
        label = slug(suite_label(suite, result.model.name))
        drawings = [drawing for drawing in drawings if drawing.name.endswith(label)]
    if not drawings:
        raise SageError(
            f"There is nothing to draw of '{name}'. "
            f"{known[name].needs or 'Figures of matrices stand in the report alone.'}"
        )
    return drawings[0].canvas.drawable
