"""What sage costs on full-size models: against whole passes, for a whole task, in memory.

    python -m tests.benchmarks.speed gpt2-small --pairs 100 --device cpu

Ratios are of this run. Processor seconds are printed beside the clock's because they hardly depend
on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from sage.dictionaries.code_model import fit_codes
from sage.dictionaries.need import needs
from sage.dictionaries.projected import project
from sage.dictionaries.projection import reached
from sage.models.base import Model
from sage.models.load import load_model
from sage.nodes import Node
from sage.preparation import Prepared, prepare
from sage.run import Plan, make_plan
from sage.scores.control import Along, make_aim, make_edits
from sage.scores.data import read_contrast, read_shared
from sage.scores.levels import ANY
from sage.task.catalog import load_task
from sage.task.metric import logit_difference
from sage.task.tokens import Tokenized
from tests.benchmarks.full_size import circuit_section, hooks_of, random_suite, save_full_size
from tests.benchmarks.task import SETS, one_suite, whole_task
from tests.benchmarks.watched import Cost, Watched, fully, peak_gigabytes, timed, watch


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    print(
        f"{arguments.size}, {arguments.device}, {arguments.threads} threads, load "
        f"{os.getloadavg()[0]:.1f}, {arguments.pairs} pairs"
    )
    plan = make_plan(
        "standard",
        pairs=arguments.pairs,
        fit=arguments.fit,
        decide=arguments.decide,
        discover=arguments.discover,
        detect=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        saved = save_full_size(Path(folder), arguments.size)
        model = load_model(str(saved), device=arguments.device)
        prepared = prepare(model, load_task("ioi"), plan)
        print(f"peak after loading {peak_gigabytes(arguments.device):.2f} GB")
        for part in arguments.parts:
            PARTS[part](model, prepared, plan, arguments)
            peak, load = peak_gigabytes(arguments.device), os.getloadavg()[0]
            print(f"({part}) peak {peak:.2f} GB, load {load:.1f}", flush=True)


def groups(model: Model, prepared: Prepared, plan: Plan, arguments: argparse.Namespace) -> None:
    """(a) Edits of every group of nodes: ours against whole forward passes, same numbers, time,
    token-layers, floating-point operations."""
    del plan
    prompts = [pair.clean for pair in prepared.splits.test["IO"]][: arguments.compared]
    own, other = watch(model), fully(model)
    section = circuit_section("IO", model.anatomy)
    own.write(own.read(section.nodes, prompts), prompts, logit_difference)
    print(
        f"(a) {SETS} sets of edits on {len(prompts)} prompts; clean runs and the unedited union: "
        f"{own.counter.token_layers} token-layers"
    )
    print(
        "    group      nodes  difference   token-layers (by operations) : whole     "
        "processor s, the metric alone     clock s"
    )
    ratios: list[tuple[float, ...]] = []
    for name, nodes in {"union": section.nodes, **section.groups}.items():
        edits = _random_edits(model, nodes, prompts)
        with timed(own) as cost, FlopCounterMode(display=False) as counted:
            outcomes = own.write_many(edits, prompts, logit_difference, logits=True)
        work = _token_layers(counted.get_total_flops(), model, len(edits) * len(prompts))
        ours = _again(own, edits, prompts, cost())
        with timed(own) as cost:
            own.measure(edits, prompts, logit_difference)
        alone = cost()
        with timed(other) as cost:
            expected = other.write_many(edits, prompts, logit_difference, logits=True)
        whole = cost()
        difference = max(
            float((mine.logits - its.logits).abs().max())
            for mine, its in zip(outcomes, expected, strict=True)
        )
        pairs = (
            (ours.token_layers, whole.token_layers),
            (ours.processor, whole.processor),
            (alone.processor, whole.processor),
            (ours.seconds, whole.seconds),
        )
        ratios.append(tuple(its / mine for mine, its in pairs))
        layers, processor, measured, clock = (
            f"{mine:8.2f} : {its:8.2f} = {its / mine:5.1f}" for mine, its in pairs
        )
        print(
            f"    {name:10} {len(nodes):5}  {difference:10.1e}   {layers} ({work:.0f})   "
            f"{processor} ({measured})   {clock}",
            flush=True,
        )
    means = [sum(ratio[place] for ratio in ratios[1:]) / len(ratios[1:]) for place in range(4)]
    print(
        f"    mean over groups: {means[0]:.1f}x fewer token-layers, {means[1]:.1f}x less processor "
        f"time ({means[2]:.1f}x for the metric alone), clock {means[3]:.1f}x"
    )


def growth(model: Model, prepared: Prepared, plan: Plan, arguments: argparse.Namespace) -> None:
    """(e) The price of one dictionary's regression, edits and runs as latents and hooks grow, and
    the memory of it."""
    section = circuit_section(arguments.contrast, model.anatomy)
    every = sorted({model.anatomy.source(node) for node in section.nodes})
    shared = read_shared(watch(model), *prepared, [section], seed=plan.seed)
    data = read_contrast(model, prepared.splits, section, shared)
    print("(e) latents  hooks   regression s   edits s   run s (processor)   peak GB")
    for latents, count in [
        (6_144, 1), (12_288, 1), (24_576, 1), (24_576, 2), (24_576, 4), (24_576, len(every)),
    ]:  # fmt: skip
        own = watch(model)
        hooks = hooks_of(section, model.anatomy, count=count)
        suite = random_suite("random", hooks, model.anatomy, width=latents)
        part = data.on(reached(suite, model.anatomy, data.section.nodes))
        base, labels = part.test.base, part.test.labels
        judged = project(suite, model.anatomy, part.section.nodes, part.moments)
        with timed(own) as cost:
            codes = fit_codes(judged, part.fit, part.supervised)
        regression = cost()
        needed = needs(part.supervised, part.decide.base, part.decide.labels)
        aim = make_aim(part.supervised, needed, unbounded=False)
        with timed(own) as cost:
            (edits,) = make_edits(codes, base, labels, aim, along=[Along({ANY: None})])
        chosen = cost()
        own.write(base.values, base.prompts, logit_difference)
        with timed(own) as cost:
            own.write_many([edit.values for edit in edits.values()], base.prompts, logit_difference)
        print(
            f"    {latents:7} {count:6}   {regression.processor:12.2f}   {chosen.processor:7.2f}   "
            f"{cost().processor:17.2f}   {peak_gigabytes(arguments.device):7.2f}",
            flush=True,
        )


PARTS = {"a": groups, "b": whole_task, "d": one_suite, "e": growth}


def _random_edits(
    model: Model, nodes: Sequence[Node], prompts: Sequence[Tokenized]
) -> list[dict[Node, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    values = model.read(nodes, prompts)
    edits: list[dict[Node, torch.Tensor]] = []
    for _ in range(SETS):
        steps = {
            node: torch.randn(value.shape, generator=generator).to(value)
            for node, value in values.items()
        }
        edits.append({node: values[node] + step for node, step in steps.items()})
    return edits


def _again(
    own: Watched, edits: list[dict[Node, torch.Tensor]], prompts: Sequence[Tokenized], first: Cost
) -> Cost:
    """The same call timed without anything watching it."""
    with timed(own) as cost:
        own.write_many(edits, prompts, logit_difference)
    return cost()._replace(token_layers=first.token_layers)


def _token_layers(operations: int, model: Model, cells: int) -> float:
    """Floating-point operations as token-layers: what the unembedding takes is taken away,
    attention itself is left in."""
    layer = model.anatomy.blocks[0]
    each = 2 * (
        sum(part.numel() for part in (layer.W_Q, layer.W_K, layer.W_V, layer.W_O))
        + 2 * model.anatomy.d_model * model.anatomy.d_mlp
    )
    return (operations - 2 * cells * model.anatomy.d_model * model.anatomy.d_vocab) / each


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=("gpt2-small", "pythia-70m"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=500, help="test pairs of a contrast")
    parser.add_argument(
        "--fit", type=int, default=None, help="prompts of fit; by default as many as a run takes"
    )
    parser.add_argument(
        "--decide", type=int, default=200, help="pairs of a contrast that everything is decided on"
    )
    parser.add_argument(
        "--discover", type=int, default=100, help="pairs of a contrast to discover with"
    )
    parser.add_argument(
        "--compared", type=int, default=16, help="prompts on which whole forward passes are run"
    )
    parser.add_argument(
        "--hooks", type=int, default=1, help="how many residual streams a suite has SAEs at"
    )
    parser.add_argument(
        "--last",
        action="store_true",
        help="the last of these streams, where edits change little, and not the first",
    )
    parser.add_argument("--contrast", default="IO")
    parser.add_argument(
        "--literal",
        action="store_true",
        help="in part b also every dictionary by itself, by whole passes, nothing shared",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--parts",
        default="abe",
        help="a: groups, b, c: a contrast with its controls, d: one suite's memory, e: growth",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
