"""Results made by hand, small enough to work out what a report must say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sage.report.ranking import RunSummary, summarise_run
from sage.report.scored_run import read_run
from sage.report.sources import find_sources
from sage.result import (
    ALL,
    HEADLINES,
    BestControl,
    FeatureInfo,
    Gate,
    HeadInfo,
    ModelInfo,
    NodeRow,
    Result,
    Row,
    RunInfo,
    SAEInfo,
    SectionInfo,
    StageInfo,
    SuiteInfo,
    TaskInfo,
)
from sage.result_file import load_arrays, load_result, save_result
from sage.scores.levels import LEVELS as LEVELS_RUN
from sage.scores.levels import OTHER_FORM
from sage.scores.score import versions

MAIN = "interpretable"
NODES = ("1.0.z@END", "0.mlp_in@S2")
KS = (1, 2, 4, 8)
LEVELS = ("F1 >= 0.1", "F1 >= 0.5", "F1 >= 0.9")
BUDGETS = ("need", "2 need", "4 need")
STAGES = [StageInfo("gate", 0.5, 1.0), StageInfo("scores", 12.0, 29.0)]
# What every dictionary beside a suite scores, everywhere; PCA has control alone.
BESIDE = {"supervised": 0.95, "text lookup": 0.1, "task lookup": 0.2, "PCA": 0.4}
CONTROL_ONLY = ("PCA",)
BEST = "task lookup"
NOT_MEASURED = "undefined: not measured by this plan"
NO_EFFECT = "patching these nodes moves the metric by 0 in the mean, less than 0.1"

# Names that break a page which takes them for markup, mathematics or a formula.
TASK = "<script>alert('task')</script>"
MODEL = 'models/"quoted" & Ünïcødé 模型'
SUITE = "=release/sae|<b>$x_1$</b>"
CONTRAST = "_{S}/<i>&amp;"

WIDTHS = {"tiniest": 32, "large": 128, MODEL: 128}
QUICK = ["plan quick: pairs 50 instead of 500", "plan quick: detect 0 instead of 2000"]

RUN = RunInfo(
    "0.1.0",
    0,
    {"discover": 200, "fit": 2000, "test": 500},
    "2025-01-01T00:00:00+00:00",
    12.5,
    30.0,
    64,
    STAGES,
    {"name": "standard"},
    "cpu",
    {"torch": "2.13"},
    versions(),
)


@dataclass(frozen=True)
class ScoredSuite:
    """A suite's score (None: no contrast has one) and reach, as all its contrasts have them; at the
    contrasts in `lost` it has none, at those in `grouped` it has one at a group alone."""

    name: str
    score: float | None
    reach: float
    stderr: float
    lost: Sequence[str] = ()
    grouped: Sequence[str] = ()


def make_result(
    suites: Mapping[str, float | None],
    *,
    task: str = "ioi",
    model: str = "tiny",
    seed: int = 0,
    plan: str = "standard",
    contrasts: Sequence[str] = ("IO",),
    stderr: float = 0.02,
    reach: Mapping[str, float] | None = None,
    lost: Mapping[str, Sequence[str]] | None = None,
    grouped: Mapping[str, Sequence[str]] | None = None,
) -> Result:
    """One task and model; `suites` maps suites to what they score everywhere, None where no
    contrast has a score. `lost` and `grouped` name contrasts of a suite.

    Models are 64 wide, but for those of `WIDTHS`.
    """
    scored = [
        ScoredSuite(
            name,
            score,
            (reach or {}).get(name, 1.0),
            stderr,
            (lost or {}).get(name, ()),
            (grouped or {}).get(name, ()),
        )
        for name, score in suites.items()
    ]
    result = Result(
        task=TaskInfo(task, "By hand", "ab12"),
        model=ModelInfo(model, "cd34", "transformer-lens 3.9.0", "float32", WIDTHS.get(model, 64)),
        run=replace(RUN, seed=seed, plan={"name": plan}),
        gate=Gate(0.97, 3.25, 500, 0.75, True, 0.9),
        sections=[],
        suites=[_suite_info(suite, contrasts, place) for place, suite in enumerate(scored)],
        discovery=[],
        rows=[],
        heads=[
            HeadInfo("0.1.z@S2", contrasts[:1], {"S1": 0.08, "END": 0.02}, None, None, 32),
            HeadInfo("1.0.z@END", list(contrasts), {"IO": 0.5, "S2": 0.25}, -0.625, 0.125, 32),
        ],
    )
    for contrast in contrasts:
        result.sections.append(SectionInfo(contrast, contrast, list(NODES), 1.5))
        result.sections.append(SectionInfo(f"{contrast}/z@END", contrast, [NODES[0]], 1.0))
        result.discovery.extend(_node_rows(contrast))
        for node in NODES:
            has_features = node == NODES[0]
            feature = FeatureInfo(
                contrast, node, contrast, 2, 0.75, 0.125, "additive", 0.5, has_features
            )
            result.features.append(feature)
    for suite in scored:
        result.rows.extend(_suite_rows(suite, contrasts))
    return result


def make_failed(*, task: str = "ioi", model: str = "tiny") -> Result:
    """A task that the model does not do; nothing is scored below the gate."""
    result = make_result({}, task=task, model=model, contrasts=())
    note = (
        f"{model} does not do this task: accuracy 0.600 on 500 prompts is below 0.75."
        " Nothing was scored."
    )
    return replace(result, gate=replace(result.gate, accuracy=0.6, passed=False), notes=[note])


def three_tasks(
    suites: Mapping[str, float | None], *, model: str = "tiny", seeds: Sequence[int] = (0,)
) -> list[Result]:
    """As many tasks as a ranking takes, all alike."""
    tasks = ("ioi", "induction", "successor")
    return [
        make_result(suites, task=task, model=model, seed=seed) for seed in seeds for task in tasks
    ]


def with_scores(result: Result, scores: Mapping[str, Mapping[str, float]]) -> Result:
    """The result with other headline scores of suites: suite -> contrast -> value."""
    return replace(
        result,
        rows=[
            replace(row, value=scores[row.suite][row.section])
            if row.metric == MAIN
            and row.headline
            and row.dictionary == row.suite
            and row.section in scores.get(row.suite, {})
            else row
            for row in result.rows
        ],
    )


def with_draws(folder: Path, values: Mapping[str, Sequence[float]]) -> None:
    """Pair by pair what suites of a written result score, at every level and budget, beside it: a
    pair's number is its score, as with nothing edited it is 0."""
    file = next(folder.rglob("result.safetensors"))
    arrays = load_arrays(file.with_name("result.json"))
    result = load_result(file.with_name("result.json"))
    columns = 1 + len(LEVELS_RUN) * len(BUDGETS)
    for section in result.sections:
        for suite, numbers in values.items():
            table = np.repeat(np.array(numbers, dtype=np.float32)[:, None], columns, 1)
            table[:, 0] = 0.0
            start = f"{section.id}|{suite}"
            arrays[f"{start}|{suite}|{MAIN}"] = table
            arrays[f"{start}|{ALL}|clusters"] = np.arange(len(numbers))
    save_result(result, file.parent, arrays=arrays)


