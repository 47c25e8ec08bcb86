"""How the price of a suite grows: processor seconds against one size at a time, all else held.

    python -m tests.benchmarks.growth [--sizes pairs latents hooks layers vocabulary]

Random GPT-2s 192 wide with GPT-2's tokenizer, one contrast of IOI at the nodes of the published
circuit, one suite of random TopK SAEs with all the controls of the quick plan. Printed is the
exponent: the slope of log seconds against log size, over four sizes each twice the one before, and
over the last step alone, where what does not grow counts least.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from sage.models.load import load_model
from sage.preparation import prepare
from sage.run import make_plan
from sage.scores.data import read_contrast, read_shared
from sage.scores.suite import NodeSets, score_suite
from sage.task.catalog import load_task
from tests.benchmarks.full_size import TOKENIZERS, circuit_section, hooks_of, random_suite
from tests.benchmarks.watched import timed, watch


@dataclass(frozen=True)
class Sizes:
    """What a suite's price may depend on."""

    pairs: int = 40
    latents: int = 512
    hooks: int = 1
    layers: int = 8
    vocabulary: int = 50_257


GROWN = {
    "pairs": (40, 80, 160, 320),
    "latents": (512, 1024, 2048, 4096),
    "hooks": (1, 2, 4, 8),
    "layers": (4, 8, 16, 32),
    "vocabulary": (50_257, 100_514, 201_028, 402_056),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=GROWN, default=list(GROWN))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.sizes:
        sizes = GROWN[name]
        seconds = [suite_seconds(replace(Sizes(), **{name: size})) for size in sizes]
        told = ", ".join(f"{n:,}: {s:.1f} s" for n, s in zip(sizes, seconds, strict=True))
        last = slope(sizes[-2:], seconds[-2:])
        print(f"{name:10} exponent {slope(sizes, seconds):.2f}, last step {last:.2f} ({told})")


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Of log seconds against log size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def suite_seconds(sizes: Sizes) -> float:
    """Processor seconds of one suite with its controls on one contrast, what suites share left
    out."""
    plan = make_plan("quick", pairs=sizes.pairs, decide=sizes.pairs, fit=max(400, 2 * sizes.pairs))
    with TemporaryDirectory() as folder:
        model = load_model(str(_save_model(Path(folder), sizes)), device="cpu")
        prepared = prepare(model, load_task("ioi"), plan)
        section = circuit_section("IO", model.anatomy)
        hooks = hooks_of(section, model.anatomy, count=sizes.hooks)
        shared = read_shared(model, *prepared, [section], hooks=hooks, seed=plan.seed)
        data = read_contrast(model, prepared.splits, section, shared, hooks=hooks)
        own = watch(model)
        node_sets = NodeSets(own, data, plan.settings)
        first, second = (
            random_suite(f"random {seed}", hooks, model.anatomy, width=sizes.latents, seed=seed)
            for seed in range(2)
        )
        score_suite(node_sets, first, plan.wanted)
        with timed(own) as cost:
            score_suite(node_sets, second, plan.wanted)
    return cost().processor


def _save_model(folder: Path, sizes: Sizes) -> Path:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=192, n_head=12, n_layer=sizes.layers, vocab_size=sizes.vocabulary
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    for path in (TOKENIZERS / "gpt2").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


if __name__ == "__main__":
    main()
