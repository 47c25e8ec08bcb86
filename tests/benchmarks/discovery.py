"""Discovery by the sequential test against every node patched on every pair: sections and work.

    python -m tests.benchmarks.discovery                   all tasks on the models that ship
    python -m tests.benchmarks.discovery ioi --models tiny-gpt2 --discover 200
    python -m tests.benchmarks.discovery ioi --models gpt2-small --contrasts IO --discover 48

Printed are the sections and nulls that differ, and for both procedures token-layers and processor
seconds, in all and stage by stage. `gpt2-small` has its size and random weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch

from sage.demo import MODELS, TASKS
from sage.discovery import Discovery, DiscoverySettings, discover
from sage.models.base import Model
from sage.models.load import load_model
from sage.preparation import Prepared, prepare
from sage.progress import Stage, Watcher, watching
from sage.run import make_plan
from sage.task.catalog import load_task
from tests.benchmarks.full_size import save_full_size
from tests.benchmarks.watched import Cost, timed, watch

FULL_SIZE = "gpt2-small"
FULL, SEQUENTIAL = DiscoverySettings(error=0), DiscoverySettings()


class Searched(NamedTuple):
    """A discovery, what it cost, and that by the names of its stages."""

    discovery: Discovery
    cost: Cost
    stages: Counter[str]


class StageWork(Watcher):
    """Notes the token-layers of every innermost stage."""

    def __init__(self, model: Model) -> None:
        self.counter = model.counter
        self.begun: dict[str, int] = {}
        self.token_layers = Counter[str]()

    def entered(self, stage: Stage) -> None:
        self.begun[stage.name] = self.counter.token_layers

    def left(self, stage: Stage) -> None:
        if stage.name in ("attribution", "patching", "validation"):
            spent = self.counter.token_layers - self.begun[stage.name]
            self.token_layers[stage.name] += spent


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    before = after = Cost()
    differing = contrasts = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            saved = save_full_size(Path(folder), name) if name == FULL_SIZE else name
            model = load_model(str(saved), device="cpu")
            for task in arguments.tasks:
                plan = make_plan(
                    "quick", discover=arguments.discover, pairs=30, decide=16, fit=400, detect=0
                )
                prepared = prepare(model, load_task(task), plan)
                full, sequential = (
                    search(model, prepared, settings, arguments.contrasts)
                    for settings in (FULL, SEQUENTIAL)
                )
                print(f"{task} on {name}: {_told(full, sequential)}", flush=True)
                differing += _print_differences(full.discovery, sequential.discovery)
                contrasts += len(full.discovery.findings)
                before, after = before.plus(full.cost), after.plus(sequential.cost)
    print(
        f"{contrasts} contrasts, {differing} with another section or null; token-layers "
        f"{before.token_layers:,} : {after.token_layers:,} = "
        f"{before.token_layers / after.token_layers:.2f}, processor seconds "
        f"{before.processor:.0f} : {after.processor:.0f} = {before.processor / after.processor:.2f}"
    )


def search(
    model: Model,
    prepared: Prepared,
    settings: DiscoverySettings,
    contrasts: list[str] | None = None,
) -> Searched:
    """One discovery by a model that knows no clean run yet."""
    own = watch(model)
    work = StageWork(own)
    with timed(own) as cost, watching(work):
        discovery = discover(own, *prepared, contrasts=contrasts, settings=settings)
    return Searched(discovery, cost(), work.token_layers)


def _told(full: Searched, sequential: Searched) -> str:
    stages = ", ".join(
        f"{name} {full.stages[name]:,} : {sequential.stages[name]:,}" for name in full.stages
    )
    ratio = full.cost.token_layers / sequential.cost.token_layers
    return (
        f"token-layers {full.cost.token_layers:,} : {sequential.cost.token_layers:,} = {ratio:.2f} "
        f"({stages}), processor s {full.cost.processor:.1f} : {sequential.cost.processor:.1f}"
    )


def _print_differences(full: Discovery, sequential: Discovery) -> int:
    """Print what differs contrast by contrast; how many contrasts do."""
    differing = 0
    for contrast, expected in full.findings.items():
        finding = sequential.findings[contrast]
        sections = [set(each.section.nodes) for each in (expected, finding)]
        same_null = expected.null == finding.null or (
            None not in (expected.null, finding.null)
            and abs(expected.null - finding.null) < 1e-4 * expected.baseline  # type: ignore[operator]
        )
        validations = (expected.validation, finding.validation)
        print(
            f"    {contrast}: {len(sections[0])} nodes of {validations[0].patched} patched, "
            f"{validations[1].in_full} of them in full; Spearman "
            + " : ".join(f"{each.spearman or 0:.3f}" for each in validations)
            + ", Jaccard "
            + " : ".join(f"{each.jaccard or 0:.3f}" for each in validations)
            + ", CPR "
            + " : ".join(f"{each.curve.cpr if each.curve else 0:.3f}" for each in validations)
        )
        if sections[0] != sections[1] or not same_null:
            differing += 1
            print(
                f"        DIFFERS: without {sorted(map(str, sections[0] - sections[1]))}, with "
                f"{sorted(map(str, sections[1] - sections[0]))}, null {expected.null} : "
                f"{finding.null}"
            )
    return differing


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=TASKS)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--contrasts", nargs="+", default=None)
    parser.add_argument("--discover", type=int, default=200, help="pairs of a contrast")
    return parser.parse_args()


if __name__ == "__main__":
    main()
