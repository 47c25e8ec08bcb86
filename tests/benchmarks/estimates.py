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

import torch

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
from tests.benchmarks.fitting import Fitted, fit
from tests.benchmarks.full_size import TOKENIZERS, circuit_section, random_suite


class RandomModel(NamedTuple):
    """GPT-2 small with random weights: how many of its layers, at which an SAE is, how wide."""

    layers: int
    hook: int
    latents: int


RANDOM = {
    "two layers of GPT-2 small": RandomModel(2, 1, 4096),
    "GPT-2 small": RandomModel(12, 0, 24_576),
}


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
    "wide": NamedRun("ioi", "two layers of GPT-2 small", ("random SAE",), "quick", FEWEST),
    "large": NamedRun("ioi", "GPT-2 small", ("random SAE",), "quick", FEWEST),
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
        if told.model in RANDOM:
            task = replace(task, gate=-1.0)
        cell = cell_in(Path(folder) / "out", model, task, plan)
        tokens = 0 if text is no_text else MOST_TOKENS
        ahead = look_ahead(cell, suites, prices, text_tokens=tokens)
        recorder, started = Recorder(), time.process_time()
        with watching(recorder), _planted(cell.model, random=told.model in RANDOM):
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
    if guess.shapes is None:
        guessed = [_priced(units(guess, nodes), prices) for nodes in SECTION_NODES]
    else:
        guessed = [_priced(units(guess), prices)] * 3
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
    """The model of a run and its suites."""
    if random := RANDOM.get(told.model):
        model = load_model(str(_save(folder / "random", random.layers)), device="cpu")
        hooks = [Node("resid_pre", random.hook)]
        yield model, [random_suite("random SAE", hooks, model.anatomy, width=random.latents)]
        return
    model = load_model(told.model, device="cpu")
    yield model, load_suites([f"{told.model}/{suite}" for suite in told.suites])


@contextmanager
def _planted(model: Model, *, random: bool) -> Generator[None]:
    """Nothing lives anywhere in a model with random weights: what is discovered there is thrown
    away, and the nodes of a published circuit take its place."""
    discover = sage.evaluation.find_sections

    def plant(*how: Any) -> Discovery:
        found = discover(*how)
        planted = {
            name: replace(finding, evidence=_evidence(name, model))
            for name, finding in found.findings.items()
        }
        return replace(found, findings=planted)

    with patch.object(sage.evaluation, "find_sections", plant if random else discover):
        yield


def _evidence(contrast: str, model: Model) -> tuple[NodeEffect, ...]:
    nodes = circuit_section(contrast, model.anatomy).nodes
    return tuple(NodeEffect(node, 1.0, 1.0, 1.0, 1.0, 0.1, kept=True) for node in nodes)


def _save(folder: Path, layers: int) -> Path:
    import transformers

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=layers))
    model.save_pretrained(folder)
    for path in (TOKENIZERS / "gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def fitted_to(runs: Sequence[Measured]) -> dict[str, float]:
    """The coefficients that come nearest to the seconds of every stage and of the runs."""
    return fit([Fitted(run.seconds, _stages(run)) for run in runs])


def _stages(run: Measured) -> list[tuple[float, Mapping[str, float]]]:
    """The seconds and terms of the stages that have any."""
    timed = [(run.stages.get(path, 0.0), terms) for path, terms in run.known.items()]
    return [(seconds, terms) for seconds, terms in timed if seconds and any(terms.values())]


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
        fitted = fitted_to(runs)
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