def summaries(folder: Path, *results: Result) -> list[RunSummary]:
    """The runs of these results, written and read."""
    sources, _ = find_sources([write_results(folder, *results)])
    return [summarise_run(read_run(source)) for source in sources]


def make_arrays(suites: Sequence[str], *, contrasts: Sequence[str]) -> dict[str, np.ndarray]:
    """F1 and cosines of three values at both nodes, for each suite and the supervised dictionary.

    Latent 7 is for a, latent 3 for b; c has too few positives for an F1.
    """
    arrays: dict[str, np.ndarray] = {}
    for contrast in contrasts:
        for suite in suites:
            for dictionary in (suite, "supervised"):
                arrays |= _matrices(contrast, f"{contrast}|{suite}|{dictionary}")
    return arrays


def every_case() -> list[Result]:
    """Three models and four tasks with everything that can go wrong.

    Hostile names, undefined scores, a failed gate, a suite that reaches nothing, two seeds, a null.
    """
    hostile = make_result(
        {SUITE: 0.5, "plain": 0.7}, task=TASK, model=MODEL, contrasts=(CONTRAST, "$y$")
    )
    source = replace(hostile.task, source="https://example.org/?a=1&b=<2>")
    return [
        replace(hostile, task=source, notes=["A note with <em>markup</em>."]),
        make_result({SUITE: 0.6, "plain": None}, task="ioi", model=MODEL),
        make_result(
            {"topk": 0.8, "relu": 0.6, "partial": 0.9, "nothing": 0.5, "topk-soft-frozen-1": 0.3},
            reach={"partial": 0.4, "nothing": 0.0},
        ),
        make_result({"topk": 0.9, "relu": 0.5}, seed=1),
        make_result({"topk": 0.4, "relu": 0.3}, task="successor", contrasts=("number", "word")),
        make_result(
            {"topk": 0.7, "relu": 0.2},
            task="induction",
            contrasts=("token", "lost"),
            lost={"topk": ("lost",), "relu": ("lost",)},
        ),
        make_failed(task="successor", model="tiniest"),
        make_result({}, task="ioi", model="tiniest"),
    ]


