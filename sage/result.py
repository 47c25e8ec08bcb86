"""Results: what one run on one task and one model found, as rows with their provenance.

A result holds everything a report shows; matrices and per-prompt columns stand in arrays beside it
(`sage.result_file` reads and writes both). Reports never recompute.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from sage.errors import SageError, unknown

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 2
ALL, SUPERVISED = "*", "supervised"
# What draws a result's figures: it stands above results, which know its name alone.
DRAWN_BY = "sage.report.one_figure"
# Suites that a result shows of itself.
MOST_SHOWN = 8


@dataclass(frozen=True)
class TaskInfo:
    """Which task, from where, and the sha256 of its prompts in this run."""

    name: str
    source: str
    sha256: str


@dataclass(frozen=True)
class ModelInfo:
    """Which model; `revision` is that of `Model`, `d_model` the width of its residual stream."""

    name: str
    revision: str
    backend: str
    dtype: str
    d_model: int


@dataclass(frozen=True)
class StageInfo:
    """What one stage of a run took; `forwards` as in `RunInfo`."""

    stage: str
    seconds: float
    forwards: float


@dataclass(frozen=True)
class RunInfo:
    """How it was run; `forwards` counts clean-forward-pass equivalents over the test prompts,
    `stages` where seconds and forwards went, `scores` has the version of every score's
    definition."""

    sage: str
    seed: int
    prompts: dict[str, int]
    started: str
    seconds: float
    forwards: float
    batch_size: int | None = None
    stages: list[StageInfo] = field(default_factory=list[StageInfo])
    plan: dict[str, Any] = field(default_factory=dict[str, Any])
    device: str = "cpu"
    libraries: dict[str, str] = field(default_factory=dict[str, str])
    scores: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True)
class Gate:
    """Whether the model does the task at all: how often it prefers the answer to the foil, by how
    much in the mean, and how often it says the answer among all that the task's values can have."""

    accuracy: float
    mean_logit_difference: float
    n: int
    threshold: float
    passed: bool
    says_answer: float | None = None


@dataclass(frozen=True)
class SectionInfo:
    """A section or one of its groups; `effect` is its summed statistic."""

    id: str
    contrast: str
    nodes: list[str]
    effect: float


@dataclass(frozen=True)
class SAEInfo:
    """One SAE of a suite with what was measured on the prompts of `fit`."""

    id: str
    architecture: str
    hook: str
    width: int
    l0: float
    fvu: float


@dataclass(frozen=True)
class SuiteInfo:
    """A judged suite and, per contrast, the share of the section's summed statistic at nodes it
    reaches."""

    id: str
    saes: list[SAEInfo]
    reach: dict[str, float]
    controls_l0: dict[str, float] = field(default_factory=dict[str, float])
    digest: str = ""

    @property
    def l0(self) -> float:
        """The mean L0 of its SAEs on the task's prompts."""
        return sum(sae.l0 for sae in self.saes) / len(self.saes)


@dataclass(frozen=True)
class NodeRow:
    """One candidate node of a contrast's discovery; numbers are in units of the task's metric."""

    contrast: str
    node: str
    attribution: float
    effect: float | None
    statistic: float | None
    null: float | None
    kept: bool


@dataclass(frozen=True)
class HeadInfo:
    """What a confirmed head does at its position, on `n` prompts of fit: the mean attention that it
    pays to each named position, the most first, and at END its direct effect, by how much its
    output alone moves the logit of the answer above that of the foil, with the standard error.

    `contrasts` are those whose section its z is in.
    """

    node: str
    contrasts: list[str]
    attends: dict[str, float]
    direct: float | None
    stderr: float | None
    n: int


@dataclass(frozen=True)
class FeatureInfo:
    """What the supervised features of one attribute are at one node of a contrast's section.

    `share` is the part of the node's variance on `fit` that they carry beyond fitted noise,
    `unexplained` what all features together leave in cross-validation; `fit` says whether
    attributes are added up at the node or coupled in pairs.
    """

    contrast: str
    node: str
    attribute: str
    values: int
    share: float
    unexplained: float
    fit: Literal["additive", "coupled"]
    nuisance_unexplained: float | None = None
    has_features: bool = True


