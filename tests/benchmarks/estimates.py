"""Estimates against measured processor seconds, and the fit of what no calibration can see.

    python -m tests.benchmarks.estimates                 the named runs, estimated and measured
    python -m tests.benchmarks.estimates --fit           and sage/cost/coefficients.toml fitted anew
    python -m tests.benchmarks.estimates ioi --keep runs.json   one run; what was measured is kept
    python -m tests.benchmarks.estimates --from runs.json --fit  fitted to what was kept

An estimate is made twice: before the run, and when it is known where contrasts live.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from scipy.optimize import nnls

import sage.evaluation
from sage.cells import cell_in
from sage.cost.ahead import Ahead, look_ahead
from sage.cost.estimate import TABLE, coefficients, units
from sage.cost.machine import Prices, calibrate
from sage.cost.sizes import SECTION_NODES
from sage.cost.work import Units
from sage.discovery import Discovery
from sage.discovery.discovery import NodeEffect
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.progress import Stage, StagePath, Watcher, watching
from sage.run import make_plan
from sage.saes.releases import load_suites
from sage.saes.suite import Suite
from sage.scores.text import MOST_TOKENS, no_text
from sage.task.catalog import load_task
from sage.zoo.text import default_text
from tests.benchmarks.full_size import TOKENIZERS, circuit_section, random_suite

# Of a run: errors of stages smaller than this hardly count in the fit.
SMALL = 0.03
WIDE, LATENTS = "two layers of GPT-2 small", 4096


class NamedRun(NamedTuple):
    """A task, a model, suites of it, and a plan with changes."""

    task: str
    model: str
    suites: tuple[str, ...]
    plan: str = "quick"
    changes: Mapping[str, Any] = {}


FEW = {"pairs": 60, "discover": 60, "decide": 60, "fit": 600, "detect": 200}
FEWEST = {"pairs": 30, "discover": 16, "decide": 16, "fit": 150}
RUNS = {
    "pronoun": NamedRun("gendered_pronoun", "tiny-neox", ("topk4",)),
    "induction": NamedRun("induction", "tiny-neox", ("topk8",)),
    "capital": NamedRun("country_capital", "tiny-gemma2", ("topk4",)),
    "agreement": NamedRun("subject_verb_agreement", "tiny-neox", ("topk16",), "standard", FEW),
    "ioi": NamedRun("ioi", "tiny-gpt2", ("topk8", "relu")),
    "wide": NamedRun("ioi", WIDE, ("random SAE",), "quick", FEWEST),
}


Priced = dict[str, dict[str, float]]


class Measured(NamedTuple):
    """What one run took, and the units of work that it was expected to be: the seconds of every
    stage, and for every stage the priced units, of sections that are known, and of the least, the
    usual and the most that sections may be."""

    name: str
    seconds: float
    stages: dict[str, float]
    known: Priced
    guessed: list[Priced]


class Recorder(Watcher):
    """Notes the processor seconds of every stage, and what discovery found."""

    def __init__(self) -> None:
        self.seconds: dict[StagePath, float] = {}
        self.started: dict[StagePath, float] = {}
        self.discovery: Discovery | None = None

    def entered(self, stage: Stage) -> None:
        self.started[stage.path] = time.process_time()

    def left(self, stage: Stage) -> None:
        taken = time.process_time() - self.started.pop(stage.path)
        self.seconds[stage.path] = self.seconds.get(stage.path, 0.0) + taken

    def learned(self, stage: Stage, fact: object) -> None:
        del stage
        if isinstance(fact, Discovery):
            self.discovery = fact


def measure(name: str) -> Measured:
    """Run it with nothing kept of earlier runs."""
    told = RUNS[name]
    plan = make_plan(told.plan, **told.changes)
    with tempfile.TemporaryDirectory() as folder, _loaded(told, Path(folder)) as (model, suites):
        text, prices = default_text(model), calibrate(model)
        task = load_task(told.task)
        if told.model == WIDE:
            task = replace(task, gate=-1.0)
        cell = cell_in(Path(folder) / "out", model, task, plan)
        tokens = 0 if text is no_text else MOST_TOKENS
        ahead = look_ahead(cell, suites, prices, text_tokens=tokens)
        recorder, started = Recorder(), time.process_time()
        with watching(recorder), _planted(cell.model, wide=told.model == WIDE):
            cell.score(suites, text=text)
        seconds = time.process_time() - started
    assert recorder.discovery is not None
    return _measured(name, seconds, ahead, recorder, prices)


def _measured(
    name: str, seconds: float, ahead: Ahead, recorder: Recorder, prices: Prices
) -> Measured:
    assert recorder.discovery is not None
    assert ahead.work is not None
    known, guess = ahead.knowing(recorder.discovery), ahead.work
    stages = {"/".join(path[1:]): taken for path, taken in recorder.seconds.items()}
    guessed = [_priced(units(guess, nodes), prices) for nodes in SECTION_NODES]
    return Measured(name, seconds, stages, _priced(units(known), prices), guessed)


def _priced(stages: Mapping[StagePath, Units], prices: Prices) -> Priced:
    table = coefficients()
    return {
        "/".join(path): {
            term: count * getattr(prices, table[term][0]) for term, count in terms.items()
        }
        for path, terms in stages.items()
    }


@contextmanager
def _loaded(told: NamedRun, folder: Path) -> Generator[tuple[Model, list[Suite]]]:
    """The model of a run and its suites; a wide one has random weights."""
    if told.model == WIDE:
        model = load_model(str(_save_wide(folder / "wide")), device="cpu")
        hooks = [Node("resid_pre", 1)]
        yield model, [random_suite("random SAE", hooks, model.anatomy, width=LATENTS)]
        return
    model = load_model(told.model, device="cpu")
    yield model, load_suites([f"{told.model}/{suite}" for suite in told.suites])


@contextmanager
def _planted(model: Model, *, wide: bool) -> Generator[None]:
    """A wide model has random weights, so that nothing lives anywhere in it: what is discovered
    there is thrown away, and the nodes of a published circuit take its place."""
    discover = sage.evaluation.find_sections

    def plant(*how: Any) -> Discovery:
        found = discover(*how)
        planted = {
            name: replace(finding, evidence=_evidence(name, model))
            for name, finding in found.findings.items()
        }
        return replace(found, findings=planted)

    with patch.object(sage.evaluation, "find_sections", plant if wide else discover):
        yield


def _evidence(contrast: str, model: Model) -> tuple[NodeEffect, ...]:
    nodes = circuit_section(contrast, model.anatomy).nodes
    return tuple(NodeEffect(node, 1.0, 1.0, 1.0, 1.0, 0.1, kept=True) for node in nodes)


def _save_wide(folder: Path) -> Path:
    import transformers

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2))
    model.save_pretrained(folder)
    for path in (TOKENIZERS / "gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def fit(runs: Sequence[Measured]) -> dict[str, float]:
    """Coefficients without negative ones that come nearest to the seconds of every stage, in
    relation to them, times what makes runs as often too long as too short; terms that no run has
    keep theirs."""
    fitted = {term: count for term, (_, count) in coefficients().items()}
    equations: dict[str, list[tuple[Mapping[str, float], float, float]]] = {}
    for run in runs:
        for path, terms in run.known.items():
            if path in run.stages and terms:
                kind = next(iter(terms)).partition(".")[0]
                weight = 1 / (run.stages[path] + SMALL * run.seconds)
                equations.setdefault(kind, []).append((terms, run.stages[path], weight))
    for rows in equations.values():
        names = sorted({term for terms, _, _ in rows for term in terms})
        matrix = np.array([[w * terms.get(name, 0.0) for name in names] for terms, _, w in rows])
        scale = np.where(matrix.max(0) > 0, matrix.max(0), 1.0)
        solution, _ = nnls(matrix / scale, np.array([w * seconds for _, seconds, w in rows]))
        fitted |= dict(zip(names, (solution / scale).tolist(), strict=True))
    ratios = [run.seconds / expected(run.known, fitted) for run in runs]
    factor = float(np.exp(np.mean(np.log(ratios))))
    return {term: factor * count for term, count in fitted.items()}


def write(fitted: Mapping[str, float]) -> None:
    """Put coefficients into their table; everything else in it stays."""
    text = TABLE.read_text(encoding="utf-8")
    for term, count in fitted.items():
        text = re.sub(rf'^"{re.escape(term)}" = \S+', f'"{term}" = {count:.4g}', text, flags=re.M)
    TABLE.write_text(text, encoding="utf-8")
    coefficients.cache_clear()


def expected(priced: Priced, fitted: Mapping[str, float]) -> float:
    """The estimate with these coefficients."""
    return sum(fitted[term] * count for terms in priced.values() for term, count in terms.items())


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    now = {term: count for term, (_, count) in coefficients().items()}
    runs: list[Measured] = []
    if arguments.read:
        runs = [Measured(**run) for run in json.loads(arguments.read.read_text())]
    for name in [] if runs else arguments.runs or list(RUNS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runs.append(measure(name))
        _print(runs[-1], now)
        if arguments.keep:
            kept = [run._asdict() for run in runs]
            arguments.keep.write_text(json.dumps(kept, indent=1) + "\n")
    if arguments.fit:
        fitted = fit(runs)
        write(fitted)
        print(f"fitted, {TABLE}:")
        for run in runs:
            _print(run, fitted)


def _print(run: Measured, fitted: Mapping[str, float]) -> None:
    low, middle, high = (expected(priced, fitted) for priced in run.guessed)
    after = expected(run.known, fitted)
    print(
        f"{run.name:10} measured {run.seconds:7.1f} s   before {middle:7.1f} "
        f"({low:.1f} to {high:.1f}) {middle / run.seconds - 1:+5.0%}   "
        f"after discovery {after:7.1f} {after / run.seconds - 1:+5.0%}",
        flush=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", choices=[[], *RUNS], help="all, where none is named")
    parser.add_argument("--fit", action="store_true", help="fit the coefficients")
    parser.add_argument("--keep", type=Path, help="write what was measured")
    parser.add_argument("--from", dest="read", type=Path, help="read it instead of running")
    return parser.parse_args()


if __name__ == "__main__":
    main()
