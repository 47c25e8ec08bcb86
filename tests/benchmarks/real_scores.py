"""Do scores follow training and sparsity on a real language model?

    python -m tests.benchmarks.real_scores --out out/real_scores --beside out/real

Beside the SAEs of `sage real` (the same text, streams, steps and seed), topk32 is saved along its
training, and topk is trained at other sparsities; all are scored on one task at several seeds. A
run goes on where it was; several, each with suites or seeds of its own, may share a folder.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sage.cells import cell_in, holds_today, results_of_today
from sage.models.base import Model
from sage.nodes import Node, parse_node
from sage.real.places import model_folder
from sage.real.plan import REAL_PLANS, RealSuite
from sage.real.run import get_model, passages, split_text
from sage.real.streams import TextStreams
from sage.result import HEADLINES, SUPERVISED, Result
from sage.run import make_plan
from sage.saes.releases import load_suites
from sage.saes.sae import canonical, hook_label
from sage.saes.suite import Suite
from sage.saes.train import shuffled, train
from sage.saes.training import Training
from sage.scores.contest import LOOKUPS
from sage.scores.text import text_of
from sage.task.catalog import load_task

MODEL, PLAN = "smollm2-135m", REAL_PLANS["quick"]
TASK = "gendered_pronoun"
SEEDS = (0, 1, 2)
STEPS = (0, 30, 100, 300, 600)
ALONG = RealSuite("topk32", "topk", 32.0)
SPARSITIES = tuple(RealSuite(f"topk{k}", "topk", float(k)) for k in (8, 64))

TRAINED = (ALONG, *SPARSITIES)


def saved_at(step: int) -> str:
    """What the suite of a step is called."""
    return f"topk32-step{step}"


def train_everything(streams: TextStreams, out: Path, names: Sequence[str]) -> None:
    """topk32 with its snapshots and the other sparsities, at every hook; suite by suite."""
    for suite in TRAINED:
        for hook in streams.hooks if suite.name in names else ():
            train_one(streams, suite, STEPS if suite is ALONG else (), hook, out)


def train_one(
    streams: TextStreams, suite: RealSuite, steps: tuple[int, ...], hook: Node, out: Path
) -> None:
    """One SAE of a suite; its snapshots become SAEs of suites of their own."""
    model, label = streams.model, hook_label(hook)
    folder = out / suite.name / label
    if (folder / "cfg.json").is_file():
        return
    settings = replace(PLAN.training(suite, model.anatomy.d_model), snapshots=steps)
    training = Training(
        settings, model=model.name, hook=hook, d_model=model.anatomy.d_model, reads_bos=False
    )
    batches = shuffled(streams.tokens(hook).float(), batch=settings.batch, seed=settings.seed)
    train(training, batches, out=folder)
    for step in steps:
        shutil.copytree(folder / "snapshots" / f"step_{step:06d}", out / saved_at(step) / label)


def suites_in(folders: Sequence[Path]) -> list[Suite]:
    """The suites of these folders, called by their folder's name."""
    return [
        replace(suite, id=Path(suite.id).name)
        for suite in load_suites([str(folder) for folder in folders])
    ]


def score(model: Model, suites: Sequence[Suite], out: Path, seeds: Sequence[int]) -> None:
    """The task at every seed, with all suites."""
    _, held = split_text(model, passages(None), PLAN)
    for seed in seeds:
        plan = make_plan("quick", seed=seed)
        cell = cell_in(out, model, load_task(TASK), plan)
        cell.score(suites, text=text_of(held), again=not holds_today(cell.folder))


def tell(folders: Sequence[Path]) -> None:
    """Every headline by suite: its mean and standard deviation over the seeds, and in how many it
    stands above soft-frozen."""
    results = [result for result in results_of_today(*folders) if result.task.name == TASK]
    rows = pd.DataFrame([row for result in results for row in scores_of(result)])
    for (metric, contrast), part in rows.groupby(["metric", "contrast"], sort=False):
        print(f"{metric}, {contrast} ({part['seed'].nunique()} seeds)")
        by_seed = part.pivot_table(index="dictionary", columns="seed", values="value", sort=False)
        null = by_seed.T.get(f"{ALONG.name}-soft-frozen")
        above = by_seed.gt(null, axis=1).sum(axis=1) if null is not None else {}
        for name, values in by_seed.iterrows():
            each = " ".join(f"{value:.2f}" for value in values)
            print(
                f"    {name:20} {values.mean():.2f} sd {values.std():.2f}   {each}"
                f"   above soft-frozen {above.get(name, 'unknown')}"
            )


def scores_of(result: Result) -> Iterator[dict[str, object]]:
    """Defined headlines of every suite and control, contrast by contrast."""
    for row in result.rows:
        if row.metric in HEADLINES and row.at is None and row.value is not None:
            own = row.dictionary in (row.suite, SUPERVISED, *LOOKUPS)
            if own and row.budget is None:
                yield {
                    "metric": row.metric,
                    "contrast": row.section,
                    "dictionary": row.dictionary.split("/")[-1],
                    "seed": result.run.seed,
                    "value": row.value,
                }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [suite.name for suite in TRAINED]
    parser.add_argument("--out", type=Path, default=Path("out/real_scores"))
    parser.add_argument("--beside", type=Path, default=Path("out/real"))
    parser.add_argument("--train", nargs="*", choices=every, default=every)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--suites", nargs="*", help="to score; all where none is named")
    given = parser.parse_args()
    model = get_model(MODEL)
    saes = given.out / "saes"
    if given.train:
        hooks = [canonical(parse_node(hook)) for hook in PLAN.models[MODEL].hooks]
        windows, _ = split_text(model, passages(None), PLAN)
        streams = TextStreams(model, hooks, given.out / "streams", windows)
        streams.folder.mkdir(parents=True, exist_ok=True)
        streams.fill()
        train_everything(streams, saes, given.train)
    if given.seeds:
        others = model_folder(given.beside, MODEL) / "saes"
        beside = [others / suite.name for suite in PLAN.suites]
        along = [saes / saved_at(step) for step in STEPS]
        folders = [*beside, *along, *(saes / suite.name for suite in SPARSITIES)]
        suites = suites_in([at for at in folders if at.name in (given.suites or [at.name])])
        score(model, suites, given.out / "results", given.seeds)
    tell([given.out / "results", given.beside / "results"])


if __name__ == "__main__":
    main()
