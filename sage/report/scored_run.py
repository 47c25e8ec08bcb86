"""A scored run: the results of one cell, with its rows at hand by what they are of.

A cell is a task on a model by one plan and one seed. Everything a run's page shows comes from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sage.errors import BadFile, SageError
from sage.merging import merge
from sage.nodes import Node, parse_node
from sage.report.metrics import MAIN
from sage.report.reported_score import ReportedScore, ScoreLine, line_in, no_line, score_in
from sage.report.sources import Source
from sage.report.words import is_null, suite_label
from sage.result import ALL, SUPERVISED, NodeRow, Result, Row, SectionInfo, SuiteInfo
from sage.result_file import load_arrays, load_result, names
from sage.scores.score import Columns, scores
from sage.stats import Sampled

# How many suites are shown in detail.
DETAILED = 2

COPYING, REACH = "copying", "reach"
# Between the seeds of resamples of different prompts.
_APART = 7919
_Of = tuple[str, str, str]


class LatentMatrix(NamedTuple):
    """One matrix of a result: a number for each latent and column, and what these are called."""

    node: Node
    values: Float[np.ndarray, "latent column"]
    latents: list[int]
    columns: list[str]


class DictionaryRows(NamedTuple):
    """Every row of one dictionary on the nodes of one contrast."""

    contrast: str
    suite: str
    dictionary: str
    rows: list[Row]


@dataclass(frozen=True)
class ScoredRun:
    """The result of a cell with an index of its rows.

    `headlines[section, suite, dictionary][metric]` is a score itself, `beside` the rows beside the
    scores in the order of the file. Where a method takes a dictionary and none is given, it is the
    suite itself.
    """

    source: Source
    result: Result
    arrays: Mapping[str, np.ndarray]
    headlines: Mapping[_Of, Mapping[str, Row]]
    beside: Mapping[_Of, list[Row]]

    @property
    def contrasts(self) -> list[str]:
        return [section.id for section in self.result.sections if section.id == section.contrast]

    @property
    def suites(self) -> list[SuiteInfo]:
        """The judged suites and then their nulls, sparser ones first."""
        return sorted(self.result.suites, key=lambda suite: (is_null(suite.id), suite.l0))

    def section(self, contrast: str) -> SectionInfo:
        """The section of a contrast, all its nodes together."""
        return next(section for section in self.result.sections if section.id == contrast)

    def suite(self, name: str) -> SuiteInfo:
        return next(suite for suite in self.result.suites if suite.id == name)

    def node_rows(self, contrast: str) -> list[NodeRow]:
        """What the discovery measured of each candidate node."""
        return [row for row in self.result.discovery if row.contrast == contrast]

    def label(self, name: str) -> str:
        """A suite's or dictionary's name on this run's page."""
        return suite_label(name, self.source.model)

    def dictionaries(self, suite: str) -> list[str]:
        """Who was scored on a suite's nodes, the suite itself first."""
        scored = [
            dictionary
            for _, judged, dictionary in self.headlines
            if judged == suite and dictionary != ALL
        ]
        return list(dict.fromkeys([suite, *scored]))

    def headline(
        self, metric: str, suite: str, dictionary: str | None = None, *, section: str = ALL
    ) -> Row | None:
        """The headline row of a score; over all contrasts where no section is named."""
        return self.headlines.get((section, suite, dictionary or suite), {}).get(metric)

    def score(
        self, metric: str, suite: str, dictionary: str | None = None, *, section: str = ALL
    ) -> ReportedScore:
        """A score; undefined where there is none."""
        row = self.headline(metric, suite, dictionary, section=section)
        if row is not None:
            return score_in(row)
        return ReportedScore(None, why=self._why_missing(section, suite, dictionary or suite))

    def line(
        self, metric: str, suite: str, dictionary: str | None = None, *, section: str = ALL
    ) -> ScoreLine:
        """A score with all that stands beside it."""
        row = self.headline(metric, suite, dictionary, section=section)
        if row is None:
            return no_line(self._why_missing(section, suite, dictionary or suite))
        line = line_in(row, self.score(metric, suite, SUPERVISED, section=section))
        lost = self.lost(metric, suite) if section == ALL and row.value is None else {}
        if not lost:
            return line
        reasons = "; ".join(f"{contrast}: {why}" for contrast, why in lost.items())
        score = line.score._replace(why=f"{line.score.why} ({reasons})")
        return line._replace(score=score)

    def place(self, metric: str, suite: str, contrast: str) -> str | None:
        """The section or group on which a suite's score of a contrast counts: all nodes together,
        or, where control is not defined there, the group that stands in for them."""
        if self._is_defined(metric, suite, contrast):
            return contrast
        if self._is_defined(MAIN, suite, contrast):
            return None
        groups = [
            section
            for section in self.result.sections
            if section.contrast == contrast and section.id != contrast
        ]
        for group in sorted(groups, key=lambda group: -group.effect):
            if self._is_defined(MAIN, suite, group.id):
                return group.id if self._is_defined(metric, suite, group.id) else None
        return None

    def sampled(self, metric: str, suite: str, section: str, *, apart: int = 0) -> Sampled | None:
        """A suite's score with its bootstrap draws, from its numbers pair by pair; None where these
        do not stand beside the result. Resamples of one number `apart` are the same."""
        values = self.arrays.get(f"{section}|{suite}|{suite}|{metric}")
        clusters = self.arrays.get(f"{section}|{suite}|{ALL}|clusters")
        if values is None or clusters is None:
            return None
        evidence = Columns(values.astype(float), tuple(clusters.tolist()))
        return scores()[metric].sampled(evidence, seed=self.source.seed + _APART * apart)

    def lost(self, metric: str, suite: str) -> dict[str, str]:
        """The contrasts on which a suite has no such score, with the reason."""
        return {
            contrast: self.score(metric, suite, section=contrast).why
            for contrast in self.contrasts
            if self.place(metric, suite, contrast) is None
        }

    def details(self, suites: Sequence[str]) -> Iterator[DictionaryRows]:
        """Every number of these suites, of the supervised features, and of what all dictionaries
        share on the nodes of the first."""
        for contrast in self.contrasts:
            shown = [(suite, suite) for suite in suites]
            shown += [(suite, name) for suite in suites[:1] for name in (SUPERVISED, ALL)]
            for suite, dictionary in shown:
                of = (contrast, suite, dictionary)
                rows = [*self.headlines.get(of, {}).values(), *self.beside.get(of, [])]
                rows = [row for row in rows if row.metric != REACH]
                if rows:
                    yield DictionaryRows(contrast, suite, dictionary, rows)

    def detailed(self) -> list[str]:
        """The suites that are shown in detail: of those that reach most, the ones with the highest
        scores here."""
        widest = self.widest()
        judged = [suite for suite in self.suites if suite.id in widest and not is_null(suite.id)]

        def value(suite: SuiteInfo) -> float:
            return -(self.score(MAIN, suite.id).value or 0.0)

        return [suite.id for suite in sorted(judged, key=value)][:DETAILED]

    def widest(self) -> set[str]:
        """The suites that reach as much as any; none where no suite reaches anything."""
        reaches = {suite.id: self.reach(suite.id) for suite in self.result.suites}
        most = max(reaches.values(), default=0.0)
        return {name for name, reach in reaches.items() if reach >= most - 1e-6 and most > 0}

    def reach(self, suite: str) -> float:
        """The mean share of the sections that a suite reaches."""
        row = self.headline(REACH, suite)
        return 0.0 if row is None or row.value is None else row.value

    def matrix(
        self, kind: str, contrast: str, suite: str, dictionary: str | None = None
    ) -> LatentMatrix | None:
        """The matrix of a kind (f1, cosine) at the node with the largest statistic that has one."""
        name = f"{contrast}|{suite}|{dictionary or suite}|{kind}"
        nodes = {key.removeprefix(f"{name}|") for key in self.arrays if key.startswith(f"{name}|")}
        ranked = sorted(self.node_rows(contrast), key=lambda row: -(row.statistic or 0.0))
        node = next((row.node for row in ranked if row.node in nodes), None)
        if node is None:
            return None
        values = self.arrays[f"{name}|{node}"]
        latents = self.arrays.get(f"{name} latents|{node}")
        columns = self.arrays.get(f"{name} names|{node}")
        shape = None if columns is None or latents is None else (latents.size, len(names(columns)))
        if latents is None or columns is None or values.shape != shape:
            raise BadFile(
                f"The arrays beside {self.source.paths[0]} do not fit each other: '{name}|{node}' "
                f"is {list(values.shape)}, its latents and names {shape}. Score again to write it "
                "anew."
            )
        return LatentMatrix(
            parse_node(node), values, [int(latent) for latent in latents.ravel()], names(columns)
        )

    def _is_defined(self, metric: str, suite: str, section: str) -> bool:
        row = self.headline(metric, suite, section=section)
        return row is not None and row.value is not None

    def _why_missing(self, section: str, suite: str, dictionary: str) -> str:
        """Why there is no such row.

        Most often the suite reaches no node, which its row of reach says.
        """
        if not self.result.gate.passed:
            return "the model does not do this task"
        sections = self.contrasts if section == ALL else [section]
        reached = [self.headline(REACH, suite, section=part) for part in sections]
        unreached = [row.status for row in reached if row is not None and row.value == 0]
        if not unreached or len(unreached) < len(sections):
            return f"not measured for {dictionary} by this plan"
        if unreached[0] == "ok":
            return "the suite reaches no node"
        return unreached[0].removeprefix("undefined: ")


def read_run(source: Source) -> ScoredRun:
    """Load the results of a cell as one, and what lies beside them; SageError where they are not of
    one cell after all."""
    results = [load_result(path) for path in source.paths]
    try:
        result = merge(results)
    except SageError as error:
        raise SageError(f"{error} They are {', '.join(map(str, source.paths))}.") from error
    arrays: dict[str, np.ndarray] = {}
    for path in reversed(source.paths):
        arrays |= load_arrays(path)
    return index_run(source, result, arrays)


def index_run(source: Source, result: Result, arrays: Mapping[str, np.ndarray]) -> ScoredRun:
    """A result with its rows at hand."""
    headlines: dict[_Of, dict[str, Row]] = {}
    beside: dict[_Of, list[Row]] = {}
    for row in result.rows:
        of = (row.section, row.suite, row.dictionary)
        if row.headline:
            headlines.setdefault(of, {})[row.metric] = row
        else:
            beside.setdefault(of, []).append(row)
    return ScoredRun(source, result, arrays, headlines, beside)
