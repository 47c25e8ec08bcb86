"""Results: what one run on one task and one model found, as rows with their provenance, and its two
files.

`result.json` holds everything a report shows, `result.safetensors` the matrices and per-prompt
outcomes. Both are written atomically, validated on load, and read back equal; reports never
recompute.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from sage.errors import BadFile
from sage.files import write_atomically

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from jaxtyping import UInt8

SCHEMA = 1
ALL, SUPERVISED = "*", "supervised"
COMPONENTS = ("T1", "T2", "T3", "T4")


@dataclass(frozen=True)
class TaskInfo:
    """Which task, from where, and the sha256 of its prompts in this run."""

    name: str
    source: str
    sha256: str


@dataclass(frozen=True)
class ModelInfo:
    """Which model; `revision` is the sha256 of its weight files, `d_model` the width of its
    residual stream."""

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
    `stages` where seconds and forwards went."""

    sage: str
    seed: int
    prompts: dict[str, int]
    started: str
    seconds: float
    forwards: float
    batch_size: int | None = None
    stages: list[StageInfo] = field(default_factory=list[StageInfo])


@dataclass(frozen=True)
class Gate:
    """Whether the model does the task at all: how often it prefers the answer, and by how much in
    the mean."""

    accuracy: float
    mean_logit_difference: float
    n: int
    threshold: float
    passed: bool


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


@dataclass(frozen=True)
class Row:
    """One number of one dictionary on one section, with its floor and ceiling, its uncertainty and
    its status.

    `suite` names whose node set it was computed on. `at` tells rows of one metric apart (a
    threshold, a fit, a value). A value of None is undefined and `status` says why.
    """

    section: str
    suite: str
    dictionary: str
    metric: str
    contrast: str
    value: float | None
    n: int
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    at: str | None = None
    k: int | None = None
    site_k: int | None = None
    picks: float | None = None
    choice: str = "joint"
    option: str = "frozen"
    status: str = "ok"


@dataclass(frozen=True)
class Result:
    """Everything one run found on one task and one model."""

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
    schema: int = SCHEMA

    def table(self) -> pd.DataFrame:
        """The rows as a pandas frame, one column per field, with task and model in front."""
        import pandas as pd

        frame = pd.DataFrame([asdict(row) for row in self.rows])
        frame.insert(0, "task", self.task.name)
        frame.insert(1, "model", self.model.name)
        return frame

    def overview(self) -> list[dict[str, object]]:
        """One row per suite for a table: control and sage with their intervals, the components,
        reach and sparsity."""
        return [self._overview(suite) for suite in self.suites] or [self._nothing()]

    def controls(self) -> list[dict[str, object]]:
        """One row per suite and dictionary for a table: normalised components, control and sage."""
        metrics = ("control", "sage", *(f"{part} normalised" for part in COMPONENTS))
        found: list[dict[str, object]] = []
        for suite, name in dict.fromkeys(
            (row.suite, row.dictionary) for row in self.rows if row.section == ALL
        ):
            values = {
                metric: _value_of(self.value(metric, suite=suite, dictionary=name))
                for metric in metrics
            }
            found.append({"suite": suite, "dictionary": name, **values})
        return found

    def value(self, metric: str, *, suite: str, dictionary: str) -> Row | None:
        """A summary row over all contrasts, if there is one."""
        found = (
            row
            for row in self.rows
            if (row.section, row.metric, row.suite, row.dictionary)
            == (ALL, metric, suite, dictionary)
        )
        return next(found, None)

    def _overview(self, suite: SuiteInfo) -> dict[str, object]:
        def number(metric: str) -> float | None:
            row = self.value(metric, suite=suite.id, dictionary=suite.id)
            return row and row.value

        def interval(metric: str) -> str | None:
            row = self.value(metric, suite=suite.id, dictionary=suite.id)
            return (
                None
                if row is None or row.low is None or row.high is None
                else f"{row.low:.2f} to {row.high:.2f}"
            )

        scores = {name: number(f"{name} normalised") for name in COMPONENTS}
        l0 = sum(sae.l0 for sae in suite.saes) / len(suite.saes)
        return {
            "task": self.task.name,
            "suite": suite.id,
            "L0": l0,
            "reach": number("reach"),
            "control": number("control"),
            "control 95 %": interval("control"),
            "sage": number("sage"),
            "sage 95 %": interval("sage"),
            **scores,
            "n": self.run.prompts.get("test"),
        }

    def _nothing(self) -> dict[str, object]:
        said = "; ".join(self.notes) or "no suite was given"
        return {"task": self.task.name, "suite": said, "L0": None, "reach": None, "control": None, "control 95 %": None, "sage": None,
                "sage 95 %": None, "T1": None, "T2": None, "T3": None, "T4": None, "n": self.gate.n}  # fmt: skip


def _value_of(row: Row | None) -> float | None:
    return None if row is None else row.value


def save(result: Result, folder: Path, *, arrays: Mapping[str, np.ndarray] | None = None) -> Path:
    """Write result.json (and result.safetensors) into the folder, each whole or not at all; returns
    the path of the JSON."""
    from safetensors.numpy import save as pack

    folder.mkdir(parents=True, exist_ok=True)
    if arrays:
        write_atomically(folder / "result.safetensors", pack(dict(arrays)))
    return write_atomically(folder / "result.json", _text(result).encode())


def load(path: Path) -> Result:
    """Read and validate a result; `path` is the JSON or its folder. Raises BadFile naming the field
    at fault."""
    from pydantic import TypeAdapter, ValidationError

    file = path / "result.json" if path.is_dir() else path
    if not file.is_file():
        raise BadFile(f"There is no result at {file}. `sage score ... --out DIR` writes one.")
    data = file.read_bytes()
    try:
        schema = TypeAdapter(dict[str, object]).validate_json(data).get("schema")
        if schema != SCHEMA:
            raise BadFile(
                f"{file} has schema {schema}; this version reads schema {SCHEMA}. Score again, or use the version that wrote it."
            )
        return TypeAdapter(Result).validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise BadFile(
            f"{file} is not a result of sage: {where}: {first['msg']}. Score again to write it anew."
        ) from error


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The matrices and per-prompt outcomes beside a result; empty where the run had none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    file = (path if path.is_dir() else path.parent) / "result.safetensors"
    if not file.is_file():
        return {}
    try:
        return load_file(file)
    except SafetensorError as error:
        raise BadFile(f"{file} is damaged ({error}). Score again to write it anew.") from error


def names(array: UInt8[np.ndarray, "byte"]) -> list[str]:
    """The names in an array beside a result: what the rows or columns of a matrix are called."""
    return json.loads(array.tobytes())


def total_stages(runs: Iterable[RunInfo]) -> list[StageInfo]:
    """What each stage took over several runs."""
    found: dict[str, StageInfo] = {}
    for one in (stage for run in runs for stage in run.stages):
        before = found.get(one.stage, StageInfo(one.stage, 0.0, 0.0))
        found[one.stage] = StageInfo(
            one.stage, before.seconds + one.seconds, before.forwards + one.forwards
        )
    return list(found.values())


def _text(result: Result) -> str:
    """JSON with one line for each row, node, suite and section."""
    return (
        "{\n"
        + ",\n".join(f' "{name}": {_block(value)}' for name, value in asdict(result).items())
        + "\n}\n"
    )


def _block(value: object) -> str:
    if not isinstance(value, list) or not value:
        return _line(value)
    return "[\n  " + ",\n  ".join(map(_line, cast("list[object]", value))) + "\n ]"


def _line(value: object) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
