"""Results made by hand, small enough to work out what a report must say of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
TASK = "<script>alert('task')</script>"
MODEL = 'models/"quoted" & Ünïcødé 模型'
SUITE = "=release/sae|<b>$x_1$</b>"
CONTRAST = "_{S}/<i>&amp;"
STAGES = [StageInfo("gate", 0.5, 1.0), StageInfo("scores", 12.0, 29.0)]
CONTROLS = {"supervised": 1.0, "PCA": 0.4, "untrained": 0.05}


def result(
    suites: Mapping[str, float | None],
    *,
    task: str = "ioi",
    model: str = "tiny",
    seed: int = 0,
    d_model: int = 64,
    contrasts: Sequence[str] = ("IO",),
    stderr: float = 0.02,
    reach: Mapping[str, float] | None = None,
    passed: bool = True,
) -> Result:
    """One task and model; `suites` maps suites to their control, None where no contrast has one.
    Nothing is scored below the gate."""
    made = Result(
        task=TaskInfo(task, "By hand", "ab12"),
        model=ModelInfo(model, "cd34", "transformer-lens 3.9.0", "float32", d_model),
        run=RunInfo(
            "0.1.0",
            seed,
            {"discover": 200, "fit": 2000, "test": 500},
            "2025-01-01T00:00:00+00:00",
            12.5,
            30.0,
            64,
            STAGES,
        ),
        gate=Gate(0.97, 3.25, 500, 0.75, True),
        sections=[section for contrast in contrasts for section in _sections(contrast)],
        suites=[
            _suite(name, contrasts, (reach or {}).get(name, 1.0), place)
            for place, name in enumerate(suites)
        ],
        discovery=[found for contrast in contrasts for found in _found(contrast)],
        rows=[
            row
            for name, control in suites.items()
            for row in _rows(name, control, contrasts, stderr, (reach or {}).get(name, 1.0))
        ],
        features=[
            FeatureInfo(contrast, node, contrast, 2, 0.75, 0.125, "additive")
            for contrast in contrasts
            for node in NODES
        ],
    )
    if passed:
        return made
    note = f"{model} does not do this task: accuracy 0.600 on 500 prompts is below 0.75. Nothing was scored."
    gate = replace(made.gate, accuracy=0.6, passed=False)
    return replace(
        made, gate=gate, sections=[], suites=[], discovery=[], rows=[], features=[], notes=[note]
    )


def arrays(suites: Sequence[str], *, contrasts: Sequence[str] = ("IO",)) -> dict[str, np.ndarray]:
    """F1 and cosines of two values at both nodes, for each suite and the supervised dictionary:
    latent 7 is for a, latent 3 for b."""
    found: dict[str, np.ndarray] = {}
    matrices = {
        "f1": [[0.0, 0.25], [0.125, 0.75], [0.5, 0.0]],
        "cosine": [[0.5, -0.5], [-1.0, 1.0], [0.75, -0.75]],
    }
    for contrast in contrasts:
        names = np.frombuffer(
            json.dumps([f"{contrast}=a", f"{contrast}=b"]).encode(), dtype=np.uint8
        )
        for suite in suites:
            for dictionary in (suite, "supervised"):
                for what, matrix in matrices.items():
                    for node in NODES:
                        base = f"{contrast}|{suite}|{dictionary}|{what}"
                        found[f"{base}|{node}"] = np.array(matrix, dtype=np.float32)
                        found[f"{base} latents|{node}"] = np.array([5, 3, 7])
                        found[f"{base} names|{node}"] = names
    return found


def everything() -> list[Result]:
    """Three models and three tasks: hostile names, undefined scores, a failed gate, a suite that
    reaches nothing, two seeds."""
    hostile = result(
        {SUITE: 0.5, "plain": 0.7}, task=TASK, model=MODEL, contrasts=(CONTRAST, "$y$"), d_model=128
    )
    source = replace(hostile.task, source="https://example.org/?a=1&b=<2>")
    return [
        replace(hostile, task=source, notes=["A note with <em>markup</em>."]),
        result({SUITE: 0.6, "plain": None}, task="ioi", model=MODEL, d_model=128),
        result(
            {"topk": 0.8, "relu": 0.6, "partial": 0.9, "nothing": 0.5},
            reach={"partial": 0.4, "nothing": 0.0},
        ),
        result({"topk": 0.9, "relu": 0.5}, seed=1),
        result({"topk": 0.4, "relu": 0.3}, task="successor", contrasts=("number", "word")),
        result({}, task="successor", model="tiniest", d_model=32, passed=False),
        result({}, task="ioi", model="tiniest", d_model=32),
    ]


def write(folder: Path, *results: Result) -> Path:
    """Each result in a folder of its own below `folder`, with its arrays."""
    for number, one in enumerate(results):
        contrasts = [section.id for section in one.sections if section.id == section.contrast]
        save(
            one,
            folder / f"{number}",
            arrays=arrays([suite.id for suite in one.suites], contrasts=contrasts),
        )
    return folder


def _sections(contrast: str) -> list[SectionInfo]:
    return [
        SectionInfo(contrast, contrast, list(NODES), 1.5),
        SectionInfo(f"{contrast}/z@END", contrast, [NODES[0]], 1.0),
    ]


def _suite(name: str, contrasts: Sequence[str], reach: float, place: int) -> SuiteInfo:
    saes = [
        SAEInfo(f"{name} 0", "topk", "0.resid_mid@*", 256, 8.0 * 2**place, 0.1),
        SAEInfo(f"{name} 1", "topk", "1.resid_pre@*", 256, 8.0, 0.3),
    ]
    return SuiteInfo(name, saes, dict.fromkeys(contrasts, reach), {"PCA": 12.0, "untrained": 8.0})


def _found(contrast: str) -> list[NodeRow]:
    """Two confirmed nodes, one that was patched and not confirmed, one that was not patched."""
    return [
        NodeRow(contrast, NODES[0], 0.9, -1.0, 1.0, 0.125, True),
        NodeRow(contrast, NODES[1], 0.4, 0.5, 0.5, 0.125, True),
        NodeRow(contrast, "0.1.z@END", 0.1, 0.05, 0.05, 0.125, False),
        NodeRow(contrast, "0.0.z@END", 0.0, None, None, 0.125, False),
    ]


def _rows(
    suite: str, control: float | None, contrasts: Sequence[str], stderr: float, reach: float
) -> list[Row]:
    if reach == 0:
        why = "undefined: no node of the section reads an SAE of this suite"
        return [
            Row(contrast, suite, suite, "reach", contrast, 0.0, 0, status=why)
            for contrast in contrasts
        ]
    rows = [Row(contrast, suite, suite, "reach", contrast, reach, 500) for contrast in contrasts]
    for name, value in {suite: control, **CONTROLS}.items():
        blank = Row(ALL, suite, name, "", ALL, None, 0)
        rows += [
            _row(blank, metric, value, stderr, "no contrast has a control score")
            for metric in ("control", "T2 normalised")
        ]
        rows += [_row(blank, f"{part} normalised", 0.5, stderr, "") for part in ("T1", "T3", "T4")]
        rows.append(
            _row(
                blank,
                "sage",
                None if value is None else (1.5 + value) / 4,
                stderr,
                "a component is missing everywhere",
            )
        )
        for contrast in contrasts:
            rows += _by_contrast(Row(contrast, suite, name, "", contrast, None, 0), value, stderr)
    return rows


def _by_contrast(blank: Row, value: float | None, stderr: float) -> list[Row]:
    """Raw components between a floor of .1 and a ceiling of .9, success that grows with k, and the
    same for a group."""
    ends = replace(blank, floor=0.1, ceiling=0.9)
    why = "the ground-truth patch changes nothing"
    rows: list[Row] = []
    for part in COMPONENTS:
        raw = value if part == "T2" else 0.5
        rows.append(_row(ends, part, raw, stderr, why))
        rows.append(
            _row(
                ends, f"{part} normalised", None if raw is None else (raw - 0.1) / 0.8, stderr, why
            )
        )
    rows += [
        _row(replace(blank, k=k, picks=float(k)), "accuracy", k / 8 * (value or 0.0), stderr, "")
        for k in KS
    ]
    rows += [
        _row(replace(blank, k=k, picks=float(k)), metric, 0.5, stderr, "")
        for k in KS
        for metric in ("graded", "isolation", "magnitude")
    ]
    return [*rows, replace(_row(blank, "area", 0.5, stderr, ""), at="success", k=4)]


def _row(blank: Row, metric: str, value: float | None, stderr: float, why: str) -> Row:
    if value is None:
        return replace(blank, metric=metric, n=500, status=f"undefined: {why}")
    return replace(
        blank,
        metric=metric,
        value=value,
        stderr=stderr,
        low=value - 2 * stderr,
        high=value + 2 * stderr,
        n=500,
    )