def write_results(folder: Path, *results: Result) -> Path:
    """Each result in a folder of its own below `folder`, with its arrays."""
    for number, result in enumerate(results):
        contrasts = [section.id for section in result.sections if section.id == section.contrast]
        suites = [suite.id for suite in result.suites]
        arrays = make_arrays(suites, contrasts=contrasts)
        save_result(result, folder / f"{number}", arrays=arrays)
    return folder


def write_old_result(folder: Path) -> Path:
    """A result as version 1 wrote it: schema 1, rows with floors and ceilings."""
    path = save_result(make_result({"topk": 0.99}, task="old"), folder)
    content = json.loads(path.read_text())
    for row in content["rows"]:
        row |= {"floor": 0.1, "ceiling": 0.9, "choice": "joint", "option": "frozen"}
    path.write_text(json.dumps({**content, "schema": 1}))
    return path


def _matrices(contrast: str, prefix: str) -> dict[str, np.ndarray]:
    columns = json.dumps([f"{contrast}={value}" for value in "abc"]).encode()
    matrices = {
        "f1": [[0.0, 0.25, np.nan], [0.125, 0.75, np.nan], [0.5, 0.0, np.nan]],
        "cosine": [[0.5, -0.5, 0.0], [-1.0, 1.0, 0.0], [0.75, -0.75, 0.0]],
    }
    arrays: dict[str, np.ndarray] = {}
    for kind, matrix in matrices.items():
        for node in NODES:
            arrays[f"{prefix}|{kind}|{node}"] = np.array(matrix, dtype=np.float32)
            arrays[f"{prefix}|{kind} latents|{node}"] = np.array([5, 3, 7])
            arrays[f"{prefix}|{kind} names|{node}"] = np.frombuffer(columns, dtype=np.uint8)
    return arrays


def _suite_info(suite: ScoredSuite, contrasts: Sequence[str], place: int) -> SuiteInfo:
    saes = [
        SAEInfo(f"{suite.name} 0", "topk", "0.resid_mid@*", 256, 8.0 * 2**place, 0.1),
        SAEInfo(f"{suite.name} 1", "topk", "1.resid_pre@*", 256, 8.0, 0.3),
    ]
    reach = dict.fromkeys(contrasts, suite.reach)
    l0 = {"PCA": 12.0, "text lookup": 1.0, "task lookup": 1.0}
    return SuiteInfo(suite.name, saes, reach, l0, digest=suite.name)


def _node_rows(contrast: str) -> list[NodeRow]:
    """Two confirmed nodes, one that was patched and not confirmed, one that was not patched."""
    return [
        NodeRow(contrast, NODES[0], 0.9, -1.0, 1.0, 0.125, True),
        NodeRow(contrast, NODES[1], 0.4, 0.5, 0.5, 0.125, True),
        NodeRow(contrast, "0.1.z@END", 0.1, 0.05, 0.05, 0.125, False),
        NodeRow(contrast, "0.0.z@END", 0.0, None, None, 0.125, False),
    ]


