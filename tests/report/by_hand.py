"""Results made by hand, small enough to work out what a report must say of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sage.result import (
    ALL,
    FeatureInfo,
    Gate,
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
    save,
)

COMPONENTS = ("T1", "T2", "T3", "T4")
NODES = ("1.0.z@END", "0.mlp_in@S2")
KS = (0, 1, 2, 4, 8)
STAGES = [StageInfo("gate", 0.5, 1.0), StageInfo("scores", 12.0, 29.0)]
CONTROLS = {"supervised": 1.0, "PCA": 0.4, "untrained": 0.05}

# Names that break a page which takes them for markup, mathematics or a formula.
TASK = "<script>alert('task')</script>"
MODEL = 'models/"quoted" & Ünïcødé 模型'
SUITE = "=release/sae|<b>$x_1$</b>"
CONTRAST = "_{S}/<i>&amp;"

WIDTHS = {"tiniest": 32, "large": 128, MODEL: 128}

RUN = RunInfo(
    "0.1.0",
    0,
    {"discover": 200, "fit": 2000, "test": 500},
    "2025-01-01T00:00:00+00:00",
    12.5,
    30.0,
    64,
    STAGES,
)


@dataclass(frozen=True)
class ScoredSuite:
    """A suite's control (None: no contrast has one) and reach, as all its contrasts have them."""

    name: str
    control: float | None
    reach: float
    stderr: float


def make_result(
    suites: Mapping[str, float | None],
    *,
    task: str = "ioi",
    model: str = "tiny",
    seed: int = 0,
    contrasts: Sequence[str] = ("IO",),
    stderr: float = 0.02,
    reach: Mapping[str, float] | None = None,
) -> Result:
    """One task and model; `suites` maps suites to their control, None where no contrast has one.

    Models are 64 wide, but for those of `WIDTHS`.
    """
    scored = [
        ScoredSuite(name, control, (reach or {}).get(name, 1.0), stderr)
        for name, control in suites.items()
    ]
    result = Result(
        task=TaskInfo(task, "By hand", "ab12"),
        model=ModelInfo(model, "cd34", "transformer-lens 3.9.0", "float32", WIDTHS.get(model, 64)),
        run=replace(RUN, seed=seed),
        gate=Gate(0.97, 3.25, 500, 0.75, True),
        sections=[],
        suites=[_suite_info(suite, contrasts, place) for place, suite in enumerate(scored)],
        discovery=[],
        rows=[],
    )
    for contrast in contrasts:
        result.sections.append(SectionInfo(contrast, contrast, list(NODES), 1.5))
        result.sections.append(SectionInfo(f"{contrast}/z@END", contrast, [NODES[0]], 1.0))
        result.discovery.extend(_node_rows(contrast))
        for node in NODES:
            feature = FeatureInfo(contrast, node, contrast, 2, 0.75, 0.125, "additive")
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


def make_arrays(suites: Sequence[str], *, contrasts: Sequence[str]) -> dict[str, np.ndarray]:
    """F1 and cosines of two values at both nodes, for each suite and the supervised dictionary.

    Latent 7 is for a, latent 3 for b.
    """
    arrays: dict[str, np.ndarray] = {}
    for contrast in contrasts:
        for suite in suites:
            for dictionary in (suite, "supervised"):
                arrays |= _matrices(contrast, f"{contrast}|{suite}|{dictionary}")
    return arrays


def every_case() -> list[Result]:
    """Three models and three tasks with everything that can go wrong.

    Hostile names, undefined scores, a failed gate, a suite that reaches nothing, two seeds.
    """
    hostile = make_result(
        {SUITE: 0.5, "plain": 0.7}, task=TASK, model=MODEL, contrasts=(CONTRAST, "$y$")
    )
    source = replace(hostile.task, source="https://example.org/?a=1&b=<2>")
    return [
        replace(hostile, task=source, notes=["A note with <em>markup</em>."]),
        make_result({SUITE: 0.6, "plain": None}, task="ioi", model=MODEL),
        make_result(
            {"topk": 0.8, "relu": 0.6, "partial": 0.9, "nothing": 0.5},
            reach={"partial": 0.4, "nothing": 0.0},
        ),
        make_result({"topk": 0.9, "relu": 0.5}, seed=1),
        make_result({"topk": 0.4, "relu": 0.3}, task="successor", contrasts=("number", "word")),
        make_failed(task="successor", model="tiniest"),
        make_result({}, task="ioi", model="tiniest"),
    ]


def write_results(folder: Path, *results: Result) -> Path:
    """Each result in a folder of its own below `folder`, with its arrays."""
    for number, result in enumerate(results):
        contrasts = [section.id for section in result.sections if section.id == section.contrast]
        suites = [suite.id for suite in result.suites]
        save(result, folder / f"{number}", arrays=make_arrays(suites, contrasts=contrasts))
    return folder


def _matrices(contrast: str, prefix: str) -> dict[str, np.ndarray]:
    columns = json.dumps([f"{contrast}=a", f"{contrast}=b"]).encode()
    matrices = {
        "f1": [[0.0, 0.25], [0.125, 0.75], [0.5, 0.0]],
        "cosine": [[0.5, -0.5], [-1.0, 1.0], [0.75, -0.75]],
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
    return SuiteInfo(suite.name, saes, reach, {"PCA": 12.0, "untrained": 8.0})


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
    if suite.reach:
        for dictionary, control in {suite.name: suite.control, **CONTROLS}.items():
            blank = Row(ALL, suite.name, dictionary, "", ALL, None, 500, suite.stderr)
            yield from _overall_rows(blank, control)
            for contrast in contrasts:
                of_contrast = replace(blank, section=contrast, contrast=contrast)
                yield from _contrast_rows(of_contrast, control)


def _overall_rows(blank: Row, control: float | None) -> Iterator[Row]:
    """The numbers over all contrasts."""
    for metric in ("control", "T2 normalised"):
        yield _row(blank, metric, control, "no contrast has a control score")
    for part in ("T1", "T3", "T4"):
        yield _row(blank, f"{part} normalised", 0.5)
    sage = None if control is None else (1.5 + control) / 4
    yield _row(blank, "sage", sage, "a component is missing everywhere")


def _contrast_rows(blank: Row, control: float | None) -> Iterator[Row]:
    """Raw components between a floor of .1 and a ceiling of .9, and success that grows with k."""
    ends = replace(blank, floor=0.1, ceiling=0.9)
    why = "the ground-truth patch changes nothing"
    for part in COMPONENTS:
        raw = control if part == "T2" else 0.5
        yield _row(ends, part, raw, why)
        yield _row(ends, f"{part} normalised", None if raw is None else (raw - 0.1) / 0.8, why)
    for k in KS:
        at_k = replace(blank, k=k, picks=float(k))
        yield _row(at_k, "accuracy", k / 8 * (control or 0.0))
        for metric in ("graded", "isolation", "magnitude"):
            yield _row(at_k, metric, 0.5)
    yield replace(_row(blank, "area", 0.5), at="success", k=4)


def _row(blank: Row, metric: str, value: float | None, why: str = "") -> Row:
    """The row of one metric, its interval two standard errors wide on each side."""
    if value is None:
        return replace(blank, metric=metric, stderr=None, status=f"undefined: {why}")
    stderr = blank.stderr or 0.0
    low, high = value - 2 * stderr, value + 2 * stderr
    return replace(blank, metric=metric, value=value, low=low, high=high)