@dataclass(frozen=True)
class MoveExample:
    """One test pair: its prompt, the other prompt, what the model said of the first, what it should
    say under the edit, and what it said under an edit that moves the latent."""

    text: str
    other: str
    said: str
    wanted: str
    edited: str


@dataclass(frozen=True)
class MovedLatent:
    """One latent behind a suite's interpretable control of a contrast.

    It is number `latent` of `sae`, read at `site` (2.resid_pre@S2) for the nodes of `section`. Its
    activity predicts `value` (IO=Mary) best, with a corrected F1 of `f1` on fit over all that it
    may mean; its direction is nearest to the supervised `feature`, at `cosine` (None where it was
    not measured). It was moved in a `share` of all edits that the score counts, and on `pairs` of
    `n` test pairs. `page` is where its release shows it, if it does.
    """

    contrast: str
    section: str
    suite: str
    sae: str
    site: str
    latent: int
    value: str
    f1: float
    feature: str
    cosine: float | None
    share: float
    pairs: int
    n: int
    page: str = ""
    examples: list[MoveExample] = field(default_factory=list[MoveExample])

    @property
    def attribute(self) -> str:
        """The attribute whose value it predicts."""
        return self.value.partition("=")[0]


@dataclass(frozen=True)
class BestControl:
    """The control that is best at a score on fit, and what it scores."""

    name: str
    value: float | None


@dataclass(frozen=True)
class Row:
    """One number of one dictionary on one section, with its uncertainty, its best control and its
    status.

    `suite` names whose node set it was computed on. The headline row of a metric has `at`, `budget`
    and `k` null; `at` tells others apart (an F1 level, a number of values). `value` is clipped to
    [0, 1], `raw` is not; `gain` is value less the best control's, with a paired interval. `need` is
    the mean unit of the budget over `sites` sites, `picks` the mean number of latents used;
    `contrasts` is how many a summary is over. `clusters` says what a resample takes together where
    that is not every pair that shares a prompt. A value of None is undefined and `status` says why.
    """

    section: str
    suite: str
    dictionary: str
    metric: str
    contrast: str
    value: float | None
    n: int
    version: int = 1
    form: str | None = None
    at: str | None = None
    budget: str | None = None
    k: int | None = None
    raw: float | None = None
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    best_control: BestControl | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    picks: float | None = None
    need: float | None = None
    sites: int | None = None
    contrasts: int | None = None
    option: str | None = None
    clusters: str | None = None
    seed: int = 0
    status: str = "ok"

    @property
    def headline(self) -> bool:
        """Whether this is the metric's number, and no detail of it."""
        return (self.at, self.budget, self.k, self.option) == (None, None, None, None)