def _suite_rows(suite: ScoredSuite, contrasts: Sequence[str]) -> Iterator[Row]:
    unreached = "undefined: no node of the section reads an SAE of this suite"
    for contrast in contrasts:
        row = Row(contrast, suite.name, suite.name, "reach", contrast, suite.reach, 500)
        yield replace(row, n=500 if suite.reach else 0, status="ok" if suite.reach else unreached)
    yield Row(ALL, suite.name, suite.name, "reach", ALL, suite.reach, 0)
    if not suite.reach:
        return
    for contrast in contrasts:
        grouped = contrast in suite.grouped
        is_lost = grouped or suite.score is None or contrast in suite.lost
        yield from _place_rows(suite, contrast, contrast, lost=is_lost)
        if grouped:
            yield from _place_rows(suite, contrast, f"{contrast}/z@END", lost=False)
    scored = [contrast for contrast in contrasts if contrast not in suite.lost]
    yield from _overall_rows(suite, [] if suite.score is None else scored)


def _overall_rows(suite: ScoredSuite, scored: Sequence[str]) -> Iterator[Row]:
    """The numbers over the contrasts that have them."""
    for dictionary, value in {suite.name: suite.score, **BESIDE}.items():
        blank = Row(ALL, suite.name, dictionary, "", ALL, None, 500, version=2)
        for metric in HEADLINES:
            if _is_measured(dictionary, metric):
                row = replace(blank, metric=metric, contrasts=len(scored))
                if scored and value is not None:
                    yield _with_beside(row, value, suite.stderr)
                else:
                    yield replace(row, status="undefined: no contrast has this score")


def _place_rows(suite: ScoredSuite, contrast: str, section: str, *, lost: bool) -> Iterator[Row]:
    """Every dictionary at one section or group."""
    for dictionary, score in {suite.name: suite.score, **BESIDE}.items():
        value = 0.0 if score is None else score
        blank = Row(section, suite.name, dictionary, "", contrast, None, 500, version=2)
        blank = replace(blank, need=2.0, sites=3)
        for metric in HEADLINES:
            row = replace(blank, metric=metric, form="success")
            if not _is_measured(dictionary, metric):
                yield replace(row, status=NOT_MEASURED)
            elif lost:
                yield replace(row, raw=value, status=f"undefined: {NO_EFFECT}")
            else:
                yield replace(_with_beside(row, value, suite.stderr), raw=value)
        if not lost:
            yield from _details(blank, value, suite.stderr)


def _details(blank: Row, value: float, stderr: float) -> Iterator[Row]:
    """The other form, levels, budgets, isolation, parts, and copying that grows with k."""
    yield replace(_row(blank, MAIN, value / 2, stderr), form="graded", at=OTHER_FORM)
    for level in LEVELS:
        yield replace(_row(blank, MAIN, value, stderr), form="success", at=level)
    for place, budget in enumerate(BUDGETS, 1):
        at_budget = replace(blank, budget=budget, picks=6.0 * place)
        yield replace(_row(at_budget, "control", value, stderr), form="success")
        yield _row(at_budget, "isolation", 0.9, stderr)
    yield _row(blank, "sufficiency", 0.75, stderr)
    yield replace(_row(blank, "coverage", 0.5, stderr), n=2000)
    yield replace(_row(blank, "decoding", 0.25, stderr), at="3 values", n=2000)
    for k in KS:
        yield replace(_row(blank, "copying", k / 8 * value, stderr), k=k, picks=float(k))


def _is_measured(dictionary: str, metric: str) -> bool:
    return dictionary not in CONTROL_ONLY or metric not in (MAIN, "move")


def _with_beside(row: Row, value: float, stderr: float) -> Row:
    """The row of a headline score: gains over the task lookup, their intervals as wide as its."""
    best = BESIDE[BEST]
    return replace(
        _row(row, row.metric, value, stderr),
        best_control=BestControl(BEST, best),
        gain=value - best,
        gain_low=value - best - 2 * stderr,
        gain_high=value - best + 2 * stderr,
    )


def _row(blank: Row, metric: str, value: float, stderr: float) -> Row:
    """The row of one metric, its interval two standard errors wide on each side."""
    low, high = value - 2 * stderr, value + 2 * stderr
    return replace(blank, metric=metric, value=value, low=low, high=high, stderr=stderr)
