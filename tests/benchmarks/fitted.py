"""How good supervised features are, by the prompts they are fitted on.

    python -m tests.benchmarks.fitted RESULT --fit 400 1600 2000

At the nodes that a result's discovery kept: the share of variance that cross-validation inside the
fit leaves unexplained, and how many nodes have no features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from sage.dictionaries.activations import read
from sage.dictionaries.supervised import NodeFit
from sage.models.load import load_model
from sage.nodes import Node, parse_node
from sage.preparation import prepare
from sage.result import Result
from sage.result_file import load_result
from sage.run import make_plan
from sage.scores.data import fit_all
from sage.task.catalog import load_task


def kept(result: Result) -> list[Node]:
    """The nodes of all sections."""
    return sorted({parse_node(row.node) for row in result.discovery if row.kept})


def main() -> None:
    """A line for every number of prompts: all nodes, and the queries at END."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--fit", type=int, nargs="+", default=[400, 1600, 2000])
    given = parser.parse_args()
    result = load_result(given.result)
    model, task = load_model(result.model.name), load_task(result.task.name)
    nodes = kept(result)
    for count in given.fit:
        prepared = prepare(model, task, make_plan("quick", seed=result.run.seed, fit=count))
        started = time.process_time()
        prompts = prepared.splits.fit
        fitted = fit_all(task, read(model, nodes, prompts, hooks=[]), seed=result.run.seed)
        fits = fitted.supervised.fits
        queries = [fits[node] for node in nodes if node.kind == "q" and node.position == "END"]
        print(
            f"{len(prompts):6} prompts: {told(list(fits.values()))}; queries at END "
            f"{told(queries)}; {time.process_time() - started:.0f} s",
            flush=True,
        )


def told(fits: Sequence[NodeFit]) -> str:
    """The median and the range of what is unexplained, and how many nodes have no features."""
    if not fits:
        return "none"
    shares = sorted(fit.unexplained for fit in fits)
    without = sum(not fit.has_features for fit in fits)
    nuisance = median(fit.nuisance_unexplained for fit in fits)
    return (
        f"{len(fits)} nodes, unexplained {median(shares):.3f} ({shares[0]:.3f} to "
        f"{shares[-1]:.3f}; by nuisance columns alone {nuisance:.3f}), {without} without features"
    )


if __name__ == "__main__":
    main()
