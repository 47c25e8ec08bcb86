"""Activations beside transformers' own: cosine and largest difference, point by point.

    python -m tests.benchmarks.parity smollm2-135m gemma-3-270m
    python -m tests.benchmarks.parity --random           # a small random model of every family

One sentence, in float32, at the first, middle and last layer, at every position but a sink's, whose
numbers would hide all others; both backends and the forward pass of sage itself, the worst of them.
Differences are in units of the point's largest number.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from sage.models.base import Model
from sage.models.catalog import find_folder
from sage.models.load import load_model
from sage.nodes import HEAD_KINDS, Node
from sage.task.prompt import Prompt
from sage.task.tokens import Tokenized
from tests.families import EVERY
from tests.models.twin import Twin
from tests.tiny import save_random_model

KINDS = ("resid_pre", "q", "k", "v", "z", "attn_out", "mlp_in", "mlp_out", "resid_post")
SENTENCE = "When the boys and the girls went to the park, the boys gave a ball to"
LIBRARIES = ("torch", "transformers", "transformer-lens", "nnsight")


def main() -> None:
    """Print a table for each model named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--random", action="store_true")
    given = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {versions}\n")
    print("| model | point | layer | cosine | largest difference |\n|---|---|---:|---:|---:|")
    for name in given.names:
        compare(name, find_folder(name))
    if given.random:
        with tempfile.TemporaryDirectory() as scratch:
            for family in EVERY:
                folder = save_random_model(Path(scratch) / family, family)
                compare(f"random {family}", folder)


def compare(name: str, folder: Path) -> None:
    """The rows of a model, the worst of three ways to run it."""
    hooked = load_model(str(folder), device="cpu")
    first = int(hooked.sink)
    hf = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    twin = Twin(hooked.anatomy.family, hf.eval().requires_grad_(False))
    prompt = sentence(hooked)
    rows = list(points(hooked))
    read: list[dict[Node, Tensor]] = [hooked.read(rows, [prompt])]
    read.append(replace(hooked, partial=None).read(rows, [prompt]))
    del hooked
    read.append(load_model(str(folder), backend="nnsight", device="cpu").read(rows, [prompt]))
    for node in rows:
        expected = twin.read(node, prompt)[first:].flatten().double()
        cosines, differences = zip(
            *(measure(values[node][0, first:].flatten().double(), expected) for values in read),
            strict=True,
        )
        print(f"| {name} | {node.kind} | {node.layer} | {min(cosines):.9f} "
              f"| {max(differences):.1e} |", flush=True)  # fmt: skip


def points(model: Model) -> Iterator[Node]:
    """Every kind of node at the first, middle and last layer; of heads the second."""
    last = model.anatomy.layers - 1
    for kind in KINDS:
        for layer in sorted({0, last // 2, last}):
            head = min(1, model.anatomy.heads_of(kind) - 1) if kind in HEAD_KINDS else None
            yield Node(kind, layer, head, "*")


def sentence(model: Model) -> Tokenized:
    """The sentence as the model reads it."""
    ids = model.tokenizer.backend_tokenizer.encode(SENTENCE, add_special_tokens=False).ids
    start = [model.tokenizer.bos_token_id] if model.bos else []
    return Tokenized(Prompt(SENTENCE, "", "", {}, {}, {}, (), ()), (*start, *ids), {}, (), ())


def measure(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Cosine, and the largest difference in units of the largest number."""
    cosine = torch.nn.functional.cosine_similarity(found, expected, dim=0).item()
    return cosine, ((found - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    main()
