"""The matrices of a result as heat maps: which rows and columns are shown, and their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sage.report.charts.canvas import short
from sage.report.charts.heat_map import MapPanel
from sage.report.scored_run import LatentMatrix, ScoredRun

MOST_COLUMNS = 40


class ShownMatrix(NamedTuple):
    """The part of a contrast's matrix that is shown, with what its rows are called."""

    contrast: str
    matrix: LatentMatrix
    rows: list[int]
    columns: list[int]
    row_names: list[str]

    def panel(self) -> MapPanel:
        """The part as a panel; an attribute that all columns share is left out of the names."""
        names = [self.matrix.columns[column] for column in self.columns]
        shared = _shared_attribute(names)
        return MapPanel(
            f"{short(self.contrast, 18)}  {short(str(self.matrix.node), 24)}",
            self.matrix.values[self.rows][:, self.columns],
            [_short_value(name, shared) for name in self.row_names],
            [_short_value(name, shared) for name in names],
        )

    def data(self, kind: str) -> Iterator[dict[str, object]]:
        """Its numbers, one row of data each."""
        for row, row_name in zip(self.rows, self.row_names, strict=True):
            for column in self.columns:
                yield {
                    "contrast": self.contrast,
                    "node": str(self.matrix.node),
                    "row": row_name,
                    "column": self.matrix.columns[column],
                    kind: float(self.matrix.values[row, column]),
                }


def detailed_matrices(
    run: ScoredRun, kind: str, show: Callable[[str, LatentMatrix], ShownMatrix]
) -> Iterator[tuple[str, list[ShownMatrix]]]:
    """The label of each suite shown in detail, and what is shown of its matrices of a kind.

    Kinds are f1 and cosine. Suites without such a matrix are left out.
    """
    for suite in run.detailed():
        matrices = {contrast: run.matrix(kind, contrast, suite) for contrast in run.contrasts}
        shown = [
            show(contrast, matrix) for contrast, matrix in matrices.items() if matrix is not None
        ]
        if shown:
            yield run.label(suite), shown


def show_best_latents(contrast: str, matrix: LatentMatrix) -> ShownMatrix:
    """For each of the first columns the latent with the largest value, if it is above 0.

    A value with too few positives on test has no number in its column, which is left blank.
    """
    columns = _first_columns(matrix)
    part = np.nan_to_num(matrix.values[:, columns], nan=-1.0)
    best: dict[int, None] = {}
    if part.size:
        for row, largest in zip(part.argmax(0), part.max(0), strict=True):
            if largest > 0:
                best[int(row)] = None
    rows = list(best)
    return ShownMatrix(contrast, matrix, rows, columns, [str(matrix.latents[row]) for row in rows])


def show_matched_latents(contrast: str, matrix: LatentMatrix) -> ShownMatrix:
    """Latents matched one to one with the columns so that the values sum to the most."""
    rows, columns = _match(matrix)
    return ShownMatrix(contrast, matrix, rows, columns, [str(matrix.latents[row]) for row in rows])


def show_matched_columns(contrast: str, matrix: LatentMatrix) -> ShownMatrix:
    """The same, where each row is called what the column is that it is matched with."""
    rows, columns = _match(matrix)
    names = [matrix.columns[column] for column in columns[: len(rows)]]
    return ShownMatrix(contrast, matrix, rows, columns, names)


def matrix_data(shown: Sequence[ShownMatrix], kind: str) -> list[dict[str, object]]:
    """The numbers of several matrices, one row of data each."""
    rows: list[dict[str, object]] = []
    for part in shown:
        rows += part.data(kind)
    return rows


def cut_caption(shown: Sequence[ShownMatrix]) -> str:
    """That columns were left out of a matrix, where some were."""
    most = max(len(part.matrix.columns) for part in shown)
    if most <= MOST_COLUMNS:
        return ""
    return f" Of up to {most} columns the first {MOST_COLUMNS} are drawn."


def _match(matrix: LatentMatrix) -> tuple[list[int], list[int]]:
    """The matched rows, and the columns: first the matched ones in the order of these rows."""
    from scipy.optimize import linear_sum_assignment

    columns = _first_columns(matrix)
    part = np.nan_to_num(matrix.values[:, columns], nan=-1.0)
    if not part.size:
        return [], columns
    rows, matched = linear_sum_assignment(part, maximize=True)
    partner = dict(zip(matched.tolist(), rows.tolist(), strict=True))
    columns = sorted(columns, key=lambda column: column not in partner)
    return [partner[column] for column in columns if column in partner], columns


def _first_columns(matrix: LatentMatrix) -> list[int]:
    return list(range(min(len(matrix.columns), MOST_COLUMNS)))


def _shared_attribute(names: Sequence[str]) -> str | None:
    """The attribute of names that all read `attribute=value` with one and the same attribute."""
    if not all("=" in name for name in names):
        return None
    attributes = {name.partition("=")[0] for name in names}
    return attributes.pop() if len(attributes) == 1 else None


def _short_value(name: str, attribute: str | None) -> str:
    if attribute is not None:
        name = name.removeprefix(f"{attribute}=")
    return short(name, 18)