@dataclass(frozen=True)
class Result:
    """Everything one run found on one task and one model.

    result = sage.load_result("out/ioi--tiny-gpt2--seed0")
    result.overview()                 # a row per suite: sage, its interval, gain, T1, T2 ...
    result.latents("IO", "IO")        # which latents stand behind the score of a contrast
    result.figure("contrasts")        # a figure of the report, for a notebook
    """

    task: TaskInfo
    model: ModelInfo
    run: RunInfo
    gate: Gate
    sections: list[SectionInfo]
    suites: list[SuiteInfo]
    discovery: list[NodeRow]
    rows: list[Row]
    features: list[FeatureInfo] = field(default_factory=list[FeatureInfo])
    notes: list[str] = field(default_factory=list[str])
    moved: list[MovedLatent] = field(default_factory=list[MovedLatent])
    heads: list[HeadInfo] = field(default_factory=list[HeadInfo])
    schema: int = SCHEMA

    def __repr__(self) -> str:
        """A few lines: what was scored on what, and the headline of each suite."""
        plan = self.run.plan.get("name", "standard")
        first = f"Result: {self.task.name} on {self.model.name}, plan {plan}, seed {self.run.seed}"
        if not self.suites:
            return f"{first}\n  {'; '.join(self.notes) or 'no suite was scored'}"
        lines = [self._line(suite) for suite in self.suites[:MOST_SHOWN]]
        if len(self.suites) > MOST_SHOWN:
            lines.append(f"  ... and {len(self.suites) - MOST_SHOWN} more suites: .overview()")
        return "\n".join([first, *lines])

    def latents(
        self, contrast: str, attribute: str | None = None, *, suite: str | None = None
    ) -> pd.DataFrame:
        """The latents behind the headline of a contrast, those moved most first: of one attribute
        where it is named, of every suite unless one is.

        One row per suite and latent: `site` it was read at, `latent` its number, the `value` that
        its activity predicts best with the corrected `f1` on fit, the supervised `feature` that its
        direction is nearest to with their `cosine`, the `share` of the counted edits in which it
        was moved, on `pairs` of `n` test pairs, and `examples` of prompts with what the model said
        before and after. UnknownName where nothing of that name was scored; SageError for a result
        without the record.

            result.latents("IO").query("f1 > .8")[["suite", "site", "latent", "value", "share"]]
        """
        import pandas as pd

        self._check_latents(contrast, attribute, suite)
        rows = [
            asdict(latent)
            for latent in self.moved
            if latent.contrast == contrast
            and suite in (None, latent.suite)
            and attribute in (None, latent.attribute)
        ]
        names = [entry.name for entry in fields(MovedLatent) if entry.name != "contrast"]
        return pd.DataFrame(rows, columns=names)

    def figure(self, name: str, *, suite: str | None = None) -> Any:
        """A figure of the report's page on this run, as a matplotlib figure that a notebook shows.

        `name` is one of `sage.report.figures.figures("run")`: where, contrasts, between, features,
        interpretable_here, copying. Where a figure is drawn for each suite or contrast the first is
        returned, or that of `suite`. Figures of matrices need the arrays beside a result: write a
        report for these. UnknownName for another name, SageError where there is nothing to draw.
        """
        return import_module(DRAWN_BY).draw_figure(self, name, suite=suite)

    def table(self) -> pd.DataFrame:
        """The rows as a pandas frame, one column per field, with task and model in front."""
        import pandas as pd

        frame = pd.DataFrame([asdict(row) for row in self.rows])
        frame.insert(0, "task", self.task.name)
        frame.insert(1, "model", self.model.name)
        return frame

    def overview(self) -> list[dict[str, object]]:
        """One row per suite for a table: every headline score beside its best control and the
        supervised features, with reach and sparsity.

        `low` and `high` are the ends of the headline's 95 % interval, over test prompts only; all
        are numbers, None where undefined: `pandas.DataFrame(result.overview())`.
        """
        return [self._overview(suite) for suite in self.suites] or [self._nothing()]

    def controls(self) -> list[dict[str, object]]:
        """One row per suite and dictionary for a table: every headline score."""
        listed: list[dict[str, object]] = []
        for suite, name in dict.fromkeys((row.suite, row.dictionary) for row in self.summaries()):
            values = {
                label: value_of(self.value(metric, suite=suite, dictionary=name))
                for metric, label in HEADLINES.items()
            }
            listed.append({"suite": suite, "dictionary": name, **values})
        return listed

    def lost_contrasts(self, suite: str) -> dict[str, str]:
        """The contrasts of a suite that have no headline score, with the reason; UnknownName for a
        suite that was not scored."""
        if suite not in (scored := [info.id for info in self.suites]):
            raise unknown("suite of this result", suite, scored)
        lost: dict[str, str] = {}
        for row in self.headlines(suite, suite):
            if row.metric == MAIN and row.status != "ok":
                lost[row.section] = row.status.removeprefix("undefined: ")
        for row in self.headlines(suite, suite):
            if row.metric == MAIN and row.status == "ok":
                lost.pop(row.contrast, None)
        return lost

    def summaries(self) -> list[Row]:
        """The rows over all contrasts, reach left out."""
        return [row for row in self.rows if row.section == ALL and row.metric != "reach"]

    def value(self, metric: str, *, suite: str, dictionary: str) -> Row | None:
        """A summary row over all contrasts, if there is one."""
        wanted = (ALL, metric, suite, dictionary)
        for row in self.rows:
            if (row.section, row.metric, row.suite, row.dictionary) == wanted:
                return row
        return None

    def headlines(self, suite: str, dictionary: str) -> list[Row]:
        """The headline rows of a dictionary at every node set, summaries left out."""
        return [
            row
            for row in self.rows
            if (row.suite, row.dictionary) == (suite, dictionary)
            and row.headline
            and row.section != ALL
        ]

    def _line(self, suite: SuiteInfo) -> str:
        """A suite's headline, for the repr."""
        row = self.value(MAIN, suite=suite.id, dictionary=suite.id)
        start = f"  {suite.id}: L0 {suite.l0:.1f}, {HEADLINES[MAIN]}"
        if row is None or row.value is None:
            return f"{start} undefined"
        told = f"{start} {row.value:.2f}"
        if row.low is not None and row.high is not None:
            told += f" [{row.low:.2f}, {row.high:.2f}]"
        if row.best_control is not None and row.best_control.value is not None:
            told += f", best control {row.best_control.value:.2f} ({row.best_control.name})"
        return told

    def _check_latents(self, contrast: str, attribute: str | None, suite: str | None) -> None:
        contrasts = list(dict.fromkeys(section.contrast for section in self.sections))
        if contrast not in contrasts:
            raise unknown("contrast of this result", contrast, contrasts)
        suites = [info.id for info in self.suites]
        if suite is not None and suite not in suites:
            raise unknown("suite of this result", suite, suites)
        if suites and not self.moved:
            raise SageError(
                "This result holds no record of the latents that were moved. Score it again, with "
                "--again where it stands in a folder."
            )
        attributes = {latent.attribute for latent in self.moved if latent.contrast == contrast}
        if attribute is not None and attributes and attribute not in attributes:
            raise unknown(f"attribute with latents in contrast {contrast}", attribute, attributes)

    def _overview(self, suite: SuiteInfo) -> dict[str, object]:
        main = self.value(MAIN, suite=suite.id, dictionary=suite.id)
        reach = self.value("reach", suite=suite.id, dictionary=suite.id)
        supervised = self.value(MAIN, suite=suite.id, dictionary=SUPERVISED)
        values: dict[str, object] = {
            label: value_of(self.value(metric, suite=suite.id, dictionary=suite.id))
            for metric, label in HEADLINES.items()
            if metric != MAIN
        }
        return {
            "task": self.task.name,
            "suite": suite.id,
            "L0": suite.l0,
            "reach": value_of(reach),
            HEADLINES[MAIN]: value_of(main),
            "low": main and main.low,
            "high": main and main.high,
            "best control": main.best_control.value if main and main.best_control else None,
            "gain": main and main.gain,
            "gain low": main and main.gain_low,
            "gain high": main and main.gain_high,
            SUPERVISED: value_of(supervised),
            **values,
            "contrasts": main and main.contrasts,
            "n": main and main.n,
        }

    def _nothing(self) -> dict[str, object]:
        said = "; ".join(self.notes) or "no suite was given"
        columns = (
            "L0", "reach", HEADLINES[MAIN], "low", "high", "best control", "gain", "gain low",
            "gain high", SUPERVISED,
            *(label for metric, label in HEADLINES.items() if metric != MAIN), "contrasts",
        )  # fmt: skip
        row: dict[str, object] = {"task": self.task.name, "suite": said}
        return {**row, **dict.fromkeys(columns), "n": self.gate.n}


# The scores of every table, the main one first, and what tables call them.
MAIN = "interpretable"
HEADLINES = {
    MAIN: "sage",
    "control": "T2",
    "approximation": "T1",
    "geometry": "T4",
    "move": "move",
}


def value_of(row: Row | None) -> float | None:
    """A row's number, if there is a row."""
    return None if row is None else row.value
